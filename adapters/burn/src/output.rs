//! What comes out.

use crate::Error;
use crate::error::Fault;
use crate::op::Forward;
use crate::records;
use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};
use tokenloss_core::Totals;

/// A loss, and what is known beside it. `R` is the rank of the targets.
#[derive(Debug, Clone)]
pub struct TokenLoss<const R: usize> {
    /// f32: `[1]`, or with no reduction `[rows]`, weights included. Differentiable.
    pub loss: Tensor<1>,
    /// In the shape of the targets, f32, nats; NaN where a row is ignored. Detached.
    pub log_p: Tensor<R>,
    /// In the shape of the targets, f32, nats; NaN where a row is ignored. Detached.
    pub entropy: Tensor<R>,
    words: Tensor<1, Int>,
    fault: Fault,
}

impl<const R: usize> TokenLoss<R> {
    pub(crate) fn new(forward: Forward<Dispatch>, leading: [usize; R], fault: Fault) -> Result<Self, Error> {
        fault.check()?;
        Ok(Self {
            loss: Tensor::from_dispatch(forward.loss),
            log_p: Tensor::<1>::from_dispatch(forward.log_p).reshape(leading),
            entropy: Tensor::<1>::from_dispatch(forward.entropy).reshape(leading),
            words: Tensor::from_dispatch(forward.totals),
            fault,
        })
    }

    /// Sums and counts: loss, valid, kept, ignored, live.
    ///
    /// # Errors
    /// * What went wrong since forward returned, in backward for instance.
    /// * [`Error::Read`] where the tensor that holds them cannot be read.
    pub fn totals(&self) -> Result<Totals, Error> {
        let unread = |reason: String| Error::Read { reason };
        let data = self.words.clone().try_into_data().map_err(|error| unread(error.to_string()))?;
        self.fault.check()?;
        let words: Vec<i64> = data.try_to_vec().map_err(|error| unread(error.to_string()))?;
        let words = words.as_slice().try_into().map_err(|_| unread(format!("{} words", words.len())))?;
        Ok(records::of_words(words))
    }
}
