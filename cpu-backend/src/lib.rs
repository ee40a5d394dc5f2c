//! # tokenloss-cpu
//!
//! The CPU backend of tokenloss: losses and gradients of any [`RowObjective`](tokenloss_core::RowObjective) over
//! `logits [rows, vocab]` in `f32`, `f16` or `bf16`, in one pass over memory.
//!
//! ```
//! use tokenloss_core::{Batch, Evaluate, Logits, Outputs, Power, Reduction, Shape};
//! use tokenloss_cpu::Cpu;
//!
//! let logits = [2.0f32, 0.0, -1.0, 0.5, 0.5, 0.5];
//! let targets = [0, 2];
//! let mut dlogits = [0.0f32; 6];
//! let mut log_p = [0.0f32; 2];
//!
//! let batch = Batch::new(Shape::new(2, 3)?, &targets)?;
//! let totals = Cpu::new().evaluate(
//!     &Power::new(1.0)?,
//!     Reduction::default(),
//!     &batch,
//!     Logits::OutOfPlace { logits: &logits, dlogits: &mut dlogits },
//!     Outputs { log_p: Some(&mut log_p), ..Outputs::default() },
//! )?;
//!
//! let p = f64::from(log_p[1].exp());
//! assert!((p - 1.0 / 3.0).abs() < 1e-6);
//! assert!((f64::from(dlogits[5]) - -p * (1.0 - p) / 2.0).abs() < 1e-7);
//! assert_eq!(totals.valid, 2);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```
//!
//! From hidden states and a head, without logits:
//!
//! ```
//! use tokenloss_core::{
//!     Batch, EvaluateLinear, Linear, LinearGradients, LinearOptions, Nll, Outputs, Reduction, Shape,
//! };
//! use tokenloss_cpu::Cpu;
//!
//! let (rows, dim, vocab) = (2, 4, 3);
//! let (hidden, weight) = (vec![0.5f32; rows * dim], vec![0.25f32; vocab * dim]);
//! let mut dhidden = vec![0.0f32; rows * dim];
//! let mut dweight = vec![0.0f32; vocab * dim];
//!
//! let batch = Batch::new(Shape::new(rows, vocab)?, &[0, 2])?;
//! let totals = Cpu::new().evaluate_linear(
//!     &Nll,
//!     Reduction::default(),
//!     &Linear::new(batch, dim, &hidden, &weight)?,
//!     &LinearOptions::default(),
//!     LinearGradients { dhidden: Some(&mut dhidden), dweight: Some(&mut dweight), dbias: None },
//!     Outputs::default(),
//! )?;
//! assert!((totals.loss() - 3f64.ln()).abs() < 1e-6);
//! // All classes have the same weight, so that no direction of a hidden state helps any of them.
//! assert!(dhidden.iter().all(|d| d.abs() < 1e-7));
//! # Ok::<(), tokenloss_core::Error>(())
//! ```
//!
//! The same with a teacher, whose hidden states may be wider, and whose logits are never held either:
//!
//! ```
//! use tokenloss_core::divergence::{Distillation, ForwardKl};
//! use tokenloss_core::{
//!     Batch, EvaluateLinearPair, Linear, LinearGradients, LinearOptions, Nll, PairOutputs, Reduction, Shape, TeacherRows,
//! };
//! use tokenloss_cpu::Cpu;
//!
//! // Two classes: the student gives both the same, the teacher is all but sure of the second.
//! let batch = Batch::new(Shape::new(1, 2)?, &[1])?;
//! let student = Linear::new(batch, 1, &[1.0f32], &[0.5, 0.5])?;
//! let teacher = TeacherRows::Linear(Linear::new(batch, 2, &[3.0f32, 1.0], &[0.0, 0.0, 1.0, 0.0])?);
//! let (mut dweight, mut value) = ([0.0f32; 2], [0.0f32]);
//! let anchor = Distillation::new(ForwardKl::new()?, 1.0)?.with_objective_weight(0.0)?;
//! Cpu::new().evaluate_linear_pair(
//!     &Nll,
//!     &anchor,
//!     Reduction::default(),
//!     &student,
//!     &teacher,
//!     &LinearOptions::default(),
//!     LinearGradients::<f32> { dweight: Some(&mut dweight), ..Default::default() },
//!     PairOutputs { divergences: Some(&mut value), ..Default::default() },
//! )?;
//! let q = 1.0 / (1.0 + (-3f32).exp());
//! let entropy = -q * q.ln() - (1.0 - q) * (1.0 - q).ln();
//! assert!((value[0] - (2f32.ln() - entropy)).abs() < 1e-6);
//! // p - q of the second class, whose hidden element is 1.
//! assert!((dweight[1] - (0.5 - q)).abs() < 1e-6 && (dweight[0] + dweight[1]).abs() < 1e-7);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```
//!
//! * **Threads.** Rows are spread over the current rayon pool; run inside `ThreadPool::install` for another.
//!   Results do not depend on the number of threads, bit for bit.
//! * **Levels.** One set of kernels, compiled for each [`Level`]: portable, AVX2 with FMA, AVX-512, NEON.
//! * **Numbers.** Exponentials in `f32` at most 1.2 ULP off, sums of one block of 4,096 logits in `f32`, all that
//!   joins blocks and rows and all of the objective in `f64`. A gradient entry below 1.2e-38, the least normal
//!   `f32`, is 0.
//! * **Memory.** One scratch row of `vocab` `f32`s for each thread, kept for the next call. The linear form holds
//!   [`Budget`](tokenloss_core::Budget) bytes beside inputs and outputs; the crate `gemm` keeps a buffer of the
//!   second-level cache's size for each thread beside that.
#![deny(missing_docs)]

mod columns;
mod entries;
mod evaluate;
mod exp;
mod gradient;
mod guided;
mod labelled;
mod level;
mod linear;
mod link;
mod ln;
mod pair;
mod row;
mod rows;
mod simd;
mod vector;
mod widen;

pub use evaluate::{Cpu, STREAM_BYTES};
pub use level::{Level, LevelError};
pub use linear::bare_products;
