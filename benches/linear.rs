//! The fused linear form beside the bare matrix products that it cannot do without.
//!
//! `cargo bench -p tokenloss --bench linear`

use std::time::Instant;
use tokenloss::cpu::{Cpu, bare_products};
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Batch, Element, EvaluateLinear, Linear, LinearGradients, LinearOptions, Nll, Outputs, Reduction, Shape,
};

const ROUNDS: usize = 5;

/// Rows, dim, vocab: a small model of today and a larger head.
const SHAPES: [[usize; 3]; 2] = [[1024, 576, 49_152], [512, 2048, 128_256]];

struct Gradients {
    dhidden: Vec<f32>,
    dweight: Vec<f32>,
}

/// Which gradients a trainer asks for.
#[derive(Clone, Copy)]
enum Wanted {
    Both,
    FrozenHead,
    Forward,
}

fn numbers(count: usize, scale: f32) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * scale
    };
    (0..count).map(|_| next()).collect()
}

fn fused<E: Element>(linear: &Linear<'_, E>, wanted: Wanted, gradients: &mut Gradients) {
    let Gradients { dhidden, dweight } = gradients;
    let wanted = match wanted {
        Wanted::Both => {
            LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: Some(&mut dweight[..]), dbias: None }
        }
        Wanted::FrozenHead => LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: None, dbias: None },
        Wanted::Forward => LinearGradients::default(),
    };
    let options = LinearOptions::default();
    let totals =
        Cpu::new().evaluate_linear(&Nll, Reduction::default(), linear, &options, wanted, Outputs::default());
    assert!(totals.is_ok_and(|totals| totals.loss().is_finite()));
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() {
    println!(
        "| rows x dim x vocab | chunk rows | three products | both gradients | frozen head | forward | bf16, both | f16, both |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for [rows, dim, vocab] in SHAPES {
        run(rows, dim, vocab);
    }
}

fn run(rows: usize, dim: usize, vocab: usize) {
    let (hidden, weight) = (numbers(rows * dim, 1.0), numbers(vocab * dim, 0.1));
    let targets: Vec<i32> = (0..rows).map(|row| (row * 7919 % vocab) as i32).collect();
    let shape = Shape::new(rows, vocab).expect("a shape");
    let batch = Batch::new(shape, &targets).expect("targets inside the vocab");
    let single = Linear::new(batch, dim, &hidden, &weight).expect("lengths that fit");
    let (hidden_bf16, weight_bf16) = (narrow::<bf16>(&hidden), narrow::<bf16>(&weight));
    let bf16 = Linear::new(batch, dim, &hidden_bf16, &weight_bf16).expect("lengths that fit");
    let (hidden_f16, weight_f16) = (narrow::<f16>(&hidden), narrow::<f16>(&weight));
    let f16 = Linear::new(batch, dim, &hidden_f16, &weight_f16).expect("lengths that fit");
    let mut gradients = Gradients { dhidden: vec![0.0; rows * dim], dweight: vec![0.0; vocab * dim] };

    let mut chunk = 0;
    let mut times = [const { Vec::new() }; 6];
    // The first round pays for pages and is not counted.
    for round in 0..=ROUNDS {
        let took = [
            seconds(|| {
                chunk = bare_products(&single, &LinearOptions::default(), &mut gradients.dweight)
                    .expect("a budget that is large enough");
            }),
            seconds(|| fused(&single, Wanted::Both, &mut gradients)),
            seconds(|| fused(&single, Wanted::FrozenHead, &mut gradients)),
            seconds(|| fused(&single, Wanted::Forward, &mut gradients)),
            seconds(|| fused(&bf16, Wanted::Both, &mut gradients)),
            seconds(|| fused(&f16, Wanted::Both, &mut gradients)),
        ];
        if round > 0 {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    let [bare, fused @ ..] = times.map(|times| median(&times));
    let speed = 6.0 * (rows * dim * vocab) as f64 / bare / 1e9;
    print!("| {rows} x {dim} x {vocab} | {chunk} | {bare:.3} s, {speed:.0} GFLOP/s |");
    for time in fused {
        print!(" {time:.3} s, {:.2}x |", time / bare);
    }
    println!();
}

fn narrow<E: Element>(values: &[f32]) -> Vec<E> {
    values.iter().map(|value| E::from_f32(*value)).collect()
}
