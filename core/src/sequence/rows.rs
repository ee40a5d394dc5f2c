//! From rows to sequences, and back.

use super::{Counts, Response};
use crate::{Error, IGNORE_INDEX, Segments, check_length};

/// Which rows are the tokens of which sequence.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    segments: Segments<'a>,
    targets: Option<&'a [i32]>,
}

impl<'a> Sequences<'a> {
    /// Every row of a segment is a token of its sequence.
    pub const fn new(segments: Segments<'a>) -> Self {
        Self { segments, targets: None }
    }

    /// Rows whose target is [`IGNORE_INDEX`], such as those of prompts, are no tokens: they are neither
    /// summed nor counted, and get slope 0.
    ///
    /// # Errors
    /// [`Error::Length`] if `targets` are not as many as rows.
    pub fn with_targets(self, targets: &'a [i32]) -> Result<Self, Error> {
        check_length("targets", self.segments.elements(), targets.len())?;
        Ok(Self { targets: Some(targets), ..self })
    }

    /// Where each lies.
    pub const fn segments(&self) -> Segments<'a> {
        self.segments
    }

    pub(crate) const fn targets(&self) -> Option<&'a [i32]> {
        self.targets
    }

    /// Whether a row is no token.
    pub fn is_ignored(&self, row: usize) -> bool {
        self.targets.is_some_and(|targets| targets[row] == IGNORE_INDEX)
    }

    /// The tokens of one sequence.
    ///
    /// # Errors
    /// [`Error::TooFew`] if all its rows are ignored.
    pub fn length(&self, sequence: usize) -> Result<usize, Error> {
        match self.segments.range(sequence).filter(|row| !self.is_ignored(*row)).count() {
            0 => Err(Error::TooFew { what: "tokens of sequences", index: sequence, needed: 1, got: 0 }),
            length => Ok(length),
        }
    }

    /// How many sequences and tokens there are.
    pub fn counts(&self) -> Counts {
        let rows = self.segments.elements();
        Counts {
            sequences: self.segments.count(),
            tokens: (0..rows).filter(|row| !self.is_ignored(*row)).count(),
        }
    }

    /// `log_p [rows] -> [sequences]`: the sum over the tokens of each. For the model's own, and for a
    /// reference model's.
    ///
    /// # Errors
    /// * [`Error::Length`] for `log_p` or `sums`.
    /// * [`Error::Input`] for the first token whose `log_p` is above 0 or not finite.
    pub fn sum(&self, log_p: &[f64], sums: &mut [f64]) -> Result<(), Error> {
        check_length("log_p", self.segments.elements(), log_p.len())?;
        check_length("sums", self.segments.count(), sums.len())?;
        for (sum, range) in sums.iter_mut().zip(self.segments.iter()) {
            *sum = self.sum_of(log_p, range)?;
        }
        Ok(())
    }

    /// `log_p [rows] -> responses [sequences]`, overwritten, with nothing known but `log_p` and `length`.
    ///
    /// # Errors
    /// * [`Error::Length`] for `log_p` or `responses`.
    /// * [`Error::TooFew`] for the first sequence without tokens.
    /// * [`Error::Input`] for the first token whose `log_p` is above 0 or not finite.
    pub fn responses(&self, log_p: &[f64], responses: &mut [Response<f64>]) -> Result<(), Error> {
        check_length("log_p", self.segments.elements(), log_p.len())?;
        check_length("responses", self.segments.count(), responses.len())?;
        for (index, (response, range)) in responses.iter_mut().zip(self.segments.iter()).enumerate() {
            let length = self.length(index)? as f64;
            *response = Response::new(self.sum_of(log_p, range)?, length);
        }
        Ok(())
    }

    /// `slopes [sequences] -> rows [rows]`: the slope of each token is that of its sequence, since `log_p` of
    /// a sequence is a sum. They are what [`RowPartials::of_slope`](crate::RowPartials::of_slope) takes.
    ///
    /// # Errors
    /// [`Error::Length`] for `slopes` or `rows`.
    pub fn spread(&self, slopes: &[f64], rows: &mut [f64]) -> Result<(), Error> {
        check_length("slopes", self.segments.count(), slopes.len())?;
        check_length("rows", self.segments.elements(), rows.len())?;
        for (slope, range) in slopes.iter().zip(self.segments.iter()) {
            for row in range {
                rows[row] = if self.is_ignored(row) { 0.0 } else { *slope };
            }
        }
        Ok(())
    }

    fn sum_of(&self, log_p: &[f64], range: core::ops::Range<usize>) -> Result<f64, Error> {
        range.filter(|row| !self.is_ignored(*row)).try_fold(0.0, |sum, row| {
            let value = log_p[row];
            if value <= 0.0 && value.is_finite() {
                return Ok(sum + value);
            }
            Err(Error::Input { what: "log_p", index: row, value, expected: "a finite number of at most 0" })
        })
    }
}
