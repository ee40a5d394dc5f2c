//! # tokenloss-burn
//!
//! The losses of tokenloss as differentiable ops of burn: from logits, or from hidden states and a head, where logits
//! are never held.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use tokenloss_burn::core::Power;
//! use tokenloss_burn::{Options, token_loss};
//!
//! let device = Device::flex().autodiff();
//! let logits = Tensor::<2>::from_floats([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]], &device).require_grad();
//! let targets = Tensor::<1, Int>::from_ints([0, -100], &device); // the second row is ignored
//! let out = token_loss(logits.clone(), targets, Power::new(1.0)?, &Options::default())?;
//! let gradients = out.loss.backward();
//! assert_eq!(logits.grad(&gradients).unwrap().dims(), [2, 3]);
//! let totals = out.totals()?;
//! assert_eq!((totals.valid, totals.ignored), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use tokenloss_burn::core::Nll;
//! use tokenloss_burn::{Options, linear_token_loss};
//!
//! let device = Device::flex().autodiff();
//! let hidden = Tensor::<2>::from_floats([[1.0, 0.5], [-0.5, 2.0]], &device).require_grad();
//! let weight = Tensor::<2>::from_floats([[0.1, 0.2], [0.3, -0.4], [0.0, 1.0]], &device); // frozen: no gradient, no cost
//! let targets = Tensor::<1, Int>::from_ints([2, 0], &device);
//! let out = linear_token_loss(hidden.clone(), weight.clone(), None, targets, Nll, &Options::default())?;
//! let gradients = out.loss.backward();
//! assert!(hidden.grad(&gradients).is_some() && weight.grad(&gradients).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * **Shapes.** `logits [.., vocab]`, `hidden [.., dim]`, `weight [vocab, dim]`, `bias [vocab]`; as many targets as rows. What is
//!   not contiguous is copied once.
//! * **Types.** f32, f16 and bf16; hidden states, weight and bias of one type. Targets are integers: -100 is ignored.
//! * **Backward** goes to each tracked input, with any gradient from above: one number, or one for each row. It cannot return
//!   an error: after one the gradient is NaN, and [`TokenLoss::totals`] tells. Gradients of gradients are not made.
//! * **Where.** On burn's Flex backend, in the current rayon pool, with the same bits for any number of threads. With the
//!   feature `wgpu` also on burn's wgpu backend (with `fusion`, inside of Fusion): its buffers are used where they lie, on a device
//!   that `init_wgpu` brought up or `share_wgpu` was told of. There forward does not wait, so that what is wrong with rows is NaN
//!   at once and told by [`TokenLoss::totals`]. Anything else is [`Error::Device`].
//! * **Objectives** are all that a [`Composite`](core::Composite) is made of; its
//!   [`parse`](core::Composite::parse) reads one from a text.
#![deny(missing_docs)]

mod autodiff;
#[cfg(feature = "wgpu")]
mod cube;
mod error;
mod flex;
#[cfg(feature = "fusion")]
mod fusion;
mod input;
mod linear;
mod logits;
mod op;
mod output;
mod records;

#[cfg(feature = "wgpu")]
pub use cube::{init_wgpu, share_wgpu};
pub use error::Error;
pub use linear::linear_token_loss;
pub use logits::token_loss;
pub use output::TokenLoss;
pub use tokenloss_core as core;

use burn::tensor::Tensor;
use tokenloss_core::{LinearOptions, LogitMap, NonFinite, Reduction};

/// How a loss is taken. The default is the mean over the rows that are not ignored.
#[derive(Debug, Clone)]
pub struct Options {
    /// From rows to one number; `None` gives a loss for each row.
    pub reduction: Option<Reduction>,
    /// `[rows]`, of any float type, not negative: what each row's loss and gradient are multiplied by. No gradient goes to them.
    pub weights: Option<Tensor<1>>,
    /// What logits are taken for: softcap, temperature.
    pub map: Option<LogitMap<'static>>,
    /// What becomes of a row with a NaN or an infinity.
    pub non_finite: NonFinite,
    /// From hidden states only: budget, chunks, tolerances.
    pub linear: LinearOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reduction: Some(Reduction::default()),
            weights: None,
            map: None,
            non_finite: NonFinite::default(),
            linear: LinearOptions::default(),
        }
    }
}
