//! The second sweep over a row: its gradient, block by block.
//!
//! ```text
//! dL/dz_j = p_j (d_lse - d_entropy (log p_j + H)) + d_mean / count + 2 d_energy z_j
//!         = share_j (constant + slant (z_j - max)) + level + pull z_j
//! ```
//!
//! The shares are those that the first sweep kept, of which a plain gradient is a multiple, or are computed anew.

use crate::exp::{Digits, LOWEST, exp};
use crate::link::Mapped;
use crate::row::{BLOCK, Kept, KeptBlock};
use crate::simd::{Kernel, Lanes, Simd};
use crate::widen::widen_lanes;
use core::ops::Range;
use tokenloss_core::{Link, RowPartials, RowSummary};

/// Where a row's gradient goes.
pub(crate) enum Row<'a, L> {
    Into(&'a [L], &'a mut [L]),
    InPlace(&'a mut [L]),
}

impl<L> Row<'_, L> {
    pub(crate) fn logits(&self) -> &[L] {
        match self {
            Row::Into(logits, _) => logits,
            Row::InPlace(logits) => logits,
        }
    }
}

/// The gradient of a row from its summary and from what the first sweep kept of it.
pub(crate) struct PushBack<'a, L> {
    pub(crate) row: Row<'a, L>,
    /// `None` where the target is not among these columns.
    pub(crate) target: Option<usize>,
    pub(crate) summary: &'a RowSummary<f64>,
    pub(crate) partials: RowPartials<f64>,
    /// What the logits are taken for, if not for themselves.
    pub(crate) map: Option<Mapped<'a>>,
    /// What [`Summarise`](crate::row::Summarise) kept of this very row; without it every share is computed anew.
    pub(crate) kept: Option<&'a Kept>,
    /// Go round the caches.
    pub(crate) stream: bool,
}

impl<L: Lanes> Kernel for PushBack<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { row, target, summary, partials, map, kept, stream } = self;
        // The scale of a map is a factor of all partials.
        let partials = partials.scaled(map.map_or(1.0, |map| f64::from(map.map.scale)));
        let (logits, out) = match row {
            Row::Into(logits, out) => (Some(logits), out),
            Row::InPlace(out) => (None, out),
        };
        let at_target = target.map(|target| {
            let logit = logits.map_or(out[target], |logits| logits[target]);
            let link = map.map_or(Link::Identity, |map| map.map.link);
            let derivative = link.derivative(f64::from(logit.to_f32()));
            (target, L::from_f32(narrow(partials.target_gradient(summary) * derivative)))
        });
        let line = Line::new(summary, &partials);
        match kept {
            Some(kept) if partials.is_plain() => line.multiples(s, kept, stream, out),
            _ => line.sweep(s, logits, map, kept, stream, out),
        }
        if let Some((target, gradient)) = at_target {
            out[target] = gradient;
        }
        if stream {
            s.fence();
        }
    }
}

/// The same number everywhere, for rows that have no gradient.
pub(crate) struct Fill<'a, L> {
    pub(crate) row: Row<'a, L>,
    pub(crate) value: f32,
    /// Go round the caches.
    pub(crate) stream: bool,
}

impl<L: Lanes> Kernel for Fill<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (Row::Into(_, out) | Row::InPlace(out)) = self.row;
        write(s, Constant(s.splat(self.value)), self.stream, out);
        if self.stream {
            s.fence();
        }
    }
}

/// To `f32`, where a finite number stays finite.
pub(crate) fn narrow(x: f64) -> f32 {
    if x.is_finite() { x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32 } else { x as f32 }
}

/// A factor of shares, 0 where it is no normal number: see [`LOWEST`].
pub(crate) fn factor(x: f64) -> f32 {
    let x = narrow(x);
    if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
}

/// The numbers that a row's gradient is made with.
struct Line {
    max: f64,
    constant: f64,
    slant: f64,
    level: f64,
    pull: f64,
}

impl Line {
    #[inline(always)]
    fn new(summary: &RowSummary<f64>, partials: &RowPartials<f64>) -> Self {
        let stats = &summary.stats;
        let mass = 1.0 + stats.tail;
        let entropy = if partials.d_entropy == 0.0 { 0.0 } else { stats.entropy() };
        Self {
            max: stats.max,
            constant: (partials.d_lse - partials.d_entropy * (entropy - stats.tail.ln_1p())) / mass,
            slant: -partials.d_entropy / mass,
            level: if partials.d_mean == 0.0 { 0.0 } else { partials.d_mean / stats.counted() },
            pull: 2.0 * partials.d_energy,
        }
    }

    /// A plain gradient: what was kept, block by block, times a factor.
    #[inline(always)]
    fn multiples<S: Simd, L: Lanes>(&self, s: S, kept: &Kept, stream: bool, out: &mut [L]) {
        for (out, KeptBlock { shares, max }) in out.chunks_mut(kept.block()).zip(kept.blocks()) {
            let factor = factor(self.constant * (max - self.max).exp());
            // Shares are at most 1, so that a factor which overflows this bound keeps nothing.
            let least = s.splat(f32::MIN_POSITIVE / factor.abs());
            write(s, Multiple { shares, factor: s.splat(factor), least }, stream, out);
        }
    }

    /// Any gradient. It looks at the logits, or at what they are taken for, once more.
    #[inline(always)]
    fn sweep<S: Simd, L: Lanes>(
        &self,
        s: S,
        logits: Option<&[L]>,
        map: Option<Mapped<'_>>,
        kept: Option<&Kept>,
        stream: bool,
        out: &mut [L],
    ) {
        let flat = map.is_none_or(|map| map.is_flat());
        // With a link, what was kept is no share, but times a derivative.
        let kept = kept.filter(|_| flat);
        let step = kept.map_or(BLOCK, Kept::block);
        let mut kept = kept.map(Kept::blocks);
        let (mut wide, mut derivatives) = ([0.0; BLOCK], [0.0; BLOCK]);
        for (index, out) in out.chunks_mut(step).enumerate() {
            let (start, len) = (index * step, out.len());
            let kept = kept.as_mut().and_then(Iterator::next);
            if let (Some(logits), None) = (logits, map) {
                self.block(s, &logits[start..start + len], None, kept, stream, out);
                continue;
            }
            // In place, logits are copied before they are written over.
            let (wide, derivatives) = (&mut wide[..len], &mut derivatives[..len]);
            let z = logits.map_or(&*out, |logits| &logits[start..start + len]);
            match map {
                Some(map) => {
                    map.of(s, z, start, wide, Some(&mut *derivatives));
                }
                None => widen_lanes(s, z, wide),
            }
            self.block(s, wide, (!flat).then_some(derivatives), kept, stream, out);
        }
    }

    #[inline(always)]
    fn block<S: Simd, Z: Lanes, L: Lanes>(
        &self,
        s: S,
        z: &[Z],
        derivatives: Option<&[f32]>,
        kept: Option<KeptBlock<'_>>,
        stream: bool,
        out: &mut [L],
    ) {
        match kept {
            Some(KeptBlock { shares, max }) => {
                write(s, self.terms(s, z, shares, (max - self.max).exp(), derivatives), stream, out);
            }
            None => write(s, self.terms(s, z, L::DIGITS, 1.0, derivatives), stream, out),
        }
    }

    /// The terms of a block whose shares are to be multiplied by `scale`.
    #[inline(always)]
    fn terms<'a, S: Simd, Z, K>(
        &self,
        s: S,
        z: &'a [Z],
        shares: K,
        scale: f64,
        derivatives: Option<&'a [f32]>,
    ) -> Terms<'a, S::V, Z, K> {
        let (constant, slant) = (factor(self.constant * scale), factor(self.slant * scale));
        // No difference is below the lowest, so no factor is above this.
        let bound = constant.abs() - LOWEST * slant.abs();
        Terms {
            z,
            shares,
            derivatives,
            max: s.splat(narrow(self.max)),
            constant: s.splat(constant),
            slant: s.splat(slant),
            level: s.splat(narrow(self.level)),
            pull: s.splat(narrow(self.pull)),
            least: s.splat(f32::MIN_POSITIVE / bound),
        }
    }
}

/// What a vector of gradients is made of.
trait Form<S: Simd>: Copy {
    /// The gradients of so many columns of a block.
    fn at(self, s: S, columns: Range<usize>) -> S::V;
}

/// `out = form`, a vector at a time.
#[inline(always)]
fn write<S: Simd, L: Lanes, F: Form<S>>(s: S, form: F, stream: bool, out: &mut [L]) {
    let ahead = if stream { out.as_ptr().align_offset(64).min(out.len()) } else { 0 };
    let whole = ahead + (out.len() - ahead) / S::LANES * S::LANES;
    edge(s, form, 0..ahead, out);
    if stream {
        for at in (ahead..whole).step_by(S::LANES) {
            L::stream(s, form.at(s, at..at + S::LANES), &mut out[at..at + S::LANES]);
        }
    } else {
        for at in (ahead..whole).step_by(S::LANES) {
            L::store(s, form.at(s, at..at + S::LANES), &mut out[at..at + S::LANES]);
        }
    }
    edge(s, form, whole..out.len(), out);
}

/// The columns before and after those that make aligned vectors.
#[inline(always)]
fn edge<S: Simd, L: Lanes, F: Form<S>>(s: S, form: F, columns: Range<usize>, out: &mut [L]) {
    for at in columns.clone().step_by(S::LANES) {
        let part = at..(at + S::LANES).min(columns.end);
        L::store_up_to(s, form.at(s, part.clone()), &mut out[part]);
    }
}

/// One number.
#[derive(Clone, Copy)]
struct Constant<V>(V);

impl<S: Simd> Form<S> for Constant<S::V> {
    #[inline(always)]
    fn at(self, _: S, _: Range<usize>) -> S::V {
        self.0
    }
}

/// `share factor`, where the product is a normal number, and 0 elsewhere.
#[derive(Clone, Copy)]
struct Multiple<'a, V> {
    shares: &'a [f32],
    factor: V,
    least: V,
}

impl<S: Simd> Form<S> for Multiple<'_, S::V> {
    #[inline(always)]
    fn at(self, s: S, columns: Range<usize>) -> S::V {
        s.mul_unless_lt(f32::load_up_to(s, &self.shares[columns], 0.0), self.factor, self.least)
    }
}

/// Shares, or what they are computed with.
trait Shares<S: Simd>: Copy {
    /// Those of so many columns of a block, whose logits are so far below the maximum.
    fn at(self, s: S, below: S::V, columns: Range<usize>) -> S::V;
}

impl<S: Simd> Shares<S> for &[f32] {
    #[inline(always)]
    fn at(self, s: S, _: S::V, columns: Range<usize>) -> S::V {
        f32::load_up_to(s, &self[columns], 0.0)
    }
}

impl<S: Simd> Shares<S> for Digits {
    #[inline(always)]
    fn at(self, s: S, below: S::V, _: Range<usize>) -> S::V {
        exp(s, below, self)
    }
}

/// All terms of a gradient, times the derivative of a link.
#[derive(Clone, Copy)]
struct Terms<'a, V, Z, K> {
    z: &'a [Z],
    shares: K,
    derivatives: Option<&'a [f32]>,
    max: V,
    constant: V,
    slant: V,
    level: V,
    pull: V,
    least: V,
}

impl<S: Simd, Z: Lanes, K: Shares<S>> Form<S> for Terms<'_, S::V, Z, K> {
    #[inline(always)]
    fn at(self, s: S, columns: Range<usize>) -> S::V {
        let z = Z::load_up_to(s, &self.z[columns.clone()], f32::NEG_INFINITY);
        let below = s.sub(z, self.max);
        let share = self.shares.at(s, below, columns.clone());
        // A masked logit is infinitely far below and has a share of 0, whose product is not 0.
        let below = s.max(s.splat(LOWEST), below);
        let soft = s.mul_unless_lt(share, s.mul_add(below, self.slant, self.constant), self.least);
        let all = s.add(soft, s.mul_add(z, self.pull, self.level));
        let all = s.keep_unless_lt(all, z, s.splat(f32::MIN));
        match self.derivatives {
            Some(derivatives) => s.mul(all, f32::load_up_to(s, &derivatives[columns], 0.0)),
            None => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::row::{Scratch, Summarise, Wanted};
    use half::{bf16, f16};
    use proptest::prelude::*;
    use tokenloss_core::{Detail, RowMap, RowStats, reference};

    /// A row, what its logits are taken for, and what its gradient is made of.
    #[derive(Clone, Copy)]
    struct Case<'a> {
        target: usize,
        map: Option<RowMap<'a>>,
        partials: RowPartials<f64>,
        /// Elements before the gradient's first.
        before: usize,
    }

    impl Case<'_> {
        /// Both sweeps against the oracle, with all that is wanted and with little.
        fn check<L: Lanes>(&self, level: Level, z: &[L]) {
            let Self { target, map, partials, .. } = *self;
            let wide: Vec<f64> = z.iter().map(|z| f64::from(z.to_f32())).collect();
            let Ok(want) = reference::summarise_mapped(map, &wide, target) else { return };
            let taken: Vec<f64> =
                (0..z.len()).map(|j| map.map_or(wide[j], |map| map.of(wide[j], j, target))).collect();
            // The grant of the whole suite: differences of logits up to 60 round by as many half ULPs. A mapped logit is off by
            // 4 ULP of itself, and two of them are subtracted.
            let size = taken.iter().filter(|z| z.is_finite()).fold(0.0f64, |a, z| a.max(z.abs()));
            let grant = 7e-6 + if map.is_some() { 8.0 * f64::from(f32::EPSILON) * size } else { 0.0 };

            let mut truth = vec![0.0; z.len()];
            reference::push_back_mapped(map, &wide, target, &want, partials, &mut truth);
            let (stats, h) = (want.stats, want.stats.entropy());
            let tolerances: Vec<f64> = (taken.iter().zip(&wide))
                .map(|(taken, z)| {
                    let log_p = (taken - stats.max) - stats.tail.ln_1p();
                    if log_p == f64::NEG_INFINITY {
                        return 0.0;
                    }
                    let soft = partials.d_target.abs()
                        + partials.d_lse.abs()
                        + partials.d_entropy.abs() * (1.0 + log_p.abs() + h);
                    // The target's two parts cancel where p is near 1, and are exact there.
                    let terms = log_p.exp() * soft
                        + partials.d_mean.abs() / stats.counted()
                        + 2.0 * partials.d_energy.abs() * (1.0 + taken.abs());
                    let derivative = map.map_or(1.0, |map| map.derivative(*z));
                    grant * derivative * terms
                })
                .collect();

            let mut ways = vec![(Detail::Moments, true), (Detail::Moments, false)];
            if partials.is_plain() {
                ways.extend([(Detail::Target, true), (Detail::Target, false), (Detail::Entropy, true)]);
            }
            for (detail, shares) in ways {
                let mut scratch = Scratch::default();
                let mapped = map.map(|map| Mapped { map, first: 0, target: Some(target) });
                let wanted = Wanted { detail, shares };
                let got = level.run(Summarise { logits: z, scratch: &mut scratch, wanted, map: mapped });
                let context = format!("{level}, {} of {}, {map:?}, {wanted:?}", L::DTYPE.name(), z.len());
                check_stats(&context, detail, grant, map.is_none(), &got, &stats);
                let logit = if map.is_some() { f64::from(scratch.mapped_target) } else { wide[target] };
                let summary = RowSummary::new(got, logit);
                let kept = shares.then_some(&scratch.kept);
                for out in self.ways(level, z, &summary, mapped, kept) {
                    for (j, truth) in truth.iter().enumerate() {
                        // One rounding of the widest storage beside the arithmetic's.
                        let storage = if size_of::<L>() == 2 { 4e-3 * truth.abs() + 3e-8 } else { 0.0 };
                        let mut granted = tolerances[j].max(7e-6 * truth.abs()) + 2e-36 + storage;
                        if j == target {
                            granted += grant * truth.abs();
                        }
                        let off = (f64::from(out[j].to_f32()) - truth).abs();
                        assert!(
                            off <= granted,
                            "{context}, column {j} of target {target}, {partials:?}: {:?} and {truth}, off by {off}, {granted} granted",
                            out[j]
                        );
                    }
                }
            }
        }

        /// The gradient out of place, round the caches and not, and in place.
        fn ways<L: Lanes>(
            &self,
            level: Level,
            z: &[L],
            summary: &RowSummary<f64>,
            map: Option<Mapped<'_>>,
            kept: Option<&Kept>,
        ) -> [Vec<L>; 3] {
            let Self { target, partials, before, .. } = *self;
            let guard = L::from_f32(9.0);
            let push = |row: Row<'_, L>, stream| {
                level.run(PushBack { row, target: Some(target), summary, partials, map, kept, stream });
            };
            let into = |stream| {
                let mut out = vec![guard; before + z.len() + 5];
                push(Row::Into(z, &mut out[before..before + z.len()]), stream);
                let around = out[..before].iter().chain(&out[before + z.len()..]);
                assert!(around.copied().all(|x| x.to_f32() == 9.0), "{level} writes beside the gradient");
                out[before..before + z.len()].to_vec()
            };
            let mut over = z.to_vec();
            push(Row::InPlace(&mut over), false);
            [into(false), into(true), over]
        }

        fn check_all<L: Lanes>(&self, z: &[f32]) {
            let z: Vec<L> = z.iter().map(|z| L::from_f32(*z)).collect();
            for level in Level::available() {
                self.check(level, &z);
            }
        }
    }

    fn check_stats(
        context: &str,
        detail: Detail,
        grant: f64,
        plain: bool,
        got: &RowStats<f64>,
        want: &RowStats<f64>,
    ) {
        let near = |name: &str, a: f64, b: f64, terms: f64| {
            assert!((a - b).abs() <= grant * terms + 2e-36, "{context}: {name} {a} and {b}");
        };
        if plain {
            assert_eq!((got.max, got.argmax), (want.max, want.argmax), "{context}");
        }
        near("max", got.max, want.max, 1.0);
        near("tail", got.tail, want.tail, want.tail);
        if detail >= Detail::Entropy {
            near("moment", got.moment, want.moment, want.moment.abs() + want.tail);
        }
        if detail >= Detail::Moments {
            assert_eq!(got.count, want.count, "{context}");
            near("collision", got.collision, want.collision, 2.0 * want.collision);
            near("spread", got.spread, want.spread, want.spread.abs() + want.counted());
            near("energy", got.energy, want.energy, want.energy.abs() + want.counted());
        }
    }

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![8 => -30.0f32..30.0, 1 => Just(4.0f32), 1 => Just(f32::NEG_INFINITY)]
    }

    fn partials() -> impl Strategy<Value = RowPartials<f64>> {
        let of = |d_target, d_lse, d_entropy, d_mean, d_energy| RowPartials {
            d_target,
            d_lse,
            d_entropy,
            d_mean,
            d_energy,
        };
        prop_oneof![
            3 => Just(RowPartials::of_slope(-0.5)),
            1 => Just(of(0.0, 0.0, 0.3, 0.0, 0.0)),
            1 => Just(of(-0.9, 1.0, 0.0, -0.1, 0.0)),
            1 => Just(of(0.0, 0.0, 0.0, 0.0, 1e-3)),
            1 => Just(of(-0.5, 0.25, 0.5, -0.125, 0.01)),
        ]
    }

    /// Link, scale, margin, and which of three masks.
    fn map() -> impl Strategy<Value = Option<(Link, f32, f32, usize)>> {
        let link = prop_oneof![
            2 => Just(Link::Identity),
            2 => (1.0f32..60.0).prop_map(|cap| Link::Softcap { cap }),
            2 => Just(Link::StableMax),
        ];
        let scale = prop_oneof![Just(1.0f32), 0.1f32..2.0];
        let margin = prop_oneof![Just(0.0f32), -3.0f32..3.0];
        prop::option::of((link, scale, margin, 0usize..4))
    }

    proptest! {
        #[test]
        fn every_level_agrees_with_the_oracle(
            z in prop::collection::vec(logit(), 1..200), target in any::<prop::sample::Index>(),
            map in map(), words in any::<[u32; 7]>(), partials in partials(), before in 0usize..20) {
            let target = target.index(z.len());
            // No class is left out, some are, or all but the target.
            let mut words = [[u32::MAX; 7], words, [0; 7]];
            words.iter_mut().for_each(|words| words[target / 32] |= 1 << (target % 32));
            let map = map.map(|(link, scale, margin, mask)| RowMap { link, scale, margin, mask: words.get(mask).map(|words| &words[..]) });
            let case = Case { target, map, partials, before };
            case.check_all::<f32>(&z);
            case.check_all::<bf16>(&z);
            case.check_all::<f16>(&z);
        }
    }

    /// Several blocks, of which some have no mass, some lie far below the maximum, and the last is no multiple of any vector.
    #[test]
    fn blocks_are_joined() {
        let all = RowPartials { d_target: -0.5, d_lse: 0.25, d_entropy: 0.5, d_mean: -0.125, d_energy: 0.01 };
        for (len, target) in [(1, 0), (7, 3), (BLOCK, 5), (BLOCK + 1, BLOCK), (5 * BLOCK + 37, 2 * BLOCK + 3)]
        {
            let mut z: Vec<f32> = (0..len)
                .map(|j| (((j * 7919) % 4001) as f32 / 200.0 - 10.0) - ((j / BLOCK) * 20) as f32)
                .collect();
            z.iter_mut().skip(3 * BLOCK).take(BLOCK).for_each(|z| *z = f32::NEG_INFINITY);
            z[target] = 12.0;
            let mut words = vec![0x7777_7777u32; len.div_ceil(32)];
            words[target / 32] |= 1 << (target % 32);
            let flat = RowMap { link: Link::Identity, scale: 0.5, margin: 1.0, mask: Some(&words) };
            let maps = [
                None,
                Some(flat),
                Some(RowMap { link: Link::Softcap { cap: 30.0 }, ..flat }),
                Some(RowMap { link: Link::StableMax, scale: 1.0, margin: 0.0, mask: None }),
            ];
            for map in maps {
                for partials in [RowPartials::of_slope(-1.0), all] {
                    let case = Case { target, map, partials, before: 3 };
                    case.check_all::<f32>(&z);
                    case.check_all::<bf16>(&z);
                }
            }
        }
    }

    #[test]
    fn a_row_is_filled() {
        for (level, stream) in
            Level::available().into_iter().flat_map(|level| [(level, false), (level, true)])
        {
            let mut out = [f16::from_f32_const(9.0); 77];
            level.run(Fill { row: Row::InPlace(&mut out[3..70]), value: 0.5, stream });
            let filled = |j: &usize| (3..70).contains(j);
            assert!(
                out.iter().enumerate().all(|(j, x)| x.to_f32_const() == if filled(&j) { 0.5 } else { 9.0 })
            );
        }
    }
}
