//! The rows of a batch, spread over threads.

use crate::gradient::Row;
use crate::simd::Lanes;
use rayon::prelude::*;
use tokenloss_core::{Logits, Shape};

/// Logits that are worth a task of their own.
const TASK: usize = 16 << 10;

/// Reads every row, or writes it where a gradient goes; without padding, in parallel. Results are in row order.
pub(crate) fn each_row<L: Lanes, R: Send>(
    shape: Shape,
    logits: &mut Logits<'_, L>,
    read: impl Fn(usize, &[L]) -> R + Sync,
    write: impl Fn(usize, Row<'_, L>) -> R + Sync,
) -> Vec<R> {
    let (stride, vocab) = (shape.stride(), shape.vocab());
    let least = (TASK / vocab).max(1);
    match logits {
        Logits::Read(logits) => (logits.par_chunks(stride).enumerate().with_min_len(least))
            .map(|(row, z)| read(row, &z[..vocab]))
            .collect(),
        Logits::OutOfPlace { logits, dlogits } => (dlogits.par_chunks_mut(stride).enumerate())
            .with_min_len(least)
            .map(|(row, out)| {
                write(row, Row::Into(&logits[row * stride..row * stride + vocab], &mut out[..vocab]))
            })
            .collect(),
        Logits::InPlace(logits) => (logits.par_chunks_mut(stride).enumerate().with_min_len(least))
            .map(|(row, z)| write(row, Row::InPlace(&mut z[..vocab])))
            .collect(),
    }
}
