use crate::composed::{CASES, Case, assert_close, assert_same, losses, numbers, rounding, tracked, values};
use candle_core::{DType, Device, Result, Tensor, Var};
use tokenloss_candle::core::{Denominator, IGNORE_INDEX, LogitMap, Nll, NonFinite, Power, Reduction};
use tokenloss_candle::{Error, Options, token_loss};

const ROWS: usize = 6;
const VOCAB: usize = 37;
const TARGETS: [i64; ROWS] = [3, 36, IGNORE_INDEX as i64, 0, 17, 17];
const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

// A row's sums run in f32 in 16 lanes, a term's exponential is right to 1 unit, and the result is rounded once more:
// 3 + 1 + 1 half units at most for a share, measured at most 2.
fn tolerance(dtype: DType) -> f64 {
    5.0 * rounding(DType::F32) + if dtype == DType::F32 { 0.0 } else { rounding(dtype) }
}

fn logits(scale: f64) -> Result<Tensor> {
    values(&[ROWS, VOCAB], scale, 1)
}

fn targets() -> Result<Tensor> {
    Tensor::new(&TARGETS, &Device::Cpu)
}

fn case(spec: &str) -> &'static Case {
    CASES.iter().find(|case| case.spec == spec).unwrap()
}

fn per_row() -> Options {
    Options { reduction: None, ..Options::default() }
}

#[test]
fn loss_and_gradient_are_those_of_composed_ops() {
    let weights = [1.0f64, 0.5, 7.0, 2.0, 0.0, 0.25];
    for (case, dtype) in CASES.iter().flat_map(|case| DTYPES.map(|dtype| (case, dtype))) {
        for weighted in [false, true] {
            let (ours, theirs) = tracked(&logits(4.0).unwrap(), dtype).unwrap();
            let weights = weighted.then(|| Tensor::new(&weights, &Device::Cpu).unwrap());
            let options = Options { weights: weights.clone(), ..Options::default() };
            let out = token_loss(&ours, &targets().unwrap(), case.objective(), &options).unwrap();
            let mut expected = losses(case, &theirs, &TARGETS).unwrap();
            if let Some(weights) = weights {
                expected = (expected * weights).unwrap();
            }
            let expected = (expected.sum_all().unwrap() / (ROWS - 1) as f64).unwrap();
            let what = format!("{} {dtype:?}", case.spec);
            // From above comes 3, not 1.
            let gradients = (out.loss.clone() * 3.0).unwrap().backward().unwrap();
            let truth = (expected.clone() * 3.0).unwrap().backward().unwrap();
            assert_close(&what, &out.loss, &expected, tolerance(DType::F32));
            assert_close(&what, gradients.get(&ours).unwrap(), truth.get(&theirs).unwrap(), tolerance(dtype));
            assert_eq!(gradients.get(&ours).unwrap().dtype(), dtype);
            assert_eq!((out.totals.valid, out.totals.ignored), (ROWS - 1, 1));
        }
    }
}

#[test]
fn each_row_takes_a_gradient_of_its_own_from_above() {
    let upstream = values(&[ROWS], 2.0, 5).unwrap();
    for (case, dtype) in CASES.iter().flat_map(|case| DTYPES.map(|dtype| (case, dtype))) {
        let (ours, theirs) = tracked(&logits(4.0).unwrap(), dtype).unwrap();
        let out = token_loss(&ours, &targets().unwrap(), case.objective(), &per_row()).unwrap();
        let expected = losses(case, &theirs, &TARGETS).unwrap();
        let above =
            |losses: &Tensor| -> Result<Tensor> { (losses * upstream.to_dtype(losses.dtype())?)?.sum_all() };
        let gradients = above(&out.loss).unwrap().backward().unwrap();
        let truth = above(&expected).unwrap().backward().unwrap();
        assert_close(case.spec, &out.loss, &expected, tolerance(DType::F32));
        assert_close(case.spec, gradients.get(&ours).unwrap(), truth.get(&theirs).unwrap(), tolerance(dtype));
    }
}

#[test]
fn the_gradient_is_that_of_differences() {
    // In f32 a loss of about 4 is right to 2^-22, so that a step of 2^-7 leaves 2^-15 from rounding, and h^2 / 6 of a third
    // derivative below 1, 2^-16.
    let step = 2f64.powi(-7);
    let start = logits(2.0).unwrap();
    for case in &CASES {
        if case.spec.starts_with("thresholded") {
            continue; // a step may cross the threshold
        }
        let loss = |logits: &Tensor| {
            let out = token_loss(logits, &targets().unwrap(), case.objective(), &Options::default()).unwrap();
            (numbers(&out.loss)[0], out.loss)
        };
        let (ours, _) = tracked(&start, DType::F32).unwrap();
        let gradient = loss(&ours).1.backward().unwrap();
        let gradient = numbers(gradient.get(&ours).unwrap());
        let numbers = numbers(&start);
        for (at, exact) in gradient.into_iter().enumerate() {
            let moved = |by: f64| {
                let mut moved = numbers.clone();
                moved[at] += by;
                let moved = Tensor::from_vec(moved, (ROWS, VOCAB), &Device::Cpu).unwrap();
                loss(&moved.to_dtype(DType::F32).unwrap()).0
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            let off = (difference - exact).abs();
            assert!(off < 2f64.powi(-14), "{}: {exact} and {difference} at {at}", case.spec);
        }
    }
}

#[test]
fn log_p_and_entropy_come_along() {
    let (ours, theirs) = tracked(&logits(4.0).unwrap(), DType::F32).unwrap();
    let out = token_loss(&ours, &targets().unwrap(), Nll, &Options::default()).unwrap();
    let log_p = candle_nn::ops::log_softmax(&theirs, 1).unwrap();
    let entropy = (log_p.exp().unwrap() * &log_p).unwrap().sum(1).unwrap().neg().unwrap();
    let expected = losses(case("nll"), &theirs, &TARGETS).unwrap().neg().unwrap();
    for row in (0..ROWS).filter(|&row| TARGETS[row] >= 0) {
        let row = |tensor: &Tensor| tensor.narrow(0, row, 1).unwrap();
        assert_close("log_p", &row(&out.log_p), &row(&expected), tolerance(DType::F32));
        assert_close("entropy", &row(&out.entropy), &row(&entropy), tolerance(DType::F32));
    }
    assert!(numbers(&out.log_p)[2].is_nan() && numbers(&out.entropy)[2].is_nan());
    assert!(!out.log_p.track_op() && !out.entropy.track_op());
}

#[test]
fn logits_of_any_layout_and_rank() {
    let case = case("power:alpha=0.5");
    let base = values(&[VOCAB, 2, ROWS + 3], 4.0, 9).unwrap();
    // [2, ROWS, VOCAB], a part of a tensor that is transposed.
    let view = |base: &Tensor| base.permute((1, 2, 0))?.narrow(1, 2, ROWS);
    let (ours, theirs) = tracked(&base, DType::F32).unwrap();
    let all: Vec<i64> = TARGETS.iter().chain(&TARGETS).copied().collect();
    let targets = Tensor::from_slice(&all, (2, ROWS), &Device::Cpu).unwrap();
    let strided = targets.t().unwrap().contiguous().unwrap().t().unwrap();
    let expected = losses(case, &view(&theirs).unwrap().reshape((2 * ROWS, VOCAB)).unwrap(), &all).unwrap();
    let truth = expected.sum_all().unwrap().backward().unwrap();
    for targets in [targets, strided] {
        let out = token_loss(&view(&ours).unwrap(), &targets, case.objective(), &per_row()).unwrap();
        assert_eq!(out.log_p.dims(), [2, ROWS]);
        assert_close("loss", &out.loss, &expected.reshape((2, ROWS)).unwrap(), tolerance(DType::F32));
        let gradients = out.loss.sum_all().unwrap().backward().unwrap();
        assert_close(
            "dlogits",
            gradients.get(&ours).unwrap(),
            truth.get(&theirs).unwrap(),
            tolerance(DType::F32),
        );
    }
}

#[test]
fn one_row_may_be_without_a_dimension() {
    let logits = Var::new(&[1.0f32, 2.0, 0.5], &Device::Cpu).unwrap();
    let target = Tensor::new(1u32, &Device::Cpu).unwrap();
    let out = token_loss(&logits, &target, Nll, &per_row()).unwrap();
    assert!(out.loss.dims().is_empty());
    assert_eq!(out.loss.backward().unwrap().get(&logits).unwrap().dims(), [3]);
}

#[test]
fn targets_of_every_integer_type_are_the_same() {
    let (ours, _) = tracked(&logits(4.0).unwrap(), DType::F32).unwrap();
    let wide = Tensor::new(&[3i64, 36, 2, 0, 17, 17], &Device::Cpu).unwrap();
    let expected = token_loss(&ours, &wide, Nll, &Options::default()).unwrap().loss;
    for dtype in [DType::U8, DType::U32, DType::I16, DType::I32] {
        let out = token_loss(&ours, &wide.to_dtype(dtype).unwrap(), Nll, &Options::default()).unwrap();
        assert_same(&out.loss, &expected);
    }
    let mut unsigned: Vec<u32> = TARGETS.iter().map(|&target| target as u32).collect();
    unsigned[2] = u32::MAX;
    let unsigned = Tensor::new(unsigned, &Device::Cpu).unwrap();
    let ignored = token_loss(&ours, &unsigned, Nll, &Options::default()).unwrap();
    let signed = token_loss(&ours, &targets().unwrap(), Nll, &Options::default()).unwrap();
    assert_eq!(ignored.totals, signed.totals);
}

#[test]
fn denominators() {
    let (ours, theirs) = tracked(&logits(4.0).unwrap(), DType::F32).unwrap();
    let case = case("thresholded:inner=nll,lo=0.005");
    let losses = losses(case, &theirs, &TARGETS).unwrap();
    let kept = numbers(&losses).iter().filter(|&&loss| loss > 0.0).count();
    assert!((1..ROWS - 1).contains(&kept), "{kept}");
    let given = Denominator::Given(3.5);
    for (reduction, by) in [
        (Reduction::Sum, 1.0),
        (Reduction::Mean(Denominator::Kept), kept as f64),
        (Reduction::Mean(given), 3.5),
    ] {
        let options = Options { reduction: Some(reduction), ..Options::default() };
        let out = token_loss(&ours, &targets().unwrap(), case.objective(), &options).unwrap();
        let expected = (losses.sum_all().unwrap() / by).unwrap();
        let (gradients, truth) = (out.loss.backward().unwrap(), expected.backward().unwrap());
        assert_close("loss", &out.loss, &expected, tolerance(DType::F32));
        assert_close(
            "dlogits",
            gradients.get(&ours).unwrap(),
            truth.get(&theirs).unwrap(),
            tolerance(DType::F32),
        );
    }
}

#[test]
fn logits_are_capped_and_scaled() {
    let map = LogitMap::softcap(5.0).unwrap().with_scale(0.5).unwrap();
    let (ours, theirs) = tracked(&logits(8.0).unwrap(), DType::F32).unwrap();
    let options = Options { map: Some(map), ..Options::default() };
    let out = token_loss(&ours, &targets().unwrap(), Nll, &options).unwrap();
    let mapped = ((theirs.as_tensor() / 5.0).unwrap().tanh().unwrap() * 2.5).unwrap();
    let expected = (losses(case("nll"), &mapped, &TARGETS).unwrap().sum_all().unwrap() / 5.0).unwrap();
    let (gradients, truth) = (out.loss.backward().unwrap(), expected.backward().unwrap());
    // The link and its derivative have an error of their own, of a few units.
    let tolerance = 4.0 * tolerance(DType::F32);
    assert_close("loss", &out.loss, &expected, tolerance);
    assert_close("dlogits", gradients.get(&ours).unwrap(), truth.get(&theirs).unwrap(), tolerance);
}

#[test]
fn the_same_bits_again_and_in_any_number_of_threads() {
    let (ours, _) = tracked(&logits(4.0).unwrap(), DType::F32).unwrap();
    let out = token_loss(&ours, &targets().unwrap(), Power::new(0.5).unwrap(), &Options::default()).unwrap();
    let gradient = || out.loss.backward().unwrap().get(&ours).unwrap().clone();
    assert_same(&gradient(), &gradient());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = pool.install(|| {
        let out =
            token_loss(&ours, &targets().unwrap(), Power::new(0.5).unwrap(), &Options::default()).unwrap();
        out.loss.backward().unwrap().get(&ours).unwrap().clone()
    });
    assert_same(&gradient(), &alone);
}

#[test]
fn the_gradient_may_take_the_place_of_the_logits() {
    for dtype in DTYPES {
        let (ours, _) = tracked(&logits(4.0).unwrap(), dtype).unwrap();
        let expected = token_loss(&ours, &targets().unwrap(), Nll, &Options::default()).unwrap();
        let expected = expected.loss.backward().unwrap().get(&ours).unwrap().clone();
        let options = Options { overwrite_logits: true, ..Options::default() };
        // Logits of an op, the second half of its storage.
        let twice = Tensor::cat(&[ours.as_tensor(), ours.as_tensor()], 0).unwrap();
        let half = twice.narrow(0, ROWS, ROWS).unwrap();
        let out = token_loss(&half, &targets().unwrap(), Nll, &options).unwrap();
        let gradients = out.loss.backward().unwrap();
        assert_same(gradients.get(&ours).unwrap(), &expected);
        assert_same(&half, &expected);
        assert_same(&twice.narrow(0, 0, ROWS).unwrap(), &ours);
        let again = out.loss.backward().unwrap_err();
        assert!(again.to_string().contains(&Error::Overwritten.to_string()), "{again}");
    }
}

#[test]
fn all_ignored_is_a_loss_of_zero() {
    let (ours, _) = tracked(&logits(4.0).unwrap(), DType::F32).unwrap();
    let targets = Tensor::new(&[i64::from(IGNORE_INDEX); ROWS], &Device::Cpu).unwrap();
    let out = token_loss(&ours, &targets, Nll, &Options::default()).unwrap();
    assert_eq!(numbers(&out.loss), [0.0]);
    let gradients = out.loss.backward().unwrap();
    assert!(numbers(gradients.get(&ours).unwrap()).iter().all(|&entry| entry == 0.0));
}

#[test]
fn a_row_that_is_not_finite() {
    let mut numbers_ = numbers(&logits(4.0).unwrap());
    numbers_[VOCAB + 4] = f64::NAN;
    let bad = Tensor::from_vec(numbers_, (ROWS, VOCAB), &Device::Cpu).unwrap();
    let (ours, _) = tracked(&bad, DType::F32).unwrap();
    let error = token_loss(&ours, &targets().unwrap(), Nll, &Options::default()).unwrap_err();
    assert!(
        matches!(error, Error::Loss(tokenloss_candle::core::Error::NonFinite { row: 1, column: 4, .. })),
        "{error}"
    );
    let options = Options { non_finite: NonFinite::NanRow, ..per_row() };
    let out = token_loss(&ours, &targets().unwrap(), Nll, &options).unwrap();
    let nan: Vec<_> = numbers(&out.loss).iter().map(|loss| loss.is_nan()).collect();
    assert_eq!(nan, [false, true, false, false, false, false]);
    let gradient = out.loss.sum_all().unwrap().backward().unwrap();
    let gradient = numbers(gradient.get(&ours).unwrap());
    let rows = gradient.chunks(VOCAB).map(|row| row.iter().all(|entry| entry.is_nan()));
    assert_eq!(rows.collect::<Vec<_>>(), nan);
}
