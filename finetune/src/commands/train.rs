//! Training.

use super::{Ready, Source, eval};
use anyhow::{Result, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::path::PathBuf;
use tokenloss_core::{Budget, Composite};
use tokenloss_finetune::checkpoint::Origin;
use tokenloss_finetune::data::{self, Order};
use tokenloss_finetune::eval::sum_up;
use tokenloss_finetune::loss::Loss;
use tokenloss_finetune::metrics::Log;
use tokenloss_finetune::optim::AdamW;
use tokenloss_finetune::train::{Settings, Trained, Trainer};
use tokenloss_finetune::{Error, save};

/// Train on prompts and responses.
#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(flatten)]
    source: Source,
    /// Lines of {"prompt": .., "response": ..}
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The folder of what comes out: metrics.jsonl, checkpoint.safetensors, and the model
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// What is minimised: a spec of tokenloss, also a sum of several, or a key of the paper's code
    #[arg(long, default_value = "nll", value_name = "SPEC")]
    objective: String,
    /// Which parameters: full, last:BLOCKS, or lora:RANK
    #[arg(long, default_value = "full", value_name = "WHICH")]
    train: Trained,
    /// Steps [default: one epoch]
    #[arg(long)]
    steps: Option<usize>,
    /// Examples of a step
    #[arg(long, default_value_t = 16, value_name = "EXAMPLES")]
    batch: usize,
    /// Examples that go through the model at once; memory grows with it, and the result does not change but for rounding
    #[arg(long, default_value_t = 4, value_name = "EXAMPLES")]
    micro: usize,
    /// The highest learning rate
    #[arg(long, default_value_t = AdamW::default().learning_rate, value_name = "RATE")]
    learning_rate: f64,
    /// The share of the steps in which the learning rate rises
    #[arg(long, default_value_t = AdamW::default().warm_up, value_name = "SHARE")]
    warm_up: f64,
    /// The weight decay of matrices
    #[arg(long, default_value_t = AdamW::default().weight_decay, value_name = "DECAY")]
    weight_decay: f64,
    /// The greatest norm of a step's gradient
    #[arg(long, default_value_t = AdamW::default().clip, value_name = "NORM")]
    clip: f64,
    /// What the order of examples follows from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write a checkpoint after so many steps; 0 writes none
    #[arg(long, default_value_t = 50, value_name = "STEPS")]
    checkpoint: usize,
    /// Go on from the checkpoint in the folder, if there is one
    #[arg(long)]
    resume: bool,
    /// Held-out examples, which are judged before and after
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// The most tokens of a greedy answer to a held-out example; 0 asks for none
    #[arg(long, default_value_t = 64, value_name = "TOKENS")]
    answer: usize,
    /// The most MiB that the head holds beside hidden states, weights and gradients
    #[arg(long, default_value_t = 64, value_name = "MIB")]
    budget: usize,
    /// With last:BLOCKS, the most MiB of hidden states that are kept; others are computed anew
    #[arg(long, default_value_t = 4096, value_name = "MIB")]
    kept: usize,
}

impl Train {
    pub(crate) fn run(&self) -> Result<()> {
        let objective = Composite::parse(&self.objective).map_err(|error| anyhow!("{error}"))?;
        let Ready { model, tokens, chat, context } = self.source.load()?;
        let examples = data::read(&self.data, &tokens, &chat, context)?;
        let held_out =
            self.eval.as_ref().map(|path| data::read(path, &tokens, &chat, context)).transpose()?;
        let settings = Settings {
            trained: self.train,
            objective: self.objective.clone(),
            steps: self.steps.unwrap_or_else(|| examples.len().div_ceil(self.batch.max(1))),
            batch: self.batch,
            micro: self.micro,
            seed: self.seed,
            adam: AdamW {
                learning_rate: self.learning_rate,
                warm_up: self.warm_up,
                weight_decay: self.weight_decay,
                clip: self.clip,
                ..AdamW::default()
            },
        };
        let loss = Loss { objective, budget: Budget(self.budget << 20) };
        let mut trainer = Trainer::new(model, settings, loss, self.kept << 20)?;
        let origin = Origin::new(&trainer, &examples)?;

        fs::create_dir_all(&self.out).map_err(|source| Error::File { path: self.out.clone(), source })?;
        let checkpoint = self.out.join("checkpoint.safetensors");
        if checkpoint.exists() {
            if !self.resume {
                let expected = format!("{} is there: --resume goes on from it", checkpoint.display());
                return Err(Error::Setting { name: "resume", found: "not given".to_owned(), expected }.into());
            }
            origin.resume(&mut trainer, &checkpoint)?;
            eprintln!("goes on after step {} of {}", trainer.step, trainer.settings.steps);
        }
        let judge = |trainer: &Trainer| -> Result<()> {
            if let Some(examples) = &held_out {
                let answers = eval::answers(&trainer.model.inner(), &tokens, examples, self.answer)?;
                println!("{}", eval::line(&sum_up(examples.iter().zip(&answers))));
            }
            Ok(())
        };
        if trainer.step == 0 {
            judge(&trainer)?;
        }

        let mut log = Log::open(&self.out.join("metrics.jsonl"), trainer.step)?;
        let mut order = Order::new(self.seed, examples.len());
        let steps = trainer.settings.steps;
        let bar = ProgressBar::new(steps as u64).with_position(trainer.step as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left") {
            bar.set_style(style);
        }
        bar.reset_eta();
        while trainer.step < steps {
            let indices = order.step(trainer.step, self.batch);
            let metrics = trainer.step(&examples, &indices)?;
            log.add(&metrics)?;
            let message = format!(
                "{:.0} tokens/s  loss {:.4}  mean p {:.3}  live {}/{}",
                metrics.tokens_per_second, metrics.loss, metrics.mean_p, metrics.live, metrics.valid
            );
            if bar.is_hidden() {
                eprintln!("{}/{steps}  {message}", trainer.step);
            }
            bar.set_message(message);
            bar.inc(1);
            if self.checkpoint > 0 && trainer.step.is_multiple_of(self.checkpoint) {
                origin.save(&trainer, &checkpoint)?;
            }
        }
        bar.finish_and_clear();
        save::model(&self.out, &trainer.model, &tokens, &chat)?;
        judge(&trainer)?;
        println!("{}", self.out.display());
        Ok(())
    }
}
