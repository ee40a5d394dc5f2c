//! Numbers that every rank makes for itself, the same on all, of its own columns only.

use std::ops::Range;
use tokenloss::{Batch, Element, Error, IGNORE_INDEX, Linear, Shape};

/// What a problem is made from.
#[derive(Clone, Copy)]
pub struct Size {
    pub rows: usize,
    pub dim: usize,
    pub vocab: usize,
}

/// Hidden states, and some columns of a head.
pub struct Problem<E> {
    size: Size,
    columns: Range<usize>,
    pub hidden: Vec<E>,
    weight: Vec<E>,
    bias: Vec<E>,
    targets: Vec<i32>,
    weights: Vec<f32>,
}

/// Uniform between -1 and 1, a function of the place.
fn noise(seed: u64, place: usize) -> f32 {
    let mut z = (place as u64).wrapping_add(seed << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ z >> 31) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

impl<E: Element> Problem<E> {
    /// Logits have a standard deviation of about 2; every eighth row is sure of its target, and the seven before it are ever
    /// less so.
    pub fn new(size: Size, columns: Range<usize>) -> Self {
        let Size { rows, dim, vocab } = size;
        let weight = |place: usize| 6.0 / (dim as f32).sqrt() * noise(2, place);
        let target = |row: usize| row.wrapping_mul(0x9e37_79b1) % vocab;
        let hidden = |place: usize| {
            let (row, k) = (place / dim, place % dim);
            let sure = 2.5 * (row % 8) as f32 / 7.0;
            noise(1, place) + sure * weight(target(row) * dim + k)
        };
        let all =
            |range: Range<usize>, of: &dyn Fn(usize) -> f32| range.map(|at| E::from_f32(of(at))).collect();
        Self {
            size,
            hidden: all(0..rows * dim, &hidden),
            weight: all(columns.start * dim..columns.end * dim, &weight),
            bias: all(columns.clone(), &|column| noise(3, column)),
            targets: (0..rows)
                .map(|row| if row % 11 == 10 { IGNORE_INDEX } else { target(row) as i32 })
                .collect(),
            weights: (0..rows).map(|row| noise(4, row) + 1.0).collect(),
            columns,
        }
    }

    pub fn linear(&self) -> Result<Linear<'_, E>, Error> {
        let Size { rows, dim, vocab } = self.size;
        let batch = Batch::new(Shape::new(rows, vocab)?, &self.targets)?.with_weights(&self.weights)?;
        Linear::shard(batch, dim, &self.hidden, &self.weight, self.columns.clone())?.with_bias(&self.bias)
    }
}
