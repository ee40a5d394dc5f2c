//! The loss without logits on the GPU: a tile of logits in scratch memory, which becomes its own gradient.

mod encode;
#[cfg(feature = "device")]
mod host;
mod job;
mod plan;

pub use job::{LinearBuffers, LinearData, LinearJob, LinearPartsJob, LinearPushBackJob};
pub use plan::{LinearRequest, LinearRequirements, linear_requirements};
