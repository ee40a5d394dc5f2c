//! Two rows of the same vocabulary: the student's, which is trained, and the teacher's.

use crate::divergence::{Distillation, Divergence, EntrySums};
use crate::{
    Backend, Batch, Element, Error, Judged, Logits, Outputs, Reduction, RowObjective, RowSummary, RowVerdict,
    Shape, Totals, check_length,
};

/// The teacher's logits `[rows, stride]`, in a storage type of their own. They are read only.
#[derive(Debug, Clone, Copy)]
pub struct Teacher<'a, U> {
    shape: Shape,
    logits: &'a [U],
}

impl<'a, U: Element> Teacher<'a, U> {
    /// The shape's stride may differ from the student's, its rows and its vocabulary may not.
    ///
    /// # Errors
    /// [`Error::Length`] for `teacher`.
    pub fn new(shape: Shape, logits: &'a [U]) -> Result<Self, Error> {
        check_length("teacher", shape.elements(), logits.len())?;
        Ok(Self { shape, logits })
    }

    /// Checks rows and vocabulary against the student's.
    ///
    /// # Errors
    /// [`Error::Length`] for `teacher rows` or `teacher vocab`.
    pub fn check(&self, student: Shape) -> Result<(), Error> {
        check_length("teacher rows", student.rows(), self.shape.rows())?;
        check_length("teacher vocab", student.vocab(), self.shape.vocab())
    }

    /// The logits, padding included.
    pub fn logits(&self) -> &'a [U] {
        self.logits
    }

    /// One row, without its padding.
    pub fn row(&self, row: usize) -> &'a [U] {
        &self.logits[row * self.shape.stride()..][..self.shape.vocab()]
    }
}

/// A batch whose logits are taken for themselves, or [`Error::Map`]: temperature, caps and masks of a [`LogitMap`](crate::LogitMap)
/// are not those of a divergence.
///
/// # Errors
/// [`Error::Map`] for a batch with a map.
pub fn check_unmapped(batch: &Batch<'_>) -> Result<(), Error> {
    batch.map().map_or(Ok(()), |_| Err(Error::Map))
}

/// What else the same pass returns.
///
/// A row's loss is all of it, objective and divergence; `log_p`, `lse`, `entropy`, `argmax` and diagnostics are those of the
/// student at temperature 1.
#[derive(Debug, Default)]
pub struct PairOutputs<'a> {
    /// What any pass over logits returns.
    pub outputs: Outputs<'a>,
    /// The divergence `[rows]`, before its factor, weight and reduction; 0 for an ignored row.
    pub divergences: Option<&'a mut [f32]>,
}

impl PairOutputs<'_> {
    /// Checks every slice that is there against the number of rows.
    ///
    /// # Errors
    /// [`Error::Length`], naming the output.
    pub fn check(&self, rows: usize) -> Result<(), Error> {
        self.outputs.check(rows)?;
        self.divergences.as_ref().map_or(Ok(()), |out| check_length("divergences", rows, out.len()))
    }

    /// Writes what was asked for, of all rows in order.
    pub fn write(self, verdicts: &[PairVerdict]) {
        self.outputs.write(verdicts.iter().map(|verdict| &verdict.judged));
        if let Some(divergences) = self.divergences {
            for (out, verdict) in divergences.iter_mut().zip(verdicts) {
                *out = verdict.sums.value as f32;
            }
        }
    }
}

/// What is known of a pair of rows once it is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairVerdict {
    /// The student's row, with the loss of all that there is, and with the objective's partials.
    pub judged: Judged,
    /// The sums over classes; 0 for an ignored row, NaN for a bad one.
    pub sums: EntrySums<f64>,
    /// What `pull_j - p_j sum_k pull_k` is multiplied by in a logit's gradient: the factor of the distillation times the row's weight, but
    /// not by the denominator.
    pub factor: f64,
}

impl PairVerdict {
    /// A row that takes no part.
    pub fn ignored() -> Self {
        Self { judged: Judged::ignored(), sums: EntrySums::default(), factor: 0.0 }
    }

    /// A row without faults.
    pub fn of<O: RowObjective, D: Divergence>(
        objective: &O,
        distillation: &Distillation<D>,
        weight: f32,
        summary: RowSummary<f64>,
        sums: EntrySums<f64>,
    ) -> Self {
        let share = f64::from(distillation.objective_weight());
        let mut judged = Judged::of(objective, weight, summary);
        judged.partials = judged.partials.scaled(share);
        let objective = if share == 0.0 { 0.0 } else { share * judged.loss };
        judged.loss = objective + distillation.factor() * sums.value;
        let factor = if weight == 0.0 { 0.0 } else { distillation.gradient_factor() * f64::from(weight) };
        Self { judged, sums, factor }
    }

    /// A row of which something is NaN or infinite.
    pub fn bad<O: RowObjective>(objective: &O) -> Self {
        let nan = f64::NAN;
        Self { judged: Judged::bad(objective), sums: EntrySums { value: nan, pull: nan }, factor: nan }
    }

    /// Whether the row has a gradient.
    pub fn is_live(&self) -> bool {
        let same = self.sums == EntrySums::default();
        let least = f64::from(f32::MIN_POSITIVE);
        let pulls = self.factor.is_nan() || (!same && self.factor.abs() >= least);
        pulls || self.judged.partials.is_live()
    }

    /// What the totals need of it.
    pub fn verdict(&self) -> RowVerdict {
        RowVerdict { live: self.is_live(), ..self.judged.verdict() }
    }
}

/// All of a pair of rows in one call: summaries of both, an objective of the student's row, a divergence of the two, and the
/// gradient of the student's logits. Parameterised by both, so that a backend may ask more of them.
pub trait EvaluatePair<O, D>: Backend {
    /// Losses, totals and, unless `logits` is [`Logits::Read`], the gradient `dlogits = weight / denominator * dL/dz` of
    /// `L = objective_weight * objective + lambda T^2 D`; see [`Distillation`]. Rows that the objective's threshold drops keep their
    /// divergence.
    ///
    /// A row is bad, as [`NonFinite`](crate::NonFinite) has it, if either row is, and if its divergence is infinite.
    ///
    /// # Errors
    /// [`Error::Length`] for any slice; [`Error::Map`]; [`Error::Denominator`]; [`Error::NonFinite`](crate::Error::NonFinite), [`Error::NoMass`],
    /// [`Error::TeacherNonFinite`], [`Error::TeacherNoMass`] and [`Error::Support`] as the batch asks, after all other rows are
    /// done; the backend's own.
    #[allow(clippy::too_many_arguments)]
    fn evaluate_pair<E: Element, U: Element>(
        &self,
        objective: &O,
        distillation: &Distillation<D>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        teacher: Teacher<'_, U>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, Self::Error>;
}
