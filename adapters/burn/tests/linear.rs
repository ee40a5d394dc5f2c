//! Losses of hidden states and a head beside the reference and beside burn's own ops.

mod common;

use burn::nn::LinearConfig;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor};
use common::{
    Oracle, assert_near, ints, objectives, product, read, scaled, tensor, transposed, uniform, wide,
};
use tokenloss_burn::core::{Budget, Composite, LinearOptions, Nll, NonFinite, Reduction};
use tokenloss_burn::{Error, Options, linear_token_loss};

const ROWS: usize = 5;
const DIM: usize = 8;
const VOCAB: usize = 29;
const TARGETS: [i32; ROWS] = [3, -100, 28, 0, 17];
const WEIGHTS: [f32; ROWS] = [1.0, 2.0, 0.5, 3.0, 1.25];

/// Sums of 29 products of f32 that do not exceed 10.
const TOLERANCE: f64 = 2e-5;

fn device() -> Device {
    Device::flex().autodiff()
}

struct Leaves {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
}

fn values() -> [Vec<f32>; 3] {
    [scaled(uniform(ROWS * DIM, 2), 1.5), scaled(uniform(VOCAB * DIM, 3), 1.5), uniform(VOCAB, 4)]
}

impl Leaves {
    fn new(device: &Device, tracked: [bool; 3]) -> Self {
        let [hidden, weight, bias] = values();
        Self {
            hidden: tensor(&hidden, [ROWS, DIM], device).set_require_grad(tracked[0]),
            weight: tensor(&weight, [VOCAB, DIM], device).set_require_grad(tracked[1]),
            bias: tensor(&bias, [VOCAB], device).set_require_grad(tracked[2]),
        }
    }
}

/// Gradients of `sum_i by_i L_i` by hidden states, weight and bias.
fn expected(by: &[f64], objective: &Composite, biased: bool) -> (Oracle, [Vec<f64>; 3]) {
    let [hidden, weight, bias] = values().map(|values| wide(&values));
    let mut logits = product(&hidden, &transposed(&weight, [VOCAB, DIM]), [ROWS, DIM, VOCAB]);
    if biased {
        logits.iter_mut().enumerate().for_each(|(i, z)| *z += bias[i % VOCAB]);
    }
    let oracle = Oracle::new(&logits, VOCAB, &TARGETS, by, objective);
    let dhidden = product(&oracle.dlogits, &weight, [ROWS, VOCAB, DIM]);
    let dweight = product(&transposed(&oracle.dlogits, [ROWS, VOCAB]), &hidden, [VOCAB, ROWS, DIM]);
    let dbias = (0..VOCAB).map(|j| (0..ROWS).map(|i| oracle.dlogits[i * VOCAB + j]).sum()).collect();
    (oracle, [dhidden, dweight, dbias])
}

fn check(reduction: Option<Reduction>, objective: Composite, tracked: [bool; 3], biased: bool) {
    let device = device();
    let leaves = Leaves::new(&device, tracked);
    let options =
        Options { reduction, weights: Some(tensor(&WEIGHTS, [ROWS], &device)), ..Options::default() };
    let out = linear_token_loss(
        leaves.hidden.clone(),
        leaves.weight.clone(),
        biased.then(|| leaves.bias.clone()),
        ints(&TARGETS, [ROWS], &device),
        objective,
        &options,
    )
    .unwrap();
    let above = [2.0f32, 7.0, 0.0, -1.5, 0.25];
    let (pulled, by) = match reduction {
        Some(_) => (out.loss.clone() * -2.5, WEIGHTS.map(|w| f64::from(w * -2.5) / 4.0)),
        None => {
            let by = std::array::from_fn(|row| f64::from(WEIGHTS[row] * above[row]));
            ((out.loss.clone() * tensor(&above, [ROWS], &device)).sum(), by)
        }
    };
    let (oracle, parts) = expected(&by, &objective, biased);
    assert_near("log_p", &read(out.log_p.clone()), &oracle.log_p, TOLERANCE);
    assert_near("entropy", &read(out.entropy.clone()), &oracle.entropy, TOLERANCE);
    let gradients = pulled.backward();
    let ours = [
        leaves.hidden.grad(&gradients).map(read),
        leaves.weight.grad(&gradients).map(read),
        leaves.bias.grad(&gradients).map(read),
    ];
    let names = ["dhidden", "dweight", "dbias"];
    for (i, (ours, parts)) in ours.iter().zip(&parts).enumerate() {
        let wanted = tracked[i] && (i < 2 || biased);
        assert_eq!(ours.is_some(), wanted, "{}", names[i]);
        if let Some(ours) = ours {
            assert!(ours.iter().any(|d| *d != 0.0));
            assert_near(names[i], ours, parts, TOLERANCE);
        }
    }
    let totals = out.totals().unwrap();
    assert_eq!((totals.valid, totals.ignored), (4, 1));
}

#[test]
fn gradients_are_those_of_the_reference() {
    for objective in objectives() {
        for reduction in [Some(Reduction::default()), None] {
            check(reduction, objective, [true; 3], true);
            check(reduction, objective, [true; 3], false);
        }
    }
}

#[test]
fn what_is_frozen_has_no_gradient() {
    for tracked in [[true, false, false], [false, true, false], [false, false, true], [true, false, true]] {
        for reduction in [Some(Reduction::default()), None] {
            check(reduction, Composite::from(Nll), tracked, true);
        }
    }
}

#[test]
fn cross_entropy_is_that_of_burns_own_layer() {
    let device = device();
    let layer = LinearConfig::new(DIM, VOCAB).init(&device);
    let targets = [3, 1, 28, 0, 17];
    let (ours, theirs) = (Leaves::new(&device, [true; 3]).hidden, Leaves::new(&device, [true; 3]).hidden);
    let head = layer.weight.val().transpose();
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    let out = linear_token_loss(
        ours.clone(),
        head,
        bias,
        ints(&targets, [ROWS], &device),
        Nll,
        &Options::default(),
    );
    let out = out.unwrap();
    let index: Tensor<2, Int> = ints(&targets, [ROWS, 1], &device);
    let composed = log_softmax(layer.forward(theirs.clone()), 1).gather(1, index).mean().neg();
    assert_near("loss", &read(out.loss.clone()), &wide(&read(composed.clone())), 1e-6);
    let (dours, dtheirs) = (out.loss.backward(), composed.backward());
    assert_near(
        "dhidden",
        &read(ours.grad(&dours).unwrap()),
        &wide(&read(theirs.grad(&dtheirs).unwrap())),
        2e-6,
    );
    // In the layer's own layout, [dim, vocab].
    let (ours, theirs) =
        (layer.weight.val().grad(&dours).unwrap(), layer.weight.val().grad(&dtheirs).unwrap());
    assert_eq!(ours.dims(), [DIM, VOCAB]);
    assert_near("dweight", &read(ours), &wide(&read(theirs)), 2e-6);
    let of_bias = |gradients| read(layer.bias.as_ref().unwrap().val().grad(gradients).unwrap());
    assert_near("dbias", &of_bias(&dours), &wide(&of_bias(&dtheirs)), 2e-6);
}

#[test]
fn a_head_that_is_the_embedding_gets_both_gradients() {
    let device = device();
    let [hidden, weight, _] = values();
    let table = tensor(&weight, [VOCAB, DIM], &device).require_grad();
    let picked = [5, 6, 7, 8, 9];
    let states =
        table.clone().select(0, ints(&picked, [ROWS], &device)) + tensor(&hidden, [ROWS, DIM], &device);
    let targets = ints(&TARGETS, [ROWS], &device);
    let out = linear_token_loss(states, table.clone(), None, targets, Nll, &Options::default()).unwrap();
    let ours = read(table.grad(&out.loss.backward()).unwrap());

    let apart = tensor(&weight, [VOCAB, DIM], &device).require_grad();
    let states =
        apart.clone().select(0, ints(&picked, [ROWS], &device)) + tensor(&hidden, [ROWS, DIM], &device);
    let logits = states.matmul(apart.clone().transpose());
    let log_p = log_softmax(logits, 1).gather(1, ints(&[3, 0, 28, 0, 17], [ROWS, 1], &device));
    let mask = tensor(&[0.25, 0.0, 0.25, 0.25, 0.25], [ROWS, 1], &device);
    let theirs = read(apart.grad(&(log_p * mask).sum().neg().backward()).unwrap());
    assert_near("dtable", &ours, &wide(&theirs), 4e-6);
}

#[test]
fn more_dimensions_and_half_types_are_served() {
    let device = device();
    let [hidden, weight, bias] = values();
    for dtype in [DType::F16, DType::BF16] {
        let hidden = tensor(&hidden[..4 * DIM], [2, 2, DIM], &device).cast(dtype).require_grad();
        let weight = tensor(&weight, [VOCAB, DIM], &device).cast(dtype).require_grad();
        let bias = tensor(&bias, [VOCAB], &device).cast(dtype).require_grad();
        let targets = ints(&[3, -100, 28, 0], [2, 2], &device);
        let (h, w, b) = (hidden.clone(), weight.clone(), Some(bias.clone()));
        let out = linear_token_loss(h, w, b, targets.clone(), Nll, &Options::default()).unwrap();
        assert_eq!((out.log_p.dims(), out.loss.dtype()), ([2, 2], DType::F32));
        let gradients = out.loss.clone().backward();
        let dhidden = hidden.grad(&gradients).unwrap();
        assert_eq!((dhidden.dims(), dhidden.dtype()), ([2, 2, DIM], dtype));
        let [dweight, dbias] =
            [weight.grad(&gradients).unwrap().reshape([VOCAB * DIM]), bias.grad(&gradients).unwrap()];
        assert_eq!([dweight.dtype(), dbias.dtype()], [dtype, dtype]);

        // The same in f32, from what the inputs were rounded to.
        let wide32 = |t: Tensor<3>| tensor(&read(t), [2, 2, DIM], &device).require_grad();
        let h = wide32(hidden.detach());
        let w = tensor(&read(weight.detach()), [VOCAB, DIM], &device);
        let b = Some(tensor(&read(bias.detach()), [VOCAB], &device));
        let exact = linear_token_loss(h.clone(), w, b, targets, Nll, &Options::default()).unwrap();
        assert_near("loss", &read(out.loss), &wide(&read(exact.loss.clone())), 1e-5);
        let exact = read(h.grad(&exact.loss.backward()).unwrap());
        // Half a unit in the last place of numbers below 1, in bf16.
        assert_near("dhidden", &read(dhidden), &wide(&exact), 0.5f64.powi(9));
    }
}

#[test]
fn a_small_budget_gives_the_same_and_one_too_small_is_an_error() {
    let device = device();
    let run = |budget: usize, reduction: Option<Reduction>| {
        let leaves = Leaves::new(&device, [true; 3]);
        let linear = LinearOptions { budget: Budget(budget), ..LinearOptions::default() };
        let options = Options { linear, reduction, ..Options::default() };
        let targets = ints(&TARGETS, [ROWS], &device);
        let out =
            linear_token_loss(leaves.hidden.clone(), leaves.weight.clone(), None, targets, Nll, &options)?;
        let gradients = out.loss.sum().backward();
        Ok::<_, Error>(read(leaves.weight.grad(&gradients).unwrap()))
    };
    for reduction in [Some(Reduction::Sum), None] {
        let roomy = run(64 << 20, reduction).unwrap();
        assert_near("dweight", &run(4 << 10, reduction).unwrap(), &wide(&roomy), 2e-6);
        let error = run(4, reduction).unwrap_err();
        assert!(
            matches!(error, Error::Loss(tokenloss_burn::core::Error::Budget { budget: 4, .. })),
            "{error}"
        );
    }
}

#[test]
fn rows_that_are_not_finite_are_an_error_or_nan() {
    let device = device();
    let [mut hidden, weight, _] = values();
    hidden[2 * DIM] = f32::NAN;
    for reduction in [Some(Reduction::default()), None] {
        let run = |non_finite| {
            let h = tensor(&hidden, [ROWS, DIM], &device).require_grad();
            let options = Options { reduction, non_finite, ..Options::default() };
            let (w, t) = (tensor(&weight, [VOCAB, DIM], &device), ints(&TARGETS, [ROWS], &device));
            let out = linear_token_loss(h.clone(), w, None, t, Nll, &options)?;
            Ok::<_, Error>(read(h.grad(&out.loss.sum().backward()).unwrap()))
        };
        let error = run(NonFinite::Error).unwrap_err();
        assert!(
            matches!(error, Error::Loss(tokenloss_burn::core::Error::NonFinite { row: 2, .. })),
            "{error}"
        );
        let dhidden = run(NonFinite::NanRow).unwrap();
        for row in 0..ROWS {
            assert!(dhidden[row * DIM..][..DIM].iter().all(|d| d.is_nan() == (row == 2)), "row {row}");
        }
    }
}
