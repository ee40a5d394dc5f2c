use super::{Listed, cast, check};
use crate::{Error, Kinks, TargetProb, TokenEval, TokenObjective};
use num_traits::Float;

/// An objective on the rows whose current probability lies between two bounds; the others are dropped.
///
/// ```text
/// lo <= p <= hi:   f = inner(p)        otherwise:   f = 0, slope = 0, kept = false
/// ```
///
/// Both comparisons include equality, and no gradient flows through them. The rows that are kept change as the
/// model learns. The code of the paper takes the mean over kept rows only: that is
/// [`Denominator::Kept`](crate::Denominator::Kept).
///
/// **Domain.** `lo` and `hi` from 0 to 1, `lo <= hi`. Both are declared kinks. `inner` is any token objective.
///
/// ```
/// use tokenloss_core::{Nll, Thresholded, TokenObjective};
/// let objective = Thresholded::new(Nll, 0.2, 1.0)?;
/// assert!(objective.of_log_p((0.3f64).ln()).kept);
/// assert_eq!(objective.of_log_p((0.1f64).ln()).slope, 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** "Beyond Log Likelihood" (arXiv 2510.00526), L_HT; its code's keys `OnlyTopP-q`, `OnlyBottomP-q`,
/// `OnlyTopLogP-q`, `OnlyBottomLogP-q`. ProFit (arXiv 2601.09195) is the same with a strict comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholded<O> {
    pub(crate) inner: O,
    pub(crate) lo: f32,
    pub(crate) hi: f32,
}

impl<O> Thresholded<O> {
    /// Keeps the rows with `lo <= p <= hi`.
    ///
    /// # Errors
    /// * [`Error::Parameter`] if a bound lies outside 0 to 1.
    /// * [`Error::Interval`] if `lo > hi`.
    pub fn new(inner: O, lo: f32, hi: f32) -> Result<Self, Error> {
        let [lo, hi] = check(Self::NAME, Self::PARAMETERS, [lo, hi])?;
        if lo > hi {
            return Err(Error::Interval { lo, hi });
        }
        Ok(Self { inner, lo, hi })
    }

    /// The objective on the kept rows.
    pub fn inner(&self) -> &O {
        &self.inner
    }
}

impl<O: TokenObjective> TokenObjective for Thresholded<O> {
    #[inline]
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        let p = target.p();
        if p >= cast(self.lo) && p <= cast(self.hi) {
            self.inner.of_target(target)
        } else {
            TokenEval { loss: T::zero(), slope: T::zero(), kept: false }
        }
    }

    fn held<T: Float>(&self, frozen: TargetProb<T>, live: TargetProb<T>) -> T {
        if self.of_target(frozen).kept { self.inner.held(frozen, live) } else { T::zero() }
    }

    fn kinks(&self) -> Kinks {
        // A bound at an end of [0, 1] cuts nothing off. Of the inner objective's kinks there is room for two.
        let lo = Some(self.lo).filter(|lo| *lo > 0.0);
        let hi = Some(self.hi).filter(|hi| *hi < 1.0);
        let mut inner = self.inner.kinks().into_iter().flatten();
        [lo, hi, inner.next(), inner.next()]
    }
}
