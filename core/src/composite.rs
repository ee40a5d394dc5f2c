//! Sums of objectives.

use crate::{AnyRow, AnyToken, Detail, Error, Objective, RowEval, RowObjective, RowPartials, RowSummary};
use core::fmt;
use num_traits::Float;

/// The most terms of a [`Composite`].
pub const MAX_TERMS: usize = 4;

/// A term of a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term {
    /// A token objective, which may be behind a threshold.
    Token(Objective),
    /// A row objective.
    Row(AnyRow),
}

/// A sum of objectives, chosen at run time: nll with a z-loss, an objective with an entropy bonus.
///
/// ```text
/// L = sum_i L_i        every partial is the sum of the terms'
/// ```
///
/// A row is kept where every term keeps it; a term that drops it adds nothing.
///
/// ```
/// use tokenloss_core::{Composite, Nll, ZLoss};
/// let objective = Composite::from(Nll).plus(ZLoss::new(0.001)?)?;
/// assert_eq!(Composite::parse("nll + z_loss:lambda=0.001")?, objective);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Composite {
    first: Term,
    more: [Option<Term>; MAX_TERMS - 1],
}

impl Composite {
    /// With one term more.
    ///
    /// # Errors
    /// [`Error::Terms`] if there are [`MAX_TERMS`] already.
    pub fn plus(mut self, term: impl Into<Term>) -> Result<Self, Error> {
        match self.more.iter_mut().find(|term| term.is_none()) {
            Some(free) => *free = Some(term.into()),
            None => return Err(Error::Terms { max: MAX_TERMS }),
        }
        Ok(self)
    }

    /// The terms, in order.
    pub fn terms(&self) -> impl Iterator<Item = &Term> {
        core::iter::once(&self.first).chain(self.more.iter().flatten())
    }

    /// The token objective, if that is all there is.
    pub fn as_token(&self) -> Option<&Objective> {
        match (&self.first, self.more[0]) {
            (Term::Token(objective), None) => Some(objective),
            _ => None,
        }
    }
}

impl RowObjective for Term {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        match self {
            Self::Token(objective) => objective.of_row(row),
            Self::Row(objective) => objective.of_row(row),
        }
    }

    fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
        match self {
            Self::Token(objective) => objective.held_row(frozen, live),
            Self::Row(objective) => objective.held_row(frozen, live),
        }
    }

    fn detail(&self) -> Detail {
        match self {
            Self::Token(objective) => objective.detail(),
            Self::Row(objective) => objective.detail(),
        }
    }
}

impl RowObjective for Composite {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let none = RowEval { loss: T::zero(), partials: RowPartials::zero(), kept: true };
        self.terms().map(|term| term.of_row(row)).fold(none, |sum, term| RowEval {
            loss: sum.loss + term.loss,
            partials: sum.partials.plus(term.partials),
            kept: sum.kept && term.kept,
        })
    }

    fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
        self.terms().fold(T::zero(), |sum, term| sum + term.held_row(frozen, live))
    }

    fn detail(&self) -> Detail {
        self.terms().map(RowObjective::detail).max().unwrap_or_default()
    }
}

impl<O: Into<AnyToken>> From<O> for Term {
    fn from(objective: O) -> Self {
        Self::Token(objective.into().into())
    }
}

impl From<Objective> for Term {
    fn from(objective: Objective) -> Self {
        Self::Token(objective)
    }
}

impl From<AnyRow> for Term {
    fn from(objective: AnyRow) -> Self {
        Self::Row(objective)
    }
}

impl<T: Into<Term>> From<T> for Composite {
    fn from(term: T) -> Self {
        Self { first: term.into(), more: [None; MAX_TERMS - 1] }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(objective) => objective.fmt(f),
            Self::Row(objective) => objective.fmt(f),
        }
    }
}

/// Writes a spec that [`Composite::parse`] reads back as the same sum.
impl fmt::Display for Composite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.more.iter().flatten().try_for_each(|term| write!(f, " + {term}"))
    }
}
