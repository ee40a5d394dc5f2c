//! Sets of rows that are judged as one: their logits are summed, and each member gets the gradient of the sum.
//!
//! ```text
//! z = sum_i z_i        L = f(z)        dL/dz_i = dL/dz   for every member i
//! ```
//!
//! With nll of the class that most members have, this is odd-k-out learning (OKO, Muttenthaler et al. 2024, arXiv 2307.02245);
//! any other objective, a soft target or a second head's odd class works alike. Two functions stand around any pass:
//! [`sum_rows`] before it and [`share_rows`] after it.
//!
//! Without logits it is the same with hidden states, since a head is linear: the head of the summed hidden states is the sum
//! of the members' logits. Only its bias counts once for each member. With sets of `n` rows each, give the pass `n` times the
//! bias and multiply the `dbias` that comes out by `n`; `dweight` is right as it is, and `dhidden` goes through
//! [`share_rows`].
//!
//! ```
//! use tokenloss_core::{Segments, sets};
//!
//! let logits = [1.0f32, 0.0, 2.0, -1.0, 0.5, 0.25];
//! let sets = Segments::new(&[0, 2, 3], 3)?;
//! let mut sums = [0.0f32; 4];
//! sets::sum_rows(sets, 2, &logits, &mut sums)?;
//! assert_eq!(sums, [3.0, -1.0, 0.5, 0.25]);
//! // .. a pass over two rows, which gives dsums ..
//! let dsums = [-0.25f32, 0.25, -0.5, 0.5];
//! let mut dlogits = [0.0f32; 6];
//! sets::share_rows(sets, 2, &dsums, &mut dlogits)?;
//! assert_eq!(dlogits, [-0.25, 0.25, -0.25, 0.25, -0.5, 0.5]);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

use crate::{Element, Error, Segments, check_length};

/// The sum of the rows of each set: `rows [rows, width]` into `sums [sets, width]`, overwritten. Sums are taken in `f64` and
/// rounded once.
///
/// A mask in one member is a mask of the set; what is not finite is so in the sum.
///
/// # Errors
/// [`Error::Length`] for either slice; [`Error::TooLarge`] if its length overflows.
pub fn sum_rows<E: Element, F: Element>(
    sets: Segments<'_>,
    width: usize,
    rows: &[E],
    sums: &mut [F],
) -> Result<(), Error> {
    check_length("rows", elements(sets.elements(), width)?, rows.len())?;
    check_length("sums", elements(sets.count(), width)?, sums.len())?;
    for (index, set) in sets.iter().enumerate() {
        let members = &rows[set.start * width..set.end * width];
        for (at, sum) in sums[index * width..][..width].iter_mut().enumerate() {
            let of_members = members[at..].iter().step_by(width).map(|z| f64::from(z.to_f32()));
            *sum = F::from_f32(of_members.sum::<f64>() as f32);
        }
    }
    Ok(())
}

/// The gradient of each set's sum for each of its rows: `dsums [sets, width]` into `drows [rows, width]`, overwritten.
///
/// # Errors
/// Those of [`sum_rows`].
pub fn share_rows<E: Element, F: Element>(
    sets: Segments<'_>,
    width: usize,
    dsums: &[E],
    drows: &mut [F],
) -> Result<(), Error> {
    check_length("dsums", elements(sets.count(), width)?, dsums.len())?;
    check_length("drows", elements(sets.elements(), width)?, drows.len())?;
    for (index, set) in sets.iter().enumerate() {
        let dsum = &dsums[index * width..][..width];
        for drow in drows[set.start * width..set.end * width].chunks_exact_mut(width.max(1)) {
            drow.iter_mut().zip(dsum).for_each(|(into, d)| *into = F::from_f32(d.to_f32()));
        }
    }
    Ok(())
}

fn elements(rows: usize, width: usize) -> Result<usize, Error> {
    rows.checked_mul(width).ok_or(Error::TooLarge { rows, stride: width })
}
