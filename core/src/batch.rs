//! A batch, checked once.

use crate::{Error, LogitMap, RowMap, check_length};

/// The target of a row that takes no part: its logits are not read, its loss is 0, its gradient is 0.
pub const IGNORE_INDEX: i32 = -100;

/// The shape of a matrix of logits: `rows` of `vocab` columns, `stride` elements apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    rows: usize,
    vocab: usize,
    stride: usize,
}

impl Shape {
    /// Rows one after the other.
    ///
    /// # Errors
    /// * [`Error::NoRows`] if `rows` is 0.
    /// * [`Error::Vocab`] if `vocab` is 0 or 1.
    /// * [`Error::TooLarge`] if `rows * vocab` overflows or `vocab` exceeds `i32::MAX`.
    pub fn new(rows: usize, vocab: usize) -> Result<Self, Error> {
        if rows == 0 {
            return Err(Error::NoRows);
        }
        if vocab < 2 {
            return Err(Error::Vocab { vocab });
        }
        Self { rows, vocab, stride: vocab }.with_stride(vocab)
    }

    /// Rows `stride` elements apart, for a padded vocabulary: the `stride - vocab` elements after each row
    /// are neither read nor written.
    ///
    /// # Errors
    /// * [`Error::Stride`] if `stride < vocab`.
    /// * [`Error::TooLarge`] if `rows * stride` overflows.
    pub fn with_stride(self, stride: usize) -> Result<Self, Error> {
        if stride < self.vocab {
            return Err(Error::Stride { stride, vocab: self.vocab });
        }
        let elements = self.rows.checked_mul(stride).filter(|&n| n <= isize::MAX as usize / 8);
        if elements.is_none() || self.vocab > i32::MAX as usize {
            return Err(Error::TooLarge { rows: self.rows, stride });
        }
        Ok(Self { stride, ..self })
    }

    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }
    /// Classes.
    pub const fn vocab(&self) -> usize {
        self.vocab
    }
    /// Elements from one row to the next.
    pub const fn stride(&self) -> usize {
        self.stride
    }
    /// Elements of the whole matrix, `rows * stride`.
    pub const fn elements(&self) -> usize {
        self.rows * self.stride
    }
}

/// What to do about a row with a NaN or a +infinity in it, or with nothing but -infinity.
///
/// Either way all other rows are computed, and all outputs of that row, its gradient too, are NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// Return an error that names the first such row and column, after all other rows are done.
    #[default]
    Error,
    /// Return no error; the row counts as valid, so that the total loss is NaN, too.
    NanRow,
}

/// Targets and weights of a batch, checked against its shape. Backends trust it and check nothing again.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    shape: Shape,
    targets: &'a [i32],
    weights: Option<&'a [f32]>,
    map: Option<LogitMap<'a>>,
    non_finite: NonFinite,
    valid: usize,
}

impl<'a> Batch<'a> {
    /// `targets [rows]`: the class of each row, or [`IGNORE_INDEX`].
    ///
    /// # Errors
    /// * [`Error::Length`] if `targets.len() != shape.rows()`.
    /// * [`Error::Target`] for the first target that is neither [`IGNORE_INDEX`] nor in `0..vocab`.
    pub fn new(shape: Shape, targets: &'a [i32]) -> Result<Self, Error> {
        check_length("targets", shape.rows, targets.len())?;
        let mut valid = 0;
        for (row, &target) in targets.iter().enumerate() {
            if target == IGNORE_INDEX {
                continue;
            }
            if target < 0 || target as usize >= shape.vocab {
                return Err(Error::Target { row, target, vocab: shape.vocab });
            }
            valid += 1;
        }
        Ok(Self { shape, targets, weights: None, map: None, non_finite: NonFinite::Error, valid })
    }

    /// `weights [rows]`: each row's loss and gradient are multiplied by its weight before any sum over rows.
    /// This is where masks, class weights and upstream gradients go.
    ///
    /// # Errors
    /// * [`Error::Length`] if `weights.len() != shape.rows()`.
    /// * [`Error::Weight`] for the first weight that is negative, infinite or NaN.
    pub fn with_weights(self, weights: &'a [f32]) -> Result<Self, Error> {
        check_length("weights", self.shape.rows, weights.len())?;
        if let Some(row) = weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
            return Err(Error::Weight { row, weight: weights[row] });
        }
        Ok(Self { weights: Some(weights), ..self })
    }

    /// What logits are taken for.
    ///
    /// # Errors
    /// * [`Error::Length`] for scales, margins or mask.
    /// * [`Error::MaskedTarget`] for the first target that its row's mask leaves out.
    pub fn with_map(self, map: LogitMap<'a>) -> Result<Self, Error> {
        map.check(self.targets, self.shape.vocab)?;
        Ok(Self { map: Some(map), ..self })
    }

    /// Some of its rows.
    #[cfg(feature = "alloc")]
    pub(crate) fn rows(&self, rows: core::ops::Range<usize>) -> Self {
        let targets = &self.targets[rows.clone()];
        Self {
            shape: Shape { rows: rows.len(), ..self.shape },
            targets,
            weights: self.weights.map(|weights| &weights[rows.clone()]),
            map: self.map.map(|map| map.rows(rows, self.shape.vocab)),
            valid: targets.iter().filter(|target| **target != IGNORE_INDEX).count(),
            ..*self
        }
    }

    /// What to do about NaN and +infinity.
    pub fn with_non_finite(self, non_finite: NonFinite) -> Self {
        Self { non_finite, ..self }
    }

    /// The shape.
    pub const fn shape(&self) -> Shape {
        self.shape
    }
    /// The targets.
    pub const fn targets(&self) -> &'a [i32] {
        self.targets
    }
    /// The weights, if any.
    pub const fn weights(&self) -> Option<&'a [f32]> {
        self.weights
    }
    /// What logits are taken for, if not for themselves.
    pub const fn map(&self) -> Option<&LogitMap<'a>> {
        self.map.as_ref()
    }
    /// What the logits of a row are taken for, if not for themselves.
    #[inline]
    pub fn row_map(&self, row: usize) -> Option<RowMap<'a>> {
        self.map.map(|map| map.row(row, self.shape.vocab))
    }
    /// The class of a row; `None` for an ignored row.
    #[inline]
    pub fn target(&self, row: usize) -> Option<usize> {
        usize::try_from(self.targets[row]).ok()
    }
    /// The weight of a row; 1 without weights.
    #[inline]
    pub fn weight(&self, row: usize) -> f32 {
        self.weights.map_or(1.0, |w| w[row])
    }
    /// Rows that are not ignored.
    pub const fn valid(&self) -> usize {
        self.valid
    }
    /// What to do about NaN and +infinity.
    pub const fn non_finite(&self) -> NonFinite {
        self.non_finite
    }
}
