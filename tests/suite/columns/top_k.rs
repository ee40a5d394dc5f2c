//! The greatest columns of a row, against a sort.

use crate::inputs::{self, Matrix, Stream};
use crate::linear::inputs::Case;
use tokenloss::columns::{ColumnBackend, Columns};
use tokenloss::cpu::Cpu;
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Batch, Budget, ClassMask, Element, IGNORE_INDEX, LinearOptions, LogitMap, NonFinite, Shape, reference,
};

/// Greatest first, the first of equals first, and padding.
fn sorted(z: &[f64], k: usize) -> Vec<(i32, f64)> {
    let mut all: Vec<_> = (0..z.len()).filter(|&j| z[j] > f64::NEG_INFINITY).collect();
    all.sort_by(|&a, &b| z[b].total_cmp(&z[a]).then(a.cmp(&b)));
    let padding = std::iter::repeat((IGNORE_INDEX, f64::NEG_INFINITY));
    all.into_iter().map(|j| (j as i32, z[j])).chain(padding).take(k).collect()
}

fn dense<E: Element>() {
    for (vocab, k) in [(37, 1), (37, 5), (37, 50), (4099, 20)] {
        let mut matrix = Matrix::<E>::new(&inputs::rows(vocab, 5), 3);
        let rows = matrix.targets.len();
        matrix.targets[2] = IGNORE_INDEX;
        // Many that are equal.
        let mut s = Stream::new(9);
        (0..vocab).for_each(|j| matrix.logits[j] = E::from_f32((8.0 * s.uniform()).floor()));
        let shape =
            Shape::new(rows, vocab).and_then(|shape| shape.with_stride(matrix.stride)).expect("a shape");
        let batch = Batch::new(shape, &matrix.targets).expect("a batch");
        let (mut ids, mut top) = (vec![7; rows * k], vec![7.0; rows * k]);
        Cpu::new().top_k(&batch, &matrix.logits, k, &mut ids, &mut top).expect("finite");
        for row in 0..rows {
            let got = ids[row * k..].iter().copied().zip(top[row * k..].iter().map(|z| f64::from(*z)));
            let want = if row == 2 { sorted(&[], k) } else { sorted(&matrix.row(row), k) };
            assert_eq!(got.take(k).collect::<Vec<_>>(), want, "{}, {k} of {vocab}", matrix.what[row]);
        }
        assert!(Columns::new(shape, k, &ids).is_ok());
    }
}

#[test]
fn of_logits() {
    dense::<f32>();
    dense::<f16>();
    dense::<bf16>();
}

#[test]
fn of_mapped_logits() {
    let matrix = Matrix::<f32>::new(&inputs::rows(37, 5), 0);
    let rows = matrix.targets.len();
    let mut words = [u32::MAX; 2];
    let free = (0..37).find(|j| !matrix.targets.contains(j)).expect("a class that is no target");
    words[free as usize / 32] &= !(1 << (free % 32));
    let map = LogitMap::softcap(5.0).and_then(|map| map.with_margin(0.5)).expect("a map");
    let map = map.with_mask(ClassMask::shared(&words));
    let batch = Batch::new(Shape::new(rows, 37).expect("a shape"), &matrix.targets).expect("a batch");
    let batch = batch.with_map(map).expect("a map");
    let (mut ids, mut top) = (vec![7; rows * 37], vec![7.0; rows * 37]);
    Cpu::new().top_k(&batch, &matrix.logits, 37, &mut ids, &mut top).expect("finite");
    for row in 0..rows {
        let (map, target) = (batch.row_map(row).expect("a map"), matrix.targets[row] as usize);
        let z: Vec<_> = (0..37).map(|j| f64::from(map.of(matrix.logits[row * 37 + j], j, target))).collect();
        let got = ids[row * 37..].iter().copied().zip(top[row * 37..].iter().map(|z| f64::from(*z)));
        assert_eq!(got.take(37).collect::<Vec<_>>(), sorted(&z, 37), "{}", matrix.what[row]);
        assert!(!ids[row * 37..][..37].contains(&free));
    }
}

#[test]
fn of_hidden_states() {
    let case = Case::<bf16>::new(1100, 17, true, 3);
    let (linear, rows, k) = (case.linear(), case.rows(), 20);
    let of = |chunk_rows, chunk_vocab, threads| {
        let options = LinearOptions { chunk_rows, chunk_vocab, ..LinearOptions::default() };
        let (mut ids, mut top) = (vec![7; rows * k], vec![7.0; rows * k]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| Cpu::new().top_k_linear(&linear, &options, k, &mut ids, &mut top)).expect("finite");
        (ids, top)
    };
    let (ids, top) = of(None, None, 1);
    for (chunk_rows, chunk_vocab) in
        [(None, None), (Some(3), None), (Some(3), Some(100)), (Some(1), Some(1030))]
    {
        for threads in [1, 2, 5] {
            let again = of(chunk_rows, chunk_vocab, threads);
            if chunk_rows.is_none() {
                assert_eq!((&again.0, &again.1), (&ids, &top), "{threads} threads");
            }
            for row in 0..rows {
                let (ids, top) = (&again.0[row * k..][..k], &again.1[row * k..][..k]);
                if linear.batch().target(row).is_none() {
                    assert!(ids.iter().all(|id| *id == IGNORE_INDEX));
                    continue;
                }
                let mut z = vec![0.0f64; 1100];
                reference::logits_of_row(&linear, row, &mut z);
                let off = crate::linear::truth::of_logits(&case, row);
                assert!(top.is_sorted_by(|a, b| a >= b));
                for (&id, &top) in ids.iter().zip(top) {
                    assert!((z[id as usize] - f64::from(top)).abs() <= off, "{}", case.what[row]);
                }
                // Whoever is not among them is not greater.
                let least = f64::from(top[k - 1]);
                let above = (0..1100).filter(|j| z[*j] > least + off && !ids.contains(&(*j as i32)));
                assert_eq!(above.count(), 0, "{}", case.what[row]);
            }
        }
    }
}

#[test]
fn bad_input() {
    let targets = [0, 1, IGNORE_INDEX];
    let batch = Batch::new(Shape::new(3, 4).expect("a shape"), &targets).expect("a batch");
    let mut logits = [0.0f32; 12];
    let of = |batch: &Batch<'_>, logits: &[f32], k, ids: usize, top: usize| {
        let (mut ids, mut top) = (vec![7; ids], vec![7.0; top]);
        let result = Cpu::new().top_k(batch, logits, k, &mut ids, &mut top);
        (result.map_err(|error| error.to_string()), ids, top)
    };
    let says =
        |got: (Result<(), String>, Vec<i32>, Vec<f32>), text: &str| assert_eq!(got.0, Err(text.to_owned()));
    says(of(&batch, &logits, 0, 0, 0), "top_k: number 0 has 0 members, expected at least 1");
    says(of(&batch, &logits, 2, 5, 6), "ids: expected 6 values, got 5");
    says(of(&batch, &logits, 2, 6, 7), "top: expected 6 values, got 7");
    says(of(&batch, &logits[1..], 2, 6, 6), "logits: expected 12 values, got 11");
    for bad in [f32::NAN, f32::INFINITY] {
        logits[4 + 3] = bad;
        // That of an ignored row is not read.
        logits[8] = f32::NAN;
        let got = of(&batch, &logits, 2, 6, 6);
        assert!(
            got.1[2..4] == [IGNORE_INDEX; 2]
                && got.2[2..4].iter().all(|z| z.is_nan())
                && got.1[..2] == [0, 1]
        );
        says(got, &format!("logits: row 1, column 3 is {bad}, expected a finite number or -inf"));
        let got = of(&batch.with_non_finite(NonFinite::NanRow), &logits, 2, 6, 6);
        assert!(got.0.is_ok() && got.2[2..4].iter().all(|z| z.is_nan()));
    }
    let case = Case::<f32>::new(5, 3, false, 1);
    let options = LinearOptions { budget: Budget(100), ..LinearOptions::default() };
    let (mut ids, mut top) = (vec![7; case.rows()], vec![7.0; case.rows()]);
    let error =
        Cpu::new().top_k_linear(&case.linear(), &options, 1, &mut ids, &mut top).expect_err("a budget");
    assert!(error.to_string().starts_with("budget: 100 bytes hold not even one row"), "{error}");
    let error = Cpu::new().top_k_linear(&case.shard(0..3), &LinearOptions::default(), 1, &mut ids, &mut top);
    let want = "columns: 0..3 is empty, or not what a vocab of 5 asks for";
    assert_eq!(error.expect_err("a shard").to_string(), want);
}
