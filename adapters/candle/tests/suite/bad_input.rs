use candle_core::{DType, Device, Tensor};
use tokenloss_candle::core::{Budget, Denominator, LinearOptions, Nll, Reduction};
use tokenloss_candle::{Error, Options, linear_token_loss, token_loss};

fn zeros(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros(shape, dtype, &Device::Cpu).unwrap()
}

fn floats(shape: &[usize]) -> Tensor {
    zeros(shape, DType::F32)
}

fn targets(rows: usize) -> Tensor {
    zeros(&[rows], DType::I64)
}

fn of_logits(logits: &Tensor, targets: &Tensor, options: &Options) -> String {
    token_loss(logits, targets, Nll, options).unwrap_err().to_string()
}

fn of_head(hidden: &[usize], weight: &[usize], bias: Option<&[usize]>, rows: usize) -> String {
    let bias = bias.map(floats);
    linear_token_loss(
        &floats(hidden),
        &floats(weight),
        bias.as_ref(),
        &targets(rows),
        Nll,
        &Options::default(),
    )
    .unwrap_err()
    .to_string()
}

#[test]
fn shapes() {
    let none = &Options::default();
    assert_eq!(of_logits(&floats(&[]), &targets(1), none), "logits has shape [], expected [.., vocab]");
    let error = of_logits(&floats(&[4, 8]), &targets(5), none);
    assert_eq!(error, "targets has shape [5], expected [4], a target for each row");
    let error = of_logits(&floats(&[2, 2, 8]), &targets(4), none);
    assert_eq!(error, "targets has shape [4], expected [2, 2], a target for each row");
    assert_eq!(of_head(&[4, 8], &[16], None, 4), "weight has shape [16], expected [vocab, dim]");
    assert_eq!(of_head(&[4, 7], &[16, 8], None, 4), "hidden has shape [4, 7], expected [.., 8]");
    assert_eq!(of_head(&[], &[16, 8], None, 4), "hidden has shape [], expected [.., 8]");
    assert_eq!(of_head(&[4, 8], &[16, 8], Some(&[15]), 4), "bias has shape [15], expected [16]");
    let error = of_head(&[4, 8], &[16, 8], None, 3);
    assert_eq!(error, "targets has shape [3], expected [4], a target for each row");
}

#[test]
fn nothing_to_learn_from() {
    let none = &Options::default();
    for (logits, rows) in [([0, 8], 0), ([4, 1], 4), ([4, 0], 4)] {
        let error = token_loss(&floats(&logits), &targets(rows), Nll, none).unwrap_err();
        assert!(matches!(error, Error::Loss(_)), "{error}");
    }
    for (hidden, weight) in [([4, 0], [16, 0]), ([4, 8], [1, 8])] {
        let error = of_head(&hidden, &weight, None, 4);
        assert!(error.contains(['0', '1']), "{error}");
    }
}

#[test]
fn types() {
    let none = &Options::default();
    let error = of_logits(&zeros(&[4, 8], DType::F64), &targets(4), none);
    assert_eq!(error, "logits is of type F64, expected f32, f16 or bf16");
    let error = of_logits(&floats(&[4, 8]), &floats(&[4]), none);
    assert_eq!(error, "targets is of type F32, expected an integer");
    let (hidden, weight) = (floats(&[4, 8]), zeros(&[16, 8], DType::BF16));
    let error = linear_token_loss(&hidden, &weight, None, &targets(4), Nll, none).unwrap_err();
    assert_eq!(error.to_string(), "weight is of type BF16, expected that of the hidden states");
    let options = Options { weights: Some(targets(4)), ..Options::default() };
    let error = of_logits(&floats(&[4, 8]), &targets(4), &options);
    assert_eq!(error, "weights is of type I64, expected a float");
}

#[test]
fn targets_outside_the_vocabulary() {
    let of = |target: i64| {
        let targets = Tensor::new(&[0, target], &Device::Cpu).unwrap();
        of_logits(&floats(&[2, 8]), &targets, &Options::default())
    };
    assert_eq!(of(8), "target 8 of row 1 is neither -100 nor in 0..8");
    assert_eq!(of(-1), "target -1 of row 1 is neither -100 nor in 0..8");
    // Would be a class if cut to 32 bits.
    assert_eq!(of(1 << 32), "target 4294967296 of row 1 is neither -100 nor in 0..8");
}

#[test]
fn weights_and_denominators() {
    let of = |weights: &[f32]| {
        let weights = Some(Tensor::new(weights, &Device::Cpu).unwrap());
        of_logits(&floats(&[2, 8]), &targets(2), &Options { weights, ..Options::default() })
    };
    assert!(of(&[1.0]).contains('1'), "{}", of(&[1.0]));
    assert!(of(&[1.0, -2.0]).contains("-2"), "{}", of(&[1.0, -2.0]));
    assert!(of(&[1.0, f32::NAN]).contains("NaN"), "{}", of(&[1.0, f32::NAN]));
    let reduction = Some(Reduction::Mean(Denominator::Given(0.0)));
    let error = of_logits(&floats(&[2, 8]), &targets(2), &Options { reduction, ..Options::default() });
    assert!(error.contains("denominator"), "{error}");
}

#[test]
fn a_budget_that_holds_nothing_and_logits_that_are_not_finite() {
    let linear = LinearOptions { budget: Budget(64), ..LinearOptions::default() };
    let options = Options { linear, ..Options::default() };
    let (hidden, weight) = (floats(&[4, 8]), floats(&[16, 8]));
    let error = linear_token_loss(&hidden, &weight, None, &targets(4), Nll, &options).unwrap_err();
    assert!(error.to_string().contains("64"), "{error}");
    let hidden = (hidden + f64::INFINITY).unwrap();
    let error = linear_token_loss(&hidden, &weight, None, &targets(4), Nll, &Options::default()).unwrap_err();
    assert!(matches!(error, Error::Loss(tokenloss_candle::core::Error::NonFinite { row: 0, .. })), "{error}");
}
