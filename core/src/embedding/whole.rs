//! The whole from embeddings to their gradient, in the plainest code.

use super::{
    Pairs, SimilarityEval, SimilarityObjective, centred_columns, centred_columns_backward, evaluate,
    standard_columns, standard_columns_backward, unit_rows, unit_rows_backward,
};
use crate::math::narrow;
use crate::{Error, check_length};
use num_traits::Float;

/// Two sets of embeddings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Views<'a, T> {
    /// `[rows, dim]`.
    pub a: &'a [T],
    /// `[columns, dim]`, the columns being those of the matrix.
    pub b: &'a [T],
    /// The elements of an embedding.
    pub dim: usize,
}

/// The gradients of [`Views`], overwritten. Of one set beside itself the gradient is the sum of the two.
#[derive(Debug, PartialEq)]
pub struct ViewsGradient<'a, T> {
    /// `[rows, dim]`.
    pub da: &'a mut [T],
    /// `[columns, dim]`.
    pub db: &'a mut [T],
}

impl<T> Views<'_, T> {
    /// The rows of both.
    fn rows(&self) -> Result<(usize, usize), Error> {
        let dim = self.dim;
        if dim == 0 {
            return Err(Error::Dim { dim });
        }
        let (a, b) = (self.a.len() / dim, self.b.len() / dim);
        check_length("a", a * dim, self.a.len())?;
        check_length("b", b * dim, self.b.len())?;
        Ok((a, b))
    }

    /// The rows of both, which are the same.
    fn equal_rows(&self) -> Result<usize, Error> {
        let (rows, _) = self.rows()?;
        check_length("b", self.a.len(), self.b.len())?;
        Ok(rows)
    }
}

impl<T: Float> ViewsGradient<'_, T> {
    fn check(&self, views: Views<'_, T>) -> Result<(), Error> {
        check_length("da", views.a.len(), self.da.len())?;
        check_length("db", views.b.len(), self.db.len())
    }

    fn clear(&mut self) {
        self.da.fill(T::zero());
        self.db.fill(T::zero());
    }
}

/// `S = A B^T` of `a [rows, dim]` and `b [columns, dim]`, to `similarities [rows, columns]`.
///
/// # Errors
/// [`Error::Dim`] for a dim of 0, [`Error::Length`] for `a`, `b` or `similarities`.
pub fn similarities<T: Float>(views: Views<'_, T>, similarities: &mut [T]) -> Result<(), Error> {
    let (rows, columns) = views.rows()?;
    check_length("similarities", rows * columns, similarities.len())?;
    for (row, a) in views.a.chunks(views.dim).enumerate() {
        for (column, b) in views.b.chunks(views.dim).enumerate() {
            similarities[row * columns + column] =
                a.iter().zip(b).fold(T::zero(), |sum, (&a, &b)| sum + a * b);
        }
    }
    Ok(())
}

/// `dA = dS B` and `dB = dS^T A`, overwritten.
///
/// # Errors
/// [`Error::Dim`] for a dim of 0, [`Error::Length`] for `a`, `b`, `dsimilarities`, `da` or `db`.
pub fn similarities_backward<T: Float>(
    views: Views<'_, T>,
    dsimilarities: &[T],
    mut gradient: ViewsGradient<'_, T>,
) -> Result<(), Error> {
    let dim = views.dim;
    let (rows, columns) = views.rows()?;
    check_length("dsimilarities", rows * columns, dsimilarities.len())?;
    gradient.check(views)?;
    gradient.clear();
    for (row, (a, da)) in views.a.chunks(dim).zip(gradient.da.chunks_mut(dim)).enumerate() {
        for (column, (b, db)) in views.b.chunks(dim).zip(gradient.db.chunks_mut(dim)).enumerate() {
            let d = dsimilarities[row * columns + column];
            for k in 0..dim {
                da[k] = da[k] + d * b[k];
                db[k] = db[k] + d * a[k];
            }
        }
    }
    Ok(())
}

/// `C = A^T B / divisor` of `a` and `b [rows, dim]`, to `correlations [dim, dim]`.
///
/// # Errors
/// [`Error::Dim`] for a dim of 0, [`Error::Length`] for `a`, `b` or `correlations`.
pub fn correlations<T: Float>(views: Views<'_, T>, divisor: T, correlations: &mut [T]) -> Result<(), Error> {
    let dim = views.dim;
    views.equal_rows()?;
    check_length("correlations", dim * dim, correlations.len())?;
    correlations.fill(T::zero());
    for (a, b) in views.a.chunks(dim).zip(views.b.chunks(dim)) {
        for (&a, correlations) in a.iter().zip(correlations.chunks_mut(dim)) {
            for (&b, correlation) in b.iter().zip(correlations) {
                *correlation = *correlation + a * b / divisor;
            }
        }
    }
    Ok(())
}

/// `dA = B dC^T / divisor` and `dB = A dC / divisor`, overwritten.
///
/// # Errors
/// [`Error::Dim`] for a dim of 0, [`Error::Length`] for `a`, `b`, `dcorrelations`, `da` or `db`.
pub fn correlations_backward<T: Float>(
    views: Views<'_, T>,
    divisor: T,
    dcorrelations: &[T],
    mut gradient: ViewsGradient<'_, T>,
) -> Result<(), Error> {
    let dim = views.dim;
    views.equal_rows()?;
    check_length("dcorrelations", dim * dim, dcorrelations.len())?;
    gradient.check(views)?;
    gradient.clear();
    let gradients = gradient.da.chunks_mut(dim).zip(gradient.db.chunks_mut(dim));
    for ((a, b), (da, db)) in views.a.chunks(dim).zip(views.b.chunks(dim)).zip(gradients) {
        for k in 0..dim {
            for l in 0..dim {
                let d = dcorrelations[k * dim + l] / divisor;
                da[k] = da[k] + d * b[l];
                db[l] = db[l] + d * a[k];
            }
        }
    }
    Ok(())
}

/// The loss of the cosines of two sets of embeddings, and their gradients.
///
/// `scratch` holds `(rows + columns) * dim + 2 * rows * columns` elements.
///
/// ```
/// use tokenloss_core::embedding::{Clip, Pairs, Views, ViewsGradient, evaluate_cosine};
/// let views = Views { a: &[1.0, 0.0, 0.0, 2.0], b: &[3.0, 1.0, 0.0, 1.0], dim: 2 };
/// let (mut da, mut db, mut scratch) = ([0.0; 4], [0.0; 4], [0.0; 16]);
/// let pairs = Pairs::diagonal(2)?.with_scale(10.0)?;
/// let gradient = ViewsGradient { da: &mut da, db: &mut db };
/// let eval = evaluate_cosine(&Clip::new()?, &pairs, views, &mut scratch, gradient)?;
/// // Lengths do not count: a gradient is orthogonal to its embedding.
/// assert!(eval.loss > 0.0f64 && db[1] > 0.0 && (db[0] * 3.0 + db[1]).abs() < 1e-12);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// # Errors
/// Those of [`unit_rows`] and of [`evaluate`]; [`Error::Length`] for `a`, `b`, `scratch`, `da` or `db`.
pub fn evaluate_cosine<O: SimilarityObjective, T: Float>(
    objective: &O,
    pairs: &Pairs<'_, T>,
    views: Views<'_, T>,
    scratch: &mut [T],
    gradient: ViewsGradient<'_, T>,
) -> Result<SimilarityEval<T>, Error> {
    let Views { a, b, dim } = views;
    let (rows, columns) = views.rows()?;
    check_length("a", pairs.rows() * dim, a.len())?;
    check_length("b", pairs.columns() * dim, b.len())?;
    gradient.check(views)?;
    check_length("scratch", (rows + columns) * dim + 2 * rows * columns, scratch.len())?;
    let (unit_a, rest) = scratch.split_at_mut(rows * dim);
    let (unit_b, rest) = rest.split_at_mut(columns * dim);
    let (matrix, dmatrix) = rest.split_at_mut(rows * columns);
    unit_rows(a, dim, unit_a)?;
    unit_rows(b, dim, unit_b)?;
    let units = Views { a: unit_a, b: unit_b, dim };
    similarities(units, matrix)?;
    let eval = evaluate(objective, pairs, matrix, dmatrix)?;
    let ViewsGradient { da, db } = gradient;
    similarities_backward(units, dmatrix, ViewsGradient { da, db })?;
    unit_rows_backward(a, dim, da)?;
    unit_rows_backward(b, dim, db)?;
    Ok(eval)
}

/// The loss of the correlations of two views' features, standardised with this `eps`, and the views' gradients. The
/// pairs are the diagonal of the dim.
///
/// `scratch` holds `2 * rows * dim + 2 * dim * dim` elements.
///
/// # Errors
/// Those of [`standard_columns`] and of [`evaluate`]; [`Error::Length`] for `b`, `scratch`, `da` or `db`.
pub fn evaluate_correlation<O: SimilarityObjective, T: Float>(
    objective: &O,
    eps: T,
    views: Views<'_, T>,
    scratch: &mut [T],
    gradient: ViewsGradient<'_, T>,
) -> Result<SimilarityEval<T>, Error> {
    let Views { a, b, dim } = views;
    let rows = views.equal_rows()?;
    gradient.check(views)?;
    check_length("scratch", 2 * rows * dim + 2 * dim * dim, scratch.len())?;
    let (standard_a, rest) = scratch.split_at_mut(rows * dim);
    let (standard_b, rest) = rest.split_at_mut(rows * dim);
    let (matrix, dmatrix) = rest.split_at_mut(dim * dim);
    standard_columns(a, dim, eps, standard_a)?;
    standard_columns(b, dim, eps, standard_b)?;
    let (standard, divisor) = (Views { a: standard_a, b: standard_b, dim }, narrow::<T>(rows as f64));
    correlations(standard, divisor, matrix)?;
    let eval = evaluate(objective, &Pairs::diagonal(dim)?, matrix, dmatrix)?;
    let ViewsGradient { da, db } = gradient;
    correlations_backward(standard, divisor, dmatrix, ViewsGradient { da, db })?;
    standard_columns_backward(a, dim, eps, da)?;
    standard_columns_backward(b, dim, eps, db)?;
    Ok(eval)
}

/// The loss of the unbiased covariances of one view's features, and the view's gradient. The pairs are the diagonal of
/// the dim.
///
/// `scratch` holds `2 * rows * dim + 2 * dim * dim` elements.
///
/// # Errors
/// Those of [`centred_columns`] and of [`evaluate`]; [`Error::Length`] for `scratch` or `gradient`.
pub fn evaluate_covariance<O: SimilarityObjective, T: Float>(
    objective: &O,
    embeddings: &[T],
    dim: usize,
    scratch: &mut [T],
    gradient: &mut [T],
) -> Result<SimilarityEval<T>, Error> {
    if dim == 0 {
        return Err(Error::Dim { dim });
    }
    let rows = embeddings.len() / dim;
    check_length("embeddings", rows * dim, embeddings.len())?;
    check_length("gradient", embeddings.len(), gradient.len())?;
    check_length("scratch", 2 * rows * dim + 2 * dim * dim, scratch.len())?;
    let (centred, rest) = scratch.split_at_mut(rows * dim);
    let (other, rest) = rest.split_at_mut(rows * dim);
    let (matrix, dmatrix) = rest.split_at_mut(dim * dim);
    centred_columns(embeddings, dim, centred)?;
    let (views, divisor) = (Views { a: centred, b: centred, dim }, narrow::<T>((rows - 1) as f64));
    correlations(views, divisor, matrix)?;
    let eval = evaluate(objective, &Pairs::diagonal(dim)?, matrix, dmatrix)?;
    correlations_backward(views, divisor, dmatrix, ViewsGradient { da: gradient, db: other })?;
    gradient.iter_mut().zip(&*other).for_each(|(d, &other)| *d = *d + other);
    centred_columns_backward(dim, gradient)?;
    Ok(eval)
}
