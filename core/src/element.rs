//! The storage types of logits and gradients.

use crate::{AnyLogits, Logits};
use core::fmt;
use half::{bf16, f16};

/// A storage type, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Dtype {
    /// Every storage type.
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// The name, as the command line spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A storage type of logits and of their gradient. All arithmetic is done in `f32` or better; a gradient
/// is rounded once, to the nearest value of its storage type.
///
/// Sealed: backends convert these three types in registers and rely on their layout.
pub trait Element: Copy + Send + Sync + fmt::Debug + sealed::Sealed + 'static {
    /// The type as a value.
    const DTYPE: Dtype;
    /// The exact value.
    fn to_f32(self) -> f32;
    /// The nearest value, ties to even.
    fn from_f32(value: f32) -> Self;
    /// The bits of the storage type, in the lower bits of the word.
    fn to_bits(self) -> u32;
    /// From the lower bits of a word; the others are not looked at.
    fn from_bits(bits: u32) -> Self;
    /// The same logits, with the storage type as a value.
    fn any(logits: Logits<'_, Self>) -> AnyLogits<'_>;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.to_bits()
    }
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        f32::from_bits(bits)
    }
    fn any(logits: Logits<'_, Self>) -> AnyLogits<'_> {
        AnyLogits::F32(logits)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

macro_rules! half_element {
    ($type:ty, $dtype:ident) => {
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            #[inline(always)]
            fn to_bits(self) -> u32 {
                u32::from(<$type>::to_bits(self))
            }
            #[inline(always)]
            fn from_bits(bits: u32) -> Self {
                <$type>::from_bits(bits as u16)
            }
            fn any(logits: Logits<'_, Self>) -> AnyLogits<'_> {
                AnyLogits::$dtype(logits)
            }
            // The `const` conversions are pure integer arithmetic: the others look for CPU features on
            // every call, which a row kernel has no time for.
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self.to_f32_const()
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                <$type>::from_f32_const(value)
            }
        }
    };
}
half_element!(f16, F16);
half_element!(bf16, Bf16);
