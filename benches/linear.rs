//! The fused linear form beside the bare matrix products that it cannot do without.
//!
//! `cargo bench -p tokenloss --bench linear`

use safetensors::SafeTensors;
use std::path::Path;
use std::time::Instant;
use tokenloss::cpu::{Cpu, bare_products};
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Batch, Element, EvaluateLinear, Linear, LinearGradients, LinearOptions, Nll, Objective, Outputs,
    Reduction, RowObjective, Shape, Totals,
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
    assert!(evaluate(&Nll, linear, wanted, gradients).loss().is_finite());
}

fn evaluate<E: Element, O: RowObjective + Sync>(
    objective: &O,
    linear: &Linear<'_, E>,
    wanted: Wanted,
    gradients: &mut Gradients,
) -> Totals {
    let Gradients { dhidden, dweight } = gradients;
    let wanted = match wanted {
        Wanted::Both => {
            LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: Some(&mut dweight[..]), dbias: None }
        }
        Wanted::FrozenHead => LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: None, dbias: None },
        Wanted::Forward => LinearGradients::default(),
    };
    let options = LinearOptions::default();
    Cpu::new()
        .evaluate_linear(objective, Reduction::default(), linear, &options, wanted, Outputs::default())
        .expect("finite logits")
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
    if let Some(real) = Real::load() {
        real.run();
    } else {
        println!("\nlive rows: not measured, no ../shared/data");
    }
}

/// Hidden states and head of a real model, where they are.
struct Real {
    hidden: Vec<bf16>,
    weight: Vec<bf16>,
    targets: Vec<i32>,
}

impl Real {
    const DIM: usize = 576;
    const VOCAB: usize = 49_152;

    fn load() -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
        let rows = std::fs::read(folder.join("smollm2-135m-gsm8k.safetensors")).ok()?;
        let head = std::fs::read(folder.join("smollm2-135m-lm_head.safetensors")).ok()?;
        let (rows, head) = (SafeTensors::deserialize(&rows).ok()?, SafeTensors::deserialize(&head).ok()?);
        let halves =
            |bytes: &[u8]| bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]])).collect();
        let word = |b: &[u8]| i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Some(Self {
            hidden: halves(rows.tensor("hidden").ok()?.data()),
            weight: halves(head.tensor("lm_head").ok()?.data()),
            targets: rows.tensor("targets").ok()?.data().chunks_exact(4).map(word).collect(),
        })
    }

    /// What rows without a gradient save: the logits are a third of the work, the gradients of live rows the rest.
    fn run(&self) {
        let shape = Shape::new(self.targets.len(), Self::VOCAB).expect("a shape");
        let batch = Batch::new(shape, &self.targets).expect("targets inside the vocab");
        let wide = |values: &[bf16]| values.iter().map(|v| v.to_f32()).collect::<Vec<_>>();
        let (hidden, weight) = (wide(&self.hidden), wide(&self.weight));
        let linear = Linear::new(batch, Self::DIM, &hidden, &weight).expect("lengths that fit");
        let specs = ["nll", "power:alpha=1", "power:alpha=10", "thresholded:inner=nll,lo=0.2"];
        let objectives = specs.map(|spec| Objective::parse(spec).expect("a spec"));
        let mut gradients =
            Gradients { dhidden: vec![0.0; hidden.len()], dweight: vec![0.0; Self::VOCAB * Self::DIM] };
        let mut times = specs.map(|_| Vec::new());
        let mut shares = specs.map(|_| 0.0);
        for round in 0..=ROUNDS {
            for (i, objective) in objectives.iter().enumerate() {
                let took = seconds(|| {
                    let totals = evaluate(objective, &linear, Wanted::Both, &mut gradients);
                    shares[i] = totals.live as f64 / totals.valid as f64;
                });
                if round > 0 {
                    times[i].push(took);
                }
            }
        }
        println!("\n| gsm8k rows, f32 | live share | both gradients | of nll | 1/3 + 2/3 live share |");
        println!("|---|---|---|---|---|");
        let nll = median(&times[0]);
        for ((spec, times), live) in specs.iter().zip(&times).zip(shares) {
            let time = median(times);
            let bound = (1.0 + 2.0 * live) / 3.0;
            println!("| `{spec}` | {live:.3} | {time:.3} s | {:.2}x | {bound:.2}x |", time / nll);
        }
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
