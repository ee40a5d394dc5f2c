//! From the tokens of sequences to one number.

use super::Sequences;
use crate::{Error, check_length};
use num_traits::Float;

/// How many sequences and tokens a mean is over: those of the batch, or, with gradient accumulation, those of
/// the whole step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Sequences.
    pub sequences: usize,
    /// Tokens of all of them, without ignored ones.
    pub tokens: usize,
}

impl Counts {
    /// Checks that a step holds at least the batch, whose counts are `own`.
    ///
    /// # Errors
    /// [`Error::Input`] for the first count below that of the batch.
    pub fn check(self, own: Self) -> Result<(), Error> {
        for (index, (given, least)) in
            [(self.sequences, own.sequences), (self.tokens, own.tokens)].into_iter().enumerate()
        {
            if given < least {
                let expected = "at least what the batch holds";
                return Err(Error::Input { what: "counts", index, value: given as f64, expected });
            }
        }
        Ok(())
    }
}

/// How the losses of tokens become one loss where the lengths of sequences differ.
///
/// ```text
/// TokenMean        sum_i sum_t loss_it / sum_i |y_i|    a long sequence counts for more
/// SequenceMean     mean_i sum_t loss_it / |y_i|         a token of a long sequence counts for less
/// Sum              sum_i sum_t loss_it
/// LengthPower(a)   mean_i sum_t loss_it / |y_i|^a       a = 0: the mean of sums, a = 1: SequenceMean
/// Constant(c)      mean_i sum_t loss_it / c             a token's weight knows no length
/// ```
///
/// All of them are one factor per token, [`scale`](Self::scale), which [`weights`](Self::weights) writes for
/// a whole batch: with them as its weights and [`Reduction::Sum`](crate::Reduction::Sum), any token objective
/// is evaluated in one pass.
///
/// ```
/// use tokenloss_core::{Segments, sequence::{SequenceReduction, Sequences}};
///
/// let sequences = Sequences::new(Segments::new(&[0, 1, 4], 4)?);
/// let mut weights = [0.0; 4];
/// SequenceReduction::SequenceMean.weights(&sequences, sequences.counts(), &mut weights)?;
/// assert_eq!(weights, [0.5, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** `TokenMean` is what a flattened batch gives and what DAPO (arXiv 2503.14476) argues for,
/// `SequenceMean` is GRPO's (arXiv 2402.03300), `Constant` Dr. GRPO's (arXiv 2503.20783), whose code gives
/// the greatest length that a generation may have. verl's `seq-mean-token-sum-norm` has divided by that
/// constant without the number of sequences: give it as `c / sequences`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum SequenceReduction {
    /// The mean over all tokens of all sequences.
    #[default]
    TokenMean,
    /// The mean over the sequences of the mean over the tokens of each.
    SequenceMean,
    /// The sum over all tokens of all sequences.
    Sum,
    /// The mean over the sequences of the sum over the tokens of each, divided by this power of its length.
    LengthPower(f64),
    /// The mean over the sequences of the sum over the tokens of each, divided by this constant.
    Constant(f64),
}

impl SequenceReduction {
    /// Checks the number, if there is one.
    ///
    /// # Errors
    /// * [`Error::Input`] for a length power that is not finite.
    /// * [`Error::Denominator`] for a constant that is not a positive finite number.
    pub fn check(self) -> Result<Self, Error> {
        match self {
            Self::LengthPower(power) if !power.is_finite() => Err(Error::Input {
                what: "length power",
                index: 0,
                value: power,
                expected: "a finite number",
            }),
            Self::Constant(constant) if !(constant > 0.0 && constant.is_finite()) => {
                Err(Error::Denominator { denominator: constant })
            }
            _ => Ok(self),
        }
    }

    /// What each token of a sequence of `length` tokens is multiplied by; 0 where that divides by a count of
    /// 0.
    pub fn scale(self, length: usize, counts: Counts) -> f64 {
        let (length, sequences) = (length as f64, counts.sequences as f64);
        let denominator = match self {
            Self::TokenMean => counts.tokens as f64,
            Self::SequenceMean => sequences * length,
            Self::Sum => 1.0,
            Self::LengthPower(power) => sequences * Float::powf(length, power),
            Self::Constant(constant) => sequences * constant,
        };
        if denominator == 0.0 { 0.0 } else { 1.0 / denominator }
    }

    /// [`scale`](Self::scale) of every row, `weights [rows]`; 0 for ignored ones.
    ///
    /// # Errors
    /// Those of [`check`](Self::check) and of [`Counts::check`], [`Error::Length`] for `weights`, and
    /// [`Error::TooFew`] for the first sequence without tokens.
    pub fn weights(
        self,
        sequences: &Sequences<'_>,
        counts: Counts,
        weights: &mut [f32],
    ) -> Result<(), Error> {
        let reduction = self.check()?;
        check_length("weights", sequences.segments().elements(), weights.len())?;
        let own = sequences.counts();
        counts.check(own)?;
        for index in 0..own.sequences {
            let scale = reduction.scale(sequences.length(index)?, counts) as f32;
            for row in sequences.segments().range(index) {
                weights[row] = if sequences.is_ignored(row) { 0.0 } else { scale };
            }
        }
        Ok(())
    }
}
