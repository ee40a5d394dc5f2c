//! The head and the objective together: logits are never held.

use crate::Error;
use crate::weights::values;
use burn::tensor::{Tensor, TensorData};
use tokenloss_core::{
    Batch, Budget, Composite, Denominator, EvaluateLinear, Linear, LinearGradients, LinearOptions, Outputs,
    Reduction, Shape, Totals,
};
use tokenloss_cpu::Cpu;

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
    /// Its gradient by `hidden`, and by `head` if that is trained, is the objective's; its value is none.
    pub pull: Tensor<1>,
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
        let ([rows, dim], [vocab, _]) = (hidden.dims(), head.dims());
        let (states, weight) = (values(hidden.clone())?, values(head.clone())?);
        let mut dhidden = vec![0.0f32; rows * dim];
        let mut dweight = head.is_require_grad().then(|| vec![0.0f32; vocab * dim]);
        let gradients =
            LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: dweight.as_deref_mut(), dbias: None };
        let reduction = Reduction::Mean(Denominator::Given(denominator as f64));
        let linear = Linear::new(Batch::new(Shape::new(rows, vocab)?, targets)?, dim, &states, &weight)?;
        let (totals, log_p) = self.evaluate(reduction, &linear, gradients)?;
        let pull = |tensor: &Tensor<2>, gradient: Vec<f32>, shape: [usize; 2]| {
            let gradient = Tensor::<2>::from_data(TensorData::new(gradient, shape), &tensor.device());
            (tensor.clone() * gradient).sum()
        };
        let mut sum = pull(hidden, dhidden, [rows, dim]);
        if let Some(dweight) = dweight {
            sum = sum + pull(head, dweight, [vocab, dim]);
        }
        Ok(Judged { pull: sum, totals, log_p })
    }

    /// `log p` of each target, without gradients.
    ///
    /// # Errors
    /// As [`judge`](Self::judge).
    pub fn log_p(&self, hidden: &Tensor<2>, head: &Tensor<2>, targets: &[i32]) -> Result<Vec<f32>, Error> {
        let ([rows, dim], [vocab, _]) = (hidden.dims(), head.dims());
        let (states, weight) = (values(hidden.clone())?, values(head.clone())?);
        let linear = Linear::new(Batch::new(Shape::new(rows, vocab)?, targets)?, dim, &states, &weight)?;
        let none = LinearGradients { dhidden: None, dweight: None, dbias: None };
        self.evaluate(Reduction::default(), &linear, none).map(|(_, log_p)| log_p)
    }

    fn evaluate(
        &self,
        reduction: Reduction,
        linear: &Linear<'_, f32>,
        gradients: LinearGradients<'_, f32>,
    ) -> Result<(Totals, Vec<f32>), Error> {
        let mut log_p = vec![0.0f32; linear.batch().shape().rows()];
        let options = LinearOptions { budget: self.budget, ..LinearOptions::default() };
        let outputs = Outputs { log_p: Some(&mut log_p), ..Outputs::default() };
        let totals =
            Cpu::new().evaluate_linear(&self.objective, reduction, linear, &options, gradients, outputs)?;
        Ok((totals, log_p))
    }
}
