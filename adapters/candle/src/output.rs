//! What comes out.

use crate::Error;
use crate::input::Rows;
use candle_core::{Device, Tensor};
use tokenloss_core::{Judged, Outputs, Reduction, Totals};

/// A loss, and what is known beside it.
#[derive(Debug, Clone)]
pub struct TokenLoss {
    /// f32: a scalar, or with no reduction `[rows]` in the shape of the targets, weights included. Differentiable.
    pub loss: Tensor,
    /// `[rows]` in the shape of the targets, f32, nats; NaN where a row is ignored. Detached.
    pub log_p: Tensor,
    /// `[rows]` in the shape of the targets, f32, nats; NaN where a row is ignored. Detached.
    pub entropy: Tensor,
    /// Sums and counts: loss, valid, kept, ignored, live.
    pub totals: Totals,
}

/// The columns of a result, before they are tensors.
pub(crate) struct Columns {
    pub(crate) losses: Vec<f32>,
    pub(crate) log_p: Vec<f32>,
    pub(crate) entropy: Vec<f32>,
}

impl Columns {
    pub(crate) fn new(rows: usize) -> Self {
        Self { losses: vec![0.0; rows], log_p: vec![0.0; rows], entropy: vec![0.0; rows] }
    }

    pub(crate) fn outputs(&mut self) -> Outputs<'_> {
        Outputs {
            losses: Some(&mut self.losses),
            log_p: Some(&mut self.log_p),
            entropy: Some(&mut self.entropy),
            ..Outputs::default()
        }
    }

    /// The loss's own values: one, or one for each row.
    pub(crate) fn values(
        &self,
        rows: &Rows,
        reduction: Option<Reduction>,
        totals: &Totals,
    ) -> Result<Vec<f32>, Error> {
        if reduction.is_some() {
            return Ok(vec![totals.loss() as f32]);
        }
        let batch = rows.batch()?;
        Ok(self.losses.iter().enumerate().map(|(row, loss)| weighted(batch.weight(row), *loss)).collect())
    }

    pub(crate) fn with(self, loss: Tensor, totals: Totals, targets: &Tensor) -> Result<TokenLoss, Error> {
        let column = |values: Vec<f32>| Tensor::from_vec(values, targets.shape(), &Device::Cpu);
        Ok(TokenLoss { loss, log_p: column(self.log_p)?, entropy: column(self.entropy)?, totals })
    }
}

// As in totals: a weight of 0 switches a row off even where its loss is not finite.
fn weighted(weight: f32, loss: f32) -> f32 {
    if weight == 0.0 { 0.0 } else { weight * loss }
}

/// What a row of a summary amounts to.
pub(crate) fn totals_of(rows: &Rows, reduction: Reduction, judged: &[Judged]) -> Result<Totals, Error> {
    Ok(Totals::of_rows(&rows.batch()?, reduction, judged.iter().map(Judged::verdict)))
}
