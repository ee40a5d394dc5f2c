use super::{SampleObjective, Samples, count, kl_dro::greatest};
use crate::{Error, math::Exponents, objective::cast};
use num_traits::Float;

/// KL-DRO whose normaliser is averaged over steps, for batches that are too small for one of their own: the form of
/// SogCLR and DRRho-CLIP.
///
/// ```text
/// g = eps + sum_j exp(l_j / tau) / n
/// step   u <- (1 - gamma) u + gamma g        g itself where nothing has gone into u
/// loss = tau log u + tau rho        weight_j = exp(l_j / tau) / (n u)
/// ```
///
/// `gamma = 1`, `eps = 0` is [`KlDro`](struct@super::KlDro). Below 1 the weights are those of a compositional gradient: they
/// hold `u` where it is, and do not carry the factor `gamma` that the derivative of the value has.
///
/// **In a contrastive loss** there is one `u` per anchor and direction. The samples of anchor `i` are the pairs with the
/// other examples `j`, with `l_j = s_ij - s_ii` of similarities `s`, and as reference those of a reference model. What
/// `s_ij` gets is `weight_j`, and what `s_ii` gets is minus their sum; the loss is the mean over anchors and directions.
///
/// **Domain.** `tau` from 1e-6 to 1e6; `gamma` and `eps` from 0 to 1; `rho` from 0 to 1e3.
///
/// **Inputs.** [`Samples::with_log_u`]: `log u` after [`step`](Self::step); before the first, it is -infinity.
///
/// **Numerics.** `u` is kept and averaged as a logarithm.
///
/// **Errors.** [`Error::Input`] for a `log_u` to which no step has led, so that a weight is not finite.
///
/// ```
/// use tokenloss_core::sample::{RunningKl, SampleObjective, Samples};
/// let objective = RunningKl::new(0.07, 0.9, 1e-14, 0.0)?;
/// // An anchor with similarity .9 to its own and .5, .8 to others.
/// let losses = [0.5f64 - 0.9, 0.8 - 0.9];
/// let samples = Samples::new(&losses)?;
/// let log_u = objective.step(&samples, f64::NEG_INFINITY)?;
/// let mut weights = [0.0; 2];
/// objective.of_losses(&samples.with_log_u(log_u)?, &mut weights, &mut [])?;
/// let d_own: f64 = -weights.iter().sum::<f64>();
/// assert!((d_own + 1.0).abs() < 1e-12);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Yuan et al. 2022 (arXiv 2202.12387); Wei et al. 2025, "Model Steering" (arXiv 2505.06699). Its code takes a
/// stored 0 for "nothing yet", which as a logarithm is also a `u` of 1; its normaliser divides by all `n + 1` similarities
/// and, in the log-space form, by `exp(s_ii)` once more, where the weights divide by `n`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunningKl {
    pub(crate) tau: f32,
    pub(crate) gamma: f32,
    pub(crate) eps: f32,
    pub(crate) rho: f32,
}

/// `log(exp a + exp b)`.
fn log_add_exp<T: Float>(a: T, b: T) -> T {
    let (greater, less) = if a > b { (a, b) } else { (b, a) };
    if less == T::neg_infinity() { greater } else { greater + (less - greater).exp().ln_1p() }
}

impl RunningKl {
    /// The logarithm of `u` after these samples.
    ///
    /// # Errors
    /// [`Error::Input`] for a `log_u` that is NaN or +infinity.
    pub fn step<T: Float>(&self, samples: &Samples<'_, T>, log_u: T) -> Result<T, Error> {
        samples.with_log_u(log_u)?;
        let (tau, gamma) = (cast::<T>(self.tau), cast::<T>(self.gamma));
        let worst = greatest(samples);
        let exponents = Exponents::of(samples.losses().map(|loss| (loss - worst) / tau));
        let log_g = log_add_exp(worst / tau + exponents.log_mean(), cast::<T>(self.eps).ln());
        Ok(if log_u == T::neg_infinity() {
            log_g
        } else {
            log_add_exp((-gamma).ln_1p() + log_u, gamma.ln() + log_g)
        })
    }
}

impl SampleObjective for RunningKl {
    const SUMS_TO_ONE: bool = false;

    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        _: &mut [usize],
    ) -> Result<T, Error> {
        let (tau, rho, log_u) = (cast::<T>(self.tau), cast::<T>(self.rho), samples.log_u()?);
        let all = count::<T>(samples.count());
        for (weight, loss) in weights.iter_mut().zip(samples.losses()) {
            *weight = (loss / tau - log_u).exp() / all;
            if !weight.is_finite() {
                let expected = "what a step with these losses leads to";
                return Err(super::samples::input("log_u", 0, log_u, expected));
            }
        }
        Ok(tau * log_u + tau * rho)
    }

    fn held<T: Float>(
        &self,
        frozen: &Samples<'_, T>,
        live: &Samples<'_, T>,
        weights: &mut [T],
        scratch: &mut [usize],
    ) -> Result<T, Error> {
        self.of_losses(frozen, weights, scratch)?;
        Ok(live.dot(weights))
    }
}
