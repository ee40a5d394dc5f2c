//! Instruction sets.

use core::fmt;
use core::str::FromStr;

/// An instruction set that this machine has. A value of this type is the proof: it cannot be made for a set
/// that is absent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Level(Set);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Set {
    Portable,
}

impl Level {
    /// The best level that this machine has.
    pub fn best() -> Self {
        Self(Set::Portable)
    }

    /// Every level that this machine has, from the plainest to the best.
    pub fn available() -> Vec<Self> {
        vec![Self(Set::Portable)]
    }

    /// The name, as the command line spells it: `portable`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
        }
    }
}

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
