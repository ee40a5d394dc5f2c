use super::cast;
use crate::{RowEval, RowObjective, RowPartials, RowSummary};
use num_traits::Float;

/// nll against a target that gives `epsilon` of its mass to all classes alike.
///
/// ```text
/// L = -(1 - epsilon) log p - epsilon mean_j log p_j = (1 - epsilon) (lse - z_t) + epsilon (lse - mean_j z_j)
/// dL/dz_j = p_j - (1 - epsilon) [j = t] - epsilon / count
/// ```
///
/// The mean is over the `count` classes that have mass: a masked class gets neither mass nor gradient.
///
/// **Domain.** `epsilon` from 0, which is nll, to 1.
///
/// **Numerics.** `lse - mean` is a sum of two terms that are not negative; no logit enters by itself.
///
/// ```
/// use tokenloss_core::{LabelSmoothing, RowObjective, reference};
/// let row = reference::summarise(&[0.0f64, 0.0], 0)?;
/// assert!((LabelSmoothing::new(0.1)?.of_row(&row).loss - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Szegedy et al. 2015 (arXiv 1512.00567); the same as PyTorch's `label_smoothing`, except that PyTorch's
/// loss is infinite as soon as any class is masked. Megatron smooths over the other classes only: its `a` is
/// `epsilon = a count / (count - 1)` here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelSmoothing {
    pub(crate) epsilon: f32,
}

impl RowObjective for LabelSmoothing {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let epsilon = cast::<T>(self.epsilon);
        let sharp = T::one() - epsilon;
        // A masked target has log p = -infinity, and 0 times that is not 0.
        let hard = if sharp == T::zero() { T::zero() } else { -sharp * row.target.log_p };
        RowEval {
            loss: hard + epsilon * row.stats.uniform_cross_entropy(),
            partials: RowPartials {
                d_target: -sharp,
                d_lse: T::one(),
                d_mean: -epsilon,
                ..RowPartials::zero()
            },
            kept: true,
        }
    }
}
