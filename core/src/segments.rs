//! Sequences, groups and bags without padding.

use crate::{Error, check_length};
use core::ops::Range;

/// Consecutive parts of a slice, by their offsets: part `i` is `offsets[i]..offsets[i + 1]`.
///
/// ```
/// use tokenloss_core::Segments;
///
/// let segments = Segments::new(&[0, 2, 5], 5)?;
/// assert_eq!(segments.iter().collect::<Vec<_>>(), [0..2, 2..5]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments<'a> {
    offsets: &'a [usize],
}

impl<'a> Segments<'a> {
    /// `offsets [segments + 1]`, ascending from 0 to `len`. No segment is empty.
    ///
    /// # Errors
    /// * [`Error::TooFew`] for fewer than two offsets.
    /// * [`Error::Offsets`] for the first offset that is not greater than the one before it.
    /// * [`Error::Length`] if the first offset is not 0 or the last is not `len`.
    pub fn new(offsets: &'a [usize], len: usize) -> Result<Self, Error> {
        let (&[first, ..], &[.., last]) = (offsets, offsets) else {
            return Err(Error::TooFew { what: "offsets", index: 0, needed: 2, got: 0 });
        };
        if offsets.len() < 2 {
            return Err(Error::TooFew { what: "offsets", index: 0, needed: 2, got: offsets.len() });
        }
        for (index, pair) in offsets.windows(2).enumerate() {
            if pair[1] <= pair[0] {
                return Err(Error::Offsets { index: index + 1, previous: pair[0], offset: pair[1] });
            }
        }
        check_length("first offset", 0, first)?;
        check_length("last offset", len, last)?;
        Ok(Self { offsets })
    }

    /// How many.
    pub const fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The elements of all of them together.
    pub fn elements(&self) -> usize {
        self.offsets[self.count()]
    }

    /// Where one lies.
    ///
    /// # Panics
    /// If `segment` is not below [`count`](Self::count).
    pub fn range(&self, segment: usize) -> Range<usize> {
        self.offsets[segment]..self.offsets[segment + 1]
    }

    /// Where each lies.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<usize>> + use<'a> {
        self.offsets.windows(2).map(|pair| pair[0]..pair[1])
    }
}
