//! # tokenloss-wgpu
//!
//! The objectives of [`tokenloss_core`] on any Vulkan, Metal or DX12 adapter, through [`wgpu`].
//!
//! With host slices, on a device of its own:
//!
//! ```
//! use tokenloss_core::{Batch, Evaluate, Logits, Outputs, Power, Reduction, Shape};
//! use tokenloss_wgpu::{Gpu, GpuError};
//!
//! let gpu = match Gpu::new() {
//!     Ok(gpu) => gpu,
//!     Err(GpuError::NoAdapter { reason }) => {
//!         println!("no adapter: {reason}");
//!         return Ok(());
//!     }
//!     Err(other) => return Err(other),
//! };
//!
//! let logits = [2.0f32, 0.0, -1.0, 0.0, 1.0, 3.0];
//! let (mut dlogits, mut losses) = ([0.0f32; 6], [0.0f32; 2]);
//! let totals = gpu.evaluate(
//!     &Power::new(1.0)?,
//!     Reduction::default(),
//!     &Batch::new(Shape::new(2, 3)?, &[0, 1])?,
//!     Logits::OutOfPlace { logits: &logits, dlogits: &mut dlogits },
//!     Outputs { losses: Some(&mut losses), ..Outputs::default() },
//! )?;
//! let p = 1.0 / (1.0 + (-2.0f32).exp() + (-3.0f32).exp());
//! assert!((losses[0] - (1.0 - p)).abs() < 1e-6);
//! assert!((totals.loss() - f64::from(losses[0] + losses[1]) / 2.0).abs() < 1e-6);
//! # Ok::<(), GpuError>(())
//! ```
//!
//! With buffers of your own, [`Kernels::encode`] records into your encoder and does nothing else: it never
//! submits, reads nothing back, and takes each tensor as a part of any buffer. Batches that exceed a binding or
//! a dispatch are split; [`requirements`] says beforehand what a shape takes.
//!
//! **Without logits.** [`Kernels::encode_linear`] takes hidden states and a head, and holds a tile of logits that the
//! [`Budget`](tokenloss_core::Budget) allows: matrix products in register tiles with f32 sums, split over bindings and
//! dispatches, of live rows only. [`linear_requirements`] says beforehand what that takes; a block tolerance is an error
//! here. [`Gpu`] implements [`EvaluateLinear`](tokenloss_core::EvaluateLinear).
//! [`CooperativeMatrix`] is an experimental rung for those products, on request.
//!
//! **Two rows.** [`Kernels::encode_pair`] takes a teacher's logits beside the student's, and any divergence of the list beside
//! any objective, [`Unjudged`](tokenloss_core::Unjudged) among them. [`Kernels::encode_linear_pair`] is the same without the
//! student's logits, and without the teacher's where they are hidden states and a head, too; where a call with host slices is
//! given the teacher's, they must fit one buffer of the device. [`Gpu`] implements
//! [`EvaluatePair`](tokenloss_core::EvaluatePair) and [`EvaluateLinearPair`](tokenloss_core::EvaluateLinearPair).
//!
//! **Guided rows.** [`Kernels::encode_guided`] judges rows that are led away from a teacher's, with every objective of rows and
//! every map. [`Gpu`] implements [`EvaluateGuided`](tokenloss_core::EvaluateGuided).
//!
//! **Labels.** [`Kernels::encode_labels`] takes a label for every class of every row, and any label objective of the list. [`Gpu`]
//! implements [`EvaluateLabels`](tokenloss_core::EvaluateLabels).
//!
//! **Listed columns.** [`Kernels::encode_take`] takes each row's listed logits out, so that its summary is that of its rest, and
//! [`Kernels::encode_put`] writes their derivatives into the gradient; [`Kernels::encode_linear_rests`] and
//! [`Kernels::encode_linear_push_back_columns`] are the same without logits, [`Kernels::encode_top_k`] and
//! [`Kernels::encode_linear_top_k`] find the greatest of each row. The host judges in between, in O(k), by
//! [`ColumnLoss`](tokenloss_core::columns::ColumnLoss), or a kernel of yours does. [`Gpu`] implements
//! [`ColumnBackend`](tokenloss_core::columns::ColumnBackend).
//!
//! **Logit maps.** [`MapBindings`] is what a batch's [`LogitMap`](tokenloss_core::LogitMap) is on the GPU: scale, margin,
//! softcap, StableMax and masks of classes, in every call.
//!
//! **Accuracy.** Arithmetic is f32; exponentials and logarithms are polynomials of this crate's own, because
//! drivers' lose the digits that a confident row needs. A row's gradient keeps its relative accuracy at margins
//! up to 80; below -87 an exponential is 0.
//!
//! **Repeatability.** No atomics: the same device gives the same bits on every run.
//!
//! **Non-finite logits.** -infinity is a mask. A row with a NaN or a +infinity in it, or with nothing but masks, is
//! NaN in all its outputs, and its record's status says why. A masked target's infinite loss is computed with the
//! device's own infinity.
//!
//! **A device without our help.** `default-features = false` leaves out [`Gpu`] and with it wgpu's own backends;
//! [`Kernels`] needs only your device.
#![forbid(unsafe_code)]

mod beside;
mod columns;
mod cooperative;
mod dispatch;
mod error;
mod fused;
#[cfg(feature = "device")]
mod gpu;
mod guide;
mod job;
mod kernels;
mod labels;
mod linear;
mod map;
mod pair;
mod plan;
mod scope;
mod second;
#[cfg(feature = "device")]
mod time;
mod variant;
#[cfg(feature = "device")]
mod words;

pub use columns::{ColumnBindings, PutJob, TakeJob, TopKJob};
pub use cooperative::CooperativeMatrix;
pub use error::GpuError;
#[cfg(feature = "device")]
pub use gpu::{AdapterSummary, Gpu, GpuOptions};
pub use guide::GuidanceBindings;
pub use job::{Data, Gradient, Job, PushBackJob, SummariseJob};
pub use kernels::Kernels;
pub use labels::{LabelData, LabelJob};
pub use linear::{
    LinearBuffers, LinearData, LinearJob, LinearPairJob, LinearPartsJob, LinearPushBackColumnsJob,
    LinearPushBackJob, LinearRequest, LinearRequirements, LinearRestsJob, LinearTeacher, LinearTopKJob,
    TeacherHead, linear_requirements,
};
pub use map::{MapBindings, MaskBinding};
pub use pair::PairJob;
pub use plan::{LOGITS_PER_DISPATCH, Request, Requirements, requirements};
pub use scope::guarded;
pub use second::{Second, TeacherData};
#[cfg(feature = "device")]
pub use time::TimedGradient;
pub use tokenloss_shaders as shaders;
pub use tokenloss_shaders::{BatchRecord, Record, ShaderDivergence, ShaderLabel, ShaderObjective};
pub use variant::Variant;
pub use wgpu;
