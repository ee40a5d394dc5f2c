//! The greatest columns of a row, against a sort.

use crate::inputs::{self, Matrix, Stream};
use crate::linear::inputs::Case;
use crate::runner::Runner;
use tokenloss::columns::Columns;
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Batch, Budget, ClassMask, Element, IGNORE_INDEX, LinearOptions, LogitMap, NonFinite, Shape, reference,
};

/// Greatest first, the first of equals first, and padding.
fn sorted(z: &[f64], k: usize) -> Vec<(i32, f64)> {
    let mut all: Vec<_> = (0..z.len()).filter(|&j| z[j] > f64::NEG_INFINITY).collect();
    all.sort_by(|&a, &b| z[b].partial_cmp(&z[a]).expect("numbers").then(a.cmp(&b)));
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
        for on in Runner::all() {
            let (mut ids, mut top) = (vec![7; rows * k], vec![7.0; rows * k]);
            on.top_k(&batch, &matrix.logits, k, &mut ids, &mut top).expect("finite");
            for row in 0..rows {
                let got = ids[row * k..].iter().copied().zip(top[row * k..].iter().map(|z| f64::from(*z)));
                let want = if row == 2 { sorted(&[], k) } else { sorted(&matrix.row(row), k) };
                let got: Vec<_> = got.take(k).collect();
                assert_eq!(got, want, "{on}, {}, {k} of {vocab}", matrix.what[row]);
                // Equal zeros may differ in their sign.
                let listed = ids[row * k..][..k].iter().zip(&top[row * k..]).filter(|(id, _)| **id >= 0);
                for (id, top) in listed {
                    let z = matrix.logits[row * matrix.stride + *id as usize].to_f32();
                    assert_eq!(top.to_bits(), z.to_bits(), "{on}, {}, column {id}", matrix.what[row]);
                }
            }
            assert!(Columns::new(shape, k, &ids).is_ok());
        }
    }
}

#[test]
fn of_logits() {
    dense::<f32>();
    dense::<f16>();
    dense::<bf16>();
}

/// Zeros of either sign are equal, and subnormals are not.
#[test]
fn of_numbers_around_zero() {
    let least = f32::from_bits(1);
    let logits = [-0.0, 0.0, -least, least, 2.0 * least, -1.0, f32::MIN, f32::NEG_INFINITY, 0.0, f32::MAX];
    let batch = Batch::new(Shape::new(1, 10).expect("a shape"), &[0]).expect("a batch");
    for on in Runner::all() {
        let (mut ids, mut top) = ([7; 10], [7.0f32; 10]);
        on.top_k(&batch, &logits, 10, &mut ids, &mut top).expect("finite");
        assert_eq!(ids, [9, 4, 3, 0, 1, 8, 2, 5, 6, IGNORE_INDEX], "{on}");
        let bits = ids[..9].iter().map(|id| logits[*id as usize].to_bits());
        assert!(
            bits.eq(top[..9].iter().map(|z| z.to_bits())) && top[9] == f32::NEG_INFINITY,
            "{on}: {top:?}"
        );
    }
}

#[test]
fn of_mapped_logits() {
    let matrix = Matrix::<f32>::new(&inputs::rows(37, 5), 0);
    let rows = matrix.targets.len();
    let mut words = [u32::MAX; 2];
    let free = (0..37).find(|j| !matrix.targets.contains(j)).expect("a class that is no target");
    words[free as usize / 32] &= !(1 << (free % 32));
    // Values of a link are the backend's own; all else is a subtraction and a product.
    let scaled = LogitMap::default().with_scale(0.75).expect("a map");
    let capped = LogitMap::softcap(5.0).expect("a map");
    let stable = LogitMap::stable_max().with_scale(1.5).expect("a map");
    for (map, exact) in [(scaled, true), (capped, false), (stable, false)] {
        let map = map.with_margin(0.5).expect("a map").with_mask(ClassMask::shared(&words));
        let batch = Batch::new(Shape::new(rows, 37).expect("a shape"), &matrix.targets).expect("a batch");
        let batch = batch.with_map(map).expect("a map");
        for on in Runner::all() {
            let (mut ids, mut top) = (vec![7; rows * 37], vec![7.0; rows * 37]);
            on.top_k(&batch, &matrix.logits, 37, &mut ids, &mut top).expect("finite");
            for row in 0..rows {
                let at = || format!("{on}, {}", matrix.what[row]);
                let (map, target) = (batch.row_map(row).expect("a map"), matrix.targets[row] as usize);
                let raw = &matrix.logits[row * 37..][..37];
                let (ids, top) = (&ids[row * 37..][..37], &top[row * 37..][..37]);
                assert!(!ids.contains(&free), "{}", at());
                if exact || matches!(on, Runner::Cpu(_)) {
                    let z: Vec<_> = (0..37).map(|j| f64::from(map.of(raw[j], j, target))).collect();
                    let got: Vec<_> = ids.iter().copied().zip(top.iter().map(|z| f64::from(*z))).collect();
                    assert_eq!(got, sorted(&z, 37), "{}", at());
                    continue;
                }
                let z: Vec<_> = (0..37).map(|j| map.of(f64::from(raw[j]), j, target)).collect();
                let listed = z.iter().filter(|z| **z > f64::NEG_INFINITY).count();
                assert!(ids[listed..].iter().all(|id| *id == IGNORE_INDEX), "{}", at());
                assert!(top.is_sorted_by(|a, b| a >= b), "{}", at());
                assert!(Columns::new(Shape::new(1, 37).expect("a shape"), 37, ids).is_ok(), "{}", at());
                for (&id, &top) in ids.iter().zip(top).take(listed) {
                    // An exponential or a logarithm and a few roundings, of a number of at most 5 here, or 12.
                    let off = 16.0 * f64::from(f32::EPSILON) * 12.0;
                    assert!((z[id as usize] - f64::from(top)).abs() <= off, "{}, column {id}", at());
                }
            }
        }
    }
}

#[test]
fn of_hidden_states() {
    let case = Case::<bf16>::new(1100, 17, true, 3);
    let (linear, rows, k) = (case.linear(), case.rows(), 20);
    for on in Runner::all() {
        let of = |chunk_rows, chunk_vocab, threads| {
            let options = LinearOptions { chunk_rows, chunk_vocab, ..LinearOptions::default() };
            let (mut ids, mut top) = (vec![7; rows * k], vec![7.0; rows * k]);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| on.top_k_linear(&linear, &options, k, &mut ids, &mut top)).expect("finite");
            (ids, top)
        };
        let (ids, top) = of(None, None, 1);
        for (chunk_rows, chunk_vocab) in
            [(None, None), (Some(3), None), (Some(3), Some(100)), (Some(1), Some(1030))]
        {
            for threads in [1, 2, 5] {
                let again = of(chunk_rows, chunk_vocab, threads);
                if chunk_rows.is_none() {
                    assert_eq!((&again.0, &again.1), (&ids, &top), "{on}, {threads} threads");
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
                        assert!((z[id as usize] - f64::from(top)).abs() <= off, "{on}, {}", case.what[row]);
                    }
                    // Whoever is not among them is not greater.
                    let least = f64::from(top[k - 1]);
                    let above = (0..1100).filter(|j| z[*j] > least + off && !ids.contains(&(*j as i32)));
                    assert_eq!(above.count(), 0, "{on}, {}", case.what[row]);
                }
            }
        }
    }
}

#[test]
fn bad_input() {
    Runner::all().iter().for_each(refused);
}

fn refused(on: &Runner) {
    let targets = [0, 1, IGNORE_INDEX];
    let batch = Batch::new(Shape::new(3, 4).expect("a shape"), &targets).expect("a batch");
    let mut logits = [0.0f32; 12];
    let of = |batch: &Batch<'_>, logits: &[f32], k, ids: usize, top: usize| {
        let (mut ids, mut top) = (vec![7; ids], vec![7.0; top]);
        let result = on.top_k(batch, logits, k, &mut ids, &mut top);
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
    let options = LinearOptions { budget: Budget(10), ..LinearOptions::default() };
    let (mut ids, mut top) = (vec![7; case.rows()], vec![7.0; case.rows()]);
    let error = on.top_k_linear(&case.linear(), &options, 1, &mut ids, &mut top).expect_err("a budget");
    assert!(error.to_string().starts_with("budget: 10 bytes hold not even one row"), "{error}");
    let error = on.top_k_linear(&case.shard(0..3), &LinearOptions::default(), 1, &mut ids, &mut top);
    let want = "columns: 0..3 is empty, or not what a vocab of 5 asks for";
    assert_eq!(error.expect_err("a shard").to_string(), want);
}
