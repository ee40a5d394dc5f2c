//! The head and the objective together: logits are never held.

use crate::Error;
use crate::weights::values;
use burn::tensor::{Int, Tensor, TensorData};
use tokenloss_burn::{Options, TokenLoss, linear_token_loss};
use tokenloss_core::{Budget, Composite, Denominator, LinearOptions, Reduction, Totals};

/// What is minimised.
#[derive(Debug, Clone)]
pub struct Loss {
    /// The objective.
    pub objective: Composite,
    /// The most bytes that are held beside hidden states and head.
    pub budget: Budget,
}

/// Some rows' loss.
#[derive(Debug)]
pub struct Judged {
    /// The rows' sum, divided by the denominator.
    pub loss: Tensor<1>,
    /// Sums over the rows.
    pub totals: Totals,
    /// `log p` of each row's target.
    pub log_p: Vec<f32>,
}

impl Loss {
    /// The loss of `hidden [rows, dim]` under `head [vocab, dim]`, divided by `denominator`: the rows of the whole step.
    ///
    /// # Errors
    /// [`Error::Objective`] for targets outside the vocabulary and logits that are not finite, [`Error::Device`] if
    /// tensors cannot be read.
    pub fn judge(
        &self,
        hidden: &Tensor<2>,
        head: &Tensor<2>,
        targets: &[i32],
        denominator: usize,
    ) -> Result<Judged, Error> {
        let reduction = Reduction::Mean(Denominator::Given(denominator as f64));
        let out = self.evaluate(hidden, head, targets, reduction)?;
        let totals = out.totals()?;
        Ok(Judged { loss: out.loss, totals, log_p: values(out.log_p)? })
    }

    /// `log p` of each target, without gradients.
    ///
    /// # Errors
    /// As [`judge`](Self::judge).
    pub fn log_p(&self, hidden: &Tensor<2>, head: &Tensor<2>, targets: &[i32]) -> Result<Vec<f32>, Error> {
        values(self.evaluate(hidden, head, targets, Reduction::Sum)?.log_p)
    }

    fn evaluate(
        &self,
        hidden: &Tensor<2>,
        head: &Tensor<2>,
        targets: &[i32],
        reduction: Reduction,
    ) -> Result<TokenLoss<1>, Error> {
        let linear = LinearOptions { budget: self.budget, ..LinearOptions::default() };
        let options = Options { reduction: Some(reduction), linear, ..Options::default() };
        let targets = TensorData::new(targets.to_vec(), [targets.len()]);
        let targets = Tensor::<1, Int>::from_data(targets, &hidden.device());
        Ok(linear_token_loss(hidden.clone(), head.clone(), None, targets, self.objective, &options)?)
    }
}
