//! # tokenloss-candle
//!
//! The losses of tokenloss as differentiable ops of candle: from logits, or from hidden states and a head, where logits
//! are never held.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use tokenloss_candle::core::{IGNORE_INDEX, Power};
//! use tokenloss_candle::{Options, token_loss};
//!
//! let logits = Var::from_slice(&[2.0f32, 0.0, -1.0, 0.5, 0.5, 0.5], (2, 3), &Device::Cpu)?;
//! let targets = Tensor::new(&[0i64, i64::from(IGNORE_INDEX)], &Device::Cpu)?;
//! let out = token_loss(&logits, &targets, Power::new(1.0)?, &Options::default())?;
//! let gradients = out.loss.backward()?;
//! assert_eq!(gradients.get(&logits).unwrap().dims(), [2, 3]);
//! assert_eq!((out.totals.valid, out.totals.ignored), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use tokenloss_candle::core::Nll;
//! use tokenloss_candle::{Options, linear_token_loss};
//!
//! let hidden = Var::from_slice(&[1.0f32, 0.5, -0.5, 2.0], (2, 2), &Device::Cpu)?;
//! let weight = Tensor::new(&[[0.1f32, 0.2], [0.3, -0.4], [0.0, 1.0]], &Device::Cpu)?; // frozen: no gradient, no cost
//! let targets = Tensor::new(&[2u32, 0], &Device::Cpu)?;
//! let out = linear_token_loss(&hidden, &weight, None, &targets, Nll, &Options::default())?;
//! let gradients = out.loss.backward()?;
//! assert!(gradients.get(&hidden).is_some() && gradients.get(&weight).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * **Shapes.** `logits [.., vocab]`, `hidden [.., dim]`, `weight [vocab, dim]`, `bias [vocab]`; as many targets as rows. What is
//!   not contiguous is copied once, by an op of candle.
//! * **Types.** f32, f16 and bf16; hidden states, weight and bias of one type. Targets are integers: -100 is ignored, and so
//!   is `u32::MAX`, as by candle's own loss.
//! * **Backward** goes to each tracked input, with any gradient from above: one number, or one for each row. It may run more
//!   than once.
//! * **Where.** Storage on the CPU, in the current rayon pool, with the same bits for any number of threads. Anything else is
//!   [`Error::Device`].
//! * **Objectives** are all that implement [`RowObjective`](core::RowObjective), yours too;
//!   [`Composite::parse`](core::Composite::parse) reads one from a text.
#![deny(missing_docs)]

mod error;
mod input;
mod linear;
mod logits;
mod output;

pub use error::Error;
pub use linear::linear_token_loss;
pub use logits::token_loss;
pub use output::TokenLoss;
pub use tokenloss_core as core;

use candle_core::Tensor;
use tokenloss_core::{LinearOptions, LogitMap, NonFinite, Reduction};

/// How a loss is taken. The default is the mean over the rows that are not ignored.
#[derive(Debug, Clone)]
pub struct Options {
    /// From rows to one number; `None` gives a loss for each row, in the shape of the targets.
    pub reduction: Option<Reduction>,
    /// `[rows]`, of any float type, not negative: what each row's loss and gradient are multiplied by. No gradient goes to them.
    pub weights: Option<Tensor>,
    /// What logits are taken for: softcap, temperature.
    pub map: Option<LogitMap<'static>>,
    /// What becomes of a row with a NaN or an infinity.
    pub non_finite: NonFinite,
    /// From logits only: the gradient takes the place of the logits, which spares one tensor of their size. For logits that
    /// nothing reads after backward, and no other op's gradient needs; backward then runs once.
    pub overwrite_logits: bool,
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
            overwrite_logits: false,
            linear: LinearOptions::default(),
        }
    }
}
