//! # tokenloss
//!
//! Training objectives for language models as functions of a token's probability, with exact analytic gradients,
//! fused so that neither softmax nor logits are ever held in memory, on any CPU and on any Vulkan, Metal or DX12 GPU.
//!
//! Instead of `-log p` train on an `f(p)`: `1 - p`, `(1 - p^alpha) / alpha`, a thresholded form, and so on. Which
//! one wins depends on how strong the model already is on the data, and on how noisy the data are ("Beyond Log
//! Likelihood", arXiv 2510.00526).
//!
//! ```
//! use tokenloss::{Batch, Evaluate, Logits, Outputs, Power, Reduction, Shape, cpu::Cpu};
//!
//! let logits = vec![0.5f32; 4 * 1000]; // [rows, vocab]
//! let targets = [3, 14, -100, 92]; // -100 is ignored
//! let mut dlogits = vec![0.0f32; 4 * 1000];
//!
//! let batch = Batch::new(Shape::new(4, 1000)?, &targets)?;
//! let objective = Power::new(1.0)?; // 1 - p
//! let io = Logits::OutOfPlace { logits: &logits, dlogits: &mut dlogits };
//! let totals = Cpu::new().evaluate(&objective, Reduction::default(), &batch, io, Outputs::default())?;
//! assert!((totals.loss() - 0.999).abs() < 1e-6);
//! # Ok::<(), tokenloss::Error>(())
//! ```
//!
//! From hidden states and a head, without logits, it is [`EvaluateLinear::evaluate_linear`] on a [`Linear`].
//!
//! * [`core`] (all of it re-exported here): the objectives, their theory, and the oracle. `no_std`.
//! * [`cpu`] (feature `cpu`, on by default): `f32`, `f16` and `bf16` at close to the speed of a copy.
#![cfg_attr(feature = "wgpu", doc = "* [`wgpu`] (feature `wgpu`): the same by compute shaders.")]
#![cfg_attr(not(feature = "wgpu"), doc = "* `wgpu` (feature `wgpu`): the same by compute shaders.")]
//!
//! An objective chosen at run time is an [`Objective`], read from text by [`Objective::parse`]. One of your own
//! is an implementation of [`TokenObjective`] or [`RowObjective`]; [`check_objective`] tells whether its slope
//! and its loss agree. An objective that must see the whole batch first takes the moves one by one
//! ([`Backend`]): summarise, judge on the host, push back. Ranks that each hold a slice of the head share one loss
//! through any collective library: `Sharded` (feature `cpu`, or the feature `alloc` of [`core`]).

pub use tokenloss_core as core;
pub use tokenloss_core::*;
#[cfg(feature = "cpu")]
pub use tokenloss_cpu as cpu;
#[cfg(feature = "wgpu")]
pub use tokenloss_wgpu as wgpu;
