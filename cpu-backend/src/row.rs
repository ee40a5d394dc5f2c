//! The first sweep over a row: its statistics, block by block.
//!
//! A row is cut into blocks that fit the first-level cache. Each block is read from memory once: its maximum,
//! then the exponentials of the differences to it, summed and kept in a scratch row. Blocks are merged by
//! [`RowStats::merge`] in `f64`. The [gradient](crate::gradient) is then made of what was kept: one exponential per
//! logit, and one sweep over memory in each direction.

use crate::entries::Shares;
use crate::exp::exp;
use crate::link::Mapped;
use crate::simd::{Kernel, Lanes, Simd};
use crate::widen::room;
use core::cell::RefCell;
use core::ops::Range;
use tokenloss_core::{Detail, RowStats};

/// Logits in a block: 16 KiB of exponentials and at most 16 KiB of logits, which a 32 KiB cache just holds.
pub(crate) const BLOCK: usize = 4096;

/// Vectors that are added up plainly before their sum joins the block's, whose own rounding errors are carried
/// along: equal logits would otherwise all round the same way.
pub(crate) const RUN: usize = 8;

/// Logits in a block of a row that is mapped: what they are taken for lies in the first-level cache beside them, their
/// exponentials, and the next block, which is on its way.
const MAPPED_BLOCK: usize = BLOCK / 4;

/// What a sweep leaves for the gradient.
#[derive(Default)]
pub(crate) struct Kept {
    /// `exp(z_j - maximum of j's block) [vocab]`, times the derivative of the link where it has one; at most 1.
    shares: Vec<f32>,
    /// Logits in a block.
    block: usize,
    /// The maximum of each block, or 0 where nothing was taken off.
    maxima: Vec<f64>,
}

/// What is left of a block.
#[derive(Clone, Copy)]
pub(crate) struct KeptBlock<'a> {
    pub(crate) shares: &'a [f32],
    pub(crate) max: f64,
}

impl Kept {
    /// Logits in a block, at most [`BLOCK`].
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// What an unmapped row of so many classes, at any temperature, has left.
    pub(crate) fn of_row(&mut self, vocab: usize) -> Shares<'_> {
        debug_assert_eq!(self.block, BLOCK, "a mapped row");
        Shares { shares: &mut self.shares[..vocab], maxima: &self.maxima }
    }

    /// Room for the shares of such a row, all taken off the same maximum.
    pub(crate) fn room(&mut self, vocab: usize, max: f64) -> &mut [f32] {
        self.block = BLOCK;
        self.maxima.clear();
        self.maxima.resize(vocab.div_ceil(BLOCK), max);
        room(&mut self.shares, vocab)
    }

    /// Block by block of the row.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = KeptBlock<'_>> {
        self.shares.chunks(self.block).zip(&self.maxima).map(|(shares, max)| KeptBlock { shares, max: *max })
    }
}

/// What a thread keeps from row to row.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) kept: Kept,
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
#[derive(Debug, Clone, Copy)]
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
    /// What the logits are taken for, if not for themselves.
    pub(crate) map: Option<Mapped<'a>>,
}

impl<L: Lanes> Kernel for Summarise<'_, L> {
    type Output = RowStats<f64>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> RowStats<f64> {
        let Self { logits, scratch, wanted: Wanted { detail, shares }, map } = self;
        let Scratch { kept, mapped, mapped_target } = scratch;
        if shares && kept.shares.len() < logits.len() {
            kept.shares.resize(logits.len(), 0.0);
        }
        kept.maxima.clear();
        kept.block = if map.is_some() { MAPPED_BLOCK } else { BLOCK };
        let Some(map) = map else {
            return match (detail, shares) {
                (Detail::Target, false) => summarise::<S, L, TARGET, NONE>(s, logits, kept),
                (Detail::Target, true) => summarise::<S, L, TARGET, KEPT>(s, logits, kept),
                (Detail::Entropy, false) => summarise::<S, L, ENTROPY, NONE>(s, logits, kept),
                (Detail::Entropy, true) => summarise::<S, L, ENTROPY, KEPT>(s, logits, kept),
                (Detail::Moments, false) => summarise::<S, L, MOMENTS, NONE>(s, logits, kept),
                (Detail::Moments, true) => summarise::<S, L, MOMENTS, KEPT>(s, logits, kept),
            };
        };
        mapped.resize(MAPPED_BLOCK, 0.0);
        let mut through = Through { map, mapped, target: 0.0 };
        let stats = match (detail, shares, map.is_flat()) {
            (Detail::Target, false, _) => through.summarise::<S, L, TARGET, NONE>(s, logits, kept),
            (Detail::Target, true, true) => through.summarise::<S, L, TARGET, KEPT>(s, logits, kept),
            (Detail::Target, true, false) => through.summarise::<S, L, TARGET, TIMES>(s, logits, kept),
            (_, false, _) => through.summarise::<S, L, MOMENTS, NONE>(s, logits, kept),
            (_, true, true) => through.summarise::<S, L, MOMENTS, KEPT>(s, logits, kept),
            (_, true, false) => through.summarise::<S, L, MOMENTS, TIMES>(s, logits, kept),
        };
        *mapped_target = through.target;
        stats
    }
}

// Levels of detail, as a kernel's constant.
const TARGET: u8 = Detail::Target as u8;
const ENTROPY: u8 = Detail::Entropy as u8;
const MOMENTS: u8 = Detail::Moments as u8;

// What becomes of shares, as a kernel's constant.
const NONE: u8 = 0;
const KEPT: u8 = 1;
/// Kept, times what is in their place before.
const TIMES: u8 = 2;

#[inline(always)]
fn summarise<S: Simd, L: Lanes, const DETAIL: u8, const SHARES: u8>(
    s: S,
    logits: &[L],
    kept: &mut Kept,
) -> RowStats<f64> {
    let mut total = RowStats::empty();
    for (index, z) in logits.chunks(BLOCK).enumerate() {
        let start = index * BLOCK;
        let max = L::greatest(s, z);
        let next = &logits[(start + z.len()).min(logits.len() - 1)..];
        let shares = if SHARES == NONE { &mut [] } else { &mut kept.shares[start..start + z.len()] };
        let block = block::<S, L, L, DETAIL, SHARES>(s, z, max, next, shares);
        kept.maxima.push(block.max);
        total = join(total, block, start);
    }
    if total.is_valid() {
        let start = total.argmax as usize;
        let winner = &logits[start..(start + BLOCK).min(logits.len())];
        total.argmax = (start + column_of(winner, total.max)) as u32;
    }
    total
}

/// Through a buffer that stays in the first-level cache.
struct Through<'a> {
    map: Mapped<'a>,
    /// `[MAPPED_BLOCK]`
    mapped: &'a mut [f32],
    /// What the target's logit was taken for.
    target: f32,
}

impl Through<'_> {
    #[inline(always)]
    fn summarise<S: Simd, L: Lanes, const DETAIL: u8, const SHARES: u8>(
        &mut self,
        s: S,
        logits: &[L],
        kept: &mut Kept,
    ) -> RowStats<f64> {
        let mut total = RowStats::empty();
        for (index, z) in logits.chunks(MAPPED_BLOCK).enumerate() {
            let start = index * MAPPED_BLOCK;
            if DETAIL == TARGET && self.map.has_shares() {
                let kept_of =
                    if SHARES == TIMES { Some(&mut kept.shares[start..start + z.len()]) } else { None };
                let next = &logits[(start + z.len()).min(logits.len() - 1)..];
                if let Some(block) = self.proportional(s, z, start, next, kept_of) {
                    // What is kept is not taken off the maximum.
                    kept.maxima.push(0.0);
                    total = join(total, block, start);
                    continue;
                }
            }
            let mapped = &mut self.mapped[..z.len()];
            let shares = if SHARES == NONE { &mut [] } else { &mut kept.shares[start..start + z.len()] };
            let derivatives = if SHARES == TIMES { Some(&mut *shares) } else { None };
            let max = self.map.of(s, z, start, mapped, derivatives);
            if let Some(at) = self.map.target_in(start, z.len()) {
                self.target = mapped[at];
            }
            let next = &logits[(start + z.len()).min(logits.len() - 1)..];
            let block = block::<S, f32, L, DETAIL, SHARES>(s, mapped, max, next, shares);
            kept.maxima.push(block.max);
            total = join(total, block, start);
        }
        if total.is_valid() {
            let start = total.argmax as usize;
            let winner = &logits[start..(start + MAPPED_BLOCK).min(logits.len())];
            let mapped = &mut self.mapped[..winner.len()];
            let max = self.map.of(s, winner, start, mapped, None);
            total.argmax = (start + column_of(mapped, max.into())) as u32;
        }
        total
    }

    /// A block whose exponentials are known without their logarithms, and their derivatives; nothing where they are too great or
    /// no numbers, or where there are none.
    #[inline(always)]
    fn proportional<S: Simd, L: Lanes>(
        &mut self,
        s: S,
        z: &[L],
        start: usize,
        next: &[L],
        derivatives: Option<&mut [f32]>,
    ) -> Option<RowStats<f64>> {
        let mapped = &mut self.mapped[..z.len()];
        let most = self.map.shares_of(s, z, start, mapped, derivatives);
        // Neither these nor their inverses are far from 1.
        if !(1e-30..1e30).contains(&most) {
            return None;
        }
        if let Some(at) = self.map.target_in(start, z.len()) {
            // Of a great margin the exponential is 0.
            let column = self.map.first + start + at;
            self.target = self.map.map.of(z[at].to_f32(), column, column);
        }
        let sums = proportions(s, mapped, most, next);
        let whole = |sum: S::V| f64::from(s.horizontal_sum(sum));
        // Each of the equals is 1, and one of them the implicit one.
        let tail = whole(s.add(sums.tail, sums.carry)) + whole(sums.ties).round() - 1.0;
        Some(RowStats { max: f64::from(most).ln(), tail, ..RowStats::empty() })
    }
}

/// Until the winner is known, the greatest logit's column is its block's first.
#[inline(always)]
fn join(total: RowStats<f64>, block: RowStats<f64>, start: usize) -> RowStats<f64> {
    let argmax = if block.tail == -1.0 { u32::MAX } else { start as u32 };
    total.merge(RowStats { argmax, ..block })
}

/// Where the greatest logit stands.
#[inline(always)]
fn column_of<L: Lanes>(z: &[L], max: f64) -> usize {
    z.iter().position(|z| f64::from(z.to_f32()) == max).unwrap_or(0)
}

/// From this sum of shares on, the maximum's 1 may be among them and be taken off at the end: what rounding it cost
/// is a few 1e-8 of the rest. Below, the tail is summed by itself.
const PLAIN: f32 = 4.0;

/// The statistics of a block whose greatest logit is known, without the argmax.
#[inline(always)]
fn block<S: Simd, L: Lanes, N: Lanes, const DETAIL: u8, const SHARES: u8>(
    s: S,
    z: &[L],
    max: f32,
    next: &[N],
    shares: &mut [f32],
) -> RowStats<f64> {
    if max == f32::NEG_INFINITY {
        shares.fill(0.0);
        let nan = z.iter().any(|z| z.to_f32().is_nan());
        return RowStats { tail: if nan { f64::NAN } else { -1.0 }, ..RowStats::empty() };
    }
    let sums = sums::<S, L, N, DETAIL, SHARES, false>(s, z, max, next, shares);
    let whole = |sum: S::V| f64::from(s.horizontal_sum(sum));
    let all = s.horizontal_sum(s.add(sums.tail, sums.carry));
    let tail = if all >= PLAIN {
        f64::from(all) - 1.0
    } else {
        let sums = self::sums::<S, L, N, TARGET, NONE, true>(s, z, max, &[], &mut []);
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
fn sums<S: Simd, L: Lanes, N: Lanes, const DETAIL: u8, const SHARES: u8, const APART: bool>(
    s: S,
    z: &[L],
    max: f32,
    next: &[N],
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
            keep::<S, SHARES>(s, share, shares, i..i + S::LANES);
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
        keep::<S, SHARES>(s, share, shares, whole..z.len());
    }
    total
}

/// The sums over a block of exponentials, of which the greatest is known.
#[inline(always)]
fn proportions<S: Simd, N>(s: S, exponentials: &[f32], most: f32, next: &[N]) -> Sums<S::V> {
    let (at, inverse) = (s.splat(most), s.splat(1.0 / most));
    let least = s.splat(f32::MIN_POSITIVE * most);
    let mut total = Sums::zero(s);
    let mut coming = next.iter().step_by(S::LANES);
    for run in exponentials.chunks(RUN * S::LANES) {
        let mut sums = Sums::zero(s);
        for x in run.chunks(S::LANES) {
            // The next block is on its way while this one is computed.
            if let Some(x) = coming.next() {
                s.prefetch(x);
            }
            let x = f32::load_up_to(s, x, 0.0);
            let share = s.mul_unless_lt(x, inverse, least);
            s.add_by_zero(share, s.sub(x, at), &mut sums.ties, &mut sums.tail);
        }
        total.add::<S, TARGET>(s, &sums);
    }
    total
}

/// Keeps the shares of some columns, as is wanted.
#[inline(always)]
fn keep<S: Simd, const SHARES: u8>(s: S, share: S::V, shares: &mut [f32], columns: Range<usize>) {
    if SHARES == NONE {
        return;
    }
    let into = &mut shares[columns];
    let kept = if SHARES == TIMES { s.mul(share, f32::load_up_to(s, into, 0.0)) } else { share };
    f32::store_up_to(s, kept, into);
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
