//! Bad input: what is wrong, and both numbers.

mod common;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use common::{ints, tensor, uniform};
use tokenloss_burn::core::{self, Denominator, LinearOptions, Nll, Reduction};
use tokenloss_burn::{Error, Options, linear_token_loss, token_loss};

fn device() -> Device {
    Device::flex().autodiff()
}

fn logits(shape: [usize; 2]) -> Tensor<2> {
    tensor(&uniform(shape[0] * shape[1], 1), shape, &device())
}

fn of_logits(logits: Tensor<2>, targets: Tensor<1, Int>, options: &Options) -> String {
    token_loss(logits, targets, Nll, options).unwrap_err().to_string()
}

fn targets(values: &[i32]) -> Tensor<1, Int> {
    ints(values, [values.len()], &device())
}

#[test]
fn shapes() {
    let options = Options::default();
    assert_eq!(
        of_logits(logits([2, 5]), targets(&[0, 1, 2]), &options),
        "targets has shape [3], expected [2], a target for each row of the logits"
    );
    assert_eq!(
        of_logits(logits([2, 1]), targets(&[0, 0]), &options),
        core::Error::Vocab { vocab: 1 }.to_string()
    );
    let none = Tensor::<2>::zeros([0, 5], &device());
    let no_targets = Tensor::<1, Int>::zeros([0], &device());
    assert_eq!(of_logits(none, no_targets, &options), core::Error::NoRows.to_string());
    let weights = Some(tensor(&[1.0; 3], [3], &device()));
    let options = Options { weights, ..Options::default() };
    assert_eq!(of_logits(logits([2, 5]), targets(&[0, 1]), &options), "weights has shape [3], expected [2]");
}

#[test]
fn targets_that_are_no_class() {
    let options = Options::default();
    for bad in [5, -1, i32::MAX, i32::MIN] {
        assert_eq!(
            of_logits(logits([2, 5]), targets(&[0, bad]), &options),
            format!("target {bad} of row 1 is neither -100 nor in 0..5")
        );
    }
    // No class of i32's either, once it is cut short.
    let wide = TensorData::new(vec![0i64, (1 << 32) + 1], [2]);
    let wide = Tensor::<1, Int>::from_data(wide, (&device(), DType::I64));
    assert_eq!(
        of_logits(logits([2, 5]), wide, &options),
        "target 4294967297 of row 1 is neither -100 nor in 0..5"
    );
}

#[test]
fn types_of_targets() {
    let plain = token_loss(logits([2, 5]), targets(&[4, -100]), Nll, &Options::default()).unwrap();
    for dtype in [DType::I64, DType::I32, DType::I16, DType::I8] {
        let targets = targets(&[4, -100]).cast(dtype);
        let out = token_loss(logits([2, 5]), targets, Nll, &Options::default()).unwrap();
        assert_eq!(common::read(out.loss), common::read(plain.loss.clone()), "{dtype:?}");
    }
    for dtype in [DType::U32, DType::U8] {
        let out = token_loss(logits([2, 5]), targets(&[4, 3]).cast(dtype), Nll, &Options::default()).unwrap();
        assert_eq!(out.totals().unwrap().valid, 2, "{dtype:?}");
    }
}

#[test]
fn types() {
    let z = logits([2, 5]).cast(DType::F64);
    assert_eq!(
        of_logits(z, targets(&[0, 1]), &Options::default()),
        "logits is of type F64, expected f32, f16 or bf16"
    );
    let mixed = |weight, bias| {
        let (h, w) = (logits([2, 4]), logits([5, 4]).cast(weight));
        let b = tensor(&[0.0; 5], [5], &device()).cast(bias);
        linear_token_loss(h, w, Some(b), targets(&[0, 1]), Nll, &Options::default()).unwrap_err().to_string()
    };
    assert_eq!(mixed(DType::F16, DType::F32), "weight is of type F16, expected that of the hidden states");
    assert_eq!(mixed(DType::F32, DType::BF16), "bias is of type BF16, expected that of the hidden states");
}

#[test]
fn weights_and_denominators() {
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        let options = Options { weights: Some(tensor(&[1.0, bad], [2], &device())), ..Options::default() };
        let error = token_loss(logits([2, 5]), targets(&[0, 1]), Nll, &options).unwrap_err();
        assert!(matches!(error, Error::Loss(core::Error::Weight { row: 1, .. })), "{error}");
    }
    let reduction = Some(Reduction::Mean(Denominator::Given(0.0)));
    let options = Options { reduction, ..Options::default() };
    let error = token_loss(logits([2, 5]), targets(&[0, 1]), Nll, &options).unwrap_err();
    assert!(matches!(error, Error::Loss(core::Error::Denominator { denominator: 0.0 })), "{error}");
}

#[test]
fn shapes_of_a_head() {
    let of = |hidden, weight, bias: Option<usize>, options: &Options| {
        let bias = bias.map(|vocab| tensor(&vec![0.0; vocab], [vocab], &device()));
        let result = linear_token_loss(logits(hidden), logits(weight), bias, targets(&[0, 1]), Nll, options);
        result.unwrap_err().to_string()
    };
    let options = Options::default();
    assert_eq!(of([2, 4], [5, 3], None, &options), "weight has shape [5, 3], expected [vocab, 4]");
    assert_eq!(of([2, 4], [5, 4], Some(4), &options), "bias has shape [4], expected [5]");
    assert_eq!(
        of([3, 4], [5, 4], None, &options),
        "targets has shape [2], expected [3], a target for each row of the hidden"
    );
    let linear = LinearOptions { chunk_rows: Some(0), ..LinearOptions::default() };
    let chunk = Options { linear, ..Options::default() };
    assert_eq!(of([2, 4], [5, 4], None, &chunk), core::Error::Chunk { what: "chunk_rows" }.to_string());
}
