//! What can go wrong on a GPU.

use std::fmt;

/// A fault in a GPU's part of the work. Every variant names the thing, and both numbers where there are two.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GpuError {
    /// The caller's data.
    Core(tokenloss_core::Error),
    /// The machine has no adapter that wgpu can use.
    NoAdapter {
        /// What wgpu says.
        reason: String,
    },
    /// An adapter is there, but gives no device.
    NoDevice {
        /// The adapter.
        adapter: String,
        /// What wgpu says.
        reason: String,
    },
    /// The device was not created with a limit that this needs. Limits are opt-in: ask for them when creating
    /// the device.
    MissingLimit {
        /// The limit, as wgpu spells it.
        limit: &'static str,
        /// The least that works.
        needed: u64,
        /// What the device has.
        has: u64,
    },
    /// The device was not created with a feature that this needs.
    MissingFeature {
        /// The feature, as wgpu spells it.
        feature: &'static str,
    },
    /// The adapter's subgroups are too small for the subgroup variant.
    SubgroupSize {
        /// The least that works.
        needed: u32,
        /// What the adapter may use.
        has: u32,
    },
    /// The adapter lists no cooperative matrices that the products of the linear form can use.
    CooperativeMatrix {
        /// The adapter.
        adapter: String,
    },
    /// Cooperative matrices that another adapter lists.
    OtherAdapter {
        /// The adapter that lists them.
        needed: String,
        /// The device's.
        has: String,
    },
    /// A binding holds fewer bytes than the shape asks for.
    BufferTooSmall {
        /// The binding.
        what: &'static str,
        /// Bytes asked for.
        needed: u64,
        /// Bytes from the binding's offset to its end, or to the end of the buffer if that comes first.
        got: u64,
    },
    /// A binding has no size. Without one it reaches to the end of the buffer, which in a large buffer is more
    /// than a binding may cover.
    NoSize {
        /// The binding.
        what: &'static str,
    },
    /// An offset or a stride is not a multiple of what it must be.
    Misaligned {
        /// The binding, or `stride`.
        what: &'static str,
        /// Its offset in bytes, or the stride in elements.
        offset: u64,
        /// What it must be a multiple of.
        alignment: u64,
    },
    /// A buffer was created without a usage that this needs.
    Usage {
        /// The binding.
        what: &'static str,
        /// The usage, as wgpu spells it.
        usage: &'static str,
    },
    /// Two bindings share bytes, at least one of them is written.
    Overlap {
        /// One binding.
        a: &'static str,
        /// The other.
        b: &'static str,
    },
    /// One row does not fit in a binding.
    RowTooLarge {
        /// The matrix.
        what: &'static str,
        /// Bytes of a row, with what alignment may add.
        bytes: u64,
        /// `max_storage_buffer_binding_size` of the device.
        limit: u64,
    },
    /// An option that only another backend has.
    Unsupported {
        /// The option.
        what: &'static str,
    },
    /// The objective and its gates have more parameters than the uniform holds.
    Parameters(tokenloss_shaders::TooManyParameters),
    /// The shader was refused: most likely an objective's own WGSL.
    Shader {
        /// What wgpu says.
        reason: String,
    },
    /// The device is gone; make a new one.
    DeviceLost {
        /// What wgpu says.
        reason: String,
    },
    /// The device has no memory left for this.
    OutOfMemory {
        /// Bytes of all buffers that were asked for, if known; else 0.
        bytes: u64,
    },
    /// wgpu refused something that is not the caller's fault: report it.
    Internal {
        /// What wgpu says.
        reason: String,
    },
}

impl fmt::Display for GpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(error) => error.fmt(f),
            Self::Unsupported { what } => write!(f, "{what}: not supported on the GPU"),
            Self::NoAdapter { reason } => write!(f, "gpu: no adapter: {reason}"),
            Self::NoDevice { adapter, reason } => write!(f, "gpu: {adapter} gives no device: {reason}"),
            Self::MissingLimit { limit, needed, has } => {
                write!(f, "{limit}: expected at least {needed}, the device has {has}")
            }
            Self::MissingFeature { feature } => write!(f, "{feature}: the device was created without it"),
            Self::SubgroupSize { needed, has } => {
                write!(f, "subgroups: expected at least {needed} lanes, the adapter may use {has}")
            }
            Self::CooperativeMatrix { adapter } => {
                write!(
                    f,
                    "cooperative matrices: {adapter} lists none of 8 x 8 x 8 or 16 x 16 x 16 in f16 or f32 with f32 sums"
                )
            }
            Self::OtherAdapter { needed, has } => {
                write!(f, "cooperative matrices: expected a device of {needed}, got one of {has}")
            }
            Self::BufferTooSmall { what, needed, got } => {
                write!(f, "{what}: expected a binding of at least {needed} bytes, got {got}")
            }
            Self::NoSize { what } => write!(f, "{what}: expected a binding with a size, got none"),
            Self::Misaligned { what, offset, alignment } => {
                write!(f, "{what}: expected a multiple of {alignment}, got {offset}")
            }
            Self::Usage { what, usage } => write!(f, "{what}: its buffer was created without {usage}"),
            Self::Overlap { a, b } => write!(f, "{a} and {b} share bytes of a buffer"),
            Self::RowTooLarge { what, bytes, limit } => {
                write!(f, "{what}: a row needs a binding of {bytes} bytes, the device allows {limit}")
            }
            Self::Parameters(error) => error.fmt(f),
            Self::Shader { reason } => write!(f, "shader: {reason}"),
            Self::DeviceLost { reason } => write!(f, "gpu: the device is lost: {reason}"),
            Self::OutOfMemory { bytes } => write!(f, "gpu: out of memory, {bytes} bytes were asked for"),
            Self::Internal { reason } => write!(f, "gpu: {reason}"),
        }
    }
}

impl std::error::Error for GpuError {}

impl From<tokenloss_core::Error> for GpuError {
    fn from(error: tokenloss_core::Error) -> Self {
        Self::Core(error)
    }
}

impl From<tokenloss_shaders::TooManyParameters> for GpuError {
    fn from(error: tokenloss_shaders::TooManyParameters) -> Self {
        Self::Parameters(error)
    }
}
