//! What logits are taken for, a vector at a time.

use crate::exp::{exp_and_m1, polynomial};
use crate::ln::ln_1p;
use crate::simd::{Kernel, Lanes, Simd};
use tokenloss_core::{Batch, Link, RowMap};

/// A link in vectors, times a scale. A derivative that is not used is not computed. Methods and not closures, which would not be compiled for the kernel's instruction set.
trait LinkLanes: Copy {
    /// What a class that the mask leaves out is taken for.
    const MASKED: f32 = f32::NEG_INFINITY;

    /// The value, and the derivative of the link alone. NaN and the infinities stay what they are.
    fn of<S: Simd>(self, s: S, z: S::V) -> (S::V, S::V);
}

#[derive(Clone, Copy)]
struct IdentityLanes {
    scale: f32,
}
#[derive(Clone, Copy)]
struct SoftcapLanes {
    cap: f32,
    scale: f32,
}
/// Of logits that are at most the cap in size.
#[derive(Clone, Copy)]
struct NearSoftcapLanes {
    cap: f32,
    scale: f32,
}
#[derive(Clone, Copy)]
struct StableMaxLanes {
    scale: f32,
}

impl LinkLanes for IdentityLanes {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, z: S::V) -> (S::V, S::V) {
        (s.mul(z, s.splat(self.scale)), s.splat(1.0))
    }
}

impl LinkLanes for SoftcapLanes {
    /// With `e = exp(-2 abs(z) / cap)`, `tanh` is `(1 - e) / (1 + e)` in size and its derivative `4 e / (1 + e)^2`: at most 3
    /// and 5 ULP off for a cap whose inverse is exact.
    #[inline(always)]
    fn of<S: Simd>(self, s: S, z: S::V) -> (S::V, S::V) {
        let (z, special) = finite(s, z);
        let steep = s.splat((-2.0 / self.cap).max(f32::MIN));
        let (e, less) = exp_and_m1(s, s.mul(s.abs(z), steep));
        let inverse = s.inverse(s.add(s.splat(1.0), e));
        let height = self.cap * self.scale;
        let factor = s.pick(z, s.splat(height), s.splat(-height));
        let slope = s.mul(s.mul(e, inverse), inverse);
        (s.mul_add(s.mul(less, inverse), factor, special), s.mul(slope, s.splat(4.0)))
    }
}

impl LinkLanes for NearSoftcapLanes {
    /// `tanh x = x p(x^2)` with `p` minimax in its own relative error, 2.3e-8 with these coefficients, and its derivative
    /// `1 - tanh^2 x`, which is at least 0.4: half of what the exponential and the quotient take. At most 2 and 5 ULP off for a
    /// cap whose inverse is exact.
    #[inline(always)]
    fn of<S: Simd>(self, s: S, z: S::V) -> (S::V, S::V) {
        const P: [f32; 8] = [
            1.0,
            -0.333_332_78,
            0.133_321_6,
            -0.053_870_913,
            0.021_464_82,
            -0.007_917_443,
            0.002_282_228_3,
            -0.000_353_345_2,
        ];
        // Lanes beyond the end are -infinity.
        let bounded = s.max(z, s.splat(-self.cap));
        let special = s.sub(z, bounded);
        let x = s.mul(bounded, s.splat(1.0 / self.cap));
        let tanh = s.mul(x, polynomial(s, s.mul(x, x), P));
        let opposite = s.sub(s.splat(0.0), tanh);
        let value = s.mul_add(tanh, s.splat(self.cap * self.scale), special);
        (value, s.mul_add(opposite, tanh, s.splat(1.0)))
    }
}

/// The exponential of StableMax at a scale of 1.
#[derive(Clone, Copy)]
struct StableMaxShareLanes;

impl LinkLanes for StableMaxShareLanes {
    const MASKED: f32 = 0.0;

    /// `1 + z` for positive logits and `1 / (1 - z)` for others, and the derivative of this: 1, or `1 / (1 - z)^2`. At most 2 and
    /// 4 ULP off.
    #[inline(always)]
    fn of<S: Simd>(self, s: S, z: S::V) -> (S::V, S::V) {
        // NaN becomes as great as +infinity.
        let one_plus = s.add(s.splat(1.0), s.abs(s.max(z, s.splat(f32::MIN))));
        let inverse = s.inverse(one_plus);
        (s.pick(z, inverse, one_plus), s.pick(z, s.mul(inverse, inverse), s.splat(1.0)))
    }
}

impl LinkLanes for StableMaxLanes {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, z: S::V) -> (S::V, S::V) {
        let (z, special) = finite(s, z);
        let (size, derivative) = ln_1p(s, s.abs(z));
        let factor = s.pick(z, s.splat(-self.scale), s.splat(self.scale));
        (s.mul_add(size, factor, special), derivative)
    }
}

/// A number to compute with, and what is to be added to what comes out: 0 for a finite one, -infinity for itself, NaN for
/// +infinity and NaN.
#[inline(always)]
fn finite<S: Simd>(s: S, z: S::V) -> (S::V, S::V) {
    let finite = s.max(z, s.splat(f32::MIN));
    (finite, s.sub(z, finite))
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

    /// What the elements from `start` on are taken for, into `out`, and the derivatives of the link where they are wanted and
    /// not 1. Returns the greatest; unspecified if one is NaN.
    #[inline(always)]
    pub(crate) fn of<S: Simd, L: Lanes>(
        &self,
        s: S,
        z: &[L],
        start: usize,
        out: &mut [f32],
        derivatives: Option<&mut [f32]>,
    ) -> f32 {
        let max = s.run(Block { map: self, z, start, out: &mut *out, derivatives, shares: false });
        let target = self.target_in(start, out.len()).filter(|_| self.map.margin != 0.0);
        let Some(target) = target else { return max };
        out[target] -= self.map.margin * self.map.scale;
        f32::greatest(s, out)
    }

    /// Whether exponentials of the elements take no exponential.
    pub(crate) fn has_shares(&self) -> bool {
        self.map.link == Link::StableMax && self.map.scale == 1.0
    }

    /// The exponentials of what [`of`](Self::of) gives, where [there are](Self::has_shares), and their derivatives.
    #[inline(always)]
    pub(crate) fn shares_of<S: Simd, L: Lanes>(
        &self,
        s: S,
        z: &[L],
        start: usize,
        out: &mut [f32],
        derivatives: Option<&mut [f32]>,
    ) -> f32 {
        let max = s.run(Block { map: self, z, start, out: &mut *out, derivatives, shares: true });
        let target = self.target_in(start, out.len()).filter(|_| self.map.margin != 0.0);
        let Some(target) = target else { return max };
        out[target] *= (-self.map.margin).exp();
        f32::greatest(s, out)
    }

    /// The target's place among `len` elements from `start` on.
    pub(crate) fn target_in(&self, start: usize, len: usize) -> Option<usize> {
        self.target.and_then(|target| target.checked_sub(start)).filter(|at| *at < len)
    }

    /// The values of a vector from a column of the slice on, but `masked` for classes that the mask leaves out.
    #[inline(always)]
    fn unmasked<S: Simd>(&self, s: S, column: usize, value: S::V, masked: f32) -> S::V {
        match self.map.mask {
            Some(mask) => s.pick_bits(bits(mask, self.first + column), value, s.splat(masked)),
            None => value,
        }
    }

    /// Whether the derivative is 1 everywhere.
    pub(crate) fn is_flat(&self) -> bool {
        self.map.link == Link::Identity
    }
}

/// The elements of a block from `start` on. A kernel of its own, which several others call and none contains.
struct Block<'a, L> {
    map: &'a Mapped<'a>,
    z: &'a [L],
    start: usize,
    out: &'a mut [f32],
    derivatives: Option<&'a mut [f32]>,
    /// Their exponentials.
    shares: bool,
}

impl<L: Lanes> Kernel for Block<'_, L> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let RowMap { link, scale, .. } = self.map.map;
        match (link, self.derivatives.is_some()) {
            (Link::Softcap { cap }, false) if self.within(s, cap) => {
                self.each::<S, _, false>(s, NearSoftcapLanes { cap, scale })
            }
            (Link::Softcap { cap }, true) if self.within(s, cap) => {
                self.each::<S, _, true>(s, NearSoftcapLanes { cap, scale })
            }
            (Link::Softcap { cap }, false) => self.each::<S, _, false>(s, SoftcapLanes { cap, scale }),
            (Link::Softcap { cap }, true) => self.each::<S, _, true>(s, SoftcapLanes { cap, scale }),
            (Link::StableMax, false) if self.shares => self.each::<S, _, false>(s, StableMaxShareLanes),
            (Link::StableMax, true) if self.shares => self.each::<S, _, true>(s, StableMaxShareLanes),
            (Link::StableMax, false) => self.each::<S, _, false>(s, StableMaxLanes { scale }),
            (Link::StableMax, true) => self.each::<S, _, true>(s, StableMaxLanes { scale }),
            _ => self.each::<S, _, false>(s, IdentityLanes { scale }),
        }
    }
}

impl<L: Lanes> Block<'_, L> {
    /// Whether all elements are at most the cap in size, whose inverse is a normal number; NaN is not looked at.
    #[inline(always)]
    fn within<S: Simd>(&self, s: S, cap: f32) -> bool {
        let mut most = [s.splat(0.0); 2];
        let mut pairs = self.z.chunks_exact(2 * S::LANES);
        for pair in &mut pairs {
            let (first, second) = pair.split_at(S::LANES);
            most[0] = s.max(s.abs(L::load(s, first)), most[0]);
            most[1] = s.max(s.abs(L::load(s, second)), most[1]);
        }
        for rest in pairs.remainder().chunks(S::LANES) {
            most[0] = s.max(s.abs(L::load_up_to(s, rest, 0.0)), most[0]);
        }
        s.horizontal_max(s.max(most[0], most[1])) <= cap && (1.0 / cap).is_normal()
    }

    #[inline(always)]
    fn each<S: Simd, F: LinkLanes, const DERIVATIVES: bool>(self, s: S, link: F) -> f32 {
        let Self { map, z, start, out, derivatives, .. } = self;
        let derivatives = derivatives.unwrap_or(&mut []);
        let mut greatest = s.splat(f32::NEG_INFINITY);
        let whole = z.len() - z.len() % S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            let columns = at..at + S::LANES;
            let (value, derivative) = link.of(s, L::load(s, &z[columns.clone()]));
            let value = map.unmasked(s, start + at, value, F::MASKED);
            greatest = s.max(greatest, value);
            s.store_f32(value, &mut out[columns.clone()]);
            if DERIVATIVES {
                let derivative = map.unmasked(s, start + at, derivative, 0.0);
                s.store_f32(derivative, &mut derivatives[columns]);
            }
        }
        if whole < z.len() {
            let (value, derivative) = link.of(s, L::load_part(s, &z[whole..], f32::NEG_INFINITY));
            let value = map.unmasked(s, start + whole, value, F::MASKED);
            greatest = s.max(greatest, value);
            f32::store_part(s, value, &mut out[whole..]);
            if DERIVATIVES {
                let derivative = map.unmasked(s, start + whole, derivative, 0.0);
                f32::store_part(s, derivative, &mut derivatives[whole..]);
            }
        }
        s.horizontal_max(greatest)
    }
}

/// The bits of a mask from a column on, 32 or as many as there are.
#[inline(always)]
fn bits(mask: &[u32], column: usize) -> u32 {
    let (word, skip) = (column / 32, column % 32);
    let next = mask.get(word + 1).map_or(0, |next| u64::from(*next) << 32);
    ((next | u64::from(mask[word])) >> skip) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::row::{Scratch, Summarise, Wanted};
    use crate::simd::MAX_LANES;
    use tokenloss_core::Detail;

    struct Vector<F>([f32; MAX_LANES], F);

    impl<F: LinkLanes> Kernel for Vector<F> {
        type Output = [[f32; MAX_LANES]; 2];

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let mut all = [[0.0; MAX_LANES]; 2];
            for i in (0..MAX_LANES).step_by(S::LANES) {
                let (value, derivative) = self.1.of(s, s.load_f32(&self.0[i..i + S::LANES]));
                s.store_f32(value, &mut all[0][i..i + S::LANES]);
                s.store_f32(derivative, &mut all[1][i..i + S::LANES]);
            }
            all
        }
    }

    fn ulps(got: f32, truth: f64) -> f64 {
        let near = truth.abs() as f32;
        let ulp = f64::from(f32::from_bits(near.to_bits() + 1) - near);
        (f64::from(got) - truth).abs() / ulp
    }

    /// The worst errors of value and derivative, in ULP, over every 997th float of either sign from 1e-30 to `most`. A derivative
    /// below the exponential's lowest may be 0.
    fn worst<F: LinkLanes>(level: Level, lanes: F, link: Link, most: f32) -> [f64; 2] {
        let mut worst = [0.0f64; 2];
        for bits in (1e-30f32.to_bits()..most.to_bits()).step_by(997 * MAX_LANES) {
            let z: [f32; MAX_LANES] = core::array::from_fn(|i| {
                let z = f32::from_bits((bits + 997 * i as u32).min(most.to_bits()));
                if i % 2 == 0 { z } else { -z }
            });
            let [values, derivatives] = level.run(Vector(z, lanes));
            for i in 0..MAX_LANES {
                let wide = f64::from(z[i]);
                worst[0] = worst[0].max(ulps(values[i], link.of(wide)));
                let truth = link.derivative(wide);
                if truth > 7e-38 {
                    worst[1] = worst[1].max(ulps(derivatives[i], truth));
                } else {
                    assert!(f64::from(derivatives[i]) <= 7e-38, "{level}: {link:?} at {wide}");
                }
            }
        }
        println!("{level}, {link:?}: value {:.2} ULP, derivative {:.2} ULP", worst[0], worst[1]);
        worst
    }

    #[test]
    fn links_are_within_their_documented_errors() {
        for level in Level::available() {
            let (cap, scale) = (32.0, 1.0);
            let softcap = Link::Softcap { cap };
            let [value, derivative] = worst(level, SoftcapLanes { cap, scale }, softcap, f32::MAX);
            assert!(value <= 3.0 && derivative <= 5.0, "{level}: {value}, {derivative}");
            let [value, derivative] = worst(level, NearSoftcapLanes { cap, scale }, softcap, cap);
            assert!(value <= 2.0 && derivative <= 5.0, "{level}: {value}, {derivative}");
            let [value, derivative] = worst(level, StableMaxLanes { scale }, Link::StableMax, f32::MAX);
            assert!(value <= 1.0 && derivative <= 1.6, "{level}: {value}, {derivative}");
        }
    }

    /// Over every 997th float of either sign from 1e-30 to 1e30.
    #[test]
    fn shares_of_stable_max_are_within_their_documented_error() {
        for level in Level::available() {
            let mut worst = [0.0f64; 2];
            for bits in (1e-30f32.to_bits()..1e30f32.to_bits()).step_by(997) {
                let z = f32::from_bits(bits);
                let [values, derivatives] = level.run(Vector(
                    core::array::from_fn(|i| if i % 2 == 0 { z } else { -z }),
                    StableMaxShareLanes,
                ));
                for (value, sign) in values.iter().zip([1.0, -1.0]) {
                    let share = Link::StableMax.of(sign * f64::from(z)).exp();
                    worst[0] = worst[0].max(ulps(*value, share));
                }
                // Below, it may be 0.
                if z < 1e18 {
                    worst[1] =
                        worst[1].max(ulps(derivatives[1], Link::StableMax.derivative(f64::from(z)).powi(2)));
                }
                assert_eq!(derivatives[0], 1.0);
            }
            println!("{level}: share {:.2} ULP, derivative {:.2} ULP", worst[0], worst[1]);
            assert!(worst[0] <= 2.0 && worst[1] <= 4.0, "{level}: {worst:?}");
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
                let wanted = Wanted { detail: Detail::Moments, shares: false };
                let map = Some(Mapped { map, first: 0, target: None });
                let stats = level.run(Summarise { logits: &z, scratch: &mut scratch, wanted, map });
                assert!(stats.is_valid() && stats.count == 3, "{level} {link:?}: {stats:?}");
            }
        }
    }

    /// The target's logit is a number where its exponential is none.
    #[test]
    fn a_great_margin_leaves_the_target_a_number() {
        for level in Level::available() {
            for margin in [-150.0f32, 0.5, 150.0] {
                let map = RowMap { link: Link::StableMax, scale: 1.0, margin, mask: None };
                let mut scratch = Scratch::default();
                let wanted = Wanted { detail: Detail::Target, shares: true };
                let map = Some(Mapped { map, first: 0, target: Some(1) });
                let z = [1.0f32, 2.0, -3.0];
                let stats = level.run(Summarise { logits: &z, scratch: &mut scratch, wanted, map });
                let expected = 3f32.ln() - margin;
                assert!(stats.is_valid(), "{level}, {margin}: {stats:?}");
                assert!((scratch.mapped_target / expected - 1.0).abs() < 4e-7, "{level}, {margin}");
            }
        }
    }
}
