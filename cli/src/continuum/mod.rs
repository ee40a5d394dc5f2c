//! `tokenloss continuum`: which objective wins where on the continuum.

mod experiment;
mod model;
mod source;

use crate::backend::Choice;
use crate::progress::Progress;
use anyhow::Result;
use clap::Args;
use experiment::Setup;
use model::Sizes;
use tokenloss::Objective;

/// Options of `tokenloss continuum`.
#[derive(Debug, Args)]
pub(crate) struct Continuum {
    #[command(flatten)]
    backend: Choice,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, default_value_t = 3)]
    seeds: usize,
    #[arg(long, default_value_t = 256)]
    vocab: usize,
    #[arg(long, default_value_t = 8)]
    classes: usize,
    #[arg(long, default_value_t = 32)]
    dim: usize,
    #[arg(long, default_value_t = 128)]
    hidden: usize,
    #[arg(long, default_value_t = 0.2)]
    ambiguity: f64,
    #[arg(long, value_delimiter = ',', default_values_t = [20, 300, 2000])]
    pretrain: Vec<usize>,
    #[arg(long, default_value_t = 300)]
    steps: usize,
    #[arg(long, default_value_t = 128)]
    batch: usize,
    #[arg(long, default_value_t = 4096)]
    examples: usize,
    #[arg(long, default_value_t = 0.003)]
    pretrain_rate: f32,
    #[arg(long, default_value_t = 0.003)]
    rate: f32,
    #[arg(long, default_value_t = 2048)]
    test: usize,
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.1, 0.3])]
    noise: Vec<f64>,
    #[arg(long = "objective")]
    objectives: Vec<String>,
}

impl Continuum {
    pub(crate) fn run(self) -> Result<()> {
        let engine = self.backend.open()?;
        let specs: Vec<String> = if self.objectives.is_empty() {
            ["nll", "power:alpha=0.5", "power:alpha=1", "power:alpha=10", "thresholded:inner=nll,lo=0.2"].map(String::from).to_vec()
        } else { self.objectives.clone() };
        let objectives: Vec<Objective> = specs.iter().map(|s| Objective::parse(s).map_err(|e| anyhow::anyhow!("{e}"))).collect::<Result<_>>()?;
        let setup = Setup {
            seed: self.seed, seeds: self.seeds, sizes: Sizes { vocab: self.vocab, dim: self.dim, hidden: self.hidden },
            classes: self.classes, ambiguity: self.ambiguity, pretrain: self.pretrain, steps: self.steps, examples: self.examples, batch: self.batch,
            rates: (self.pretrain_rate, self.rate), test: self.test, noise: self.noise, objectives,
        };
        eprintln!("{} {} logits", engine.describe(), setup.logits());
        let outcome = setup.run(&engine, &Progress::new())?;
        for c in 0..setup.pretrain.len() {
            let acc: f64 = outcome.bases.iter().map(|b| b[c].test.accuracy).sum::<f64>() / setup.seeds as f64;
            let tp: f64 = outcome.bases.iter().map(|b| b[c].test.mean_p).sum::<f64>() / setup.seeds as f64;
            println!("capability {c}: base acc {acc:.4} test p {tp:.4}");
            for n in 0..setup.noise.len() {
                let p: f64 = outcome.bases.iter().map(|b| b[c].training[n].mean_p).sum::<f64>() / setup.seeds as f64;
                print!("  noise {:.2} p {p:.4} |", setup.noise[n]);
                for o in 0..setup.objectives.len() {
                    let x: Vec<f64> = outcome.runs.iter().filter(|r| r.capability == c && r.noise == n && r.objective == o).map(|r| r.test.accuracy).collect();
                    let m = x.iter().sum::<f64>() / x.len() as f64;
                    let sd = (x.iter().map(|x| (x - m).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0).max(1.0)).sqrt();
                    print!(" {:5.1}+-{:4.1}", 100.0 * m, 100.0 * sd);
                }
                println!();
            }
        }
        Ok(())
    }
}
