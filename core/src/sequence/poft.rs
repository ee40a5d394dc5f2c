use super::{Needs, Response, SequenceEval, SequenceObjective};
use crate::math::{sigmoid, softplus};
use crate::objective::cast;
use num_traits::Float;

/// Preference-oriented fine-tuning: the model is to find the sequence likelier than models that are aligned
/// already.
///
/// ```text
/// u = beta (log_p - reference) / |y| + gamma        L = -log sigmoid(u)        slope = -beta / |y| sigmoid(-u)
/// ```
///
/// [`Dpo`](struct@crate::preference::Dpo) with a constant in the place of the rejected sequence: a sequence
/// that the others find unlikely, such as one with a wrong label, is pushed less.
///
/// **Domain.** `beta` from 0.001 to 100, `gamma` from -100 to 100. Needs `reference`: `|y|` times the mean
/// over the aligned models of each one's mean log-probability over its own tokens, since their tokenizers
/// differ.
///
/// **Numerics.** `softplus(-u)`, finite for every `u`. The authors' code takes the logarithm of a sigmoid,
/// which is infinite in f32 from `u = -104` on.
///
/// ```
/// use tokenloss_core::sequence::{Poft, Response, SequenceObjective};
/// let eval = Poft::new(1.0, 0.0)?.of_sequence(&Response { reference: -4.0, ..Response::new(-4.0, 2.0) });
/// assert_eq!((eval.loss, eval.slope), (2f64.ln(), -0.25));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Fan et al. 2024 (arXiv 2412.12865).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Poft {
    pub(crate) beta: f32,
    pub(crate) gamma: f32,
}

impl SequenceObjective for Poft {
    fn needs(&self) -> Needs {
        Needs::REFERENCE
    }

    #[inline]
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
        let beta = cast::<T>(self.beta);
        let u = beta * response.log_ratio() / response.length + cast(self.gamma);
        SequenceEval { loss: softplus(-u), slope: -beta / response.length * sigmoid(-u), kept: true }
    }
}
