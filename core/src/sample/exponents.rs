use num_traits::Float;

/// Sums of exponentials whose exponents are at most 0, one of them 0.
pub(super) struct Exponents<T> {
    /// `sum exp x`.
    pub(super) sum: T,
    /// `sum (exp x - 1)`, exact where all are near 0.
    deficit: T,
    members: T,
}

impl<T: Float> Exponents<T> {
    pub(super) fn of(exponents: impl Iterator<Item = T>) -> Self {
        let zero = Self { sum: T::zero(), deficit: T::zero(), members: T::zero() };
        exponents.fold(zero, |all, x| Self {
            sum: all.sum + x.exp(),
            deficit: all.deficit + x.exp_m1(),
            members: all.members + T::one(),
        })
    }

    /// `log mean exp x`, at most 0.
    pub(super) fn log_mean(&self) -> T {
        let below = self.deficit / self.members;
        if below + below > -T::one() { below.ln_1p() } else { (self.sum / self.members).ln() }
    }
}
