//! Logits of every kind that has its own way of going wrong.

use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{Dtype, Element, IGNORE_INDEX};

/// A matrix in the values of its storage type, rows one after the other.
#[derive(Clone)]
pub(crate) struct Matrix {
    pub(crate) dtype: Dtype,
    pub(crate) vocab: usize,
    pub(crate) logits: Vec<f32>,
    pub(crate) targets: Vec<i32>,
}

/// A small generator whose numbers never change.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub(crate) fn between(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * (self.next() % (1 << 24)) as f32 / (1 << 24) as f32
    }
}

/// The nearest value of the storage type.
pub(crate) fn rounded(dtype: Dtype, x: f32) -> f32 {
    match dtype {
        Dtype::F32 => x,
        Dtype::F16 => f16::from_f32(x).to_f32(),
        Dtype::Bf16 => bf16::from_f32(x).to_f32(),
    }
}

impl Matrix {
    pub(crate) fn rows(&self) -> usize {
        self.targets.len()
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.logits[row * self.vocab..][..self.vocab]
    }

    pub(crate) fn new(dtype: Dtype, vocab: usize) -> Self {
        Self { dtype, vocab, logits: Vec::new(), targets: Vec::new() }
    }

    pub(crate) fn push(&mut self, target: i32, logit: impl FnMut(usize) -> f32) {
        let dtype = self.dtype;
        self.logits.extend((0..self.vocab).map(logit).map(|z| rounded(dtype, z)));
        self.targets.push(target);
    }

    /// Uniform noise only.
    pub(crate) fn uniform(dtype: Dtype, rows: usize, vocab: usize, seed: u64) -> Self {
        let (mut matrix, mut random) = (Self::new(dtype, vocab), Random(seed | 1));
        for _ in 0..rows {
            let target = random.below(vocab) as i32;
            matrix.push(target, |_| random.between(-10.0, 10.0));
        }
        matrix
    }

    /// A row for every way of going wrong that still has a finite answer.
    pub(crate) fn mixture(dtype: Dtype, vocab: usize, seed: u64) -> Self {
        let mut matrix = Self::new(dtype, vocab);
        let mut random = Random(seed | 1);
        let mut last = || random.below(vocab);
        // Confident rows: the target ahead of all others by a margin, and behind one of them by it.
        for margin in [0.0, 0.5, 2.0, 8.0, 15.0, 17.0, 30.0, 44.0, 60.0, 80.0] {
            let (target, other) = (last(), last());
            matrix.push(target as i32, |j| if j == target { margin } else { 0.0 });
            if other != target {
                matrix.push(target as i32, |j| if j == other { margin } else { 0.0 });
            }
        }
        let mut noise = Random(seed.wrapping_add(77) | 1);
        for (lo, hi) in [(-1.0, 1.0), (-20.0, 20.0), (-3.0, 0.0), (90.0, 100.0), (-60.0, -50.0)] {
            let target = noise.below(vocab);
            matrix.push(target as i32, |_| noise.between(lo, hi));
            // The same with the target at both ends of the row, where edges of loads are.
            matrix.push(0, |_| noise.between(lo, hi));
            matrix.push(vocab as i32 - 1, |_| noise.between(lo, hi));
        }
        let target = noise.below(vocab);
        matrix.push(target as i32, |_| 7.25);
        matrix.push(IGNORE_INDEX, |_| noise.between(-5.0, 5.0));
        // Every third column masked, but not the target.
        matrix.push(target as i32, |j| {
            if j != target && j % 3 == 0 { f32::NEG_INFINITY } else { noise.between(-5.0, 5.0) }
        });
        // Nothing but the target.
        matrix.push(target as i32, |j| if j == target { 1.5 } else { f32::NEG_INFINITY });
        // A difference that overflows.
        if dtype == Dtype::F32 {
            matrix.push(target as i32, |j| if j == target { 3e38 } else { -3e38 });
        }
        matrix
    }
}

/// As the words of a buffer, rows `stride` elements apart, padding filled with `filler` words.
pub(crate) fn to_words<E: Element>(matrix: &Matrix, stride: usize, filler: u32) -> Vec<u32> {
    let half = |e: E| match E::DTYPE {
        Dtype::F32 => e.to_f32().to_bits(),
        Dtype::F16 => f16::from_f32(e.to_f32()).to_bits().into(),
        Dtype::Bf16 => bf16::from_f32(e.to_f32()).to_bits().into(),
    };
    let per_word = 4 / E::DTYPE.bytes();
    let mut words = vec![filler; (matrix.rows() * stride).div_ceil(per_word)];
    for row in 0..matrix.rows() {
        for (column, z) in matrix.row(row).iter().enumerate() {
            let at = row * stride + column;
            let bits = half(E::from_f32(*z));
            if per_word == 1 {
                words[at] = bits;
            } else {
                let shift = 16 * (at % 2);
                words[at / 2] = words[at / 2] & !(0xffff << shift) | bits << shift;
            }
        }
    }
    words
}

/// The element at an index.
pub(crate) fn element(dtype: Dtype, words: &[u32], at: usize) -> f32 {
    let half = |at: usize| (words[at / 2] >> (16 * (at % 2))) as u16;
    match dtype {
        Dtype::F32 => f32::from_bits(words[at]),
        Dtype::F16 => f16::from_bits(half(at)).to_f32(),
        Dtype::Bf16 => bf16::from_bits(half(at)).to_f32(),
    }
}
