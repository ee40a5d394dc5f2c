//! A vector as a [`Number`]: what divergences are computed with.

use crate::exp::{Digits, LOWEST, exp, nearest, polynomial, reduced};
use crate::ln::bend;
use crate::simd::Simd;
use core::ops::{Add, Div, Mul, Neg, Sub};
use tokenloss_core::Number;
use tokenloss_core::divergence::Exp;

/// A vector together with the proof that its instructions are there.
#[derive(Clone, Copy)]
pub(crate) struct Vector<S: Simd> {
    pub(crate) s: S,
    pub(crate) v: S::V,
}

impl<S: Simd> Vector<S> {
    #[inline(always)]
    pub(crate) fn splat(s: S, x: f32) -> Self {
        Self { s, v: s.splat(x) }
    }

    #[inline(always)]
    fn of(self, v: S::V) -> Self {
        Self { v, ..self }
    }

    /// `self a + b`
    #[inline(always)]
    pub(crate) fn mul_add(self, a: Self, b: Self) -> Self {
        self.of(self.s.mul_add(self.v, a.v, b.v))
    }

    #[inline(always)]
    fn horner<const N: usize>(self, coefficients: [f32; N]) -> Self {
        self.of(polynomial(self.s, self.v, coefficients))
    }
}

impl<S: Simd> Add for Vector<S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.of(self.s.add(self.v, other.v))
    }
}

impl<S: Simd> Sub for Vector<S> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.of(self.s.sub(self.v, other.v))
    }
}

impl<S: Simd> Mul for Vector<S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.of(self.s.mul(self.v, other.v))
    }
}

impl<S: Simd> Div for Vector<S> {
    type Output = Self;
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.of(self.s.div(self.v, other.v))
    }
}

impl<S: Simd> Neg for Vector<S> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        self.like(-0.0) - self
    }
}

impl<S: Simd> Number for Vector<S> {
    #[inline(always)]
    fn like(self, value: f32) -> Self {
        Self::splat(self.s, value)
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        self.of(self.s.max(self.v, other.v))
    }

    #[inline(always)]
    fn pick(self, negative: Self, otherwise: Self) -> Self {
        self.of(self.s.pick(self.v, negative.v, otherwise.v))
    }

    #[inline(always)]
    fn gate(self, value: Self) -> Self {
        self.of(self.s.keep_unless_lt(value.v, self.v, self.s.splat(f32::MIN_POSITIVE)))
    }

    #[inline(always)]
    fn exp_of(self) -> Self {
        self.of(exp(self.s, self.v, Digits::Full))
    }

    /// `e^x = 2^n (1 + t)` with `t = r + r^2 q(r)` as in [`exp`], but with `q` minimax in its own relative error, 2.7e-9: the
    /// gaps are what it is there for. With n = 0, where they are small, all that is taken off is exact.
    #[inline(always)]
    fn exp_and_gaps(self) -> Exp<Self> {
        const Q: [f32; 6] =
            [0.5, 0.166_666_67, 0.041_666_467, 0.008_333_361, 0.001_393_360_7, 0.000_198_578_03];
        let (s, one) = (self.s, self.like(1.0));
        let x = self.larger(self.like(LOWEST));
        let n = self.of(nearest(s, x.v));
        let r = self.of(reduced(s, x.v, n.v));
        let second = r * r * r.horner(Q);
        let t = r + second;
        let power = self.of(s.scale_unless_lt(one.v, n.v, self.v, s.splat(LOWEST)));
        let exp = power.mul_add(t, power);
        let less = power - one;
        Exp {
            x: self,
            exp,
            exp_m1: power.mul_add(t, less),
            x_exp: x * exp,
            gap_at_0: power.mul_add(second, power * r - self + less),
            gap_at_x: power.mul_add(x.mul_add(t, x - r - second), one - power),
        }
    }

    /// `x^2 q(x)`, `q` minimax in its own relative error, 1e-8 with these coefficients.
    #[inline(always)]
    fn exp_gap(self) -> Self {
        const Q: [f32; 8] = [
            0.5,
            0.166_666_67,
            0.041_666_735,
            0.008_333_310_5,
            0.001_388_545_1,
            0.000_198_440_23,
            0.000_025_354_83,
            0.000_002_772_283_3,
        ];
        self * self * self.horner(Q)
    }

    /// `ln(1 + x) = n ln 2 + ln(1 + f)`. With n = 0, where the gap is small, `f` is `x` itself.
    #[inline(always)]
    fn ln_gap(self, one_plus: Self) -> Self {
        let (s, one) = (self.s, self.like(1.0));
        let (scaled, n) = s.split(one_plus.v);
        let (scaled, n) = (self.of(scaled), self.of(n));
        let f = n.pick(scaled - one, self);
        let line = n.mul_add(self.like(-core::f32::consts::LN_2), self - f);
        line - self.of(bend(s, f.v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::simd::{Kernel, Lanes, MAX_LANES};
    use tokenloss_core::divergence::Entry;

    struct Forms([f32; MAX_LANES]);

    impl Kernel for Forms {
        type Output = [[f32; MAX_LANES]; 6];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let mut all = [[0.0; MAX_LANES]; 6];
            for i in (0..MAX_LANES).step_by(S::LANES) {
                let x = Vector { s, v: f32::load(s, &self.0[i..i + S::LANES]) };
                let Exp { exp, exp_m1, x_exp, gap_at_0, gap_at_x, .. } = x.exp_and_gaps();
                let bounded = x.larger(x.like(-0.995));
                let gap = bounded.ln_gap(bounded.like(1.0) + bounded);
                for (all, form) in all.iter_mut().zip([exp, exp_m1, x_exp, gap_at_0, gap_at_x, gap]) {
                    f32::store(s, form.v, &mut all[i..i + S::LANES]);
                }
            }
            all
        }
    }

    /// Relative errors from -87 to -1e-30, evenly in the logarithm.
    #[test]
    fn forms_are_within_the_documented_error() {
        let names = ["exp", "exp_m1", "x_exp", "gap_at_0", "gap_at_x", "ln_gap"];
        // Measured: 0.9, 0.8, 1.3, 6.5, 7.3 and 7.4e-7, the last three where n is no longer 0.
        let granted = [1.2e-7, 1.2e-7, 2e-7, 8e-7, 8e-7, 8e-7];
        for level in Level::available() {
            let mut worst = [(0.0f64, 0.0f32); 6];
            let mut x = -87.0f32;
            while x < -1e-18 {
                let at = core::array::from_fn(|i| x * (1.0 - i as f32 * 3e-5));
                let got = level.run(Forms(at));
                for i in 0..MAX_LANES {
                    let wide = f64::from(at[i]);
                    let Exp { exp, exp_m1, x_exp, gap_at_0, gap_at_x, .. } = wide.exp_and_gaps();
                    let bounded = wide.max(f64::from(-0.995f32));
                    let gap = bounded.ln_gap(1.0 + bounded);
                    let forms = [exp, exp_m1, x_exp, gap_at_0, gap_at_x, gap];
                    for (k, want) in forms.into_iter().enumerate() {
                        let off = (f64::from(got[k][i]) / want - 1.0).abs();
                        if off > worst[k].0 {
                            worst[k] = (off, at[i]);
                        }
                    }
                }
                x *= 1.0 - 16.0 * 3e-5;
            }
            println!("{level}: {names:?} {worst:?}");
            for (k, (off, x)) in worst.into_iter().enumerate() {
                assert!(off <= granted[k], "{level}: {} at {x:e} is off by {off:e}", names[k]);
            }
        }
    }

    #[test]
    fn special_values() {
        for level in Level::available() {
            let [exp, exp_m1, x_exp, gap_at_0, gap_at_x, _] =
                level.run(Forms([f32::NEG_INFINITY; MAX_LANES]));
            let firsts = [exp[0], exp_m1[0], x_exp[0], gap_at_0[0], gap_at_x[0]];
            assert_eq!(firsts, [0.0, -1.0, 0.0, f32::INFINITY, 1.0], "{level}");
            let all = level.run(Forms([-0.0; MAX_LANES]));
            assert_eq!(all.map(|form| form[0].abs()), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "{level}");
        }
    }

    /// The forms of a class of which the teacher's probability is 1/4 and the log-ratio is given.
    struct Known([f32; MAX_LANES]);

    impl Kernel for Known {
        type Output = [[f32; MAX_LANES]; 4];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let mut all = [[0.0; MAX_LANES]; 4];
            for i in (0..MAX_LANES).step_by(S::LANES) {
                let x = Vector { s, v: f32::load(s, &self.0[i..i + S::LANES]) };
                // The exponential is one of numbers of at most 0.
                let q = x.pick(x.like(0.25), x.like(0.25) * (-x).exp_of());
                let p = x.pick(x.like(0.25) * x.exp_of(), x.like(0.25));
                for (all, form) in all.iter_mut().zip(forms(&Entry::of_known(p, q, x))) {
                    f32::store(s, form.v, &mut all[i..i + S::LANES]);
                }
            }
            all
        }
    }

    #[inline(always)]
    fn forms<N: Number>(entry: &Entry<N>) -> [N; 4] {
        [entry.difference(), entry.p_log_ratio(), entry.student_gap(), entry.teacher_gap()]
    }

    /// Relative errors from -80 to 80 and to 1e-18 of either sign, evenly in the logarithm.
    #[test]
    fn forms_of_known_probabilities_are_within_the_documented_error() {
        let names = ["difference", "p_log_ratio", "student_gap", "teacher_gap"];
        // Measured: 1.8, 1.4, 4.8 and 2.9e-7, the last two where the log-ratio is near 1 in size.
        let granted = [2.4e-7, 2e-7, 6e-7, 4e-7];
        for level in Level::available() {
            let mut worst = [(0.0f64, 0.0f32); 4];
            let mut x = 80.0f32;
            while x > 1e-18 {
                let at = core::array::from_fn(|i| {
                    let x = x * (1.0 - i as f32 * 3e-5);
                    if i % 2 == 0 { x } else { -x }
                });
                let got = level.run(Known(at));
                for i in 0..MAX_LANES {
                    let wide = f64::from(at[i]);
                    let expected = forms(&Entry::new(0.25f64.ln(), wide));
                    for (k, want) in expected.into_iter().enumerate() {
                        let off = (f64::from(got[k][i]) / want - 1.0).abs();
                        if off > worst[k].0 {
                            worst[k] = (off, at[i]);
                        }
                    }
                }
                x *= 1.0 - 16.0 * 3e-5;
            }
            println!("{level}: {names:?} {worst:?}");
            for (k, (off, x)) in worst.into_iter().enumerate() {
                assert!(off <= granted[k], "{level}: {} at {x:e} is off by {off:e}", names[k]);
            }
        }
    }

    /// A mask is a probability of 0, and infinite where the divergence is.
    #[test]
    fn masks_of_known_probabilities() {
        struct Masked([f32; 3]);
        impl Kernel for Masked {
            type Output = [f32; 4];
            #[inline(always)]
            fn run<S: Simd>(self, s: S) -> [f32; 4] {
                let [p, q, log_ratio] = self.0.map(|x| Vector::splat(s, x));
                forms(&Entry::of_known(p, q, log_ratio)).map(|form| s.horizontal_max(form.v))
            }
        }
        const INF: f32 = f32::INFINITY;
        for level in Level::available() {
            for (pair, expected) in [
                ([0.0, 0.25, -INF], [-0.25, 0.0, 0.25, INF]),
                ([0.25, 0.0, INF], [0.25, INF, INF, 0.25]),
                ([0.0, 0.0, -INF], [0.0; 4]),
                ([0.0, 0.0, INF], [0.0; 4]),
                ([0.0, 0.0, f32::NAN], [0.0; 4]),
            ] {
                assert_eq!(level.run(Masked(pair)), expected, "{level}: {pair:?}");
            }
        }
    }
}
