//! # tokenloss
pub use tokenloss_core as core;
#[cfg(feature = "cpu")]
pub use tokenloss_cpu as cpu;
#[cfg(feature = "wgpu")]
pub use tokenloss_wgpu as wgpu;
pub use tokenloss_core::*;
