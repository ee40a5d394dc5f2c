//! The experiment: pretrain, then fine-tune on supervision with wrong labels, under every objective.

use super::model::{Model, Score, Sizes, Workspace};
use super::source::{Examples, Source, stream};
use crate::backend::Engine;
use crate::progress::Progress;
use crate::spec::Spec;
use anyhow::Result;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tokenloss::Nll;

/// Everything that decides the outcome.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// The first of the seeds.
    pub(super) seed: u64,
    /// How many seeds.
    pub(super) seeds: usize,
    /// The sizes of the model.
    pub(super) sizes: Sizes,
    /// Classes of the source.
    pub(super) classes: usize,
    /// Share of pretraining sentences with another than the best token.
    pub(super) ambiguity: f64,
    /// Pretraining steps after which the weak, the intermediate and the strong model are taken.
    pub(super) pretrain: Vec<usize>,
    /// Fine-tuning steps.
    pub(super) steps: usize,
    /// Fine-tuning sentences; every epoch takes them in another order.
    pub(super) examples: usize,
    /// Rows of a batch.
    pub(super) batch: usize,
    /// Learning rate of pretraining and fine-tuning.
    pub(super) rate: f32,
    /// Test sentences.
    pub(super) test: usize,
    /// Shares of wrong labels.
    pub(super) noise: Vec<f64>,
    /// Objectives.
    pub(super) specs: Vec<Spec>,
}

/// One fine-tuning run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Index into `pretrain`.
    pub(super) capability: usize,
    /// Index into `noise`.
    pub(super) noise: usize,
    /// Index into `specs`.
    pub(super) objective: usize,
    /// On the test sentences, afterwards.
    pub(super) test: Score,
    /// On the fine-tuning labels, wrong ones included, afterwards.
    pub(super) training: Score,
}

/// A pretrained model before fine-tuning.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// On the test sentences.
    pub(super) test: Score,
    /// On the fine-tuning labels of each share of wrong labels: its `mean_p` is Eq. 5 of the paper.
    pub(super) training: Vec<Score>,
}

/// What comes out.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// `[seed][capability]`
    pub(super) bases: Vec<Vec<Base>>,
    /// All runs, in the order capability, noise, objective, seed.
    pub(super) runs: Vec<Run>,
}

/// A source with its data and the models pretrained on it.
struct World {
    tuning: Vec<Examples>,
    test: Examples,
    models: Vec<Model>,
    bases: Vec<Base>,
}

impl Setup {
    /// Fine-tuning runs.
    pub(super) fn runs(&self) -> usize {
        self.pretrain.len() * self.noise.len() * self.specs.len() * self.seeds
    }

    /// Logits that the whole experiment evaluates.
    pub(super) fn logits(&self) -> u64 {
        let pretrain = self.seeds * self.pretrain.iter().max().unwrap_or(&0) * self.batch;
        let tuning = self.runs() * (self.steps * self.batch + self.examples + self.test);
        ((pretrain + tuning) * self.sizes.vocab) as u64
    }

    /// Runs it. The numbers do not depend on the number of threads.
    pub(super) fn run(&self, engine: &Engine, progress: &Progress) -> Result<Outcome> {
        let most = *self.pretrain.iter().max().unwrap_or(&0);
        progress.stage("pretraining", (self.seeds * most) as u64);
        let worlds: Vec<World> = (0..self.seeds)
            .into_par_iter()
            .map(|seed| self.pretrain(engine, progress, seed))
            .collect::<Result<_>>()?;

        progress.stage("fine-tuning", (self.runs() * self.steps) as u64);
        let mut jobs = Vec::with_capacity(self.runs());
        for capability in 0..self.pretrain.len() {
            for noise in 0..self.noise.len() {
                for objective in 0..self.specs.len() {
                    jobs.extend((0..self.seeds).map(|seed| (capability, noise, objective, seed)));
                }
            }
        }
        let runs = jobs
            .into_par_iter()
            .map(|(capability, noise, objective, seed)| {
                let world = &worlds[seed];
                let mut model = world.models[capability].restarted();
                let mut work = Workspace::new(self.sizes, self.batch);
                let examples = &world.tuning[noise];
                let mut order = Order::new(stream(self.seed.wrapping_add(seed as u64), 5), self.examples);
                for step in 0..self.steps {
                    let Examples { contexts, labels } = order.next(examples, self.batch);
                    let rate = self.rate * cosine(step, self.steps);
                    let objective = &self.specs[objective].objective;
                    model.step(&mut work, engine, objective, &contexts, &labels, rate)?;
                    progress.advance(1);
                }
                let test = model.score(&mut work, engine, &world.test)?;
                let training = model.score(&mut work, engine, examples)?;
                Ok(Run { capability, noise, objective, test, training })
            })
            .collect::<Result<_>>()?;
        progress.done();
        Ok(Outcome { bases: worlds.into_iter().map(|world| world.bases).collect(), runs })
    }

    fn pretrain(&self, engine: &Engine, progress: &Progress, index: usize) -> Result<World> {
        let seed = self.seed.wrapping_add(index as u64);
        let source = Source::new(&mut stream(seed, 0), self.sizes.vocab as u32, self.classes);
        let test = source.test(&mut stream(seed, 1), self.test);
        let tuning: Vec<Examples> = self
            .noise
            .iter()
            .map(|&noise| source.training(&mut stream(seed, 2), self.examples, noise))
            .collect();

        let mut text = stream(seed, 3);
        let mut model = Model::new(&mut stream(seed, 4), self.sizes);
        let mut work = Workspace::new(self.sizes, self.batch);
        let mut models = vec![None; self.pretrain.len()];
        let most = *self.pretrain.iter().max().unwrap_or(&0);
        let warm_up = (most / 20).max(1);
        for step in 0..=most {
            for (at, model_at) in self.pretrain.iter().zip(&mut models) {
                if *at == step {
                    *model_at = Some(model.clone());
                }
            }
            if step < most {
                let examples = source.training(&mut text, self.batch, self.ambiguity);
                let rate = self.rate * (((step + 1) as f32) / warm_up as f32).min(1.0);
                model.step(&mut work, engine, &Nll.into(), &examples.contexts, &examples.labels, rate)?;
                progress.advance(1);
            }
        }
        let models: Vec<Model> = models.into_iter().flatten().collect();
        let bases = models
            .iter()
            .map(|model| {
                let training =
                    tuning.iter().map(|e| model.score(&mut work, engine, e)).collect::<Result<Vec<_>>>()?;
                Ok(Base { test: model.score(&mut work, engine, &test)?, training })
            })
            .collect::<Result<_>>()?;
        Ok(World { tuning, test, models, bases })
    }
}

/// Batches of examples, every epoch in another order.
struct Order {
    rng: ChaCha8Rng,
    order: Vec<usize>,
    at: usize,
}

impl Order {
    fn new(rng: ChaCha8Rng, examples: usize) -> Self {
        Self { rng, order: (0..examples).collect(), at: examples }
    }

    fn next(&mut self, examples: &Examples, count: usize) -> Examples {
        let mut batch = Examples::default();
        for _ in 0..count {
            if self.at == self.order.len() {
                self.order.shuffle(&mut self.rng);
                self.at = 0;
            }
            let index = self.order[self.at];
            batch.contexts.push(examples.contexts[index]);
            batch.labels.push(examples.labels[index]);
            self.at += 1;
        }
        batch
    }
}

/// The paper's schedule: a tenth of the steps to warm up, then half a cosine down to 0.
fn cosine(step: usize, steps: usize) -> f32 {
    let warm_up = (steps / 10).max(1);
    if step < warm_up {
        return (step + 1) as f32 / warm_up as f32;
    }
    let along = (step - warm_up) as f32 / (steps - warm_up).max(1) as f32;
    0.5 * (1.0 + (std::f32::consts::PI * along).cos())
}
