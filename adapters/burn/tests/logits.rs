//! Losses of logits beside the reference and beside burn's own ops.

mod common;

use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor};
use common::{Oracle, assert_near, distance, ints, objectives, read, scaled, tensor, uniform, wide};
use tokenloss_burn::core::{Composite, Denominator, LogitMap, Nll, NonFinite, Power, Reduction};
use tokenloss_burn::{Error, Options, token_loss};

const ROWS: usize = 6;
const VOCAB: usize = 37;
const TARGETS: [i32; ROWS] = [3, -100, 36, 0, 17, 17];
const WEIGHTS: [f32; ROWS] = [1.0, 2.0, 0.5, 3.0, 0.0, 1.25];

/// Logits reach 6 in size and the objectives' slopes 2: a few roundings of f32 of sums that do not exceed 10.
const TOLERANCE: f64 = 4e-6;

fn device() -> Device {
    Device::flex().autodiff()
}

fn logits() -> Vec<f32> {
    scaled(uniform(ROWS * VOCAB, 1), 6.0)
}

fn leaf(device: &Device) -> Tensor<2> {
    tensor(&logits(), [ROWS, VOCAB], device).require_grad()
}

fn weights(device: &Device) -> Option<Tensor<1>> {
    Some(tensor(&WEIGHTS, [ROWS], device))
}

#[test]
fn a_mean_has_the_gradient_of_the_reference_whatever_comes_from_above() {
    let device = device();
    for objective in objectives() {
        for upstream in [1.0f32, -2.5] {
            let z = leaf(&device);
            let options = Options { weights: weights(&device), ..Options::default() };
            let out = token_loss(z.clone(), ints(&TARGETS, [ROWS], &device), objective, &options).unwrap();
            let dz = z.grad(&(out.loss.clone() * upstream).backward()).unwrap();
            let by: Vec<f64> = WEIGHTS.iter().map(|w| f64::from(w * upstream) / 5.0).collect();
            let oracle = Oracle::new(&wide(&logits()), VOCAB, &TARGETS, &by, &objective);
            assert_near("dlogits", &read(dz), &oracle.dlogits, TOLERANCE);
            let loss = oracle.losses.iter().sum::<f64>() / f64::from(upstream);
            assert_near("loss", &read(out.loss.clone()), &[loss], TOLERANCE);
            assert_near("log_p", &read(out.log_p.clone()), &oracle.log_p, TOLERANCE);
            assert_near("entropy", &read(out.entropy.clone()), &oracle.entropy, TOLERANCE);
            let totals = out.totals().unwrap();
            assert_eq!((totals.valid, totals.ignored, totals.denominator), (5, 1, 5.0));
            assert!((totals.loss() - loss).abs() <= TOLERANCE);
        }
    }
}

#[test]
fn each_row_takes_a_gradient_from_above_of_its_own() {
    let device = device();
    let above = [2.0f32, 7.0, 0.0, -1.5, 4.0, 0.25];
    for objective in objectives() {
        let z = leaf(&device);
        let options = Options { reduction: None, weights: weights(&device), ..Options::default() };
        let out = token_loss(z.clone(), ints(&TARGETS, [ROWS], &device), objective, &options).unwrap();
        let pulled = (out.loss.clone() * tensor(&above, [ROWS], &device)).sum();
        let dz = z.grad(&pulled.backward()).unwrap();
        let own = wide(&WEIGHTS);
        let by: Vec<f64> = own.iter().zip(above).map(|(w, a)| w * f64::from(a)).collect();
        let dlogits = Oracle::new(&wide(&logits()), VOCAB, &TARGETS, &by, &objective).dlogits;
        assert_near("dlogits", &read(dz), &dlogits, 4.0 * TOLERANCE);
        let losses = Oracle::new(&wide(&logits()), VOCAB, &TARGETS, &own, &objective).losses;
        assert_near("losses", &read(out.loss), &losses, TOLERANCE);
    }
}

#[test]
fn cross_entropy_is_that_of_burns_own_ops() {
    let device = device();
    let targets = [3, 1, 36, 0, 17, 17];
    let (ours, theirs) = (leaf(&device), leaf(&device));
    let out = token_loss(ours.clone(), ints(&targets, [ROWS], &device), Nll, &Options::default()).unwrap();
    let index: Tensor<2, Int> = ints(&targets, [ROWS, 1], &device);
    let composed = log_softmax(theirs.clone(), 1).gather(1, index).mean().neg();
    assert_near("loss", &read(out.loss.clone()), &wide(&read(composed.clone())), 1e-6);
    // Ops before and after ours take part, too.
    let dours = ours.grad(&out.loss.powf_scalar(2.0).backward()).unwrap();
    let dtheirs = theirs.grad(&composed.powf_scalar(2.0).backward()).unwrap();
    let dtheirs = read(dtheirs);
    assert!(dtheirs.iter().all(|d| *d != 0.0));
    assert_near("dlogits", &read(dours), &wide(&dtheirs), 2e-6);
}

#[test]
fn denominators_are_those_of_the_core() {
    let device = device();
    let objective = Composite::parse("thresholded:inner=nll,lo=0.02").unwrap();
    for (reduction, by) in [(Reduction::Sum, 1.0), (Reduction::Mean(Denominator::Given(8.0)), 8.0)] {
        let z = leaf(&device);
        let options = Options { reduction: Some(reduction), ..Options::default() };
        let out = token_loss(z.clone(), ints(&TARGETS, [ROWS], &device), Nll, &options).unwrap();
        let dz = z.grad(&out.loss.backward()).unwrap();
        let oracle = Oracle::new(&wide(&logits()), VOCAB, &TARGETS, &[1.0 / by; ROWS], &Composite::from(Nll));
        assert_near("dlogits", &read(dz), &oracle.dlogits, TOLERANCE);
    }
    let options = Options { reduction: Some(Reduction::Mean(Denominator::Kept)), ..Options::default() };
    let z = leaf(&device);
    let out = token_loss(z, ints(&TARGETS, [ROWS], &device), objective, &options).unwrap();
    let totals = out.totals().unwrap();
    assert_eq!(totals.denominator, totals.kept as f64);
    assert!(0 < totals.kept && totals.kept < totals.valid, "{totals:?}");
}

#[test]
fn views_and_more_dimensions_have_the_bits_of_plain_rows() {
    let device = device();
    let run = |z: Tensor<2>, leaf: &Tensor<2>| {
        let out =
            token_loss(z, ints(&TARGETS, [ROWS], &device), Power::new(0.5).unwrap(), &Options::default());
        let out = out.unwrap();
        let gradient = leaf.grad(&out.loss.backward()).unwrap();
        (read(out.loss), gradient)
    };
    let plain = leaf(&device);
    let (loss, gradient) = run(plain.clone(), &plain);
    let gradient = read(gradient);

    // The rows are the columns of a leaf.
    let turned = read(leaf(&device).detach().transpose());
    let base = tensor(&turned, [VOCAB, ROWS], &device).require_grad();
    let (loss_of_turned, d) = run(base.clone().transpose(), &base);
    assert_eq!((loss_of_turned, read(d.transpose())), (loss.clone(), gradient.clone()));

    // The rows are a slice of more, in both directions.
    let mut wider = vec![9.0; (ROWS + 2) * (VOCAB + 3)];
    for row in 0..ROWS {
        wider[(row + 1) * (VOCAB + 3) + 2..][..VOCAB].copy_from_slice(&logits()[row * VOCAB..][..VOCAB]);
    }
    let base = tensor(&wider, [ROWS + 2, VOCAB + 3], &device).require_grad();
    let part = [1..ROWS + 1, 2..VOCAB + 2];
    let (loss_of_slice, d) = run(base.clone().slice(part.clone()), &base);
    assert_eq!((loss_of_slice, read(d.clone().slice(part))), (loss.clone(), gradient.clone()));
    let whole: f32 = read(d.abs().sum())[0];
    assert!((whole - gradient.iter().map(|d| d.abs()).sum::<f32>()).abs() < 1e-5);

    // Whole rows of more are read where they lie.
    let base = tensor(&[logits(), logits()].concat(), [2 * ROWS, VOCAB], &device).require_grad();
    let (loss_of_rows, d) = run(base.clone().narrow(0, ROWS, ROWS), &base);
    assert_eq!((loss_of_rows, read(d.narrow(0, ROWS, ROWS))), (loss.clone(), gradient.clone()));

    let cube = tensor(&logits(), [2, 3, VOCAB], &device).require_grad();
    let objective = Power::new(0.5).unwrap();
    let out =
        token_loss(cube.clone(), ints(&TARGETS, [2, 3], &device), objective, &Options::default()).unwrap();
    assert_eq!((out.log_p.dims(), out.entropy.dims(), out.loss.dims()), ([2, 3], [2, 3], [1]));
    assert_eq!(read(out.loss.clone()), loss);
    let d = cube.grad(&out.loss.backward()).unwrap();
    assert_eq!(d.dims(), [2, 3, VOCAB]);
    assert_eq!(read(d), gradient);
}

#[test]
fn half_types_are_rounded_once() {
    let device = device();
    for (dtype, digits) in [(DType::F16, 11), (DType::BF16, 8)] {
        let z = tensor(&logits(), [ROWS, VOCAB], &device).cast(dtype).require_grad();
        let rounded = read(z.clone());
        let targets = ints(&TARGETS, [ROWS], &device);
        let out = token_loss(z.clone(), targets, Nll, &Options::default()).unwrap();
        assert_eq!(out.loss.dtype(), DType::F32);
        let d = z.grad(&(out.loss * 5.0).backward()).unwrap();
        assert_eq!(d.dtype(), dtype);
        let oracle = Oracle::new(&wide(&rounded), VOCAB, &TARGETS, &[1.0; ROWS], &Composite::from(Nll));
        // Half a unit in the last place of numbers below 1.
        let rounding = 0.5f64.powi(digits + 1);
        assert!(distance(&read(d), &oracle.dlogits) <= rounding + TOLERANCE);
    }
}

#[test]
fn rows_that_are_ignored_have_no_gradient_and_no_numbers() {
    let device = device();
    let z = leaf(&device);
    let out = token_loss(z.clone(), ints(&[-100; ROWS], [ROWS], &device), Nll, &Options::default()).unwrap();
    assert_eq!(read(out.loss.clone()), [0.0]);
    assert!(read(out.log_p.clone()).iter().all(|x| x.is_nan()));
    assert_eq!(out.totals().unwrap().ignored, ROWS);
    assert_eq!(read(z.grad(&out.loss.backward()).unwrap()), [0.0; ROWS * VOCAB]);
}

#[test]
fn no_gradient_goes_through_log_p_and_entropy_and_weights() {
    let device = device();
    let gradient = |others: f32| {
        let (z, w) = (leaf(&device), tensor(&WEIGHTS, [ROWS], &device).require_grad());
        let options = Options { weights: Some(w.clone()), ..Options::default() };
        let targets = ints(&[3, 1, 36, 0, 17, 17], [ROWS], &device);
        let out = token_loss(z.clone(), targets, Nll, &options).unwrap();
        let sum = out.loss + (out.log_p.sum() + out.entropy.sum()) * others;
        let gradients = sum.backward();
        assert!(w.grad(&gradients).is_none());
        read(z.grad(&gradients).unwrap())
    };
    assert_eq!(gradient(1.0), gradient(0.0));
}

#[test]
fn rows_that_are_not_finite_are_an_error_or_nan() {
    let device = device();
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = logits();
        values[2 * VOCAB + 5] = bad;
        let z = tensor(&values, [ROWS, VOCAB], &device).require_grad();
        let targets = || ints(&TARGETS, [ROWS], &device);
        let error = token_loss(z.clone(), targets(), Nll, &Options::default()).unwrap_err();
        assert!(
            matches!(error, Error::Loss(tokenloss_burn::core::Error::NonFinite { row: 2, column: 5, .. })),
            "{error}"
        );
        let options = Options { reduction: None, non_finite: NonFinite::NanRow, ..Options::default() };
        let out = token_loss(z.clone(), targets(), Nll, &options).unwrap();
        let d = read(z.grad(&out.loss.clone().sum().backward()).unwrap());
        for row in 0..ROWS {
            assert_eq!(read(out.loss.clone())[row].is_nan(), row == 2);
            assert!(d[row * VOCAB..][..VOCAB].iter().all(|d| d.is_nan() == (row == 2)));
        }
        // A row that is ignored is not looked at.
        let elsewhere = ints(&[3, 1, -100, 0, 17, 17], [ROWS], &device);
        assert!(read(token_loss(z, elsewhere, Nll, &Options::default()).unwrap().loss)[0].is_finite());
    }
}

#[test]
fn what_is_not_tracked_is_judged_all_the_same() {
    let plain = Device::flex();
    let z = tensor(&logits(), [ROWS, VOCAB], &plain);
    let out = token_loss(z, ints(&TARGETS, [ROWS], &plain), Nll, &Options::default()).unwrap();
    let z = tensor(&logits(), [ROWS, VOCAB], &device());
    let other = token_loss(z, ints(&TARGETS, [ROWS], &device()), Nll, &Options::default()).unwrap();
    assert_eq!(read(out.loss), read(other.loss));
}

#[test]
fn checkpointing_changes_nothing() {
    let gradient = |device: Device| {
        let leaf = leaf(&device);
        // An op that is computed again in backward.
        let z = (leaf.clone() * 0.5).tanh() * 3.0;
        let out = token_loss(z, ints(&TARGETS, [ROWS], &device), Nll, &Options::default()).unwrap();
        read(leaf.grad(&out.loss.backward()).unwrap())
    };
    assert_eq!(gradient(device()), gradient(device().gradient_checkpointing()));
}

#[test]
fn a_softcap_is_that_of_burns_own_ops() {
    let device = device();
    let targets = [3, 1, 36, 0, 17, 17];
    let (ours, theirs) = (leaf(&device), leaf(&device));
    let options = Options { map: Some(LogitMap::softcap(4.0).unwrap()), ..Options::default() };
    let out = token_loss(ours.clone(), ints(&targets, [ROWS], &device), Nll, &options).unwrap();
    let capped = (theirs.clone() / 4.0).tanh() * 4.0;
    let index: Tensor<2, Int> = ints(&targets, [ROWS, 1], &device);
    let composed = log_softmax(capped, 1).gather(1, index).mean().neg();
    let dtheirs = read(theirs.grad(&composed.backward()).unwrap());
    let dours = read(ours.grad(&out.loss.backward()).unwrap());
    assert_near("dlogits", &dours, &wide(&dtheirs), 2e-6);
}
