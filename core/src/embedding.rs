//! Objectives of embeddings: what contrastive, two-view and metric heads are trained with.
//!
//! All of them are functions of a matrix: of the similarities of two sets of embeddings, of the correlations of two
//! views' features, or of one view's covariances. [`Pairs`] says which of its cells belong together, and a
//! [`SimilarityObjective`] turns the matrix into a loss and the gradient of every cell. The products that make the
//! matrix, and those that take its gradient back to embeddings, are where the time goes, and belong to the caller's own
//! GEMM:
//!
//! ```text
//! similarities    S = A B^T            dA = dS B            dB = dS^T A          A, B [rows, dim] unit rows
//! correlations    C = A^T B / rows     dA = B dC^T / rows   dB = A dC / rows     A, B [rows, dim] standard columns
//! ```
//!
//! [`unit_rows`], [`standard_columns`] and [`centred_columns`] with their backward forms are what comes before and after
//! them. For small heads, and as the plainest form of the whole, [`evaluate_cosine`], [`evaluate_correlation`] and
//! [`evaluate_covariance`] go from embeddings to their gradient.
//!
//! ```
//! use tokenloss_core::embedding::{InfoNce, Pairs, evaluate};
//!
//! // Two images and two texts, a temperature of 0.1.
//! let pairs = Pairs::diagonal(2)?.with_scale(10.0)?;
//! let mut dsimilarities = [0.0f32; 4];
//! let eval = evaluate(&InfoNce::new()?, &pairs, &[0.9, 0.1, 0.2, 0.7], &mut dsimilarities)?;
//! assert!(eval.loss < 0.01 && dsimilarities[0] < 0.0 && dsimilarities[1] > 0.0 && eval.d_scale < 0.0);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

use crate::math::{narrow, wide};
use crate::{Error, check_length};
use num_traits::Float;

mod features;
mod pairs;
mod softmax;
mod whole;
pub use features::{
    centred_columns, centred_columns_backward, standard_columns, standard_columns_backward, unit_rows,
    unit_rows_backward,
};
pub use pairs::{Pairs, Relation};
pub use whole::{
    Views, ViewsGradient, correlations, correlations_backward, evaluate_correlation, evaluate_cosine,
    evaluate_covariance, similarities, similarities_backward,
};

macro_rules! declare_embeddings {
    ($($line:tt)*) => { listed! { "embedding" $($line)* } };
}
for_each_objective!(embeddings, declare_embeddings);

/// A cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell<T> {
    /// How its row and its column belong together.
    pub relation: Relation,
    /// `scale * similarity + bias - log_q`.
    pub logit: T,
}

/// The matrix as an objective sees it.
#[derive(Debug, Clone, Copy)]
pub struct Similarities<'a, T> {
    pairs: &'a Pairs<'a, T>,
    values: &'a [T],
}

impl<T: Float> Similarities<'_, T> {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.pairs.rows()
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.pairs.columns()
    }

    /// A cell, by its place `row * columns + column` in the matrix. A similarity of -infinity is a mask.
    pub fn cell(&self, place: usize) -> Cell<T> {
        let (row, column) = (place / self.columns(), place % self.columns());
        let similarity = self.values[place];
        let masked = similarity == T::neg_infinity();
        let relation = if masked { Relation::Excluded } else { self.pairs.relation(row, column) };
        Cell { relation, logit: self.pairs.logit(similarity, column) }
    }

    /// The places of a row's cells.
    pub fn row(&self, row: usize) -> impl Iterator<Item = usize> + Clone + use<T> {
        row * self.columns()..(row + 1) * self.columns()
    }

    /// The places of a column's cells.
    pub fn column(&self, column: usize) -> impl Iterator<Item = usize> + Clone + use<T> {
        (column..self.rows() * self.columns()).step_by(self.columns())
    }

    /// The places of all cells that take part.
    pub fn places(&self) -> impl Iterator<Item = (usize, Cell<T>)> {
        let cells = (0..self.rows() * self.columns()).map(|place| (place, self.cell(place)));
        cells.filter(|(_, cell)| cell.relation != Relation::Excluded)
    }
}

/// What an objective makes of a matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimilarityEval<T> {
    /// The loss, a mean already.
    pub loss: T,
    /// What the mean is over: rows, pairs or features, as the objective's documentation says. What has no positive, or
    /// takes no part for another reason, is not among them.
    pub count: usize,
    /// The derivative by the scale: that by its logarithm, which is usually what is learned, is `scale` times this.
    pub d_scale: T,
    /// The derivative by the bias.
    pub d_bias: T,
}

/// A function of a matrix of logits, and its gradient.
pub trait SimilarityObjective {
    /// The least number of columns for which there is something to learn.
    const LEAST_COLUMNS: usize = 2;

    /// The loss, as a mean, and what the mean is over. The gradient of every logit that takes part is added to
    /// `dlogits [rows, columns]`; the others are left alone.
    ///
    /// # Errors
    /// As the objective's documentation says.
    fn of_similarities<T: Float>(
        &self,
        similarities: &Similarities<'_, T>,
        dlogits: &mut [T],
    ) -> Result<(T, usize), Error>;

    /// The logits at which the loss or its gradient is not smooth.
    fn kinks(&self) -> [Option<f32>; 2] {
        [None, None]
    }
}

/// The loss of `similarities [rows, columns]`, and their gradient in `dsimilarities [rows, columns]`, overwritten.
///
/// # Errors
/// * [`Error::TooFew`] for fewer columns than there is something to learn from, and for a matrix none of whose rows
///   has a positive, where the objective asks for one.
/// * [`Error::Length`] for `similarities` or `dsimilarities`.
/// * [`Error::Input`] for a similarity that is NaN or +infinity, or lies outside of what the objective is defined for,
///   and for a logit that overflows.
pub fn evaluate<O: SimilarityObjective, T: Float>(
    objective: &O,
    pairs: &Pairs<'_, T>,
    similarities: &[T],
    dsimilarities: &mut [T],
) -> Result<SimilarityEval<T>, Error> {
    let cells = pairs.rows() * pairs.columns();
    check_length("similarities", cells, similarities.len())?;
    check_length("dsimilarities", cells, dsimilarities.len())?;
    if pairs.columns() < O::LEAST_COLUMNS {
        return Err(Error::TooFew {
            what: "columns",
            index: 0,
            needed: O::LEAST_COLUMNS,
            got: pairs.columns(),
        });
    }
    let expected = "a finite number or -inf";
    for (index, &similarity) in similarities.iter().enumerate() {
        if similarity.is_nan() || similarity == T::infinity() {
            return Err(Error::Input { what: "similarities", index, value: wide(similarity), expected });
        }
        let logit = pairs.logit(similarity, index % pairs.columns());
        if similarity.is_finite() && !logit.is_finite() {
            return Err(Error::Input { what: "logits", index, value: wide(logit), expected });
        }
    }
    dsimilarities.fill(T::zero());
    let matrix = Similarities { pairs, values: similarities };
    let (loss, count) = objective.of_similarities(&matrix, dsimilarities)?;
    let (mut d_scale, mut d_bias) = (0.0, 0.0);
    for (d, &similarity) in dsimilarities.iter_mut().zip(similarities) {
        // What takes no part has no gradient, and may be -infinity.
        if *d != T::zero() {
            d_bias += wide(*d);
            d_scale += wide(*d) * wide(similarity);
            *d = *d * pairs.scale();
        }
    }
    Ok(SimilarityEval { loss, count, d_scale: narrow(d_scale), d_bias: narrow(d_bias) })
}
