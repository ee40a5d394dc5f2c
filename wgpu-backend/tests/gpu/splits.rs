//! Batches larger than a binding, a dispatch, a fold.

use crate::agreement::{check, oracle};
use crate::data::Matrix;
use crate::machine::{baseline, gpus, low_limits, open};
use crate::run::{Place, Setup, run};
use tokenloss_core::{
    Batch, Denominator, Dtype, Evaluate, Logits, Nll, NonFinite, Outputs, Power, Reduction, Shape,
    Thresholded,
};
use tokenloss_wgpu::{Gpu, Request, Second, Variant, wgpu};

fn low() -> Option<Gpu> {
    open(Some(Variant::Baseline), Some(low_limits())).map(Result::unwrap)
}

#[test]
fn more_rows_than_groups_in_one_dimension() {
    let objective = Power::new(2.0).unwrap();
    for gpu in gpus() {
        let matrix = Matrix::uniform(Dtype::F32, 65_536 + 7, 3, 5);
        let setup = Setup {
            stride: 3,
            reduction: Reduction::Mean(Denominator::Valid),
            ..Setup::new(&matrix, &objective)
        };
        check("fold", &objective, &setup, &run(gpu, &setup));
    }
}

#[test]
fn more_logits_than_a_binding() {
    let Some(gpu) = low() else { return };
    let objective = Thresholded::new(Nll, 1e-4, 1.0).unwrap();
    for dtype in Dtype::ALL {
        // 1.5 MB to 3 MB over bindings of 1 MiB, and rows that start nowhere near an alignment.
        let matrix = Matrix::uniform(dtype, 750, 1001, 5);
        for denominator in [Denominator::Valid, Denominator::Kept] {
            for (place, offsets) in [(Place::Into, [0; 4]), (Place::Over, [3, 0, 1, 1])] {
                let reduction = Reduction::Mean(denominator);
                let setup =
                    Setup { stride: 1002, place, offsets, reduction, ..Setup::new(&matrix, &objective) };
                check(&format!("{dtype} {denominator:?}"), &objective, &setup, &run(&gpu, &setup));
            }
        }
    }
}

#[test]
fn more_rows_than_groups_and_records_than_a_binding() {
    let Some(gpu) = low() else { return };
    // 64 x 64 groups a dispatch; 11,912 records of 88 bytes a binding.
    let matrix = Matrix::uniform(Dtype::F32, 20_000, 4, 5);
    let setup = Setup {
        offsets: [1, 1, 1, 1],
        reduction: Reduction::Mean(Denominator::Kept),
        ..Setup::new(&matrix, &Nll)
    };
    let done = run(&gpu, &setup);
    check("rows", &Nll, &setup, &done);
    let request = Request {
        shape: Shape::new(20_000, 4).unwrap(),
        dtype: Dtype::F32,
        reduction: setup.reduction,
        gradient: true,
        records: true,
        totals: true,
        beside: Second::Nothing,
    };
    let needs = gpu.kernels().requirements(&request).unwrap();
    assert_eq!(needs.dispatches, 5 + 2 + 5);
    assert_eq!(needs.scratch_bytes, 12 * 256);
}

#[test]
fn splitting_changes_no_bit() {
    let (Some(low), Some(high)) = (low(), baseline()) else { return };
    let matrix = Matrix::uniform(Dtype::Bf16, 750, 1001, 8);
    let setup = Setup::new(&matrix, &Nll);
    let (a, b) = (run(&low, &setup), run(high, &setup));
    assert!(a.record_words == b.record_words);
    assert!(a.dlogits == b.dlogits);
}

#[test]
fn a_batch_beyond_every_buffer_goes_up_in_slices_and_keeps_its_counts() {
    let limits = wgpu::Limits { max_buffer_size: 1 << 20, ..low_limits() };
    let Some(gpu) = open(None, Some(limits)).map(Result::unwrap) else { return };
    let objective = Thresholded::new(Nll, 1e-4, 1.0).unwrap();
    let mut matrix = Matrix::uniform(Dtype::F32, 700, 1001, 6);
    matrix.targets[13] = -100;
    matrix.targets[650] = -100;
    let shape = Shape::new(700, 1001).unwrap();
    let batch = Batch::new(shape, &matrix.targets).unwrap();
    for denominator in [Denominator::Valid, Denominator::Kept, Denominator::Given(9.0)] {
        let reduction = Reduction::Mean(denominator);
        let truth = oracle(&objective, reduction, &matrix, None, None);
        let mut dlogits = vec![f32::NAN; matrix.logits.len()];
        let logits = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits };
        let totals = gpu.evaluate(&objective, reduction, &batch, logits, Outputs::default()).unwrap();
        assert_eq!((totals.valid, totals.kept, totals.ignored), (truth.totals.valid, truth.totals.kept, 2));
        assert_eq!(totals.denominator, truth.totals.denominator);
        let scale = truth.dlogits.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        for (got, expected) in dlogits.iter().zip(&truth.dlogits) {
            assert!((f64::from(*got) - expected).abs() <= 1e-5 * expected.abs() + 1e-7 * scale);
        }
    }
    // A fault in the last slice is named by its row in the batch.
    matrix.logits[699 * 1001 + 5] = f32::NAN;
    let read = Logits::Read(&matrix.logits[..]);
    let error = gpu.evaluate(&objective, Reduction::Sum, &batch, read, Outputs::default()).unwrap_err();
    assert_eq!(error.to_string(), "logits: row 699, column 5 is NaN, expected a finite number or -inf");
    let batch = batch.with_non_finite(NonFinite::NanRow);
    let read = Logits::Read(&matrix.logits[..]);
    let totals = gpu.evaluate(&objective, Reduction::Sum, &batch, read, Outputs::default()).unwrap();
    assert!(totals.loss().is_nan());
}
