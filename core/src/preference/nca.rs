use super::{PairEval, PreferenceObjective};
use crate::math::{sigmoid, softplus};
use crate::objective::cast;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Noise contrastive alignment of a pair: absolute likelihoods, and not only their ratio.
///
/// ```text
/// h = beta (log_p - reference), of each
/// L = -log sigmoid(h_chosen) - (log sigmoid(-h_chosen) + log sigmoid(-h_rejected)) / 2
/// slopes = beta (sigmoid(h_chosen) / 2 - sigmoid(-h_chosen)), beta sigmoid(h_rejected) / 2
/// ```
///
/// The preferred sequence has the finite optimum `h = log 2`, so that its likelihood does not fall.
///
/// **Domain.** `beta` from 0.001 to 100. Needs `reference`.
///
/// ```
/// use tokenloss_core::preference::{Nca, PreferenceObjective};
/// use tokenloss_core::sequence::Response;
/// let chosen = Response { reference: -4.0, ..Response::new(-3.0, 2.0) };
/// let rejected = Response { reference: -4.0, ..Response::new(-5.0, 4.0) };
/// let eval = Nca::new(1.0)?.of_pair(&chosen, &rejected, f64::NAN);
/// assert!(eval.slope_rejected > 0.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Chen et al. 2024 (arXiv 2402.05369), for two sequences with rewards that differ much; TRL's
/// `nca_pair`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nca {
    pub(crate) beta: f32,
}

impl PreferenceObjective for Nca {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, _gap: T) -> PairEval<T> {
        let (beta, half) = (cast::<T>(self.beta), cast::<T>(0.5));
        let (w, l) = (beta * chosen.log_ratio(), beta * rejected.log_ratio());
        PairEval {
            loss: softplus(-w) + half * (softplus(w) + softplus(l)),
            slope_chosen: beta * (half * sigmoid(w) - sigmoid(-w)),
            slope_rejected: beta * half * sigmoid(l),
        }
    }
}
