//! The kernels of one row.
//!
//! A row is cut into blocks that fit the first-level cache. Each block is read from memory once: its maximum,
//! then the exponentials of the differences to it, summed and kept in a scratch row. Blocks are merged by
//! [`RowStats::merge`] in `f64`; the gradient is then the scratch row, scaled block by block. So there is one
//! exponential per logit, and one sweep over memory in each direction.

use crate::exp::{Digits, exp};
use crate::link::Mapped;
use crate::simd::{Kernel, Lanes, Simd};
use core::cell::RefCell;
use tokenloss_core::{Detail, RowPartials, RowStats, RowSummary};

/// Logits in a block: 16 KiB of exponentials and at most 16 KiB of logits, which a 32 KiB cache just holds.
pub(crate) const BLOCK: usize = 4096;

/// Vectors that are added up plainly before their sum joins the block's, whose own rounding errors are carried
/// along: equal logits would otherwise all round the same way.
pub(crate) const RUN: usize = 8;

/// What a thread keeps from row to row.
#[derive(Default)]
pub(crate) struct Scratch {
    /// `exp(z_j - maximum of j's block) [vocab]`
    shares: Vec<f32>,
    /// The maximum of each block.
    maxima: Vec<f32>,
    /// What a block's logits are taken for.
    mapped: Vec<f32>,
    /// What the target's logit was taken for, where a row is mapped and has its target.
    pub(crate) mapped_target: f32,
}

thread_local! {
    /// Each thread's own.
    pub(crate) static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a sweep is to find out.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// The statistics.
    pub(crate) detail: Detail,
    /// The shares, for a gradient.
    pub(crate) shares: bool,
}

/// First sweep: the statistics of a row and, if wanted, its shares.
pub(crate) struct Summarise<'a, L> {
    pub(crate) logits: &'a [L],
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) wanted: Wanted,
    /// What the logits are taken for, if not for themselves. There are no shares then.
    pub(crate) map: Option<Mapped<'a>>,
}

impl<L: Lanes> Kernel for Summarise<'_, L> {
    type Output = RowStats<f64>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> RowStats<f64> {
        let Self { logits, scratch, wanted, map } = self;
        if let Some(map) = map {
            return summarise_mapped(s, logits, scratch, &map);
        }
        match (wanted.detail, wanted.shares) {
            (Detail::Target, false) => summarise::<S, L, TARGET, false>(s, logits, scratch),
            (Detail::Target, true) => summarise::<S, L, TARGET, true>(s, logits, scratch),
            (Detail::Entropy, false) => summarise::<S, L, ENTROPY, false>(s, logits, scratch),
            (Detail::Entropy, true) => summarise::<S, L, ENTROPY, true>(s, logits, scratch),
            (Detail::Moments, false) => summarise::<S, L, MOMENTS, false>(s, logits, scratch),
            (Detail::Moments, true) => summarise::<S, L, MOMENTS, true>(s, logits, scratch),
        }
    }
}

// Levels of detail, as a kernel's constant.
const TARGET: u8 = Detail::Target as u8;
const ENTROPY: u8 = Detail::Entropy as u8;
const MOMENTS: u8 = Detail::Moments as u8;

#[inline(always)]
fn summarise<S: Simd, L: Lanes, const DETAIL: u8, const SHARES: bool>(
    s: S,
    logits: &[L],
    scratch: &mut Scratch,
) -> RowStats<f64> {
    if SHARES && scratch.shares.len() < logits.len() {
        scratch.shares.resize(logits.len(), 0.0);
    }
    scratch.maxima.clear();
    let mut total = RowStats::empty();
    for (index, z) in logits.chunks(BLOCK).enumerate() {
        let start = index * BLOCK;
        let next = &logits[(start + z.len()).min(logits.len() - 1)..];
        let shares =
            if SHARES { &mut scratch.shares[start..start + z.len()] } else { &mut [] as &mut [f32] };
        let block = block::<S, L, DETAIL, SHARES>(s, z, next, shares);
        scratch.maxima.push(block.max as f32);
        // The block's first column, until the winner is known.
        let argmax = if block.tail == -1.0 { u32::MAX } else { start as u32 };
        total = total.merge(RowStats { argmax, ..block });
    }
    if total.is_valid() {
        let start = total.argmax as usize;
        let winner = &logits[start..(start + BLOCK).min(logits.len())];
        let column = winner.iter().position(|z| f64::from(z.to_f32()) == total.max);
        total.argmax = (start + column.unwrap_or(0)) as u32;
    }
    total
}

/// Block by block through a buffer that stays in the first-level cache. All statistics: the links cost more than they.
#[inline(always)]
fn summarise_mapped<S: Simd, L: Lanes>(
    s: S,
    logits: &[L],
    scratch: &mut Scratch,
    map: &Mapped<'_>,
) -> RowStats<f64> {
    scratch.mapped.resize(BLOCK, 0.0);
    let mut total = RowStats::empty();
    for (index, z) in logits.chunks(BLOCK).enumerate() {
        let start = index * BLOCK;
        let mapped = &mut scratch.mapped[..z.len()];
        map.of(s, z, start, mapped);
        if let Some(at) = map.target_in(start, z.len()) {
            scratch.mapped_target = mapped[at];
        }
        let mut block = block::<S, f32, MOMENTS, false>(s, mapped, &[], &mut []);
        if block.tail != -1.0 {
            let column = mapped.iter().position(|z| f64::from(*z) == block.max);
            block.argmax = (start + column.unwrap_or(0)) as u32;
        }
        total = total.merge(block);
    }
    total
}

/// From this sum of shares on, the maximum's 1 may be among them and be taken off at the end: what rounding it cost
/// is a few 1e-8 of the rest. Below, the tail is summed by itself.
const PLAIN: f32 = 4.0;

/// The statistics of a block, without the argmax.
#[inline(always)]
fn block<S: Simd, L: Lanes, const DETAIL: u8, const SHARES: bool>(
    s: S,
    z: &[L],
    next: &[L],
    shares: &mut [f32],
) -> RowStats<f64> {
    let max = L::greatest(s, z);
    if max == f32::NEG_INFINITY {
        shares.fill(0.0);
        let nan = z.iter().any(|z| z.to_f32().is_nan());
        return RowStats { tail: if nan { f64::NAN } else { -1.0 }, ..RowStats::empty() };
    }
    let sums = sums::<S, L, DETAIL, SHARES, false>(s, z, max, next, shares);
    let whole = |sum: S::V| f64::from(s.horizontal_sum(sum));
    let all = s.horizontal_sum(s.add(sums.tail, sums.carry));
    let tail = if all >= PLAIN {
        f64::from(all) - 1.0
    } else {
        let sums = self::sums::<S, L, TARGET, false, true>(s, z, max, &[], &mut []);
        // One of the equals is the implicit 1.
        let ties = whole(sums.ties) - 1.0;
        whole(s.add(sums.tail, sums.carry)) + ties
    };
    let mut stats = RowStats { max: f64::from(max), tail, ..RowStats::empty() };
    if DETAIL >= ENTROPY {
        stats.moment = whole(sums.moment);
    }
    if DETAIL >= MOMENTS {
        stats.collision = whole(sums.collision);
        stats.spread = whole(s.add(sums.spread, sums.spread_carry));
        stats.energy = whole(s.add(sums.energy, sums.energy_carry));
        stats.count = whole(sums.count) as u32;
    }
    stats
}

/// The sums over a block. `APART` keeps what equals the maximum out of the tail.
#[inline(always)]
fn sums<S: Simd, L: Lanes, const DETAIL: u8, const SHARES: bool, const APART: bool>(
    s: S,
    z: &[L],
    max: f32,
    next: &[L],
    shares: &mut [f32],
) -> Sums<S::V> {
    let at = s.splat(max);
    let mut total = Sums::zero(s);
    let whole = z.len() - z.len() % S::LANES;
    let step = RUN * S::LANES;

    let mut start = 0;
    while start < whole {
        let end = (start + step).min(whole);
        let mut run = Sums::zero(s);
        let mut i = start;
        while i < end {
            // The next block is on its way while this one is computed.
            if let Some(x) = next.get(i) {
                s.prefetch(x);
            }
            let share = term::<S, L, DETAIL, APART>(s, L::load(s, &z[i..i + S::LANES]), at, &mut run);
            if SHARES {
                s.store_f32(share, &mut shares[i..i + S::LANES]);
            }
            i += S::LANES;
        }
        total.add::<S, DETAIL>(s, &run);
        start = end;
    }
    if whole < z.len() {
        // The lanes beyond the end are masked logits: they add nothing.
        let part = L::load_part(s, &z[whole..], f32::NEG_INFINITY);
        let mut run = Sums::zero(s);
        let share = term::<S, L, DETAIL, APART>(s, part, at, &mut run);
        total.add::<S, DETAIL>(s, &run);
        if SHARES {
            f32::store_part(s, share, &mut shares[whole..]);
        }
    }
    total
}

struct Sums<V> {
    /// Shares, but those that are kept apart.
    tail: V,
    /// What additions to the tail have rounded away.
    carry: V,
    /// Shares of logits equal to the maximum, if they are kept apart.
    ties: V,
    moment: V,
    collision: V,
    spread: V,
    spread_carry: V,
    energy: V,
    energy_carry: V,
    count: V,
}

impl<V: Copy> Sums<V> {
    #[inline(always)]
    fn zero<S: Simd<V = V>>(s: S) -> Self {
        let zero = s.splat(0.0);
        Self {
            tail: zero,
            carry: zero,
            ties: zero,
            moment: zero,
            collision: zero,
            spread: zero,
            spread_carry: zero,
            energy: zero,
            energy_carry: zero,
            count: zero,
        }
    }

    #[inline(always)]
    fn add<S: Simd<V = V>, const DETAIL: u8>(&mut self, s: S, other: &Self) {
        carried(s, &mut self.tail, &mut self.carry, other.tail);
        self.ties = s.add(self.ties, other.ties);
        if DETAIL >= ENTROPY {
            self.moment = s.add(self.moment, other.moment);
        }
        if DETAIL >= MOMENTS {
            self.collision = s.add(self.collision, other.collision);
            carried(s, &mut self.spread, &mut self.spread_carry, other.spread);
            carried(s, &mut self.energy, &mut self.energy_carry, other.energy);
            self.count = s.add(self.count, other.count);
        }
    }
}

/// Adds to a sum, and to its carry what that rounds away.
#[inline(always)]
pub(crate) fn carried<S: Simd>(s: S, sum: &mut S::V, carry: &mut S::V, more: S::V) {
    let both = s.add(*sum, more);
    let lost = s.add(s.sub(*sum, both), more);
    *carry = s.add(*carry, lost);
    *sum = both;
}

/// The shares of one vector of logits, added to the sums.
#[inline(always)]
fn term<S: Simd, L: Lanes, const DETAIL: u8, const APART: bool>(
    s: S,
    z: S::V,
    max: S::V,
    sums: &mut Sums<S::V>,
) -> S::V {
    let d = s.sub(z, max);
    // The share of a logit equal to the maximum is exactly 1.
    let share = exp(s, d, L::DIGITS);
    if APART {
        s.add_by_zero(share, d, &mut sums.ties, &mut sums.tail);
    } else {
        sums.tail = s.add(sums.tail, share);
    }
    if DETAIL >= ENTROPY {
        // A masked logit has d = -infinity and a share of 0, whose product is not 0.
        let d = s.max(s.splat(crate::exp::LOWEST), d);
        sums.moment = s.mul_add(share, d, sums.moment);
    }
    if DETAIL >= MOMENTS {
        let unmasked = |x: S::V| s.keep_unless_lt(x, z, s.splat(f32::MIN));
        let logit = unmasked(z);
        sums.collision = s.mul_add(share, share, sums.collision);
        sums.spread = s.add(sums.spread, unmasked(d));
        sums.energy = s.mul_add(logit, logit, sums.energy);
        sums.count = s.add(sums.count, unmasked(s.splat(1.0)));
    }
    share
}

/// Where a row's gradient goes.
pub(crate) enum Row<'a, L> {
    Into(&'a [L], &'a mut [L]),
    InPlace(&'a mut [L]),
}

impl<L: Copy> Row<'_, L> {
    pub(crate) fn logits(&self) -> &[L] {
        match self {
            Row::Into(logits, _) => logits,
            Row::InPlace(logits) => logits,
        }
    }

    pub(crate) fn fill(self, value: L) {
        let (Row::Into(_, out) | Row::InPlace(out)) = self;
        out.fill(value);
    }
}

/// Second sweep: the gradient from the shares that [`Summarise`] left in the scratch row.
pub(crate) struct Scale<'a, L> {
    pub(crate) row: Row<'a, L>,
    pub(crate) target: usize,
    pub(crate) summary: &'a RowSummary<f64>,
    pub(crate) partials: RowPartials<f64>,
    pub(crate) scratch: &'a Scratch,
    /// Go round the caches.
    pub(crate) stream: bool,
}

impl<L: Lanes> Kernel for Scale<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { row, target, summary, partials, scratch, stream } = self;
        let stats = &summary.stats;
        let at_target = narrow(partials.target_gradient(summary));
        if !partials.is_plain() {
            // It needs the logits themselves: by the form that recomputes their shares.
            return PushBack { row, target: Some(target), summary, partials, map: None }.run(s);
        }
        let (Row::Into(_, out) | Row::InPlace(out)) = row;
        let whole = partials.d_lse / (1.0 + stats.tail);
        for ((out, shares), max) in
            out.chunks_mut(BLOCK).zip(scratch.shares.chunks(BLOCK)).zip(&scratch.maxima)
        {
            let factor = whole * (f64::from(*max) - stats.max).exp();
            scale::<S, L>(s, &shares[..out.len()], narrow(factor), stream, out);
        }
        out[target] = L::from_f32(at_target);
        if stream {
            s.fence();
        }
    }
}

/// To `f32`, where a finite number stays finite.
pub(crate) fn narrow(x: f64) -> f32 {
    if x.is_finite() { x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32 } else { x as f32 }
}

/// `out = shares * factor`, where the product is a normal number, and 0 elsewhere: see [`crate::exp::LOWEST`].
#[inline(always)]
fn scale<S: Simd, L: Lanes>(s: S, shares: &[f32], factor: f32, stream: bool, out: &mut [L]) {
    if factor.abs() < f32::MIN_POSITIVE {
        return out.fill(L::from_f32(0.0));
    }
    // Shares are at most 1, so that a factor which overflows this bound keeps nothing.
    let least = s.splat(f32::MIN_POSITIVE / factor.abs());
    let factor = s.splat(factor);
    let scaled = |share: S::V| s.mul_unless_lt(share, factor, least);

    let ahead = if stream { out.as_ptr().align_offset(64).min(out.len()) } else { 0 };
    let (head, body) = out.split_at_mut(ahead);
    let (head_shares, body_shares) = shares.split_at(ahead);
    edge(s, head_shares, scaled, head);
    let whole = body.len() - body.len() % S::LANES;
    let (body, rest) = body.split_at_mut(whole);
    let (body_shares, rest_shares) = body_shares.split_at(whole);
    if stream {
        for (out, share) in body.chunks_exact_mut(S::LANES).zip(body_shares.chunks_exact(S::LANES)) {
            L::stream(s, scaled(s.load_f32(share)), out);
        }
    } else {
        for (out, share) in body.chunks_exact_mut(S::LANES).zip(body_shares.chunks_exact(S::LANES)) {
            L::store(s, scaled(s.load_f32(share)), out);
        }
    }
    edge(s, rest_shares, scaled, rest);
}

#[inline(always)]
fn edge<S: Simd, L: Lanes>(s: S, shares: &[f32], scaled: impl Fn(S::V) -> S::V, out: &mut [L]) {
    for (out, share) in out.chunks_mut(S::LANES).zip(shares.chunks(S::LANES)) {
        L::store_part(s, scaled(f32::load_part(s, share, 0.0)), out);
    }
}

/// The gradient of a row from its summary alone: one sweep that computes every share anew.
pub(crate) struct PushBack<'a, L> {
    pub(crate) row: Row<'a, L>,
    /// `None` where the target is not among these columns.
    pub(crate) target: Option<usize>,
    pub(crate) summary: &'a RowSummary<f64>,
    pub(crate) partials: RowPartials<f64>,
    /// What the logits are taken for, if not for themselves.
    pub(crate) map: Option<Mapped<'a>>,
}

impl<L: Lanes> Kernel for PushBack<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { row, target, summary, partials, map } = self;
        if let Some(map) = map {
            return push_back_mapped(s, row, target, summary, partials, &map);
        }
        let at_target = narrow(partials.target_gradient(summary));
        let line = Line::new(s, summary, &partials);
        let out = if partials.d_mean == 0.0 && partials.d_energy == 0.0 {
            line.write::<S, L, false>(s, row)
        } else {
            line.write::<S, L, true>(s, row)
        };
        if let Some(target) = target {
            out[target] = L::from_f32(at_target);
        }
    }
}

/// The gradient by the logits themselves: that by what they are taken for, computed anew a block at a time, times the
/// derivative of the map.
#[inline(always)]
fn push_back_mapped<S: Simd, L: Lanes>(
    s: S,
    row: Row<'_, L>,
    target: Option<usize>,
    summary: &RowSummary<f64>,
    partials: RowPartials<f64>,
    map: &Mapped<'_>,
) {
    // The scale is a factor of all partials.
    let partials = partials.scaled(f64::from(map.map.scale));
    let line = Line::new(s, summary, &partials);
    let at_target = |logit: L| {
        let derivative = map.map.link.derivative(f64::from(logit.to_f32()));
        L::from_f32(narrow(partials.target_gradient(summary) * derivative))
    };
    let mut buffer = [0.0; BLOCK];
    match row {
        Row::Into(logits, out) => {
            for (index, (out, z)) in out.chunks_mut(BLOCK).zip(logits.chunks(BLOCK)).enumerate() {
                let mapped = &mut buffer[..z.len()];
                map.of(s, z, index * BLOCK, mapped);
                for ((out, z), mapped) in
                    out.chunks_mut(S::LANES).zip(z.chunks(S::LANES)).zip(mapped.chunks(S::LANES))
                {
                    if z.len() == S::LANES {
                        let gradient = line.mapped(s, f32::load(s, mapped), L::load(s, z), map);
                        L::store(s, gradient, out);
                    } else {
                        let (mapped, z) = (f32::load_part(s, mapped, 0.0), L::load_part(s, z, 0.0));
                        L::store_part(s, line.mapped(s, mapped, z, map), out);
                    }
                }
            }
            if let Some(target) = target {
                out[target] = at_target(logits[target]);
            }
        }
        Row::InPlace(out) => {
            let logit = target.map(|target| out[target]);
            for (index, out) in out.chunks_mut(BLOCK).enumerate() {
                let mapped = &mut buffer[..out.len()];
                map.of(s, out, index * BLOCK, mapped);
                for (out, mapped) in out.chunks_mut(S::LANES).zip(mapped.chunks(S::LANES)) {
                    if out.len() == S::LANES {
                        let gradient = line.mapped(s, f32::load(s, mapped), L::load(s, out), map);
                        L::store(s, gradient, out);
                    } else {
                        let (mapped, z) = (f32::load_part(s, mapped, 0.0), L::load_part(s, out, 0.0));
                        L::store_part(s, line.mapped(s, mapped, z, map), out);
                    }
                }
            }
            if let (Some(target), Some(logit)) = (target, logit) {
                out[target] = at_target(logit);
            }
        }
    }
}

/// `p_j (d_lse - d_entropy (log p_j + H)) + d_mean / count + 2 d_energy z_j = share_j (constant + slant (z_j - max)) +
/// level + pull z_j`
struct Line<V> {
    max: V,
    constant: V,
    slant: V,
    level: V,
    pull: V,
    /// Smaller shares give no normal number: see [`scale`].
    least: V,
}

impl<V: Copy> Line<V> {
    #[inline(always)]
    fn new<S: Simd<V = V>>(s: S, summary: &RowSummary<f64>, partials: &RowPartials<f64>) -> Self {
        let stats = &summary.stats;
        let mass = 1.0 + stats.tail;
        let entropy = if partials.d_entropy == 0.0 { 0.0 } else { stats.entropy() };
        let constant = (partials.d_lse - partials.d_entropy * (entropy - stats.tail.ln_1p())) / mass;
        let (constant, slant) = (narrow(constant), narrow(-partials.d_entropy / mass));
        // No difference is below the lowest, so no factor is above this.
        let bound = constant.abs() - crate::exp::LOWEST * slant.abs();
        let level = if partials.d_mean == 0.0 { 0.0 } else { narrow(partials.d_mean / stats.counted()) };
        Self {
            max: s.splat(narrow(stats.max)),
            constant: s.splat(constant),
            slant: s.splat(slant),
            level: s.splat(level),
            pull: s.splat(narrow(2.0 * partials.d_energy)),
            least: s.splat(f32::MIN_POSITIVE / bound),
        }
    }

    #[inline(always)]
    fn write<'a, S: Simd<V = V>, L: Lanes, const AFFINE: bool>(&self, s: S, row: Row<'a, L>) -> &'a mut [L] {
        let width = S::LANES;
        match row {
            Row::Into(logits, out) => {
                for (out, z) in out.chunks_mut(width).zip(logits.chunks(width)) {
                    if z.len() == width {
                        L::store(s, self.at::<S, AFFINE>(s, L::load(s, z), L::DIGITS), out);
                    } else {
                        let z = L::load_part(s, z, f32::NEG_INFINITY);
                        L::store_part(s, self.at::<S, AFFINE>(s, z, L::DIGITS), out);
                    }
                }
                out
            }
            Row::InPlace(out) => {
                for z in out.chunks_mut(width) {
                    if z.len() == width {
                        L::store(s, self.at::<S, AFFINE>(s, L::load(s, z), L::DIGITS), z);
                    } else {
                        let logits = L::load_part(s, z, f32::NEG_INFINITY);
                        L::store_part(s, self.at::<S, AFFINE>(s, logits, L::DIGITS), z);
                    }
                }
                out
            }
        }
    }

    /// The gradient by the logits `z`, of which `mapped` is what they are taken for.
    #[inline(always)]
    fn mapped<S: Simd<V = V>>(&self, s: S, mapped: V, z: V, map: &Mapped<'_>) -> V {
        let gradient = self.at::<S, true>(s, mapped, Digits::Full);
        if map.is_flat() { gradient } else { s.mul(gradient, map.derivative(s, z)) }
    }

    #[inline(always)]
    fn at<S: Simd<V = V>, const AFFINE: bool>(&self, s: S, z: V, digits: Digits) -> V {
        let d = s.sub(z, self.max);
        let share = exp(s, d, digits);
        let share = s.keep_unless_lt(share, share, self.least);
        // Masked logits again: see `term`.
        let d = s.max(s.splat(crate::exp::LOWEST), d);
        let soft = s.mul(share, s.mul_add(d, self.slant, self.constant));
        if AFFINE {
            let affine = s.add(soft, s.mul_add(z, self.pull, self.level));
            s.keep_unless_lt(affine, z, s.splat(f32::MIN))
        } else {
            soft
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use half::{bf16, f16};
    use proptest::prelude::*;
    use tokenloss_core::{Element, reference};

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![8 => -30.0f32..30.0, 1 => Just(4.0f32), 1 => Just(f32::NEG_INFINITY)]
    }

    /// Both ways to a gradient against the oracle, on every level: here NEON too, with emulated intrinsics.
    fn check<L: Lanes>(level: Level, z: &[L], target: usize) {
        let wide: Vec<f64> = z.iter().map(|z| f64::from(z.to_f32())).collect();
        let Ok(want) = reference::summarise(&wide, target) else { return };
        let mut scratch = Scratch::default();
        let wanted = Wanted { detail: Detail::Moments, shares: true };
        let stats = level.run(Summarise { logits: z, scratch: &mut scratch, wanted, map: None });
        assert_eq!((stats.max, stats.argmax), (want.stats.max, want.stats.argmax), "{level}");
        // The grant of the whole suite: differences of logits up to 60 round by as many half ULPs.
        let near = |a: f64, b: f64| (a - b).abs() <= 7e-6 * b.abs() + 2e-36;
        assert!(near(stats.tail, want.stats.tail), "{level}: tail {} and {}", stats.tail, want.stats.tail);
        assert!(
            near(stats.moment, want.stats.moment),
            "{level}: moment {} and {}",
            stats.moment,
            want.stats.moment
        );

        let summary = RowSummary::new(stats, wide[target]);
        let partials = RowPartials::of_slope(-0.5);
        let mut truth = vec![0.0; z.len()];
        reference::push_back(&wide, target, &want, RowPartials::of_slope(-0.5), &mut truth);
        let mut out = vec![L::from_f32(9.0); z.len()];
        let row = Row::Into(z, &mut out);
        level.run(Scale { row, target, summary: &summary, partials, scratch: &scratch, stream: true });
        let mut anew = z.to_vec();
        level.run(PushBack {
            row: Row::InPlace(&mut anew),
            target: Some(target),
            summary: &summary,
            partials,
            map: None,
        });
        for (j, truth) in truth.iter().enumerate() {
            // One rounding of the widest storage beside the arithmetic's.
            let storage = if size_of::<L>() == 2 { 4e-3 * truth.abs() + 3e-8 } else { 0.0 };
            for got in [out[j], anew[j]] {
                let off = (f64::from(got.to_f32()) - truth).abs();
                assert!(
                    off <= 7e-6 * truth.abs() + 2e-36 + storage,
                    "{level}, column {j}: {got:?} and {truth}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn every_level_agrees_with_the_oracle(
            z in prop::collection::vec(logit(), 2..200), target in any::<prop::sample::Index>()) {
            let target = target.index(z.len());
            for level in Level::available() {
                check::<f32>(level, &z, target);
                check::<bf16>(level, &z.iter().map(|z| <bf16 as Element>::from_f32(*z)).collect::<Vec<_>>(), target);
                check::<f16>(level, &z.iter().map(|z| <f16 as Element>::from_f32(*z)).collect::<Vec<_>>(), target);
            }
        }
    }
}
