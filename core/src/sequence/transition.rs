//! A row and the row after it.

use crate::{RowPartials, RowSummary};
use num_traits::Float;

/// What is known of a token's row and of the row after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transition<T> {
    /// The token's logit.
    pub logit: T,
    /// The log-sum-exp of its row.
    pub lse: T,
    /// That of the row after it; none after the last token of a sequence.
    pub next_lse: Option<T>,
    /// How much it counts as a demonstration beside what it counts in the mean over all transitions: 0 for
    /// one that the model generated, all transitions over demonstrated ones for one of the data.
    pub demonstration: T,
}

impl<T: Float> Transition<T> {
    /// From what a backend's `summarise` returns.
    pub fn new(row: &RowSummary<T>, next: Option<&RowSummary<T>>, demonstration: T) -> Self {
        let lse = row.stats.lse();
        let next_lse = next.map(|next| next.stats.lse());
        Self { logit: row.target.log_p + lse, lse, next_lse, demonstration }
    }
}

/// A transition objective's value and derivatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransitionEval<T> {
    /// The loss.
    pub loss: T,
    /// Its derivatives in the directions of the token's row.
    pub partials: RowPartials<T>,
    /// Those in the directions of the row after it; 0 after the last.
    pub next: RowPartials<T>,
}
