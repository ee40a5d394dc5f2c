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
//! * **Threads.** Rows are spread over the current rayon pool; run inside `ThreadPool::install` for another.
//!   Results do not depend on the number of threads, bit for bit.
//! * **Levels.** One set of kernels, compiled for each [`Level`]: portable, AVX2 with FMA, AVX-512, NEON.
//! * **Numbers.** Exponentials in `f32` at most 1.2 ULP off, sums of one block of 4,096 logits in `f32`, all that
//!   joins blocks and rows and all of the objective in `f64`. A gradient entry below 1.2e-38, the least normal
//!   `f32`, is 0.
//! * **Memory.** One scratch row of `vocab` `f32`s for each thread, kept for the next call.
#![deny(missing_docs)]

mod evaluate;
mod exp;
mod level;
mod linear;
mod row;
mod simd;

pub use evaluate::{Cpu, STREAM_BYTES};
pub use level::{Level, LevelError};
pub use linear::bare_products;
