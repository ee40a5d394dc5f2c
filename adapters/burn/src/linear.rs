//! From hidden states and a head.

use crate::input::{check_device, check_dtype, check_options, check_same, flatten};
use crate::op::{Call, Head, Losses, Maybe, Wanted};
use crate::output::Asked;
use crate::{Error, Options, TokenLoss};
use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};
use tokenloss_core::{Composite, Shape, check_dim};

/// The loss of the logits `hidden [.., dim] @ weight [vocab, dim]^T + bias [vocab]`, which are never held, at
/// `targets [..]`.
///
/// ```text
/// loss = sum_i weight_i L(z_i, t_i) / denominator        or weight_i L(z_i, t_i), one for each row
/// ```
///
/// With a reduction, the gradients of tracked inputs are made in forward, in f32, and backward multiplies them by the gradient
/// from above. With a loss for each row that is not possible, and backward computes the logits once more. An input that is not
/// tracked costs no product.
///
/// The weight lies as that of an `Embedding`, so a tied one is passed as it is. A `Linear` holds `[dim, vocab]`: pass
/// `linear.weight.val().transpose()`, of which forward makes a copy. (With `LinearLayout::Col` it does not until an optimizer has
/// updated the weight, which lays it out anew.) To spare that, keep the head as a parameter `[vocab, dim]`.
///
/// # Errors
/// * [`Error::Shape`] for tensors whose dimensions do not fit.
/// * [`Error::Dtype`] for types other than f32, f16 and bf16, or not the same of all three.
/// * [`Error::Device`] for a backend that is not served; [`Error::OtherDevice`] where the tensors are not together.
/// * [`Error::Target`] for what is no class.
/// * [`Error::Loss`] for weights, logits that are not finite, a budget that is too small, and what else the core checks.
pub fn linear_token_loss<const D: usize, const R: usize>(
    hidden: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<R, Int>,
    objective: impl Into<Composite>,
    options: &Options,
) -> Result<TokenLoss<R>, Error> {
    let device = hidden.device();
    check_device("hidden", &device, options)?;
    check_same("weight", weight.device(), &device)?;
    check_same("targets", targets.device(), &device)?;
    check_dtype("hidden", hidden.dtype())?;
    let (hidden, leading) = flatten("hidden", hidden, &targets)?;
    let ([rows, dim], [vocab, weight_dim]) = (hidden.dims(), weight.dims());
    check_dim(dim)?;
    if weight_dim != dim {
        let (got, expected) = (vec![vocab, weight_dim], format!("[vocab, {dim}]"));
        return Err(Error::Shape { what: "weight", got, expected });
    }
    let same = "that of the hidden states";
    if weight.dtype() != hidden.dtype() {
        return Err(Error::Dtype { what: "weight", got: weight.dtype(), expected: same });
    }
    if let Some(bias) = &bias {
        check_same("bias", bias.device(), &device)?;
        if bias.dims() != [vocab] {
            let (got, expected) = (bias.dims().to_vec(), format!("[{vocab}]"));
            return Err(Error::Shape { what: "bias", got, expected });
        }
        if bias.dtype() != hidden.dtype() {
            return Err(Error::Dtype { what: "bias", got: bias.dtype(), expected: same });
        }
    }
    Shape::new(rows, vocab)?;
    options.linear.check()?;
    check_options(options, rows, &device)?;
    let call = Call::new(objective.into(), options);
    let head = Head {
        hidden: hidden.into_dispatch(),
        weight: weight.into_dispatch(),
        bias: Maybe::of(bias.map(Tensor::into_dispatch)),
    };
    let weights = Maybe::of(options.weights.clone().map(Tensor::into_dispatch));
    let targets = targets.reshape([rows]);
    let asked =
        Asked { targets: targets.clone(), vocab, non_finite: call.non_finite, fault: call.fault.clone() };
    // Autodiff finds out itself what is wanted.
    let linear =
        <Dispatch as Losses>::linear_token_loss(head, targets.into_dispatch(), weights, Wanted::NONE, call);
    TokenLoss::new(linear.forward, leading, asked)
}
