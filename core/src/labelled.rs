//! A label for every class of every row.

use crate::error::check_inputs;
use crate::{Backend, Batch, Element, Error, Logits, Reduction, Shape, Totals, check_length};

/// Labels `[rows, stride]`, in a storage type of their own, and a weight for each class. They are read only.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a, U> {
    shape: Shape,
    labels: &'a [U],
    class_weights: Option<&'a [f32]>,
}

impl<'a, U: Element> Labels<'a, U> {
    /// The shape's stride may differ from that of the logits, its rows and its vocabulary may not.
    ///
    /// # Errors
    /// [`Error::Length`] for `labels`.
    pub fn new(shape: Shape, labels: &'a [U]) -> Result<Self, Error> {
        check_length("labels", shape.elements(), labels.len())?;
        Ok(Self { shape, labels, class_weights: None })
    }

    /// What each class counts, `[vocab]`, in every row.
    ///
    /// # Errors
    /// [`Error::Length`] for `class_weights`; [`Error::Input`] for one that is negative, infinite or NaN.
    pub fn with_class_weights(self, class_weights: &'a [f32]) -> Result<Self, Error> {
        check_length("class_weights", self.shape.vocab(), class_weights.len())?;
        let weights = class_weights.iter().copied().enumerate();
        check_inputs("class_weights", "a finite number of at least 0", weights, |weight| {
            weight >= 0.0 && weight.is_finite()
        })?;
        Ok(Self { class_weights: Some(class_weights), ..self })
    }

    /// Checks rows and vocabulary against those of the logits.
    ///
    /// # Errors
    /// [`Error::Length`] for `label rows` or `label vocab`.
    pub fn check(&self, logits: Shape) -> Result<(), Error> {
        check_length("label rows", logits.rows(), self.shape.rows())?;
        check_length("label vocab", logits.vocab(), self.shape.vocab())
    }

    /// One row, without its padding.
    pub fn row(&self, row: usize) -> &'a [U] {
        &self.labels[row * self.shape.stride()..][..self.shape.vocab()]
    }

    /// The weights of the classes `[vocab]`, if there are any.
    pub fn class_weights(&self) -> Option<&'a [f32]> {
        self.class_weights
    }
}

/// A [`LabelObjective`](crate::label::LabelObjective) of every row in one call. Parameterised by it, so that a backend may ask
/// more of it.
pub trait EvaluateLabels<O>: Backend {
    /// Losses `[rows]`, totals and, unless `logits` is [`Logits::Read`], the gradient `dlogits = weight / denominator * dL/dz`.
    ///
    /// The batch's targets say which rows take part and nothing else: all but [`IGNORE_INDEX`](crate::IGNORE_INDEX) do. Every row
    /// that does is kept.
    ///
    /// # Errors
    /// [`Error::Length`] for any slice; [`Error::Map`] for a batch with a map; [`Error::Denominator`];
    /// [`Error::NonFinite`](crate::Error::NonFinite), [`Error::Label`] and, over the softmax, [`Error::NoMass`] as the batch asks, after
    /// all other rows are done; the backend's own.
    fn evaluate_labels<E: Element, U: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        labels: Labels<'_, U>,
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, Self::Error>;
}
