//! Two rows of the same vocabulary: the student's, which is trained, and the teacher's.

use crate::divergence::{Distillation, Divergence, EntrySums};
use crate::{
    Backend, Batch, Element, Error, Judged, Linear, LinearBackend, LinearGradients, LinearOptions, Logits,
    Outputs, Reduction, RowObjective, RowSummary, RowVerdict, Shape, Totals, check_length, check_whole,
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
        check_shapes(student, self.shape)
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

/// Where the teacher's logits come from, for a student whose own are never held.
///
/// ```
/// use tokenloss_core::{Batch, Error, Linear, Shape, TeacherRows};
///
/// let (targets, shape) = ([2], Shape::new(1, 3)?);
/// let batch = Batch::new(shape, &targets)?;
/// // A wider hidden state than the student's; the targets are not looked at.
/// let (hidden, weight) = ([1.0f32, 0.5, -0.5], [0.1f32; 3 * 3]);
/// let teacher = TeacherRows::Linear(Linear::new(batch, 3, &hidden, &weight)?);
/// assert_eq!(teacher.check(shape), Ok(()));
/// let other = Err(Error::Length { what: "teacher rows", expected: 2, got: 1 });
/// assert_eq!(teacher.check(Shape::new(2, 3)?), other);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub enum TeacherRows<'a, U> {
    /// They are given.
    Logits(Teacher<'a, U>),
    /// `hidden @ weight^T + bias`, with a `dim` of their own. Of the batch only rows and vocabulary count: which rows are
    /// ignored is the student's batch's to say.
    Linear(Linear<'a, U>),
}

impl<U: Element> TeacherRows<'_, U> {
    /// Checks rows and vocabulary against the student's.
    ///
    /// # Errors
    /// [`Error::Length`] for `teacher rows` or `teacher vocab`; for a linear form [`Error::Columns`] if it is a shard, and
    /// [`Error::Map`] if its batch has a map.
    pub fn check(&self, student: Shape) -> Result<(), Error> {
        match self {
            Self::Logits(teacher) => teacher.check(student),
            Self::Linear(linear) => {
                check_shapes(student, linear.batch().shape())?;
                check_whole(linear)?;
                check_unmapped(linear.batch())
            }
        }
    }
}

fn check_shapes(student: Shape, teacher: Shape) -> Result<(), Error> {
    check_length("teacher rows", student.rows(), teacher.rows())?;
    check_length("teacher vocab", student.vocab(), teacher.vocab())
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

    /// An upper bound of `sum_j |dL/dz_j|` times `scale`, by `absolute = sum_j |pull_j|`. Of a forward divergence alone it is
    /// exact.
    pub fn norm_bound(&self, scale: f64, absolute: f64) -> f64 {
        let of_objective = self.judged.partials.scaled(scale).norm_bound(&self.judged.summary);
        // The probabilities that the sum of the pulls is multiplied by add up to 1.
        of_objective + (self.factor * scale).abs() * (absolute + self.sums.pull.abs())
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

/// The same without the student's logits, which are `hidden @ weight^T + bias`, and without the teacher's where these are, too:
/// neither is ever held as a whole. Where the budget holds whole rows of both, logits are computed once, and else, where a
/// gradient is wanted, three times: for both normalisers, for the divergence, for the gradient.
pub trait EvaluateLinearPair<O, D>: LinearBackend {
    /// Losses, totals and the gradients that are wanted, of `weight / denominator * L` with
    /// `L = objective_weight * objective + lambda T^2 D`; see [`Distillation`]. The teacher has no gradient. Rows that the
    /// objective's threshold drops keep their divergence. A [`Kept`](crate::Denominator::Kept) denominator with a gradient
    /// computes the logits of live rows once more.
    ///
    /// The budget counts what is held for both: hidden states, logits, and the teacher's logits where they are given, a part
    /// at a time. A row is bad, as [`NonFinite`](crate::NonFinite) has it, if either row is, and if its divergence is infinite;
    /// [`LinearGradients`] says what becomes of its gradients. The row tolerance compares with [`PairVerdict::norm_bound`].
    ///
    /// # Errors
    /// [`Error::Columns`] for a shard; [`Error::Map`]; [`Error::Length`] for any slice, `teacher rows` and `teacher vocab`;
    /// [`Error::Denominator`]; [`Error::Budget`]; those of [`LinearOptions::check`];
    /// [`Error::NonFinite`](crate::Error::NonFinite), [`Error::NoMass`], [`Error::TeacherNonFinite`], [`Error::TeacherNoMass`]
    /// and [`Error::Support`] as the student's batch asks, after all other rows are done; the backend's own.
    #[allow(clippy::too_many_arguments)]
    fn evaluate_linear_pair<E: Element, U: Element, G: Element>(
        &self,
        objective: &O,
        distillation: &Distillation<D>,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        teacher: &TeacherRows<'_, U>,
        options: &LinearOptions,
        gradients: LinearGradients<'_, G>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, Self::Error>;
}
