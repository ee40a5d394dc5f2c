//! Logits guided by a teacher's.

use crate::error::check_inputs;
use crate::{
    Backend, Batch, Element, Error, Logits, Outputs, Parameter, Reduction, Teacher, Totals, check_length,
};

/// How far a row's logits are led away from the teacher's: the row is judged as
///
/// ```text
/// guided_j = strength z_j + (1 - strength) u_j        dL/dz_j = strength dL/dguided_j
/// ```
///
/// Training under a guidance strength makes the model itself one that samples without guidance: of a strength below 1 the
/// guided row lies between both, so that the model learns to lie beyond the data where `1 / strength` is above 1. Above 1 it is
/// contrastive decoding while training.
///
/// A class that the student masks is masked. A class that the teacher alone masks is masked below a strength of 1, as it is at 1;
/// above 1 its guided logit is +infinity, and the row an [`Error::NonFinite`].
///
/// **Source.** Guidance-free training (arXiv 2501.15420), whose autoregressive code draws a strength from 0 to 1 for each sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guidance<'a> {
    /// The same for every row.
    All(f32),
    /// `[rows]`
    Each(&'a [f32]),
}

const STRENGTH: Parameter = Parameter { name: "strength", default: 1.0, min: 0.0, max: 100.0 };

impl Guidance<'_> {
    /// Checks the strengths.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a strength of all rows outside of 0 to 100; [`Error::Length`] for `strengths`, and
    /// [`Error::Input`] for one outside of it.
    pub fn check(&self, rows: usize) -> Result<(), Error> {
        match self {
            Self::All(strength) => STRENGTH.check("guidance", *strength).map(|_| ()),
            Self::Each(strengths) => {
                check_length("strengths", rows, strengths.len())?;
                let inside = |strength| (STRENGTH.min..=STRENGTH.max).contains(&strength);
                check_inputs("strengths", "0 to 100", strengths.iter().copied().enumerate(), inside)
            }
        }
    }

    /// The strength of a row.
    pub fn of_row(&self, row: usize) -> f32 {
        match self {
            Self::All(strength) => *strength,
            Self::Each(strengths) => strengths[row],
        }
    }
}

/// Any objective of guided rows in one call. Parameterised by it, so that a backend may ask more of it.
pub trait EvaluateGuided<O>: Backend {
    /// Losses, totals and, unless `logits` is [`Logits::Read`], the gradient of the student's logits,
    /// `dlogits = strength weight / denominator * dL/dguided`. A batch's map acts on the guided logits; outputs are those of the
    /// guided row.
    ///
    /// # Errors
    /// Those of [`Guidance::check`]; [`Error::Length`] for any slice; [`Error::Denominator`]; [`Error::NonFinite`] and
    /// [`Error::NoMass`], of the guided row, and [`Error::TeacherNonFinite`] as the batch asks, after all other rows are done;
    /// the backend's own.
    #[allow(clippy::too_many_arguments)]
    fn evaluate_guided<E: Element, U: Element>(
        &self,
        objective: &O,
        guidance: Guidance<'_>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        teacher: Teacher<'_, U>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Self::Error>;
}
