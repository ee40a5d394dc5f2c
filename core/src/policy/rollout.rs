use crate::error::check_finite;
use crate::math::narrow;
use crate::sequence::Sequences;
use crate::{Error, IGNORE_INDEX, check_length};
use num_traits::Float;

/// Advantages, by which a surrogate pushes tokens up or down. They are constants for the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advantages<'a, T> {
    /// One for each sequence.
    Sequences(&'a [T]),
    /// One for each row.
    Rows(&'a [T]),
}

/// The rollouts of a batch, checked. What stands at ignored rows is not looked at.
#[derive(Debug, Clone, Copy)]
pub struct Rollouts<'a, T> {
    sequences: Sequences<'a>,
    log_p: &'a [T],
    old: &'a [T],
    reference: Option<&'a [T]>,
    advantages: Advantages<'a, T>,
}

impl<'a, T: Float> Rollouts<'a, T> {
    /// `log_p [rows]` of the policy that is trained, `old [rows]` of the policy that wrote the rollouts, and which rows are
    /// tokens of which sequence.
    ///
    /// # Errors
    /// * [`Error::Length`] for `log_p`, `old` or `advantages`.
    /// * [`Error::TooFew`] for the first sequence without tokens.
    /// * [`Error::Input`] for the first value that is not finite.
    pub fn new(
        sequences: Sequences<'a>,
        log_p: &'a [T],
        old: &'a [T],
        advantages: Advantages<'a, T>,
    ) -> Result<Self, Error> {
        check_rows("log_p", &sequences, log_p)?;
        check_rows("old", &sequences, old)?;
        match advantages {
            Advantages::Rows(advantages) => check_rows("advantages", &sequences, advantages)?,
            Advantages::Sequences(advantages) => {
                check_length("advantages", sequences.segments().count(), advantages.len())?;
                check_finite("advantages", advantages.iter().copied().enumerate())?;
            }
        }
        for sequence in 0..sequences.segments().count() {
            sequences.length(sequence)?;
        }
        Ok(Self { sequences, log_p, old, reference: None, advantages })
    }

    /// With the log-probabilities `reference [rows]` of the policy that a penalty pulls towards.
    ///
    /// # Errors
    /// [`Error::Length`] for `reference`; [`Error::Input`] for the first value that is not finite.
    pub fn with_reference(self, reference: &'a [T]) -> Result<Self, Error> {
        check_rows("reference", &self.sequences, reference)?;
        Ok(Self { reference: Some(reference), ..self })
    }

    /// Which rows are tokens of which sequence.
    pub const fn sequences(&self) -> &Sequences<'a> {
        &self.sequences
    }

    /// Whether there is a reference policy.
    pub const fn has_reference(&self) -> bool {
        self.reference.is_some()
    }

    /// One of them.
    ///
    /// # Panics
    /// If `sequence` is not below the number of sequences.
    pub fn rollout(&self, sequence: usize) -> Rollout<'a, T> {
        let range = self.sequences.segments().range(sequence);
        Rollout {
            log_p: &self.log_p[range.clone()],
            old: &self.old[range.clone()],
            reference: self.reference.map(|reference| &reference[range.clone()]),
            targets: self.sequences.targets().map(|targets| &targets[range.clone()]),
            advantages: match self.advantages {
                Advantages::Sequences(advantages) => Advantages::Sequences(&advantages[sequence..=sequence]),
                Advantages::Rows(advantages) => Advantages::Rows(&advantages[range]),
            },
        }
    }
}

fn check_rows<T: Float>(what: &'static str, sequences: &Sequences<'_>, values: &[T]) -> Result<(), Error> {
    check_length(what, sequences.segments().elements(), values.len())?;
    check_finite(what, values.iter().copied().enumerate().filter(|(row, _)| !sequences.is_ignored(*row)))
}

/// One sequence that a policy wrote; from [`Rollouts::rollout`].
#[derive(Debug, Clone, Copy)]
pub struct Rollout<'a, T> {
    log_p: &'a [T],
    old: &'a [T],
    reference: Option<&'a [T]>,
    targets: Option<&'a [i32]>,
    advantages: Advantages<'a, T>,
}

impl<T: Float> Rollout<'_, T> {
    /// Its tokens in order, each with its row, counted from the first row of the sequence.
    pub fn tokens(&self) -> impl Iterator<Item = (usize, RolloutToken<T>)> + '_ {
        let rows = (0..self.log_p.len()).filter(|row| self.targets.is_none_or(|of| of[*row] != IGNORE_INDEX));
        rows.map(|row| {
            let token = RolloutToken {
                log_p: self.log_p[row],
                old: self.old[row],
                reference: self.reference.map_or_else(T::nan, |reference| reference[row]),
                advantage: match self.advantages {
                    Advantages::Sequences(advantages) => advantages[0],
                    Advantages::Rows(advantages) => advantages[row],
                },
            };
            (row, token)
        })
    }

    /// The advantage of the sequence: the mean of its tokens' where each has its own.
    pub fn advantage(&self) -> T {
        match self.advantages {
            Advantages::Sequences(advantages) => advantages[0],
            Advantages::Rows(_) => self.mean(|token| token.advantage),
        }
    }

    /// The mean over its tokens.
    pub fn mean(&self, of: impl Fn(&RolloutToken<T>) -> T) -> T {
        self.tokens().fold(T::zero(), |sum, (_, token)| sum + of(&token)) / self.length()
    }

    /// The number of its tokens.
    pub fn length(&self) -> T {
        narrow(self.tokens().count() as f64)
    }
}

/// One token of a rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RolloutToken<T> {
    /// The log-probability that the trained policy gives it.
    pub log_p: T,
    /// The log-probability under the policy that wrote it.
    pub old: T,
    /// The log-probability under the reference policy; NaN without one.
    pub reference: T,
    /// Its advantage.
    pub advantage: T,
}

impl<T: Float> RolloutToken<T> {
    /// `log_p - old`.
    pub fn log_ratio(&self) -> T {
        self.log_p - self.old
    }
}
