use crate::{Batch, Error, IGNORE_INDEX, Segments, Shape, check_length};
use core::ops::Range;

/// Listed columns of each row, checked once.
///
/// What belongs to the listed columns lies in slices `[entries]`, in the order of the ids: gathered logits, side inputs,
/// derivatives.
///
/// ```
/// use tokenloss_core::{IGNORE_INDEX, Shape, columns::Columns};
///
/// let ids = [7, 2, 4, IGNORE_INDEX];
/// let columns = Columns::new(Shape::new(2, 10)?, 2, &ids)?;
/// assert_eq!((columns.of_row(0), columns.of_row(1)), (&[7, 2][..], &[4][..]));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Columns<'a> {
    ids: &'a [i32],
    lists: Lists<'a>,
    rows: usize,
    vocab: usize,
    alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lists<'a> {
    Each(usize),
    Segments(Segments<'a>),
}

impl<'a> Columns<'a> {
    /// `ids [rows, k]`. A shorter list is padded with [`IGNORE_INDEX`] at its end; what belongs to padding is neither read
    /// nor written.
    ///
    /// # Errors
    /// * [`Error::TooFew`] if `k` is 0.
    /// * [`Error::Length`] if there are not `rows * k` ids.
    /// * [`Error::Column`] for the first id that is not in `0..vocab`, or that follows padding.
    /// * [`Error::Repeated`] for the first id that a row lists twice. Ids in ascending order are checked in O(k), others in
    ///   O(k^2).
    pub fn new(shape: Shape, k: usize, ids: &'a [i32]) -> Result<Self, Error> {
        if k == 0 {
            return Err(Error::TooFew { what: "columns", index: 0, needed: 1, got: 0 });
        }
        let entries = shape.rows().checked_mul(k).ok_or(Error::TooLarge { rows: shape.rows(), stride: k })?;
        check_length("ids", entries, ids.len())?;
        Self::checked(shape, Lists::Each(k), ids)
    }

    /// `ids`, those of row `i` at `segments.range(i)`.
    ///
    /// # Errors
    /// [`Error::Length`] if there is not one segment for each row, or if they do not end with the ids; otherwise those of
    /// [`new`](Self::new). There is no padding.
    pub fn of_segments(shape: Shape, segments: Segments<'a>, ids: &'a [i32]) -> Result<Self, Error> {
        check_length("segments", shape.rows(), segments.count())?;
        check_length("ids", segments.elements(), ids.len())?;
        Self::checked(shape, Lists::Segments(segments), ids)
    }

    fn checked(shape: Shape, lists: Lists<'a>, ids: &'a [i32]) -> Result<Self, Error> {
        let (rows, vocab) = (shape.rows(), shape.vocab());
        let columns = Self { ids, lists, rows, vocab, alone: false };
        for row in 0..rows {
            let all = &ids[columns.with_padding(row)];
            let listed = match lists {
                Lists::Each(_) => &all[..all.iter().position(|&id| id == IGNORE_INDEX).unwrap_or(all.len())],
                Lists::Segments(_) => all,
            };
            if let Some(&column) = listed.iter().find(|&&id| id < 0 || id as usize >= vocab) {
                return Err(Error::Column { row, column, vocab });
            }
            let repeated = |at: &usize| listed[..*at].contains(&listed[*at]);
            if !listed.is_sorted_by(|a, b| a < b)
                && let Some(at) = (1..listed.len()).find(repeated)
            {
                return Err(Error::Repeated { row, column: listed[at] });
            }
            if let Some(&column) = all[listed.len()..].iter().find(|&&id| id != IGNORE_INDEX) {
                return Err(Error::Column { row, column, vocab });
            }
        }
        Ok(columns)
    }

    /// The listed columns among themselves: all others are left out, as if they were masked, of the row and of what it is
    /// compared with. Neither is then read, nor is anything O(vocab) but the zeros of a gradient.
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Whether they are.
    pub const fn are_alone(&self) -> bool {
        self.alone
    }
    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }
    /// The length of what belongs to the listed columns, padding included.
    pub const fn entries(&self) -> usize {
        self.ids.len()
    }

    /// Where a row's listed columns lie, without padding.
    pub fn range(&self, row: usize) -> Range<usize> {
        let all = self.with_padding(row);
        let listed = self.ids[all.clone()].partition_point(|&id| id != IGNORE_INDEX);
        all.start..all.start + listed
    }

    /// A row's listed columns, without padding.
    pub fn of_row(&self, row: usize) -> &'a [i32] {
        &self.ids[self.range(row)]
    }

    /// Each listed column of a row with its place.
    pub(crate) fn places(&self, row: usize) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        let range = self.range(row);
        self.ids[range.clone()].iter().map(|&id| id as usize).zip(range)
    }

    fn with_padding(&self, row: usize) -> Range<usize> {
        match self.lists {
            Lists::Each(k) => row * k..(row + 1) * k,
            Lists::Segments(segments) => segments.range(row),
        }
    }

    /// Checks that they are of the same rows and the same vocabulary.
    ///
    /// # Errors
    /// [`Error::Length`] for the rows, [`Error::Columns`] for the vocabulary.
    pub fn check(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let vocab = batch.shape().vocab();
        check_length("rows of the columns", batch.shape().rows(), self.rows)?;
        if vocab != self.vocab {
            return Err(Error::Columns { first: 0, end: self.vocab, vocab });
        }
        Ok(())
    }
}
