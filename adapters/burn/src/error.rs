//! What can be wrong.

use burn::tensor::{DType, Device};
use std::sync::{Arc, OnceLock};

/// A fault in what the caller gave, or the backend's own.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data: shapes, targets, weights, logits that are not finite, a budget that is too small.
    #[error(transparent)]
    Loss(#[from] tokenloss_core::Error),
    /// A tensor's dimensions are not those that the documentation names.
    #[error("{what} has shape {got:?}, expected {expected}")]
    Shape {
        /// The tensor.
        what: &'static str,
        /// Its dimensions.
        got: Vec<usize>,
        /// What they should be.
        expected: String,
    },
    /// A tensor's type is not served.
    #[error("{what} is of type {got:?}, expected {expected}")]
    Dtype {
        /// The tensor.
        what: &'static str,
        /// Its type.
        got: DType,
        /// What it should be.
        expected: &'static str,
    },
    /// A tensor lies on a device of a backend that is not served, or not by this build.
    #[error("{what} lies on {got:?}; served are {served}")]
    Device {
        /// The tensor.
        what: &'static str,
        /// Where it lies.
        got: Box<Device>,
        /// What is served.
        served: &'static str,
    },
    /// Two tensors lie on different devices.
    #[error("{what} lies on {got:?}, expected {expected:?}")]
    OtherDevice {
        /// The tensor.
        what: &'static str,
        /// Where it lies.
        got: Box<Device>,
        /// Where the first tensor lies.
        expected: Box<Device>,
    },
    /// A target is neither ignored nor a class.
    #[error("target {target} of row {row} is neither -100 nor in 0..{vocab}")]
    Target {
        /// Its row.
        row: usize,
        /// The target.
        target: i64,
        /// The vocabulary.
        vocab: usize,
    },
    /// On a GPU, where logits are not read back: one is NaN or infinite.
    #[error("the logit of row {row}, column {column}, is NaN or infinite")]
    NonFinite {
        /// The row.
        row: usize,
        /// The first such column.
        column: usize,
    },
    /// A device of burn's wgpu backend whose queue is not known.
    #[cfg(feature = "wgpu")]
    #[error("{got:?} is not shared with the losses: call `init_wgpu` before burn uses it, or `share_wgpu`")]
    NotShared {
        /// The device.
        got: Box<Device>,
    },
    /// A device of burn's wgpu backend does not come up.
    #[cfg(feature = "wgpu")]
    #[error("the wgpu device does not come up: {reason}")]
    Init {
        /// burn's own words.
        reason: String,
    },
    /// The GPU's part of the work.
    #[cfg(feature = "wgpu")]
    #[error(transparent)]
    Gpu(tokenloss_wgpu::GpuError),
    /// What was computed could not be read.
    #[error("the totals cannot be read: {reason}")]
    Read {
        /// burn's own words.
        reason: String,
    },
}

/// Where an op leaves what went wrong, since what it returns is tensors. The first error stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault(Arc<OnceLock<Error>>);

impl Fault {
    pub(crate) fn set(&self, error: Error) {
        // A later one is most likely a consequence.
        let _ = self.0.set(error);
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}
