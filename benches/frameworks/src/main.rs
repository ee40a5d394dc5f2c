//! Loss and gradients as trainers call them, in f32: the ops of candle and burn, and tokenloss in their place, from logits and
//! from hidden states and a head. Time and memory in one run, as a Markdown table.

mod burn;
mod candle;
mod memory;
mod problem;
mod tokenloss;

use crate::burn::Burn;
use crate::candle::Candle;
use crate::tokenloss::Tokenloss;
use problem::{Framework, Problem, Solution};
use std::error::Error;
use std::time::Instant;
use tokenloss_core::Budget;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

const ROUNDS: usize = 5;

/// Relative. All compute in f32 and add in different orders.
const ERROR: f64 = 1e-4;

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// A row of the table for each framework: the median time, the memory above what is held
/// anyhow, and the distance to the first of all.
fn compare(
    title: &str,
    mut frameworks: Vec<Box<dyn Framework + '_>>,
    (unit, bytes_of_unit, gradients): (&str, f64, usize),
) -> Result<(), Box<dyn Error>> {
    let mut seconds = vec![Vec::new(); frameworks.len()];
    let mut bytes = vec![0; frameworks.len()];
    let mut errors = vec![0.0f64; frameworks.len()];
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
            let error = solution.error(reference);
            if error.is_nan() || error >= ERROR {
                let name = framework.name();
                return Err(format!("{name}: {error:.1e} from tokenloss, not below {ERROR:.0e}").into());
            }
            errors[index] = errors[index].max(error);
        }
    }
    for (((framework, seconds), bytes), error) in frameworks.iter().zip(seconds).zip(bytes).zip(errors) {
        println!(
            "| {title} | {} | {:.3} s | {:.2} {unit} | {error:.1e} |",
            framework.name(),
            median(seconds),
            (bytes as f64 - gradients as f64) / bytes_of_unit,
        );
    }
    Ok(())
}

fn boxed<'a>(frameworks: impl IntoIterator<Item = impl Framework + 'a>) -> Vec<Box<dyn Framework + 'a>> {
    frameworks.into_iter().map(|framework| Box::new(framework) as _).collect()
}

/// Memory above inputs and gradients.
fn linear(rows: usize, dim: usize, vocab: usize) -> Result<(), Box<dyn Error>> {
    let problem = Problem::linear(rows, dim, vocab);
    let mut frameworks =
        boxed([Budget::default(), Budget(384 << 20)].map(|budget| Tokenloss::linear(&problem, budget)));
    frameworks.extend(boxed(Candle::linear(&problem)?));
    frameworks.extend(boxed(Burn::linear(&problem)));
    let title = format!("{rows} x {dim} x {vocab}");
    compare(&title, frameworks, ("MiB", (1 << 20) as f64, problem.gradient_bytes()))
}

/// Memory above the logits, the gradient included, in units of them.
fn logits(rows: usize, vocab: usize) -> Result<(), Box<dyn Error>> {
    let problem = Problem::logits(rows, vocab);
    let mut frameworks = boxed([Tokenloss::logits(&problem)]);
    frameworks.extend(boxed(Candle::logits(&problem)?));
    frameworks.extend(boxed(Burn::logits(&problem)));
    let title = format!("{rows} x {vocab}");
    compare(&title, frameworks, ("times the logits", problem.gradient_bytes() as f64, 0))
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("| | | time | memory | distance to tokenloss |");
    println!("|---|---|---|---|---|");
    logits(512, 32_000)?;
    logits(256, 128_256)?;
    linear(1024, 576, 49_152)?;
    linear(512, 2048, 128_256)
}
