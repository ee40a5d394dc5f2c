use super::{Input, ScoreEval, ScoreObjective, error};
use crate::objective::cast;
use crate::{Error, check_length};
use num_traits::Float;

/// The pseudo-Huber loss: smooth everywhere, quadratic within `c` and linear beyond. Of one score, or of a whole
/// vector by [`of_vectors`](PseudoHuber::of_vectors).
///
/// ```text
/// loss = sqrt(|score - target|^2 + c^2) - c        slope = (score - target) / sqrt(|score - target|^2 + c^2)
/// ```
///
/// For a vector `|.|` is the l2 norm: the squares are summed before the root, so that it is one loss of the vector and
/// not the sum of its elements' losses. `c = 0` is the l2 norm itself, whose gradient at 0 is taken as 0. About
/// `|score - target|^2 / (2 c)` well below `c`, and `|score - target| - c` well above.
///
/// **Domain.** `c` from 0 to 1000. [`for_dim`](PseudoHuber::for_dim) is the one that consistency models use.
///
/// **Numerics.** The loss is computed as `|e|^2 / (sqrt(|e|^2 + c^2) + c)`, in which nothing cancels, and the root
/// without forming squares that overflow or underflow.
///
/// ```
/// use tokenloss_core::score::{PseudoHuber, ScoreObjective};
/// let eval = PseudoHuber::new(3.0)?.of_scores([5.0f64], [1.0]);
/// assert_eq!((eval.loss, eval.slopes), (2.0, [0.8]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Charbonnier et al. 1997; Song and Dhariwal 2023 (arXiv 2310.14189) for the vector and its `c`. The
/// scaled form `c (sqrt((e / c)^2 + 1) - 1)` is the same; other libraries' `c^2 (sqrt((e / c)^2 + 1) - 1)` is `c`
/// times this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PseudoHuber {
    pub(crate) c: f32,
}

impl PseudoHuber {
    /// `c = 0.00054 sqrt(dim)`, for vectors of `dim` elements (arXiv 2310.14189).
    ///
    /// # Errors
    /// [`Error::Parameter`] for a dim so large that `c` leaves its domain.
    pub fn for_dim(dim: usize) -> Result<Self, Error> {
        Self::new((0.00054 * Float::sqrt(dim as f64)) as f32)
    }

    /// The loss of a whole vector; its gradient by `prediction` is written to `dprediction`.
    ///
    /// ```
    /// use tokenloss_core::score::PseudoHuber;
    /// let mut dprediction = [0.0f64; 2];
    /// let loss = PseudoHuber::new(0.0)?.of_vectors(&[3.0, 5.0], &[0.0, 1.0], &mut dprediction)?;
    /// assert_eq!((loss, dprediction), (5.0, [0.6, 0.8]));
    /// # Ok::<(), tokenloss_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooFew`] for vectors of no elements, [`Error::Length`] for `targets` or `dprediction`,
    /// [`Error::Input`] for an element that is not finite.
    pub fn of_vectors<T: Float>(
        &self,
        prediction: &[T],
        target: &[T],
        dprediction: &mut [T],
    ) -> Result<T, Error> {
        let dim = prediction.len();
        if dim == 0 {
            return Err(Error::TooFew { what: "prediction", index: 0, needed: 1, got: 0 });
        }
        check_length("target", dim, target.len())?;
        check_length("dprediction", dim, dprediction.len())?;
        for (what, vector) in [("prediction", prediction), ("target", target)] {
            for (index, &value) in vector.iter().enumerate() {
                Input::real(what).check(index, value)?;
            }
        }
        let errors = || prediction.iter().zip(target).map(|(&score, &target)| error(score, target));
        // In units of the greatest of them and of c, so that no square leaves the float type.
        let c = cast::<T>(self.c);
        let greatest = errors().fold(c, |greatest, error| greatest.max(error.abs()));
        let unit = if greatest == T::zero() { T::one() } else { greatest };
        let squares = errors().fold(T::zero(), |sum, error| sum + (error / unit) * (error / unit));
        let (loss, root) = of_norm(squares.sqrt(), c / unit);
        for (dprediction, error) in dprediction.iter_mut().zip(errors()) {
            *dprediction = slope(error / unit, root);
        }
        Ok(loss * unit)
    }
}

/// The loss and `sqrt(norm^2 + c^2)`.
#[inline]
fn of_norm<T: Float>(norm: T, c: T) -> (T, T) {
    let root = norm.hypot(c);
    let loss = if root == T::zero() { T::zero() } else { norm * (norm / (root + c)) };
    (loss, root)
}

#[inline]
fn slope<T: Float>(error: T, root: T) -> T {
    if root == T::zero() { T::zero() } else { error / root }
}

impl ScoreObjective for PseudoHuber {
    #[inline]
    fn of_scores<T: Float>(&self, [score]: [T; 1], [target]: [T; 1]) -> ScoreEval<T, 1> {
        let error = error(score, target);
        let (loss, root) = of_norm(error.abs(), cast(self.c));
        ScoreEval { loss, slopes: [slope(error, root)] }
    }

    fn kinks(&self, [target]: [f64; 1]) -> [Option<f64>; 2] {
        [if self.c == 0.0 { Some(target) } else { None }, None]
    }
}
