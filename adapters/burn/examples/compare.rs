//! Forward and backward of a mean cross entropy beside burn's own ops, on the CPU:
//! `cargo run --release -p tokenloss-burn --example compare`

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::time::Instant;
use tokenloss_burn::core::Nll;
use tokenloss_burn::{Options, linear_token_loss, token_loss};

const ROUNDS: usize = 7;

fn random(shape: [usize; 2], scale: f32, device: &Device) -> Tensor<2> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        scale * (2.0 * ((state >> 40) as f32 / (1u64 << 24) as f32) - 1.0)
    };
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| next()).collect();
    Tensor::from_data(TensorData::new(values, shape), device).require_grad()
}

fn main() -> Result<(), tokenloss_burn::Error> {
    let device = Device::flex().autodiff();
    println!("| rows x vocab, f32 | burn's own ops | tokenloss | ratio |\n|---|---|---|---|");
    for (rows, vocab) in [(512, 32_000), (256, 128_256)] {
        let logits = random([rows, vocab], 6.0, &device);
        let targets = targets(rows, vocab, &device);
        let composed = || {
            let log_p = log_softmax(logits.clone(), 1).gather(1, targets.clone().reshape([rows, 1]));
            let loss = log_p.mean().neg();
            Ok((logits.grad(&loss.backward()), loss))
        };
        let ours = || {
            let out = token_loss(logits.clone(), targets.clone(), Nll, &Options::default())?;
            Ok((logits.grad(&out.loss.backward()), out.loss))
        };
        report(&format!("{rows} x {vocab}"), composed, ours)?;
    }
    let (rows, dim, vocab) = (512, 576, 49_152);
    let (hidden, weight) = (random([rows, dim], 1.0, &device), random([vocab, dim], 0.3, &device));
    let targets = targets(rows, vocab, &device);
    let composed = || {
        let logits = hidden.clone().matmul(weight.clone().transpose());
        let log_p = log_softmax(logits, 1).gather(1, targets.clone().reshape([rows, 1]));
        let loss = log_p.mean().neg();
        Ok((weight.grad(&loss.backward()), loss))
    };
    let ours = || {
        let (h, w) = (hidden.clone(), weight.clone());
        let out = linear_token_loss(h, w, None, targets.clone(), Nll, &Options::default())?;
        Ok((weight.grad(&out.loss.backward()), out.loss))
    };
    report(&format!("{rows} x {vocab}, from a head of dim {dim}"), composed, ours)
}

fn targets(rows: usize, vocab: usize, device: &Device) -> Tensor<1, Int> {
    let targets: Vec<i32> = (0..rows).map(|row| (row * 7919 % vocab) as i32).collect();
    Tensor::from_data(TensorData::new(targets, [rows]), device)
}

type Step = Result<(Option<Tensor<2>>, Tensor<1>), tokenloss_burn::Error>;

/// Medians, in turns, after a round that is not counted.
fn report(
    name: &str,
    composed: impl Fn() -> Step,
    ours: impl Fn() -> Step,
) -> Result<(), tokenloss_burn::Error> {
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let mut losses = [0.0f32; 2];
        for (i, step) in [&composed as &dyn Fn() -> Step, &ours].into_iter().enumerate() {
            let start = Instant::now();
            let (gradient, loss) = step()?;
            let elapsed = start.elapsed().as_secs_f64();
            assert!(gradient.is_some(), "no gradient");
            losses[i] = loss.into_scalar();
            if round > 0 {
                seconds[i].push(elapsed);
            }
        }
        assert!((losses[0] - losses[1]).abs() <= 1e-4 * losses[0].abs(), "{losses:?}");
    }
    let [theirs, ours] = seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        1e3 * seconds[ROUNDS / 2]
    });
    println!("| {name} | {theirs:.0} ms | {ours:.0} ms | {:.1} |", theirs / ours);
    Ok(())
}
