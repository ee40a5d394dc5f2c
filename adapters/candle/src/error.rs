//! What can be wrong.

use candle_core::{DType, DeviceLocation};

/// A fault in what the caller gave, or candle's own. In backward it comes inside of candle's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data: shapes, targets, weights, logits that are not finite, a budget that is too small.
    #[error(transparent)]
    Loss(#[from] tokenloss_core::Error),
    /// candle's own.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
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
    /// A tensor does not lie on the CPU.
    #[error("{what} lies on {got:?}; only CPU storage is served: move it by `to_device(&Device::Cpu)`")]
    Device {
        /// The tensor.
        what: &'static str,
        /// Where it lies.
        got: DeviceLocation,
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
    /// The logits were overwritten by their gradient, and backward ran again.
    #[error("the logits were overwritten by their gradient: backward runs once with `overwrite_logits`")]
    Overwritten,
}

impl Error {
    /// As candle passes it on.
    pub(crate) fn wrap(self) -> candle_core::Error {
        match self {
            Self::Candle(error) => error,
            error => candle_core::Error::wrap(error),
        }
    }
}
