//! From logits.

use crate::input::{check_device, check_dtype, check_options, check_same, flatten};
use crate::op::{Call, Losses, Maybe};
use crate::output::Asked;
use crate::{Error, Options, TokenLoss};
use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};
use tokenloss_core::{Composite, Shape};

/// The loss of `logits [.., vocab]` at `targets [..]`.
///
/// ```text
/// loss = sum_i weight_i L(z_i, t_i) / denominator        or weight_i L(z_i, t_i), one for each row
/// ```
///
/// Forward reads the logits once and keeps a few numbers for each row, backward reads them once more and writes their
/// gradient. `R`, the rank of the targets, is `D - 1`, as the compiler checks.
///
/// # Errors
/// * [`Error::Shape`] for targets that are not the rows of the logits, and weights that are not `[rows]`.
/// * [`Error::Dtype`] for logits that are not f32, f16 or bf16.
/// * [`Error::Device`] for a backend that is not served; [`Error::OtherDevice`] where the tensors are not together.
/// * [`Error::Target`] for what is no class.
/// * [`Error::Loss`] for weights, logits that are not finite, and what else the core checks.
pub fn token_loss<const D: usize, const R: usize>(
    logits: Tensor<D>,
    targets: Tensor<R, Int>,
    objective: impl Into<Composite>,
    options: &Options,
) -> Result<TokenLoss<R>, Error> {
    let device = logits.device();
    check_device("logits", &device, options)?;
    check_same("targets", targets.device(), &device)?;
    check_dtype("logits", logits.dtype())?;
    let (logits, leading) = flatten("logits", logits, &targets)?;
    let [rows, vocab] = logits.dims();
    Shape::new(rows, vocab)?;
    check_options(options, rows, &device)?;
    let call = Call::new(objective.into(), options);
    let weights = Maybe::of(options.weights.clone().map(Tensor::into_dispatch));
    let targets = targets.reshape([rows]);
    let asked =
        Asked { targets: targets.clone(), vocab, non_finite: call.non_finite, fault: call.fault.clone() };
    let forward =
        <Dispatch as Losses>::token_loss(logits.into_dispatch(), targets.into_dispatch(), weights, call);
    TokenLoss::new(forward, leading, asked)
}
