//! Surrogates of a policy's return: what a rollout costs, and the slope of that at each of its tokens.
//!
//! A rollout is one sequence that a policy wrote. Its tokens are rows whose `log_p` a backend's `summarise` gives;
//! the slopes that [`judge`] makes of them go to `push_back` as [`RowPartials::of_slope`](crate::RowPartials::of_slope). Rows of
//! prompts, of the output of tools and of all else that the policy did not write are ignored rows.
//!
//! ```text
//! d_t     = log_p_t - old_t          the log-ratio to the policy that wrote the token
//! r_t     = exp d_t                  the ratio
//! loss    = sum_t loss_t             of one rollout; SequenceReduction makes one number of many
//! slope_t = d loss / d log_p_t
//! ```
//!
//! An objective of the whole sequence ([`Gspo`], [`Gmpo`]) gives each token the loss of the sequence. The mean over
//! sequences of their token means is then the published mean over sequences, and on the old policy itself the slope of
//! every surrogate of the ratio is minus the advantage, before the reduction.
//!
//! ```
//! use tokenloss_core::Segments;
//! use tokenloss_core::advantage::{AdvantageEstimator, DrGrpo, Outcomes};
//! use tokenloss_core::policy::{Advantages, Ppo, Rollouts, judge};
//! use tokenloss_core::sequence::{SequenceReduction, Sequences};
//!
//! // One prompt with two rollouts, of two tokens and of one.
//! let mut advantages = [0.0; 2];
//! DrGrpo.estimate(&Outcomes::new(&[1.0, 0.0], Segments::new(&[0, 2], 2)?)?, &mut advantages)?;
//!
//! let (log_p, old) = ([-1.0f64, -0.5, -2.0], [-1.0, -1.5, -2.0]);
//! let sequences = Sequences::new(Segments::new(&[0, 2, 3], 3)?);
//! let rollouts = Rollouts::new(sequences, &log_p, &old, Advantages::Sequences(&advantages))?;
//! let mut slopes = [0.0; 3];
//! let totals = judge(&Ppo::new(0.2, 0.28)?, SequenceReduction::Sum, sequences.counts(), &rollouts, &mut slopes)?;
//! assert_eq!((slopes, totals.clipped), ([-0.5, 0.0, 0.5], 1));
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

mod hybrid;
mod judge;
mod penalised;
mod rollout;
mod unified;

pub use hybrid::{Hybrid, hybrid};
pub use judge::{PolicyTotals, judge};
pub use penalised::Penalised;
pub use rollout::{Advantages, Rollout, RolloutToken, Rollouts};
pub use unified::{Divisor, Unified};

use crate::objective::cast;
use num_traits::Float;

/// What a rollout amounts to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyEval<T> {
    /// The sum of its tokens' losses.
    pub loss: T,
    /// Tokens whose ratio was clipped.
    pub clipped: usize,
}

/// A function of a rollout's log-probabilities, and its derivatives. Every [`TokenPolicyObjective`] is one.
pub trait PolicyObjective {
    /// The loss; adds the slope of each token to `slopes`, at the row that [`Rollout::tokens`] says.
    fn of_rollout<T: Float>(&self, rollout: &Rollout<'_, T>, slopes: &mut [T]) -> PolicyEval<T>;

    /// The loss at `live` with every stop-gradient factor held at `frozen`, which is the same rollout but for `log_p`.
    /// The slopes at a rollout are the derivatives of this by `live` there.
    fn held<T: Float>(&self, frozen: &Rollout<'_, T>, live: &Rollout<'_, T>) -> T;

    /// The log-ratios, of a token or of the sequence, at which the loss or a stop-gradient factor is not smooth. Checks
    /// look at both sides of each, and never differentiate across one.
    fn kinks(&self) -> [Option<f32>; 3] {
        [None; 3]
    }

    /// Whether the reference policy's log-probabilities are looked at.
    fn needs_reference(&self) -> bool {
        false
    }
}

/// What a token amounts to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenPolicyEval<T> {
    /// The loss.
    pub loss: T,
    /// `d loss / d log_p`.
    pub slope: T,
    /// Whether the ratio was clipped.
    pub clipped: bool,
}

/// A surrogate that judges every token by itself.
pub trait TokenPolicyObjective {
    /// Loss and slope in one call.
    fn of_token<T: Float>(&self, token: &RolloutToken<T>) -> TokenPolicyEval<T>;

    /// See [`PolicyObjective::held`].
    fn held<T: Float>(&self, frozen: &RolloutToken<T>, live: &RolloutToken<T>) -> T {
        let _ = frozen;
        self.of_token(live).loss
    }

    /// See [`PolicyObjective::kinks`].
    fn kinks(&self) -> [Option<f32>; 3] {
        [None; 3]
    }

    /// See [`PolicyObjective::needs_reference`].
    fn needs_reference(&self) -> bool {
        false
    }
}

impl<O: TokenPolicyObjective> PolicyObjective for O {
    fn of_rollout<T: Float>(&self, rollout: &Rollout<'_, T>, slopes: &mut [T]) -> PolicyEval<T> {
        let mut all = PolicyEval { loss: T::zero(), clipped: 0 };
        for (row, token) in rollout.tokens() {
            let eval = self.of_token(&token);
            all.loss = all.loss + eval.loss;
            all.clipped += usize::from(eval.clipped);
            slopes[row] = slopes[row] + eval.slope;
        }
        all
    }

    fn held<T: Float>(&self, frozen: &Rollout<'_, T>, live: &Rollout<'_, T>) -> T {
        let pairs = frozen.tokens().zip(live.tokens());
        pairs.fold(T::zero(), |sum, ((_, frozen), (_, live))| {
            sum + TokenPolicyObjective::held(self, &frozen, &live)
        })
    }

    fn kinks(&self) -> [Option<f32>; 3] {
        TokenPolicyObjective::kinks(self)
    }

    fn needs_reference(&self) -> bool {
        TokenPolicyObjective::needs_reference(self)
    }
}

macro_rules! declare_policies {
    ($($lines:tt)*) => {
        listed! { "policy" $($lines)* }
    };
}
for_each_objective!(policies, declare_policies);

/// A log-ratio, at most that of a ratio of the square root of the greatest finite number, so that products with
/// advantages and sums over tokens stay finite.
#[inline]
pub(crate) fn saturated<T: Float>(log_ratio: T) -> T {
    log_ratio.min(T::max_value().ln() / (T::one() + T::one()))
}

/// The ratio of a log-ratio, [`saturated`].
#[inline]
pub(crate) fn ratio<T: Float>(log_ratio: T) -> T {
    saturated(log_ratio).exp()
}

/// The ratio as PPO clips it, and whether it did: from above where the advantage is positive and from below where it is
/// negative, the sides on which the surrogate would go on to fall. Compared as logarithms, which no ratio overflows.
#[inline]
pub(crate) fn clip<T: Float>(log_ratio: T, advantage: T, low: f32, high: f32) -> (T, bool) {
    let (low, high) = (cast::<T>(low), cast::<T>(high));
    if advantage > T::zero() && log_ratio > high.ln_1p() {
        (T::one() + high, true)
    } else if advantage < T::zero() && log_ratio < (-low).ln_1p() {
        (T::one() - low, true)
    } else {
        (ratio(log_ratio), false)
    }
}

/// Where [`clip`] has its kinks.
pub(crate) fn clip_kinks(low: f32, high: f32) -> [Option<f32>; 2] {
    [Some(Float::ln_1p(-low)), Some(Float::ln_1p(high))]
}
