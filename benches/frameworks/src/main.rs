//! Loss and gradients from hidden states and a head, f32: tokenloss' fused linear form beside what burn and candle
//! users have, cross entropy over logits that are held. Time and memory above inputs and gradients, in one run, as a
//! Markdown table.

mod burn;
mod candle;
mod memory;
mod problem;
mod tokenloss;

use problem::{Framework, Problem, Solution};
use std::error::Error;
use std::time::Instant;
use tokenloss_core::Budget;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

const ROUNDS: usize = 5;

const FRAMEWORKS: usize = 4;

/// Relative. All compute in f32 and add in different orders.
const ERROR: f64 = 1e-4;

const MIB: f64 = (1 << 20) as f64;

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn compare(rows: usize, dim: usize, vocab: usize) -> Result<(), Box<dyn Error>> {
    let problem = Problem::new(rows, dim, vocab);
    let mut frameworks: [Box<dyn Framework + '_>; FRAMEWORKS] = [
        Box::new(tokenloss::Tokenloss::new(&problem, Budget::default())),
        Box::new(tokenloss::Tokenloss::new(&problem, Budget(384 << 20))),
        Box::new(candle::Candle::new(&problem)?),
        Box::new(burn::Burn::new(&problem)),
    ];
    let mut seconds = [const { Vec::new() }; FRAMEWORKS];
    let mut bytes = [0; FRAMEWORKS];
    let mut errors = [0.0f64; FRAMEWORKS];
    let mut reference: Option<Solution> = None;
    for round in 0..=ROUNDS {
        for (index, framework) in frameworks.iter_mut().enumerate() {
            let held = memory::held();
            let start = Instant::now();
            let (done, peak) = memory::peak_of(|| framework.step());
            let elapsed = start.elapsed().as_secs_f64();
            done?;
            // The first round counts for memory, having nothing kept from an earlier one, and not for time.
            bytes[index] = bytes[index].max(peak - held);
            if round > 0 {
                seconds[index].push(elapsed);
            }
            let solution = framework.take()?;
            let Some(reference) = &reference else {
                reference = Some(solution);
                continue;
            };
            for error in solution.errors(reference) {
                if error.is_nan() || error >= ERROR {
                    let name = framework.name();
                    return Err(format!("{name}: {error:.1e} from tokenloss, not below {ERROR:.0e}").into());
                }
                errors[index] = errors[index].max(error);
            }
        }
    }
    for (((framework, seconds), bytes), error) in frameworks.iter().zip(seconds).zip(bytes).zip(errors) {
        println!(
            "| {rows} x {dim} x {vocab} | {} | {:.2} s | {:.0} MiB | {error:.1e} |",
            framework.name(),
            median(seconds),
            (bytes as f64 - problem.gradient_bytes() as f64) / MIB,
        );
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("| rows x dim x vocab | | time | memory | distance to tokenloss |");
    println!("|---|---|---|---|---|");
    compare(1024, 576, 49_152)?;
    compare(512, 2048, 128_256)
}
