use crate::composed::{CASES, Case, assert_close, assert_same, losses, numbers, rounding, tracked, values};
use candle_core::{DType, Device, Result, Tensor, Var};
use tokenloss_candle::core::{Budget, IGNORE_INDEX, LinearOptions, Nll};
use tokenloss_candle::{Options, linear_token_loss, token_loss};

const ROWS: usize = 6;
const DIM: usize = 24;
const VOCAB: usize = 97;
const TARGETS: [i64; ROWS] = [3, 96, IGNORE_INDEX as i64, 0, 17, 17];
const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

// Products of f32: a logit is a sum of 24 terms whose absolute values add up to at most 4 times the greatest logit, an
// entry of a gradient one of at most 97; both add at most 97 half units of that, seldom more than their square root.
// 16-bit types are rounded where the shares are handed to the products, and in the end.
fn tolerance(dtype: DType) -> f64 {
    64.0 * rounding(DType::F32) + if dtype == DType::F32 { 0.0 } else { 2.0 * rounding(dtype) }
}

/// Ours and theirs, of hidden states, weight and bias.
struct Inputs {
    ours: [Var; 3],
    theirs: [Var; 3],
}

impl Inputs {
    fn new(dtype: DType) -> Self {
        let of = |shape: &[usize], scale, seed| tracked(&values(shape, scale, seed).unwrap(), dtype).unwrap();
        let (hidden, theirs_hidden) = of(&[ROWS, DIM], 1.0, 1);
        let (weight, theirs_weight) = of(&[VOCAB, DIM], 1.0, 2);
        let (bias, theirs_bias) = of(&[VOCAB], 1.0, 3);
        Self { ours: [hidden, weight, bias], theirs: [theirs_hidden, theirs_weight, theirs_bias] }
    }

    /// The losses of candle's own ops, without the bias if so asked.
    fn losses(&self, case: &Case, bias: bool) -> Result<Tensor> {
        let [hidden, weight, by] = &self.theirs;
        let logits = hidden.matmul(&weight.t()?)?;
        losses(case, &if bias { logits.broadcast_add(by)? } else { logits }, &TARGETS)
    }
}

fn targets() -> Tensor {
    Tensor::new(&TARGETS, &Device::Cpu).unwrap()
}

fn options(per_row: bool) -> Options {
    let mut options = Options::default();
    if per_row {
        options.reduction = None;
    }
    options
}

#[test]
fn loss_and_every_gradient_are_those_of_composed_ops() {
    let upstream = values(&[ROWS], 2.0, 5).unwrap();
    for (case, dtype) in CASES.iter().flat_map(|case| DTYPES.map(|dtype| (case, dtype))) {
        for (bias, per_row) in [(false, false), (false, true), (true, false), (true, true)] {
            let inputs = Inputs::new(dtype);
            let [hidden, weight, by] = &inputs.ours;
            let by = bias.then_some(by.as_tensor());
            let objective = case.objective();
            let out =
                linear_token_loss(hidden, weight, by, &targets(), objective, &options(per_row)).unwrap();
            let expected = inputs.losses(case, bias).unwrap();
            // From above comes a number for each row, or 3 for their mean.
            let above = |losses: &Tensor, mean: bool| -> Result<Tensor> {
                if mean {
                    return losses.sum_all()? * 3.0;
                }
                (losses * upstream.to_dtype(losses.dtype())?)?.sum_all()
            };
            let gradients = above(&out.loss, !per_row).unwrap().backward().unwrap();
            let expected = if per_row { expected } else { (expected.sum_all().unwrap() / 5.0).unwrap() };
            let truth = above(&expected, !per_row).unwrap().backward().unwrap();
            let what = format!("{} {dtype:?} bias {bias} per row {per_row}", case.spec);
            assert_close(&what, &out.loss, &expected, tolerance(DType::F32));
            let inputs = inputs.ours.iter().zip(&inputs.theirs).take(if bias { 3 } else { 2 });
            for (index, (ours, theirs)) in inputs.enumerate() {
                let gradient = gradients.get(ours).unwrap();
                assert_close(
                    &format!("{what} {index}"),
                    gradient,
                    truth.get(theirs).unwrap(),
                    tolerance(dtype),
                );
                assert_eq!(gradient.dtype(), dtype);
            }
        }
    }
}

#[test]
fn every_gradient_is_that_of_differences() {
    // As from logits: a loss below 8 to 2^-21, a step of 2^-6; h^2 / 6 of a third derivative below 1.
    let step = 2f64.powi(-6);
    let case = &CASES[1];
    let start = Inputs::new(DType::F32);
    let loss = |tensors: &[Tensor; 3]| {
        let [hidden, weight, bias] = tensors;
        linear_token_loss(hidden, weight, Some(bias), &targets(), case.objective(), &Options::default())
            .unwrap()
            .loss
    };
    let tensors: [Tensor; 3] = std::array::from_fn(|index| start.ours[index].as_tensor().clone());
    let gradients = loss(&tensors).backward().unwrap();
    for (index, ours) in start.ours.iter().enumerate() {
        let exact = numbers(gradients.get(ours).unwrap());
        // Every seventh entry, of weights too many for all.
        for at in (0..exact.len()).step_by(7) {
            let moved = |by: f64| {
                let mut tensors = tensors.clone();
                let mut numbers = numbers(&tensors[index]);
                numbers[at] += by;
                let moved = Tensor::from_vec(numbers, tensors[index].shape(), &Device::Cpu).unwrap();
                tensors[index] = moved.to_dtype(DType::F32).unwrap();
                f64::from(loss(&tensors).to_scalar::<f32>().unwrap())
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            let off = (difference - exact[at]).abs();
            assert!(off < 2f64.powi(-13), "{index}: {} and {difference} at {at}", exact[at]);
        }
    }
}

#[test]
fn it_is_the_loss_of_the_logits() {
    let inputs = Inputs::new(DType::F32);
    let [hidden, weight, _] = &inputs.ours;
    let logits = hidden.matmul(&weight.t().unwrap()).unwrap();
    let fused = linear_token_loss(hidden, weight, None, &targets(), Nll, &options(true)).unwrap();
    let held = token_loss(&logits, &targets(), Nll, &options(true)).unwrap();
    assert_close("loss", &fused.loss, &held.loss, tolerance(DType::F32));
    let valid = |tensor: &Tensor| {
        let rows = [0u32, 1, 3, 4, 5];
        tensor.index_select(&Tensor::new(&rows, &Device::Cpu).unwrap(), 0).unwrap()
    };
    assert_close("log_p", &valid(&fused.log_p), &valid(&held.log_p), tolerance(DType::F32));
    assert_close("entropy", &valid(&fused.entropy), &valid(&held.entropy), tolerance(DType::F32));
    assert_eq!((fused.totals.valid, fused.totals.live), (held.totals.valid, held.totals.live));
}

#[test]
fn tensors_of_any_layout_and_rank() {
    let case = &CASES[0];
    // [2, 3, DIM] of a tensor that is transposed, [VOCAB, DIM] of one that is stored the other way.
    let (hidden, theirs) = tracked(&values(&[DIM, 2, 3], 1.0, 1).unwrap(), DType::F32).unwrap();
    let (weight, their_weight) = tracked(&values(&[DIM, VOCAB + 5], 1.0, 2).unwrap(), DType::F32).unwrap();
    let states = |base: &Tensor| base.permute((1, 2, 0)).unwrap();
    let head = |base: &Tensor| base.narrow(1, 5, VOCAB).unwrap().t().unwrap();
    let targets = targets().reshape((2, 3)).unwrap();
    let out =
        linear_token_loss(&states(&hidden), &head(&weight), None, &targets, Nll, &options(true)).unwrap();
    assert_eq!((out.loss.dims(), out.log_p.dims()), ([2usize, 3].as_slice(), [2usize, 3].as_slice()));
    let flat = states(&theirs).reshape((ROWS, DIM)).unwrap();
    let logits = flat.matmul(&head(&their_weight).t().unwrap()).unwrap();
    let expected = losses(case, &logits, &TARGETS).unwrap();
    let gradients = out.loss.sum_all().unwrap().backward().unwrap();
    let truth = expected.sum_all().unwrap().backward().unwrap();
    for (ours, theirs) in [(&hidden, &theirs), (&weight, &their_weight)] {
        let tolerance = tolerance(DType::F32);
        assert_close("gradient", gradients.get(ours).unwrap(), truth.get(theirs).unwrap(), tolerance);
    }
}

#[test]
fn gradients_go_only_to_what_is_tracked() {
    let inputs = Inputs::new(DType::F32);
    for per_row in [false, true] {
        let all = |tracked: [bool; 3]| {
            let tensor = |index: usize| match tracked[index] {
                true => inputs.ours[index].as_tensor().clone(),
                false => inputs.ours[index].detach(),
            };
            let [hidden, weight, bias] = [tensor(0), tensor(1), tensor(2)];
            let loss = linear_token_loss(&hidden, &weight, Some(&bias), &targets(), Nll, &options(per_row))
                .unwrap()
                .loss;
            let gradients = loss.sum_all().unwrap().backward().unwrap();
            inputs.ours.each_ref().map(|input| gradients.get(input).cloned())
        };
        let every = all([true; 3]);
        for tracked in [[true, false, false], [false, true, false], [false, false, true], [true, true, false]]
        {
            for ((got, expected), tracked) in all(tracked).iter().zip(&every).zip(tracked) {
                assert_eq!(got.is_some(), tracked);
                if let Some(got) = got {
                    assert_same(got, expected.as_ref().unwrap());
                }
            }
        }
    }
}

#[test]
fn untracked_inputs_are_a_loss_without_a_gradient() {
    let inputs = Inputs::new(DType::F32);
    let [hidden, weight, _] = inputs.ours.each_ref().map(|input| input.detach());
    let out = linear_token_loss(&hidden, &weight, None, &targets(), Nll, &Options::default()).unwrap();
    let expected = (inputs.losses(&CASES[0], false).unwrap().sum_all().unwrap() / 5.0).unwrap();
    assert_close("loss", &out.loss, &expected, tolerance(DType::F32));
    assert!(!out.loss.track_op());
}

#[test]
fn a_small_budget_is_the_same_loss() {
    let inputs = Inputs::new(DType::F32);
    let [hidden, weight, bias] = &inputs.ours;
    let run = |linear: LinearOptions| {
        let options = Options { linear, ..Options::default() };
        let out = linear_token_loss(hidden, weight, Some(bias), &targets(), Nll, &options).unwrap();
        let gradients = out.loss.backward().unwrap();
        inputs.ours.each_ref().map(|input| gradients.get(input).unwrap().clone())
    };
    let whole = run(LinearOptions::default());
    let parts = run(LinearOptions { chunk_rows: Some(2), chunk_vocab: Some(32), ..LinearOptions::default() });
    for (part, whole) in parts.iter().zip(&whole) {
        assert_close("gradient", part, whole, tolerance(DType::F32));
    }
    let options = Options {
        linear: LinearOptions { budget: Budget(16), ..LinearOptions::default() },
        ..Options::default()
    };
    let error = linear_token_loss(hidden, weight, None, &targets(), Nll, &options).unwrap_err();
    assert!(error.to_string().contains("16"), "{error}");
}

#[test]
fn backward_runs_twice() {
    let inputs = Inputs::new(DType::BF16);
    let [hidden, weight, _] = &inputs.ours;
    for per_row in [false, true] {
        let out = linear_token_loss(hidden, weight, None, &targets(), Nll, &options(per_row)).unwrap();
        let sum = out.loss.sum_all().unwrap();
        let gradient = |input: &Var| sum.backward().unwrap().get(input).unwrap().clone();
        assert_same(&gradient(hidden), &gradient(hidden));
        assert_same(&gradient(weight), &gradient(weight));
    }
}
