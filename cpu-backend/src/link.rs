//! What logits are taken for, a vector at a time.

use crate::exp::{Digits, exp, polynomial};
use crate::simd::{Lanes, Simd};
use tokenloss_core::{Batch, Link, RowMap};

/// `tanh(x)`, an odd rational function of degree 13 over 6 up to 7.9, where the rest rounds to 1: at most 5 ULP.
#[inline(always)]
fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    const NUMERATOR: [f32; 7] = [
        0.999_999_9,
        0.130_225_54,
        3.036_098_3e-3,
        1.046_749_9e-5,
        -1.758_378_9e-8,
        4.087_417_2e-11,
        -5.641_676e-14,
    ];
    const DENOMINATOR: [f32; 4] = [1.0, 0.463_558_38, 2.422_276_3e-2, 2.448_661e-4];
    const LAST: f32 = 7.904_7;
    let low = s.max(x, s.splat(-LAST));
    let x = s.sub(s.splat(0.0), s.max(s.sub(s.splat(0.0), low), s.splat(-LAST)));
    let square = s.mul(x, x);
    let top = s.mul(x, polynomial(s, square, NUMERATOR));
    s.div(top, polynomial(s, square, DENOMINATOR))
}

/// `ln(1 + x)` for `x` from 0 to the greatest float.
///
/// `1 + x = m 2^e`; what rounding that sum lost is made good to first order, so that small `x` keep their relative
/// accuracy. `ln m = 2 artanh((m - 1) / (m + 1))` by its series to the eleventh power.
#[inline(always)]
pub(crate) fn ln_1p<S: Simd>(s: S, x: S::V) -> S::V {
    const LN_2_HI: f32 = 0.693_145_75;
    const LN_2_LO: f32 = 1.428_606_8e-6;
    const SERIES: [f32; 5] = [2.0 / 3.0, 2.0 / 5.0, 2.0 / 7.0, 2.0 / 9.0, 2.0 / 11.0];
    let one = s.splat(1.0);
    let sum = s.add(one, x);
    let taken = s.sub(sum, one);
    let lost = s.add(s.sub(one, s.sub(sum, taken)), s.sub(x, taken));
    let (m, e) = s.split(sum);
    // (m - 1) is exact, m being within a factor of two of 1.
    let ratio = s.div(s.sub(m, one), s.add(m, one));
    let square = s.mul(ratio, ratio);
    let tail = s.mul(s.mul(ratio, square), polynomial(s, square, SERIES));
    let ln_m = s.add(tail, s.add(ratio, ratio));
    let rest = s.add(s.div(lost, sum), s.mul_add(e, s.splat(LN_2_LO), ln_m));
    s.mul_add(e, s.splat(LN_2_HI), rest)
}

/// A link in vectors. Methods and not closures, which would not be compiled for the kernel's instruction set.
trait LinkLanes: Copy {
    fn of<S: Simd>(self, s: S, z: S::V) -> S::V;
}

#[derive(Clone, Copy)]
struct IdentityLanes;
#[derive(Clone, Copy)]
struct SoftcapLanes {
    cap: f32,
}
#[derive(Clone, Copy)]
struct StableMaxLanes;

impl LinkLanes for IdentityLanes {
    #[inline(always)]
    fn of<S: Simd>(self, _: S, z: S::V) -> S::V {
        z
    }
}

impl LinkLanes for SoftcapLanes {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, z: S::V) -> S::V {
        s.mul(s.splat(self.cap), tanh(s, s.mul(z, s.splat(1.0 / self.cap))))
    }
}

impl LinkLanes for StableMaxLanes {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, z: S::V) -> S::V {
        let size = ln_1p(s, s.abs(z));
        // The sign of z; 0 where z is.
        let negative = s.keep_unless_lt(size, s.sub(s.splat(0.0), z), s.splat(f32::MIN_POSITIVE));
        s.sub(size, s.add(negative, negative))
    }
}

/// `scale link(z)`, where NaN and the infinities stay what they are.
#[inline(always)]
fn scaled<S: Simd, F: LinkLanes>(s: S, z: S::V, link: F, scale: S::V) -> S::V {
    let finite = s.max(z, s.splat(f32::MIN));
    // 0 for a finite number, -infinity for itself, NaN for +infinity and NaN.
    let special = s.sub(z, finite);
    s.mul(scale, s.add(link.of(s, finite), special))
}

/// A row map where a slice of the row lies.
#[derive(Clone, Copy)]
pub(crate) struct Mapped<'a> {
    pub(crate) map: RowMap<'a>,
    /// The slice's first column in the whole row.
    pub(crate) first: usize,
    /// The target's place in the slice, if it lies there.
    pub(crate) target: Option<usize>,
}

impl<'a> Mapped<'a> {
    /// Of a row of a batch, if that has a map.
    pub(crate) fn new(batch: &Batch<'a>, row: usize, first: usize, target: Option<usize>) -> Option<Self> {
        batch.row_map(row).map(|map| Self { map, first, target })
    }

    /// What the elements from `start` on are taken for, into `out`.
    #[inline(always)]
    pub(crate) fn of<S: Simd, L: Lanes>(&self, s: S, z: &[L], start: usize, out: &mut [f32]) {
        match self.map.link {
            Link::Softcap { cap } => self.each(s, z, out, SoftcapLanes { cap }),
            Link::StableMax => self.each(s, z, out, StableMaxLanes),
            _ => self.each(s, z, out, IdentityLanes),
        }
        if let Some(mask) = self.map.mask {
            // A word at a time, and of each only the classes that it leaves out.
            let (mut column, mut out) = (self.first + start, &mut *out);
            while !out.is_empty() {
                let (word, skip) = (mask[column / 32], column % 32);
                let (of_word, rest) = out.split_at_mut((32 - skip).min(out.len()));
                let mut left_out = !word >> skip;
                while let Some(out) = of_word.get_mut(left_out.trailing_zeros() as usize) {
                    *out = f32::NEG_INFINITY;
                    left_out &= left_out - 1;
                }
                column += of_word.len();
                out = rest;
            }
        }
        if let Some(at) = self.target_in(start, out.len()) {
            out[at] -= self.map.margin * self.map.scale;
        }
    }

    /// The target's place among `len` elements from `start` on.
    pub(crate) fn target_in(&self, start: usize, len: usize) -> Option<usize> {
        self.target.and_then(|target| target.checked_sub(start)).filter(|at| *at < len)
    }

    #[inline(always)]
    fn each<S: Simd, L: Lanes, F: LinkLanes>(&self, s: S, z: &[L], out: &mut [f32], link: F) {
        let scale = s.splat(self.map.scale);
        let whole = z.len() - z.len() % S::LANES;
        let (vectors, rest) = z.split_at(whole);
        let (out, out_rest) = out.split_at_mut(whole);
        for (out, z) in out.chunks_exact_mut(S::LANES).zip(vectors.chunks_exact(S::LANES)) {
            s.store_f32(scaled(s, L::load(s, z), link, scale), out);
        }
        if !rest.is_empty() {
            f32::store_part(s, scaled(s, L::load_part(s, rest, 0.0), link, scale), out_rest);
        }
    }

    /// The derivative of the link. The scale is not in it.
    #[inline(always)]
    pub(crate) fn derivative<S: Simd>(&self, s: S, z: S::V) -> S::V {
        let one = s.splat(1.0);
        match self.map.link {
            Link::Softcap { cap } => {
                let x = s.abs(s.mul(z, s.splat(1.0 / cap)));
                let e = exp(s, s.sub(s.splat(0.0), s.add(x, x)), Digits::Full);
                let root = s.add(one, e);
                s.div(s.mul(s.splat(4.0), e), s.mul(root, root))
            }
            Link::StableMax => s.div(one, s.add(one, s.abs(z))),
            _ => one,
        }
    }

    /// Whether the derivative is 1 everywhere.
    pub(crate) fn is_flat(&self) -> bool {
        self.map.link == Link::Identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::row::{PushBack, Row, Scratch, Summarise, Wanted};
    use crate::simd::{Kernel, MAX_LANES};
    use half::bf16;
    use proptest::prelude::*;
    use tokenloss_core::{Detail, Element, RowPartials, RowSummary, reference};

    struct Vector<F>([f32; MAX_LANES], F);
    struct Tanh;
    struct Ln1p;

    macro_rules! vector {
        ($type:ty, $of:ident) => {
            impl Kernel for Vector<$type> {
                type Output = [f32; MAX_LANES];
                #[inline(always)]
                fn run<S: Simd>(self, s: S) -> [f32; MAX_LANES] {
                    let mut out = [0.0; MAX_LANES];
                    for (out, x) in out.chunks_exact_mut(S::LANES).zip(self.0.chunks_exact(S::LANES)) {
                        f32::store(s, $of(s, f32::load(s, x)), out);
                    }
                    out
                }
            }
        };
    }
    vector!(Tanh, tanh);
    vector!(Ln1p, ln_1p);

    fn ulps(got: f32, truth: f64) -> f64 {
        let near = truth.abs() as f32;
        let ulp = f64::from(f32::from_bits(near.to_bits() + 1) - near);
        (f64::from(got) - truth).abs() / ulp
    }

    /// Every 997th float of either sign, as many as there are levels.
    #[test]
    fn functions_are_within_their_documented_errors() {
        for level in Level::available() {
            let (mut worst_tanh, mut worst_ln) = (0.0f64, 0.0f64);
            for bits in (f32::MIN_POSITIVE.to_bits()..f32::MAX.to_bits()).step_by(997 * MAX_LANES) {
                let x: [f32; MAX_LANES] = core::array::from_fn(|i| {
                    let x = f32::from_bits((bits + 997 * i as u32).min(f32::MAX.to_bits()));
                    if i % 2 == 0 { x } else { -x }
                });
                let (t, l) = (level.run(Vector(x, Tanh)), level.run(Vector(x.map(f32::abs), Ln1p)));
                for i in 0..MAX_LANES {
                    worst_tanh = worst_tanh.max(ulps(t[i].abs(), f64::from(x[i]).abs().tanh()));
                    assert_eq!(t[i].is_sign_negative(), x[i].is_sign_negative());
                    worst_ln = worst_ln.max(ulps(l[i], f64::from(x[i].abs()).ln_1p()));
                }
            }
            println!("{level}: tanh {worst_tanh:.2} ULP, ln_1p {worst_ln:.2} ULP");
            assert!(worst_tanh <= 5.0 && worst_ln <= 3.0, "{level}: tanh {worst_tanh}, ln_1p {worst_ln}");
        }
    }

    fn map() -> impl Strategy<Value = (Link, f32, f32, bool)> {
        let link = prop_oneof![
            Just(Link::Identity),
            (1.0f32..60.0).prop_map(|cap| Link::Softcap { cap }),
            Just(Link::StableMax),
        ];
        (link, 0.1f32..2.0, -3.0f32..3.0, any::<bool>())
    }

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![8 => -30.0f32..30.0, 1 => Just(4.0f32), 1 => Just(f32::NEG_INFINITY), 1 => -1e4f32..1e4]
    }

    fn check<L: Lanes>(level: Level, z: &[L], target: usize, map: RowMap<'_>) {
        let wide: Vec<f64> = z.iter().map(|z| f64::from(z.to_f32())).collect();
        let Ok(want) = reference::summarise_mapped(Some(map), &wide, target) else { return };
        let mut scratch = Scratch::default();
        let wanted = Wanted { detail: Detail::Moments, shares: false };
        let mapped = Some(Mapped { map, first: 0, target: Some(target) });
        let stats = level.run(Summarise { logits: z, scratch: &mut scratch, wanted, map: mapped });
        // A mapped logit is off by a few ULP of the cap or of itself, times the scale; shares by as much, relatively.
        let size = wide.iter().filter(|z| z.is_finite()).fold(4.0f64, |a, z| a.max(map.link.of(*z).abs()));
        let unit = 8.0 * f64::from(f32::EPSILON) * (f64::from(map.scale) * (size + 3.0) + 2.0);
        let near = |a: f64, b: f64, size: f64| (a - b).abs() <= unit * size.abs() + 2e-36;
        let truth = &want.stats;
        assert!(near(stats.max, truth.max, 1.0), "{level}: max {} and {}", stats.max, truth.max);
        assert_eq!(stats.count, truth.count, "{level}");
        assert!(near(stats.tail, truth.tail, 1.0 + truth.tail), "{level}: {} and {}", stats.tail, truth.tail);
        let terms = f64::from(truth.count) * (1.0 + truth.spread.abs());
        assert!(near(stats.spread, truth.spread, terms), "{level}: {} and {}", stats.spread, truth.spread);

        let summary = RowSummary::new(stats, f64::from(scratch.mapped_target));
        let partials =
            RowPartials { d_target: -0.5, d_lse: 0.25, d_entropy: 0.5, d_mean: -0.125, d_energy: 0.01 };
        let mut dlogits = vec![0.0; z.len()];
        reference::push_back_mapped(Some(map), &wide, target, &want, partials, &mut dlogits);
        let mut out = vec![L::from_f32(9.0); z.len()];
        let push = |row| PushBack { row, target: Some(target), summary: &summary, partials, map: mapped };
        level.run(push(Row::Into(z, &mut out)));
        let mut over = z.to_vec();
        level.run(push(Row::InPlace(&mut over)));
        for (j, truth) in dlogits.iter().enumerate() {
            let storage = if size_of::<L>() == 2 { 4e-3 * truth.abs() + 3e-8 } else { 0.0 };
            // Terms of both signs, of these sizes, times the derivative.
            let terms =
                f64::from(map.scale) * (2.0 + want.stats.entropy() + 0.02 * f64::from(map.scale) * size);
            for got in [out[j], over[j]] {
                let off = (f64::from(got.to_f32()) - truth).abs();
                assert!(off <= unit * terms + storage, "{level}, {map:?}, column {j}: {got:?} and {truth}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_level_agrees_with_the_oracle((link, scale, margin, masked) in map(), words in any::<[u32; 7]>(),
            z in prop::collection::vec(logit(), 2..200), target in any::<prop::sample::Index>()) {
            let target = target.index(z.len());
            let mut words = words;
            words[target / 32] |= 1 << (target % 32);
            let map = RowMap { link, scale, margin, mask: masked.then_some(&words) };
            for level in Level::available() {
                check::<f32>(level, &z, target, map);
                check::<bf16>(level, &z.iter().map(|z| <bf16 as Element>::from_f32(*z)).collect::<Vec<_>>(), target, map);
            }
        }
    }

    #[test]
    fn specials_stay_what_they_are() {
        for level in Level::available() {
            for link in [Link::Identity, Link::Softcap { cap: 3.0 }, Link::StableMax] {
                let map = RowMap { link, scale: 0.5, margin: 0.0, mask: None };
                for bad in [f32::NAN, f32::INFINITY] {
                    let z = [1.0, bad, f32::NEG_INFINITY, 2.0];
                    let mut scratch = Scratch::default();
                    let wanted = Wanted { detail: Detail::Target, shares: false };
                    let map = Some(Mapped { map, first: 0, target: None });
                    let stats = level.run(Summarise { logits: &z, scratch: &mut scratch, wanted, map });
                    assert!(!stats.is_valid(), "{level} {link:?} {bad}");
                }
                let z = [f32::MAX, -f32::MAX, f32::NEG_INFINITY, 0.0];
                let mut scratch = Scratch::default();
                let wanted = Wanted { detail: Detail::Target, shares: false };
                let map = Some(Mapped { map, first: 0, target: None });
                let stats = level.run(Summarise { logits: &z, scratch: &mut scratch, wanted, map });
                assert!(stats.is_valid() && stats.count == 3, "{level} {link:?}: {stats:?}");
            }
        }
    }
}
