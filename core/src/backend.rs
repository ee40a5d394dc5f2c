//! What a backend does.

use crate::{
    Batch, Detail, Diagnostics, Element, Error, Judged, Reduction, RowPartials, RowSummary, Shape, Totals,
    check_length,
};
use half::{bf16, f16};

/// Where logits are read and where their gradient goes. All slices hold `shape.elements()` elements.
#[derive(Debug)]
pub enum Logits<'a, E> {
    /// No gradient: forward only.
    Read(&'a [E]),
    /// The gradient goes to another slice of the same shape and stride. Padding is left as it was.
    OutOfPlace {
        /// The logits `[rows, stride]`.
        logits: &'a [E],
        /// Their gradient `[rows, stride]`.
        dlogits: &'a mut [E],
    },
    /// The gradient overwrites the logits.
    InPlace(&'a mut [E]),
}

impl<E> Logits<'_, E> {
    /// Checks every slice against the shape.
    ///
    /// # Errors
    /// [`Error::Length`] for `logits` or `dlogits`.
    pub fn check(&self, shape: Shape) -> Result<(), Error> {
        match self {
            Self::Read(logits) => check_length("logits", shape.elements(), logits.len()),
            Self::InPlace(logits) => check_length("logits", shape.elements(), logits.len()),
            Self::OutOfPlace { logits, dlogits } => {
                check_length("logits", shape.elements(), logits.len())?;
                check_length("dlogits", shape.elements(), dlogits.len())
            }
        }
    }

    /// The logits themselves.
    pub fn logits(&self) -> &[E] {
        match self {
            Self::Read(logits) | Self::OutOfPlace { logits, .. } => logits,
            Self::InPlace(logits) => logits,
        }
    }

    /// Whether a gradient is wanted.
    pub fn has_gradient(&self) -> bool {
        !matches!(self, Self::Read(_))
    }
}

/// [`Logits`] with the storage type as a value: how a backend gets from a generic element to code written for
/// one type, without a cast.
#[derive(Debug)]
pub enum AnyLogits<'a> {
    /// Of `f32`.
    F32(Logits<'a, f32>),
    /// Of `f16`.
    F16(Logits<'a, f16>),
    /// Of `bf16`.
    Bf16(Logits<'a, bf16>),
}

/// What else the same pass returns, each `[rows]` and optional.
///
/// An ignored row has loss 0, `log_p`, `lse` and `entropy` NaN (they were not computed) and `argmax` -1.
#[derive(Debug, Default)]
pub struct Outputs<'a> {
    /// The objective's value, before weight and reduction.
    pub losses: Option<&'a mut [f32]>,
    /// The target's log-probability, nats.
    pub log_p: Option<&'a mut [f32]>,
    /// The log-sum-exp.
    pub lse: Option<&'a mut [f32]>,
    /// The entropy, nats.
    pub entropy: Option<&'a mut [f32]>,
    /// The class with the greatest logit, the first of equals. Its equality with the target is accuracy.
    pub argmax: Option<&'a mut [i32]>,
    /// Where the batch lies on the continuum; overwritten.
    pub diagnostics: Option<&'a mut Diagnostics>,
}

impl Outputs<'_> {
    /// Checks every slice that is there against the number of rows.
    ///
    /// # Errors
    /// [`Error::Length`], naming the output.
    pub fn check(&self, rows: usize) -> Result<(), Error> {
        for (what, output) in
            [("losses", &self.losses), ("log_p", &self.log_p), ("lse", &self.lse), ("entropy", &self.entropy)]
        {
            if let Some(output) = output {
                check_length(what, rows, output.len())?;
            }
        }
        self.argmax.as_ref().map_or(Ok(()), |argmax| check_length("argmax", rows, argmax.len()))
    }

    /// The statistics that what was asked for is made of.
    pub fn detail(&self) -> Detail {
        if self.entropy.is_some() { Detail::Entropy } else { Detail::Target }
    }

    /// Writes what was asked for, of all rows in order.
    pub fn write<'j>(self, judged: impl IntoIterator<Item = &'j Judged> + Clone) {
        fn write<'j, T>(
            output: Option<&mut [T]>,
            judged: &(impl IntoIterator<Item = &'j Judged> + Clone),
            of: impl Fn(&Judged) -> T,
        ) {
            if let Some(output) = output {
                output.iter_mut().zip(judged.clone()).for_each(|(out, judged)| *out = of(judged));
            }
        }
        write(self.losses, &judged, |judged| judged.loss as f32);
        write(self.log_p, &judged, |judged| judged.summary.target.log_p as f32);
        write(self.lse, &judged, |judged| judged.summary.stats.lse() as f32);
        write(self.entropy, &judged, |judged| judged.summary.stats.entropy() as f32);
        // `u32::MAX`, no column, becomes -1.
        write(self.argmax, &judged, |judged| judged.summary.stats.argmax as i32);
        if let Some(diagnostics) = self.diagnostics {
            *diagnostics = Diagnostics::default();
            judged.into_iter().for_each(|judged| diagnostics.add(&judged.summary, &judged.partials));
        }
    }
}

/// The two moves over the vocabulary, which know no objective.
///
/// With [`RowObjective::of_row`](crate::RowObjective::of_row) between them, on the host, they serve any
/// objective that must see the whole batch before it can judge a row.
pub trait Backend {
    /// The backend's own error, which includes this crate's.
    type Error: From<Error> + core::error::Error;

    /// `logits [rows, stride] -> summaries [rows]`. Ignored rows get [`RowSummary::nan`].
    ///
    /// # Errors
    /// [`Error::Length`] for `logits` or `summaries`; [`Error::NonFinite`] and [`Error::NoMass`] as the batch
    /// asks; the backend's own.
    fn summarise<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        summaries: &mut [RowSummary<f64>],
    ) -> Result<(), Self::Error>;

    /// `logits, summaries [rows], partials [rows] -> dlogits`. Partials are used as they are: multiply them by
    /// weights and scale first. Ignored rows get gradient 0 whatever their partials.
    ///
    /// # Errors
    /// [`Error::Length`] for any of the slices; the backend's own.
    fn push_back<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        summaries: &[RowSummary<f64>],
        partials: &[RowPartials<f64>],
    ) -> Result<(), Self::Error>;
}

/// All three moves in one pass over the logits. Parameterised by the objective, so that a backend may ask more
/// of it: a GPU asks for its WGSL twin.
pub trait Evaluate<O>: Backend {
    /// Losses, totals and, unless `logits` is [`Logits::Read`], the gradient
    /// `dlogits = weight / denominator * dL/dz`.
    ///
    /// # Errors
    /// [`Error::Length`] for any slice; [`Error::Denominator`]; [`Error::NonFinite`] and [`Error::NoMass`] as
    /// the batch asks, after all other rows are done; the backend's own.
    fn evaluate<E: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Self::Error>;
}
