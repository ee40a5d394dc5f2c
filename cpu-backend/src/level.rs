//! Instruction sets.

use crate::simd::portable::Portable;
use crate::simd::{Kernel, Simd};
use core::fmt;
use core::str::FromStr;

#[cfg(any(target_arch = "aarch64", test))]
use crate::simd::neon::Neon;
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};

/// An instruction set that this machine has. A value of this type is the proof: it cannot be made for a set
/// that is absent.
#[derive(Clone, Copy)]
pub struct Level(Set);

// An enum of tokens: whoever holds a variant holds the proof.
#[derive(Clone, Copy)]
enum Set {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<false>),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512<true>),
    #[cfg(any(target_arch = "aarch64", test))]
    Neon(Neon),
}

impl Level {
    /// The best level that this machine has.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self(Set::Portable(Portable)))
    }

    /// Every level that this machine has, from the plainest to the best.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Set::Portable(Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(Avx2::new().map(Set::Avx2));
            sets.extend(Avx512::new().map(Set::Avx512));
            sets.extend(Avx512::new().map(Set::Avx512Bf16));
        }
        // In tests elsewhere, with emulated intrinsics.
        #[cfg(any(target_arch = "aarch64", test))]
        sets.push(Set::Neon(Neon::new()));
        sets.into_iter().map(Self).collect()
    }

    /// The names of the levels that this architecture may have, from the plainest to the best. What a machine
    /// lacks of them its tests did not run.
    pub fn known() -> &'static [&'static str] {
        if cfg!(target_arch = "x86_64") {
            &["portable", "avx2", "avx512", "avx512bf16"]
        } else if cfg!(target_arch = "aarch64") {
            &["portable", "neon"]
        } else {
            &["portable"]
        }
    }

    /// The name, as the command line spells it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16(_) => "avx512bf16",
            #[cfg(any(target_arch = "aarch64", test))]
            Set::Neon(_) => "neon",
        }
    }

    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Portable(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16(simd) => simd.run(kernel),
            #[cfg(any(target_arch = "aarch64", test))]
            Set::Neon(simd) => simd.run(kernel),
        }
    }
}

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Level {}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A level that does not exist, or that this machine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelError(String);

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level: '{}' is not available on this machine, expected ", self.0)?;
        for (i, level) in Level::available().into_iter().enumerate() {
            write!(f, "{}{level}", if i == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

impl std::error::Error for LevelError {}

impl FromStr for Level {
    type Err = LevelError;
    fn from_str(name: &str) -> Result<Self, LevelError> {
        Self::available().into_iter().find(|l| l.name() == name).ok_or_else(|| LevelError(name.to_owned()))
    }
}
