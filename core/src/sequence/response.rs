use num_traits::Float;

/// What is known of one sequence. An objective says what it needs beside the first two; what is not known is NaN.
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
}

impl<T: Float> Response<T> {
    /// Of a sequence of which nothing else is known.
    pub fn new(log_p: T, length: T) -> Self {
        Self { log_p, length, reference: T::nan(), reward: T::nan() }
    }

    /// `log_p - reference`: the logarithm of the ratio of the two models' probabilities.
    #[inline]
    pub fn log_ratio(&self) -> T {
        self.log_p - self.reference
    }

    /// The mean of its tokens' log-probabilities.
    #[inline]
    pub fn mean_log_p(&self) -> T {
        self.log_p / self.length
    }
}
