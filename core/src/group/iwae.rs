use super::GroupObjective;
use super::softmax::softmax;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// The importance-weighted bound of a likelihood: sequences are samples of a hidden part, drawn from another
/// model.
///
/// ```text
/// L = -log mean_k exp(log_p_k - reference_k)        slope_k = -softmax(log_p - reference)_k
/// ```
///
/// `log_p` is of the hidden part and of what is seen, `reference` of the hidden part under the model that
/// drew it. With one sample it is the negative of the evidence lower bound, of which the gradient is that of
/// nll.
///
/// **Domain.** Needs `reference`.
///
/// **Numerics.** The greatest log-ratio is subtracted before the exponentials, and log-ratios that are nearly
/// equal keep their relative accuracy.
///
/// ```
/// use tokenloss_core::group::{GroupObjective, Iwae};
/// use tokenloss_core::sequence::Response;
/// let of = |log_p: f64| Response { reference: 0.0, ..Response::new(log_p, 2.0) };
/// let mut slopes = [0.0; 2];
/// let loss = Iwae.of_group(&[of((0.75f64).ln()), of((0.25f64).ln())], &mut slopes);
/// assert!((loss - 2f64.ln()).abs() < 1e-15 && (slopes[0] + 0.75).abs() < 1e-15);
/// ```
///
/// **Source.** Burda et al. 2015 (arXiv 1509.00519); for reasoning Zhou et al. 2025 (arXiv 2509.22637).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iwae {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const Iwae: Iwae = Iwae {};

impl GroupObjective for Iwae {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    fn of_group<T: Float>(&self, group: &[Response<T>], slopes: &mut [T]) -> T {
        for (slope, response) in slopes.iter_mut().zip(group) {
            *slope = response.log_ratio();
        }
        let loss = -softmax(slopes);
        slopes.iter_mut().for_each(|slope| *slope = -*slope);
        loss
    }
}
