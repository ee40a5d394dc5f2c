//! One row of logits, seen as a few numbers.
//!
//! For logits `z [vocab]` and a target `t`:
//!
//! ```text
//! max     = max_j z_j
//! tail    = sum_j exp(z_j - max) - 1           the maximum's own 1 stays implicit
//! lse     = max + ln(1 + tail)
//! log_p   = (z_t - max) - ln(1 + tail)
//! p_j     = exp(z_j - max) / (1 + tail)
//! entropy = -sum_j p_j log p_j
//! mean    = max + spread / count               of the logits that have mass, spread = sum_j (z_j - max)
//! energy  = sum_j z_j^2                        over the same logits
//! ```
//!
//! Every row objective is a function of these, and its gradient is a fixed combination of columns:
//!
//! ```text
//! dL/dz_j = d_target [j = t] + d_lse p_j - d_entropy p_j (log p_j + entropy) + d_mean / count + 2 d_energy z_j
//! ```
//!
//! A masked logit (-infinity) has gradient 0.
//!
//! Keeping the 1 implicit is what makes a confident row exact: where the target is the maximum,
//! `1 - p = tail / (1 + tail)` has no cancellation, while `1 - exp(log_p)` in f32 is 17 % off at a margin of
//! 15 and 0 from a margin of 17 on.

use num_traits::Float;

/// What a part of a row amounts to: a commutative monoid under [`merge`](RowStats::merge) with the identity
/// [`empty`](RowStats::empty). SIMD lanes, workgroup lanes and vocabulary shards are all merged by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowStats<T> {
    /// The greatest logit; -infinity if there is none.
    pub max: T,
    /// `sum_j exp(z_j - max) - 1`, at least 0; -1 where no logit has mass; NaN marks a row with a NaN or a
    /// +infinity in it.
    pub tail: T,
    /// `sum_j exp(z_j - max) (z_j - max)`, at most 0. Only the entropy needs it.
    pub moment: T,
    /// `sum_j exp(z_j - max)^2`, from which comes `sum_j p_j^2`. One of [`Detail::Moments`](crate::Detail::Moments).
    pub collision: T,
    /// `sum_j (z_j - max)` over logits with mass, at most 0. One of [`Detail::Moments`](crate::Detail::Moments).
    pub spread: T,
    /// `sum_j z_j^2` over logits with mass. One of [`Detail::Moments`](crate::Detail::Moments).
    pub energy: T,
    /// Logits with mass. One of [`Detail::Moments`](crate::Detail::Moments).
    pub count: u32,
    /// The column of the greatest logit, the first of equals; `u32::MAX` if there is none.
    pub argmax: u32,
}

impl<T: Float> RowStats<T> {
    /// The statistics of no logits at all.
    pub fn empty() -> Self {
        let zero = T::zero();
        Self {
            max: T::neg_infinity(),
            tail: -T::one(),
            moment: zero,
            collision: zero,
            spread: zero,
            energy: zero,
            count: 0,
            argmax: u32::MAX,
        }
    }

    /// The statistics of one logit. A masked logit (-infinity) has no mass; NaN and +infinity poison the row.
    pub fn of(logit: T, column: u32) -> Self {
        if logit == T::neg_infinity() {
            return Self::empty();
        }
        let tail = if logit.is_finite() { T::zero() } else { T::nan() };
        Self {
            max: logit,
            tail,
            moment: T::zero(),
            collision: T::one(),
            spread: T::zero(),
            energy: logit * logit,
            count: 1,
            argmax: column,
        }
    }

    /// The statistics of both parts together. Associative and commutative up to rounding.
    pub fn merge(self, other: Self) -> Self {
        let other_wins = other.max > self.max || (other.max == self.max && other.argmax < self.argmax);
        let (winner, loser) = if other_wins { (other, self) } else { (self, other) };
        if loser.tail == -T::one() {
            return winner;
        }
        let delta = loser.max - winner.max;
        let share = delta.exp();
        let mass = T::one() + loser.tail;
        // A difference that overflows to -infinity has a share of 0, and 0 times infinity is not 0.
        let moment = if share == T::zero() { T::zero() } else { share * (loser.moment + delta * mass) };
        let count = T::from(loser.count).unwrap_or_else(T::nan);
        Self {
            max: winner.max,
            tail: winner.tail + share * mass,
            moment: winner.moment + moment,
            collision: winner.collision + share * share * loser.collision,
            spread: winner.spread + if loser.count == 0 { T::zero() } else { loser.spread + delta * count },
            energy: winner.energy + loser.energy,
            count: winner.count + loser.count,
            argmax: winner.argmax,
        }
    }

    /// Whether some logit has mass and none is NaN or +infinity.
    pub fn is_valid(&self) -> bool {
        self.tail >= T::zero()
    }

    /// `log sum_j exp z_j`.
    pub fn lse(&self) -> T {
        self.max + self.tail.ln_1p()
    }

    /// `-sum_j p_j log p_j` in nats. Both terms are at least 0, so nothing cancels.
    pub fn entropy(&self) -> T {
        self.tail.ln_1p() - self.moment / (T::one() + self.tail)
    }

    /// The mean of the logits that have mass.
    pub fn mean(&self) -> T {
        self.max + self.mean_below_max()
    }

    /// The mean of `z_j - max` over the logits that have mass, at most 0.
    pub fn mean_below_max(&self) -> T {
        self.spread / self.counted()
    }

    /// `lse - mean`: the cross entropy of the uniform distribution over the classes that have mass. Both terms are
    /// at least 0, so nothing cancels.
    pub fn uniform_cross_entropy(&self) -> T {
        self.tail.ln_1p() - self.mean_below_max()
    }

    /// `sum_j p_j^2`, from `1 / count` to 1.
    pub fn sum_p_squared(&self) -> T {
        let mass = T::one() + self.tail;
        self.collision / (mass * mass)
    }

    /// The logits that have mass, as a float.
    pub fn counted(&self) -> T {
        T::from(self.count).unwrap_or_else(T::nan)
    }

    /// The probability of the target's logit.
    pub fn target(&self, logit: T) -> TargetProb<T> {
        let log_p = (logit - self.max) - self.tail.ln_1p();
        let one_minus_p =
            if logit == self.max { self.tail / (T::one() + self.tail) } else { -log_p.exp_m1() };
        TargetProb { log_p, one_minus_p }
    }
}

/// The target's probability, in the two forms that are exact at the two ends: `log_p` near p = 0 and
/// `one_minus_p` near p = 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetProb<T> {
    /// The target's log-probability, at most 0; -infinity for a masked target.
    pub log_p: T,
    /// `1 - p`, from 0 to 1, to full relative accuracy.
    pub one_minus_p: T,
}

impl<T: Float> TargetProb<T> {
    /// From the log-probability alone.
    pub fn from_log_p(log_p: T) -> Self {
        Self { log_p, one_minus_p: -log_p.exp_m1() }
    }

    /// The probability.
    pub fn p(&self) -> T {
        let half = T::one() / (T::one() + T::one());
        if self.one_minus_p < half { T::one() - self.one_minus_p } else { self.log_p.exp() }
    }
}

/// A row summarised: all that an objective sees of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowSummary<T> {
    /// The statistics of the whole row.
    pub stats: RowStats<T>,
    /// The target's probability.
    pub target: TargetProb<T>,
}

impl<T: Float> RowSummary<T> {
    /// From the statistics of the whole row and the target's logit.
    pub fn new(stats: RowStats<T>, target_logit: T) -> Self {
        Self { stats, target: stats.target(target_logit) }
    }

    /// The summary of a row that was not computed: all numbers NaN, no argmax. Ignored rows have it, and so
    /// have rows with a NaN or a +infinity in them.
    pub fn nan() -> Self {
        let nan = T::nan();
        Self {
            stats: RowStats {
                max: nan,
                tail: nan,
                moment: nan,
                collision: nan,
                spread: nan,
                energy: nan,
                count: 0,
                argmax: u32::MAX,
            },
            target: TargetProb { log_p: nan, one_minus_p: nan },
        }
    }
}

/// The derivatives of a row's loss in the directions that its logits' gradient is made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowPartials<T> {
    /// By the target's logit, all else held.
    pub d_target: T,
    /// By the log-sum-exp.
    pub d_lse: T,
    /// By the entropy.
    pub d_entropy: T,
    /// By the mean of the logits that have mass.
    pub d_mean: T,
    /// By `sum_j z_j^2`.
    pub d_energy: T,
}

impl<T: Float> RowPartials<T> {
    /// No gradient at all.
    pub fn zero() -> Self {
        let zero = T::zero();
        Self { d_target: zero, d_lse: zero, d_entropy: zero, d_mean: zero, d_energy: zero }
    }

    /// Those of a bad row.
    pub fn nan() -> Self {
        Self::zero().map(|_| T::nan())
    }

    /// Those of an objective that is a function of `log_p` alone with this slope.
    pub fn of_slope(slope: T) -> Self {
        Self { d_target: slope, d_lse: -slope, ..Self::zero() }
    }

    fn map(self, of: impl Fn(T) -> T) -> Self {
        Self {
            d_target: of(self.d_target),
            d_lse: of(self.d_lse),
            d_entropy: of(self.d_entropy),
            d_mean: of(self.d_mean),
            d_energy: of(self.d_energy),
        }
    }

    /// All of them times a row's weight.
    pub fn scaled(self, weight: T) -> Self {
        // A weight of 0 switches a row off even where its partials are not finite.
        if weight == T::zero() { Self::zero() } else { self.map(|partial| partial * weight) }
    }

    /// Those of the sum of two losses.
    pub fn plus(self, other: Self) -> Self {
        Self {
            d_target: self.d_target + other.d_target,
            d_lse: self.d_lse + other.d_lse,
            d_entropy: self.d_entropy + other.d_entropy,
            d_mean: self.d_mean + other.d_mean,
            d_energy: self.d_energy + other.d_energy,
        }
    }

    /// Whether target and log-sum-exp are all that the gradient is made of, as it is for every token objective.
    pub fn is_plain(&self) -> bool {
        let zero = T::zero();
        self.d_entropy == zero && self.d_mean == zero && self.d_energy == zero
    }

    /// Whether the row has any gradient that a normal `f32` can hold. A row that has none is not `live` and needs
    /// no push back. NaN is live.
    pub fn is_live(&self) -> bool {
        let least = T::from(f32::MIN_POSITIVE).unwrap_or_else(T::min_positive_value);
        let Self { d_target, d_lse, d_entropy, d_mean, d_energy } = *self;
        let nothing = |partial: T| partial.abs() < least;
        ![d_target, d_lse, d_entropy, d_mean, d_energy].into_iter().all(nothing)
    }

    /// An upper bound of `sum_j |dL/dz_j|`, exact where the gradient [is plain](Self::is_plain).
    pub fn norm_bound(&self, summary: &RowSummary<T>) -> T {
        let others = self.d_lse.abs() * summary.target.one_minus_p;
        let direct = self.target_gradient(summary).abs() + others;
        if self.is_plain() {
            return direct;
        }
        let stats = &summary.stats;
        // sum_j p_j |log p_j + entropy| <= 2 entropy, and sum_j |z_j| <= sqrt(count energy)
        let entropy = stats.entropy();
        let energy = (stats.counted() * stats.energy).sqrt();
        direct
            + (self.d_entropy * (entropy + entropy)).abs()
            + self.d_mean.abs()
            + (self.d_energy * (energy + energy)).abs()
    }

    /// The gradient of the target's logit. For a token objective this is `slope (1 - p)`, formed from
    /// `1 - p` itself and never as `slope (p - 1)`.
    pub fn target_gradient(&self, summary: &RowSummary<T>) -> T {
        let (stats, p) = (&summary.stats, summary.target.p());
        let direct = if p + p < T::one() {
            self.d_target + self.d_lse * p
        } else {
            (self.d_target + self.d_lse) - self.d_lse * summary.target.one_minus_p
        };
        // A masked target is no part of the rest.
        if self.is_plain() || summary.target.log_p == T::neg_infinity() {
            return direct;
        }
        let zero = T::zero();
        let entropy = if self.d_entropy == zero || p == zero {
            zero
        } else {
            self.d_entropy * p * (summary.target.log_p + stats.entropy())
        };
        let mean = if self.d_mean == zero { zero } else { self.d_mean / stats.counted() };
        let energy = if self.d_energy == zero {
            zero
        } else {
            let logit = summary.target.log_p + stats.lse();
            self.d_energy * (logit + logit)
        };
        direct - entropy + mean + energy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stats_of(logits: &[f64]) -> RowStats<f64> {
        logits.iter().enumerate().fold(RowStats::empty(), |s, (j, &z)| s.merge(RowStats::of(z, j as u32)))
    }

    fn close(a: RowStats<f64>, b: RowStats<f64>) -> bool {
        let near = |x: f64, y: f64| x == y || (x - y).abs() <= 1e-13 * x.abs().max(y.abs());
        near(a.max, b.max)
            && near(a.tail, b.tail)
            && near(a.moment, b.moment)
            && near(a.collision, b.collision)
            && near(a.spread, b.spread)
            && near(a.energy, b.energy)
            && (a.count, a.argmax) == (b.count, b.argmax)
    }

    fn logit() -> impl Strategy<Value = f64> {
        prop_oneof![8 => -40.0..40.0, 1 => Just(3.0), 1 => Just(f64::NEG_INFINITY)]
    }

    proptest! {
        #[test]
        fn merge_is_a_commutative_monoid(z in prop::collection::vec(logit(), 3..40), cut in 0.0..1.0, gap in 0.0..1.0) {
            let i = (cut * z.len() as f64) as usize;
            let k = i + (gap * (z.len() - i) as f64) as usize;
            let part = |range: core::ops::Range<usize>| {
                range.fold(RowStats::empty(), |s, j| s.merge(RowStats::of(z[j], j as u32)))
            };
            let (a, b, c) = (part(0..i), part(i..k), part(k..z.len()));
            prop_assert!(close(a.merge(b).merge(c), a.merge(b.merge(c))));
            prop_assert!(close(a.merge(b), b.merge(a)));
            prop_assert!(close(a.merge(RowStats::empty()), a));
            prop_assert!(close(RowStats::empty().merge(a), a));
            prop_assert!(close(a.merge(b).merge(c), stats_of(&z)));
        }

        #[test]
        fn a_shift_of_the_logits_changes_nothing_but_the_maximum(
            z in prop::collection::vec(-20.0f64..20.0, 2..20), shift in -100.0f64..100.0) {
            let (a, b) = (stats_of(&z), stats_of(&z.iter().map(|z| z + shift).collect::<Vec<_>>()));
            prop_assert!((a.tail - b.tail).abs() <= 1e-11 * a.tail);
            prop_assert!((a.entropy() - b.entropy()).abs() <= 1e-11);
            prop_assert!((a.lse() + shift - b.lse()).abs() <= 1e-11);
        }
    }

    #[test]
    fn one_nan_or_infinity_poisons_the_row_wherever_it_stands() {
        for bad in [f64::NAN, f64::INFINITY] {
            for at in 0..4 {
                let mut z = [1.0, 2.0, f64::NEG_INFINITY, 0.0];
                z[at] = bad;
                assert!(!stats_of(&z).is_valid(), "{bad} at {at}");
            }
        }
        assert!(!stats_of(&[f64::NEG_INFINITY; 3]).is_valid());
        assert!(stats_of(&[f64::NEG_INFINITY, 5.0]).is_valid());
    }

    #[test]
    fn a_confident_target_keeps_its_relative_accuracy() {
        for margin in [1.0f32, 15.0, 17.0, 40.0, 80.0] {
            let stats = RowStats::of(margin, 0).merge(RowStats::of(0.0, 1));
            let target = stats.target(margin);
            let truth = f64::from(-margin).exp() / (1.0 + f64::from(-margin).exp());
            assert!((f64::from(target.one_minus_p) / truth - 1.0).abs() < 1e-6, "margin {margin}");
            assert!((f64::from(target.log_p) / -f64::from(-margin).exp().ln_1p() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn differences_that_overflow_stay_finite() {
        let stats = RowStats::of(3e38f32, 0).merge(RowStats::of(-3e38f32, 1));
        assert_eq!((stats.tail, stats.moment, stats.entropy()), (0.0, 0.0, 0.0));
    }
}
