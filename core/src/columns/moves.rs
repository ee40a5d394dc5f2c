use super::Columns;
use crate::{Batch, Element, Error, Linear, LinearGradients, NonFinite, check_length, check_whole};

/// Reads the listed logits: `gathered [entries]`. What belongs to padding and to ignored rows becomes NaN.
///
/// # Errors
/// Those of [`Columns::check`]; [`Error::Length`] for `logits` or `gathered`.
pub fn gather<E: Element>(
    batch: &Batch<'_>,
    columns: &Columns<'_>,
    logits: &[E],
    gathered: &mut [f64],
) -> Result<(), Error> {
    check(batch, columns, logits, gathered)?;
    gathered.fill(f64::NAN);
    for (row, at) in rows(batch) {
        for (column, place) in columns.places(row) {
            gathered[place] = f64::from(logits[at + column].to_f32());
        }
    }
    Ok(())
}

/// As [`gather`], and leaves masks, -infinity, in their place: what a backend then summarises is the rest.
///
/// # Errors
/// Those of [`gather`].
pub fn take<E: Element>(
    batch: &Batch<'_>,
    columns: &Columns<'_>,
    logits: &mut [E],
    gathered: &mut [f64],
) -> Result<(), Error> {
    gather(batch, columns, logits, gathered)?;
    for (row, at) in rows(batch) {
        for (column, _) in columns.places(row) {
            logits[at + column] = E::from_f32(f32::NEG_INFINITY);
        }
    }
    Ok(())
}

/// Writes `values [entries]` in the place of the listed columns: of derivatives into `dlogits`, or of what was taken back
/// into the logits, bit for bit. Ignored rows are left as they are.
///
/// # Errors
/// Those of [`gather`].
pub fn put<E: Element>(
    batch: &Batch<'_>,
    columns: &Columns<'_>,
    logits: &mut [E],
    values: &[f64],
) -> Result<(), Error> {
    check(batch, columns, logits, values)?;
    for (row, at) in rows(batch) {
        for (column, place) in columns.places(row) {
            logits[at + column] = E::from_f32(values[place] as f32);
        }
    }
    Ok(())
}

/// The rows that take part, and where their logits start.
fn rows(batch: &Batch<'_>) -> impl Iterator<Item = (usize, usize)> {
    let stride = batch.shape().stride();
    (0..batch.shape().rows()).filter(|&row| batch.target(row).is_some()).map(move |row| (row, row * stride))
}

fn check<E>(batch: &Batch<'_>, columns: &Columns<'_>, logits: &[E], gathered: &[f64]) -> Result<(), Error> {
    columns.check(batch)?;
    check_length("logits", batch.shape().elements(), logits.len())?;
    check_length("gathered", columns.entries(), gathered.len())
}

/// The listed logits of the linear form, `hidden . weight[id] + bias[id]`, summed in `f64`: O(entries * dim), and no
/// logits are held. What belongs to padding and to ignored rows becomes NaN.
///
/// # Errors
/// [`Error::Columns`] for a shard; those of [`Columns::check`]; [`Error::Length`] for `gathered`.
pub fn gather_linear<E: Element>(
    linear: &Linear<'_, E>,
    columns: &Columns<'_>,
    gathered: &mut [f64],
) -> Result<(), Error> {
    check_whole(linear)?;
    columns.check(linear.batch())?;
    check_length("gathered", columns.entries(), gathered.len())?;
    gathered.fill(f64::NAN);
    let (dim, wide) = (linear.dim(), |e: E| f64::from(e.to_f32()));
    for (row, _) in rows(linear.batch()) {
        let hidden = &linear.hidden()[row * dim..][..dim];
        for (column, place) in columns.places(row) {
            let weight = &linear.weight()[column * dim..][..dim];
            let bias = linear.bias().map_or(0.0, |bias| wide(bias[column]));
            gathered[place] = hidden.iter().zip(weight).fold(bias, |sum, (h, w)| sum + wide(*h) * wide(*w));
        }
    }
    Ok(())
}

/// The gradients of the listed columns alone: `dhidden = d @ weight[ids]`, summed in `f64`, `dweight[ids] += d hidden` and
/// `dbias[ids] += d`. O(entries * dim), and as many zeros as `dhidden` has rows without derivatives. A row whose derivatives
/// are NaN is bad; see [`LinearGradients`].
///
/// # Errors
/// [`Error::Columns`] for a shard; those of [`Columns::check`]; [`Error::Length`] for any slice.
pub fn put_linear<E: Element, G: Element>(
    linear: &Linear<'_, E>,
    columns: &Columns<'_>,
    d_gathered: &[f64],
    gradients: LinearGradients<'_, G>,
) -> Result<(), Error> {
    check_whole(linear)?;
    columns.check(linear.batch())?;
    check_length("d_gathered", columns.entries(), d_gathered.len())?;
    gradients.check(linear)?;
    let LinearGradients { mut dhidden, mut dweight, mut dbias } = gradients;
    let (dim, batch) = (linear.dim(), linear.batch());
    let wide = |e: E| f64::from(e.to_f32());
    if let Some(dhidden) = &mut dhidden {
        dhidden.fill(G::from_f32(0.0));
    }
    for (row, _) in rows(batch) {
        let is_bad = d_gathered[columns.range(row)].iter().any(|d| d.is_nan());
        let hidden = &linear.hidden()[row * dim..][..dim];
        if let Some(dhidden) = &mut dhidden {
            for (at, into) in dhidden[row * dim..][..dim].iter_mut().enumerate() {
                let term = |(column, place): (usize, usize)| {
                    d_gathered[place] * wide(linear.weight()[column * dim + at])
                };
                let sum = if is_bad { f64::NAN } else { columns.places(row).map(term).sum() };
                *into = G::from_f32(sum as f32);
            }
        }
        if is_bad && batch.non_finite() == NonFinite::Error {
            continue;
        }
        for (column, place) in columns.places(row) {
            // A derivative of 0 adds nothing, whatever it is multiplied by.
            let d = d_gathered[place];
            if d == 0.0 {
                continue;
            }
            if let Some(dbias) = &mut dbias {
                dbias[column] += d as f32;
            }
            if let Some(dweight) = &mut dweight {
                for (into, &h) in dweight[column * dim..][..dim].iter_mut().zip(hidden) {
                    *into += (d * wide(h)) as f32;
                }
            }
        }
    }
    Ok(())
}
