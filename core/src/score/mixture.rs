use crate::math::wide;
use crate::{Error, RowStats, check_length};
use num_traits::Float;

/// The negative log-likelihood of a mixture, from the logits of its components' shares and the log-densities that the
/// components give to what was observed.
///
/// ```text
/// share_k = softmax(logits)_k        responsibility_k = softmax(logits + log_densities)_k
/// loss = -log sum_k share_k exp(log_density_k)
/// dlogits_k = share_k - responsibility_k        dlog_densities_k = -responsibility_k
/// ```
///
/// Returns the loss and writes both gradients; by the second, the gradient of whatever a component's density is made
/// of follows. A component that does not exist, or that gives what was observed no density, has `-infinity`.
///
/// **Numerics.** Both log-sum-exps subtract their maximum and keep its 1 apart. Where a component carries more than half
/// of both, its `share - responsibility` is the difference of what the others carry.
///
/// ```
/// use tokenloss_core::score::mixture_nll;
/// let (mut dlogits, mut dlog_densities) = ([0.0f64; 2], [0.0f64; 2]);
/// let loss = mixture_nll(&[0.0, 0.0], &[-1.0, -1.0], &mut dlogits, &mut dlog_densities)?;
/// assert!((loss - 1.0).abs() < 1e-15 && dlogits == [0.0, 0.0] && dlog_densities == [-0.5, -0.5]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Bishop 1994, mixture density networks; Yoo et al. 2023 (arXiv 2205.08714) for components whose density
/// is a product.
///
/// # Errors
/// [`Error::TooFew`] for no components, [`Error::Length`], [`Error::Input`] for NaN or +infinity, and
/// [`Error::NoMass`] where no component gives any density.
pub fn mixture_nll<T: Float>(
    logits: &[T],
    log_densities: &[T],
    dlogits: &mut [T],
    dlog_densities: &mut [T],
) -> Result<T, Error> {
    let components = logits.len();
    if components == 0 {
        return Err(Error::TooFew { what: "components", index: 0, needed: 1, got: 0 });
    }
    check_length("log_densities", components, log_densities.len())?;
    check_length("dlogits", components, dlogits.len())?;
    check_length("dlog_densities", components, dlog_densities.len())?;
    for (what, values) in [("logits", logits), ("log_densities", log_densities)] {
        for (index, value) in values.iter().enumerate() {
            if value.is_nan() || *value == T::infinity() {
                let expected = "a finite number or -inf";
                return Err(Error::Input { what, index, value: wide(*value), expected });
            }
        }
    }
    let stats = |of: &dyn Fn(usize) -> T| {
        (0..components).fold(RowStats::empty(), |stats, k| stats.merge(RowStats::of(of(k), k as u32)))
    };
    let joint = |k: usize| logits[k] + log_densities[k];
    let (shares, likelihood) = (stats(&|k| logits[k]), stats(&joint));
    if !shares.is_valid() || !likelihood.is_valid() {
        return Err(Error::NoMass { row: 0, vocab: components });
    }
    let half = T::one() / (T::one() + T::one());
    for k in 0..components {
        let (share, responsibility) = (shares.target(logits[k]), likelihood.target(joint(k)));
        dlogits[k] = if share.one_minus_p.max(responsibility.one_minus_p) < half {
            responsibility.one_minus_p - share.one_minus_p
        } else {
            share.p() - responsibility.p()
        };
        dlog_densities[k] = -responsibility.p();
    }
    Ok((shares.max - likelihood.max) + (shares.tail.ln_1p() - likelihood.tail.ln_1p()))
}
