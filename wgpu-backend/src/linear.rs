//! The loss without logits on the GPU: a tile of logits in scratch memory, which becomes its own gradient.

mod columns;
mod encode;
#[cfg(feature = "device")]
mod host;
mod job;
mod pair;
mod plan;

pub use columns::{LinearPushBackColumnsJob, LinearRestsJob, LinearTopKJob};
#[cfg(feature = "device")]
pub(crate) use host::{fault, part_of};
pub use job::{LinearBuffers, LinearData, LinearJob, LinearPartsJob, LinearPushBackJob};
pub use pair::{LinearPairJob, LinearTeacher, TeacherHead};
pub use plan::{LinearRequest, LinearRequirements, linear_requirements};
