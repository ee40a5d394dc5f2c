//! What comes before and after the products: rows of length 1, columns of mean 0 and of variance 1.

use crate::math::{narrow, wide};
use crate::{Error, check_length};
use num_traits::Float;

/// The rows of `embeddings [rows, dim]`, checked.
fn rows<T: Float>(embeddings: &[T], dim: usize, needed: usize) -> Result<usize, Error> {
    if dim == 0 {
        return Err(Error::Dim { dim });
    }
    let rows = embeddings.len() / dim;
    check_length("embeddings", rows * dim, embeddings.len())?;
    if rows < needed {
        return Err(Error::TooFew { what: "embeddings", index: 0, needed, got: rows });
    }
    match embeddings.iter().position(|value| !value.is_finite()) {
        None => Ok(rows),
        Some(index) => {
            let (value, expected) = (wide(embeddings[index]), "a finite number");
            Err(Error::Input { what: "embeddings", index, value, expected })
        }
    }
}

/// The length of a row, without forming squares that overflow or underflow.
fn length<T: Float>(row: &[T]) -> T {
    let greatest = row.iter().fold(T::zero(), |greatest, x| greatest.max(x.abs()));
    if greatest == T::zero() {
        return greatest;
    }
    greatest * row.iter().fold(T::zero(), |sum, &x| sum + (x / greatest) * (x / greatest)).sqrt()
}

/// Writes each row of `embeddings [rows, dim]`, divided by its length, to `units`: inner products are cosines then.
///
/// # Errors
/// [`Error::Dim`] for a dim of 0, [`Error::TooFew`] for no rows, [`Error::Length`] for `embeddings` or `units`,
/// [`Error::Input`] for an element that is not finite and for a row whose length is 0 or overflows, by the place of
/// its first element.
pub fn unit_rows<T: Float>(embeddings: &[T], dim: usize, units: &mut [T]) -> Result<(), Error> {
    rows(embeddings, dim, 1)?;
    check_length("units", embeddings.len(), units.len())?;
    for (row, (embedding, unit)) in embeddings.chunks(dim).zip(units.chunks_mut(dim)).enumerate() {
        let length = length(embedding);
        if !(length > T::zero() && length.is_finite()) {
            let (value, expected) = (wide(length), "a row of a finite length above 0");
            return Err(Error::Input { what: "embeddings", index: row * dim, value, expected });
        }
        unit.iter_mut().zip(embedding).for_each(|(unit, &x)| *unit = x / length);
    }
    Ok(())
}

/// The gradient of `embeddings` from that of their units, which it overwrites:
/// `dx = (du - u (u . du)) / |x|`.
///
/// # Errors
/// As [`unit_rows`], `gradient` in place of `units`.
pub fn unit_rows_backward<T: Float>(embeddings: &[T], dim: usize, gradient: &mut [T]) -> Result<(), Error> {
    rows(embeddings, dim, 1)?;
    check_length("gradient", embeddings.len(), gradient.len())?;
    for (row, (embedding, gradient)) in embeddings.chunks(dim).zip(gradient.chunks_mut(dim)).enumerate() {
        let length = length(embedding);
        if !(length > T::zero() && length.is_finite()) {
            let (value, expected) = (wide(length), "a row of a finite length above 0");
            return Err(Error::Input { what: "embeddings", index: row * dim, value, expected });
        }
        let along = embedding.iter().zip(&*gradient).fold(T::zero(), |sum, (&x, &d)| sum + (x / length) * d);
        for (d, &x) in gradient.iter_mut().zip(embedding) {
            *d = (*d - (x / length) * along) / length;
        }
    }
    Ok(())
}

/// The mean of a column.
fn mean<T: Float>(values: &[T], dim: usize, column: usize) -> T {
    let column = values.iter().skip(column).step_by(dim);
    narrow(column.map(|&x| wide(x)).sum::<f64>() / (values.len() / dim) as f64)
}

/// Writes `embeddings [rows, dim]` less the mean of their column to `centred`.
///
/// # Errors
/// As [`unit_rows`], but for the length of rows; [`Error::TooFew`] for fewer than two rows.
pub fn centred_columns<T: Float>(embeddings: &[T], dim: usize, centred: &mut [T]) -> Result<(), Error> {
    rows(embeddings, dim, 2)?;
    check_length("centred", embeddings.len(), centred.len())?;
    for column in 0..dim {
        let mean = mean(embeddings, dim, column);
        for place in (column..embeddings.len()).step_by(dim) {
            centred[place] = embeddings[place] - mean;
        }
    }
    Ok(())
}

/// The gradient of embeddings from that of their centred form, which it overwrites: `dx = dc - mean(dc)`.
///
/// # Errors
/// As [`centred_columns`], of `gradient` itself.
pub fn centred_columns_backward<T: Float>(dim: usize, gradient: &mut [T]) -> Result<(), Error> {
    rows(gradient, dim, 2)?;
    for column in 0..dim {
        let mean = mean(gradient, dim, column);
        for place in (column..gradient.len()).step_by(dim) {
            gradient[place] = gradient[place] - mean;
        }
    }
    Ok(())
}

/// A column's mean and the inverse of its standard deviation.
fn moments<T: Float>(embeddings: &[T], dim: usize, column: usize, eps: T) -> Result<(T, T), Error> {
    let mean = mean(embeddings, dim, column);
    let squares: f64 =
        embeddings.iter().skip(column).step_by(dim).map(|&x| wide((x - mean) * (x - mean))).sum();
    let variance = narrow::<T>(squares / (embeddings.len() / dim) as f64) + eps;
    if variance > T::zero() && variance.is_finite() {
        return Ok((mean, T::one() / variance.sqrt()));
    }
    let (value, expected) = (wide(variance), "a column whose variance plus eps is finite and above 0");
    Err(Error::Input { what: "embeddings", index: column, value, expected })
}

/// Writes `embeddings [rows, dim]` less the mean of their column and over its standard deviation to `standard`: a batch
/// norm without affine parameters.
///
/// ```text
/// standard = (x - mean) / sqrt(variance + eps)        variance = mean((x - mean)^2), biased
/// ```
///
/// # Errors
/// As [`centred_columns`]; [`Error::Input`] for an `eps` that is negative or not finite, and for a column whose variance
/// is 0 where `eps` is, by the place of its first element.
pub fn standard_columns<T: Float>(
    embeddings: &[T],
    dim: usize,
    eps: T,
    standard: &mut [T],
) -> Result<(), Error> {
    rows(embeddings, dim, 2)?;
    check_length("standard", embeddings.len(), standard.len())?;
    check_eps(eps)?;
    for column in 0..dim {
        let (mean, inverse) = moments(embeddings, dim, column, eps)?;
        for place in (column..embeddings.len()).step_by(dim) {
            standard[place] = (embeddings[place] - mean) * inverse;
        }
    }
    Ok(())
}

fn check_eps<T: Float>(eps: T) -> Result<(), Error> {
    if eps >= T::zero() && eps.is_finite() {
        return Ok(());
    }
    let (value, expected) = (wide(eps), "a finite number of at least 0");
    Err(Error::Input { what: "eps", index: 0, value, expected })
}

/// The gradient of `embeddings` from that of their standard form, which it overwrites. The mean and the variance depend
/// on every row:
///
/// ```text
/// dx = (ds - mean(ds) - s mean(s ds)) / sqrt(variance + eps)
/// ```
///
/// # Errors
/// As [`standard_columns`], `gradient` in place of `standard`.
pub fn standard_columns_backward<T: Float>(
    embeddings: &[T],
    dim: usize,
    eps: T,
    gradient: &mut [T],
) -> Result<(), Error> {
    let rows = rows(embeddings, dim, 2)?;
    check_length("gradient", embeddings.len(), gradient.len())?;
    check_eps(eps)?;
    for column in 0..dim {
        let (mean_x, inverse) = moments(embeddings, dim, column, eps)?;
        let mean_d = mean(gradient, dim, column);
        let places = || (column..embeddings.len()).step_by(dim);
        let standard = |place: usize| (embeddings[place] - mean_x) * inverse;
        let along: f64 = places().map(|place| wide(standard(place) * gradient[place])).sum();
        let along = narrow::<T>(along / rows as f64);
        for place in places() {
            gradient[place] = (gradient[place] - mean_d - standard(place) * along) * inverse;
        }
    }
    Ok(())
}
