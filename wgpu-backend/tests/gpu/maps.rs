//! What logits are taken for.

use crate::agreement::check;
use crate::data::Matrix;
use crate::machine::gpus;
use crate::run::{PLACES, Setup, run};
use tokenloss_core::{
    Batch, ClassMask, Composite, Dtype, Evaluate, LogitMap, Logits, Nll, Outputs, Reduction, Shape,
};

const VOCAB: usize = 259;

/// Scales, margins and masks for the rows of a matrix; no target is masked.
pub(crate) struct Own {
    scales: Vec<f32>,
    margins: Vec<f32>,
    per_row: Vec<u32>,
    shared: Vec<u32>,
}

impl Own {
    pub(crate) fn of(matrix: &Matrix) -> Self {
        let words = matrix.vocab.div_ceil(32);
        let mut per_row: Vec<u32> =
            (0..matrix.rows() * words).map(|i| 0x9e37_79b9u32.wrapping_mul(i as u32 | 1)).collect();
        let mut shared: Vec<u32> = (0..words).map(|i| 0x5851_f42du32.wrapping_mul(i as u32 | 1)).collect();
        for (row, target) in matrix.targets.iter().enumerate().filter(|(_, target)| **target >= 0) {
            let (word, bit) = (*target as usize / 32, 1 << (target % 32));
            per_row[row * words + word] |= bit;
            shared[word] |= bit;
        }
        Self {
            scales: (0..matrix.rows()).map(|row| 0.25 + 0.25 * (row % 5) as f32).collect(),
            margins: (0..matrix.rows()).map(|row| 0.5 * (row % 4) as f32 - 0.5).collect(),
            per_row,
            shared,
        }
    }

    pub(crate) fn maps(&self) -> Vec<LogitMap<'_>> {
        let plain = LogitMap::default();
        let (softcap, stable_max) = (LogitMap::softcap(30.0).unwrap(), LogitMap::stable_max());
        let mut maps = vec![plain, softcap, stable_max, LogitMap::softcap(0.5).unwrap()];
        for link in [plain, softcap, stable_max] {
            maps.push(link.with_scale(0.125).unwrap().with_margin(0.75).unwrap());
            maps.push(link.with_scales(&self.scales).unwrap());
            maps.push(link.with_margins(&self.margins).unwrap());
            maps.push(link.with_mask(ClassMask::shared(&self.shared)).with_scale(3.0).unwrap());
            let own = link.with_scales(&self.scales).unwrap().with_margins(&self.margins).unwrap();
            maps.push(own.with_mask(ClassMask::per_row(&self.per_row)));
        }
        maps
    }
}

/// A matrix whose rows are all within what a map and f32 can hold.
pub(crate) fn matrix(dtype: Dtype, vocab: usize) -> Matrix {
    let mut matrix = Matrix::mixture(dtype, vocab, 31);
    if dtype == Dtype::F32 {
        // The row with differences that overflow.
        let rows = matrix.rows() - 1;
        matrix.targets.truncate(rows);
        matrix.logits.truncate(rows * vocab);
    }
    matrix
}

#[test]
fn every_map_of_every_type() {
    let objectives =
        ["nll", "power:alpha=0.5 + entropy:lambda=-0.1", "label_smoothing + logit_l2:lambda=0.01 + deft"];
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            let matrix = matrix(dtype, VOCAB);
            let own = Own::of(&matrix);
            for (i, map) in own.maps().into_iter().enumerate() {
                // A type changes how logits are read, and nothing of what is made of them.
                if dtype != Dtype::F32 && i % 4 != 0 {
                    continue;
                }
                let objective = Composite::parse(objectives[i % 3]).unwrap();
                let place = PLACES[(i + i / 3) % 3];
                let setup =
                    Setup { place, map: Some(map), offsets: [1, 2, 3, 4], ..Setup::new(&matrix, &objective) };
                let what = format!("{map:?} {dtype} {place:?} {objective} {}", gpu.kernels().variant());
                check(&what, &objective, &setup, &run(gpu, &setup));
            }
        }
    }
}

/// On host slices in slices of rows, each with what is its own.
#[test]
fn rows_of_a_slice_keep_their_own_map() {
    for gpu in gpus() {
        let matrix = matrix(Dtype::F32, VOCAB);
        let own = Own::of(&matrix);
        let batch = Batch::new(Shape::new(matrix.rows(), VOCAB).unwrap(), &matrix.targets).unwrap();
        for map in own.maps() {
            let setup = Setup { map: Some(map), ..Setup::new(&matrix, &Nll) };
            let done = run(gpu, &setup);
            let mut dlogits = vec![f32::NAN; matrix.logits.len()];
            let out = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits };
            let batch = batch.with_map(map).unwrap();
            gpu.evaluate(&Nll, Reduction::Sum, &batch, out, Outputs::default()).unwrap();
            assert!(dlogits == done.dlogits, "{map:?}");
        }
    }
}
