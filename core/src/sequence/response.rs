//! What is known of one sequence, and what of it an objective needs.

use crate::Error;
use num_traits::Float;

/// What is known of one sequence. An objective says what it [`Needs`] beside the first two; what is not known
/// is NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Response<T> {
    /// The sum of its tokens' log-probabilities, nats.
    pub log_p: T,
    /// Its tokens, at least 1.
    pub length: T,
    /// The same sum under a reference model.
    pub reference: T,
    /// What it is worth.
    pub reward: T,
    /// What it is compared with.
    pub baseline: T,
}

impl<T: Float> Response<T> {
    /// Of a sequence of which nothing else is known.
    pub fn new(log_p: T, length: T) -> Self {
        Self { log_p, length, reference: T::nan(), reward: T::nan(), baseline: T::nan() }
    }

    /// `log_p - reference`: the logarithm of the ratio of the two models' probabilities.
    #[inline]
    pub fn log_ratio(&self) -> T {
        self.log_p - self.reference
    }

    /// `length^power`.
    #[inline]
    pub(crate) fn length_power(&self, power: f32) -> T {
        self.length.powf(crate::objective::cast(power))
    }

    /// The mean of its tokens' log-probabilities.
    #[inline]
    pub(crate) fn mean_log_p(&self) -> T {
        self.log_p / self.length
    }
}

/// What an objective must know beside `log_p` and `length`. Checked before anything is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// [`Response::reference`].
    pub reference: bool,
    /// [`Response::reward`].
    pub reward: bool,
    /// [`Response::baseline`].
    pub baseline: bool,
    /// [`Pair::gap`](crate::preference::Pair::gap).
    pub gap: bool,
}

impl Needs {
    /// Nothing else.
    pub const NOTHING: Self = Self { reference: false, reward: false, baseline: false, gap: false };
    /// A reference model.
    pub const REFERENCE: Self = Self { reference: true, ..Self::NOTHING };
    /// A reward.
    pub const REWARD: Self = Self { reward: true, ..Self::NOTHING };

    /// Checks what is known of the sequences of a batch.
    ///
    /// # Errors
    /// [`Error::Input`] for the first `log_p` that is above 0 or not finite, the first `length` below 1 or
    /// not finite, and the first other number that is needed and not finite.
    pub fn check(self, responses: &[Response<f64>]) -> Result<(), Error> {
        for (index, response) in responses.iter().enumerate() {
            let Response { log_p, length, reference, reward, baseline } = *response;
            if !(log_p <= 0.0 && log_p.is_finite()) {
                let expected = "a finite number of at most 0";
                return Err(Error::Input { what: "log_p", index, value: log_p, expected });
            }
            if !(length >= 1.0 && length.is_finite()) {
                let expected = "a finite number of at least 1";
                return Err(Error::Input { what: "length", index, value: length, expected });
            }
            for (what, needed, value) in [
                ("reference", self.reference, reference),
                ("reward", self.reward, reward),
                ("baseline", self.baseline, baseline),
            ] {
                needed_value(what, needed, index, value)?;
            }
        }
        Ok(())
    }
}

/// Checks a number that may be needed.
pub(crate) fn needed_value(what: &'static str, needed: bool, index: usize, value: f64) -> Result<(), Error> {
    if needed && !value.is_finite() {
        let expected = "a finite number, which this objective needs";
        return Err(Error::Input { what, index, value, expected });
    }
    Ok(())
}
