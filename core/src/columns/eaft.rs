use super::{ColumnRow, cast};
use num_traits::Float;

/// Entropy-adaptive fine-tuning: a row's weight from the entropy of its top k.
///
/// ```text
/// w_i = exp z_i / sum_l exp z_l        H = -sum_i w_i log w_i        weight = (H / divisor)^alpha
/// L = sg(weight) nll
/// ```
///
/// Rows on which the model is sure, right or wrong, weigh little. List the top 20 columns
/// (`ColumnBackend::top_k`, feature `alloc`), take [`weight`](Eaft::weight) of their logits, and give the weights to
/// [`Batch::with_weights`](crate::Batch::with_weights) and any objective of the row.
///
/// [`EntropyGated`](crate::EntropyGated) is the same of the whole row's entropy, in one pass.
///
/// **Domain.** `alpha` from 0, where every weight is 1, to 16; `divisor` from .01 to 100. The weight is at most
/// `(ln k / divisor)^alpha`.
///
/// **Numerics.** The entropy is a sum of terms of one sign.
///
/// ```
/// use tokenloss_core::columns::Eaft;
/// let weight = Eaft::new(1.0, 3.0)?.weight(&[0.5f64; 20]);
/// assert!((weight - 20f64.ln() / 3.0).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** arXiv 2601.02151, which divides by `ln 20 = 2.9957`; its code divides by 3.0. Other code does not divide
/// (`divisor = 1`) and adds 1e-10 to each share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Eaft {
    pub(crate) alpha: f32,
    pub(crate) divisor: f32,
}

impl Eaft {
    /// The weight of a row, from the logits of its top k columns in any order; NaN where one is NaN or +infinity, or none
    /// has mass.
    pub fn weight<T: Float>(&self, logits: &[T]) -> T {
        let stats = ColumnRow { logits, rest: T::neg_infinity() }.stats();
        if !stats.is_valid() {
            return T::nan();
        }
        (stats.entropy() / cast(self.divisor)).powf(cast(self.alpha))
    }
}
