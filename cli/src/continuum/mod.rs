//! `tokenloss continuum`: which objective wins where on the continuum.
//!
//! A small next-token model is pretrained by nll on a random source whose true conditional is known, and taken
//! after few, some and many steps: weak, intermediate, strong. Each is then fine-tuned on the same sentences with
//! a share of wrong labels under every objective, and tested on clean sentences with pairs of tokens that it never
//! saw. Everything but the objective is shared: data, order, optimiser, learning rate, steps.
//!
//! How the defaults were chosen: about fifteen settings of sizes, steps and sentences were looked at, with one seed,
//! seeing all outcomes; taken was one with three distinct capabilities in which a weak model learns the source at
//! all within the time. The learning rate is the faster in nll pretraining of the two tried, .003 and .01. Seeds 100
//! to 102, not looked at before, give the same picture as the default seeds.
//!
//! The number of fine-tuning sentences decides the outcome and is a choice: 8192 are seen 9.4 times in 600 steps, so
//! that a model can learn wrong labels by heart, which is how label noise harms. With every sentence seen once
//! (`--examples 76800`) uniform noise averages out, and nll keeps up with the others in a strong model, too.

mod experiment;
mod model;
mod picture;
mod report;
mod source;

use crate::backend::Choice;
use crate::draw;
use crate::progress::Progress;
use crate::spec::{COMPARED, Spec};
use anyhow::{Result, ensure};
use clap::Args;
use experiment::Setup;
use model::Sizes;
use report::Report;
use std::path::PathBuf;
use std::time::Instant;

/// Options of `tokenloss continuum`.
#[derive(Debug, Args)]
pub(crate) struct Continuum {
    #[command(flatten)]
    backend: Choice,
    /// Objectives to compare, each an option of its own; those of the paper by default
    #[arg(long = "objective", value_name = "SPEC", default_values_t = COMPARED.map(String::from))]
    objectives: Vec<String>,
    /// Shares of wrong labels in the fine-tuning data
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [0.0, 0.1, 0.3],
        value_name = "SHARES",
        allow_negative_numbers = true
    )]
    noise: Vec<f64>,
    /// The first seed: source, data, weights and order of the rest follow from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 3)]
    seeds: usize,
    /// Pretraining steps of the weak, the intermediate and the strong model
    #[arg(long, value_delimiter = ',', default_values_t = [10, 250, 1000], value_name = "STEPS")]
    pretrain: Vec<usize>,
    /// Fine-tuning steps
    #[arg(long, default_value_t = 600)]
    steps: usize,
    /// Fine-tuning sentences, taken in another order in every epoch
    #[arg(long, default_value_t = 8192)]
    examples: usize,
    /// Rows of a batch
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Learning rate of pretraining and fine-tuning, the same for every objective
    #[arg(long, default_value_t = 0.01, allow_negative_numbers = true)]
    rate: f32,
    /// Tokens
    #[arg(long, default_value_t = 128)]
    vocab: usize,
    /// Classes of tokens in the source: the more, the harder it is to learn
    #[arg(long, default_value_t = 4)]
    classes: usize,
    /// Share of pretraining sentences that do not end in the best token
    #[arg(long, default_value_t = 0.2, allow_negative_numbers = true)]
    ambiguity: f64,
    /// Width of an embedding
    #[arg(long, default_value_t = 32)]
    dim: usize,
    /// Width of the hidden layer
    #[arg(long, default_value_t = 128)]
    hidden: usize,
    /// Test sentences, made of pairs of tokens that no training sentence has
    #[arg(long, default_value_t = 2048)]
    test: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write PREFIX.svg and PREFIX.png
    #[arg(long, default_value = "tokenloss-continuum", value_name = "PREFIX")]
    out: PathBuf,
}

impl Continuum {
    /// Runs it.
    pub(crate) fn run(self) -> Result<()> {
        let since = Instant::now();
        let setup = self.setup()?;
        draw::check_prefix(&self.out)?;
        let engine = self.backend.open()?;
        eprintln!(
            "{} fine-tuning runs of {} steps, {:.1} G logits, on {}",
            setup.runs(),
            setup.steps,
            setup.logits() as f64 / 1e9,
            engine.describe()
        );
        let outcome = setup.run(&engine, &Progress::new())?;
        let report = Report::new(&setup, &outcome, engine.describe());
        let files = draw::save_both(&picture::picture(&report)?, &self.out)?;
        if self.json {
            let mut json = serde_json::to_value(&report)?;
            json["seconds"] = since.elapsed().as_secs_f64().into();
            println!("{json:#}");
        } else {
            report.print();
        }
        let seconds = since.elapsed().as_secs_f64();
        eprintln!("wrote {} and {} after {seconds:.1} s", files[0].display(), files[1].display());
        Ok(())
    }

    fn setup(&self) -> Result<Setup> {
        let at_least = |what: &str, value: usize, least: usize| {
            ensure!(value >= least, "{what}: expected at least {least}, got {value}");
            Ok(())
        };
        at_least("seeds", self.seeds, 1)?;
        at_least("steps", self.steps, 1)?;
        at_least("examples", self.examples, 1)?;
        at_least("batch", self.batch, 1)?;
        at_least("vocab", self.vocab, 8)?;
        at_least("classes", self.classes, 1)?;
        at_least("dim", self.dim, 1)?;
        at_least("hidden", self.hidden, 1)?;
        at_least("test", self.test, 1)?;
        ensure!(self.vocab <= 4096, "vocab: expected at most 4096, got {}", self.vocab);
        ensure!(
            self.rate > 0.0 && self.rate.is_finite(),
            "rate: expected a positive number, got {}",
            self.rate
        );
        for share in self.noise.iter().chain([&self.ambiguity]) {
            ensure!((0.0..=1.0).contains(share), "noise, ambiguity: expected 0 to 1, got {share}");
        }
        ensure!(
            self.pretrain.is_sorted_by(|a, b| a < b),
            "pretrain: expected rising numbers of steps, got {:?}",
            self.pretrain
        );
        Ok(Setup {
            seed: self.seed,
            seeds: self.seeds,
            sizes: Sizes { vocab: self.vocab, dim: self.dim, hidden: self.hidden },
            classes: self.classes,
            ambiguity: self.ambiguity,
            pretrain: self.pretrain.clone(),
            steps: self.steps,
            examples: self.examples,
            batch: self.batch,
            rate: self.rate,
            test: self.test,
            noise: self.noise.clone(),
            specs: Spec::parse_all(&self.objectives)?,
        })
    }
}
