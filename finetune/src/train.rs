//! Steps.

use crate::Error;
use crate::backend::ran_out;
use crate::config::Config;
use crate::data::Example;
use crate::loss::Loss;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::optim::{AdamW, Gradients, Moments, norm};
use burn::tensor::{Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// Which parameters are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trained {
    /// All of them.
    Full,
    /// The last blocks, so many of them, and the last norm. What comes before does not change: it is computed once for
    /// each example.
    Last(usize),
    /// Beside each matrix of attention and MLPs the product of two, of this rank.
    Lora(usize),
}

impl FromStr for Trained {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|&number: &usize| number > 0);
        let found = match text.split_once(':') {
            None if text == "full" => Some(Self::Full),
            Some(("last", blocks)) => number(blocks).map(Self::Last),
            Some(("lora", rank)) => number(rank).map(Self::Lora),
            _ => None,
        };
        found.ok_or_else(|| "expected full, last:BLOCKS or lora:RANK".to_owned())
    }
}

impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "full"),
            Self::Last(blocks) => write!(f, "last:{blocks}"),
            Self::Lora(rank) => write!(f, "lora:{rank}"),
        }
    }
}

impl Trained {
    /// Whether a parameter of this name is trained.
    fn has(self, name: &str, config: &Config) -> bool {
        match self {
            Self::Full => true,
            Self::Lora(_) => name.contains(".lora_"),
            Self::Last(blocks) => {
                let layer =
                    name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse().ok());
                layer.is_some_and(|layer: usize| layer + blocks >= config.num_hidden_layers)
                    || name == "model.norm.weight"
            }
        }
    }
}

/// The settings that a run's result depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Which parameters.
    pub trained: Trained,
    /// The objective, as it was written.
    pub objective: String,
    /// Steps in all.
    pub steps: usize,
    /// Examples of a step.
    pub batch: usize,
    /// Examples that go through the model at once.
    pub micro: usize,
    /// What the order of examples and LoRA's first matrices follow from.
    pub seed: u64,
    /// The optimiser.
    pub adam: AdamW,
}

/// A model in training.
pub struct Trainer {
    /// The model.
    pub model: Model,
    /// The settings.
    pub settings: Settings,
    /// Steps so far.
    pub step: usize,
    pub(crate) moments: BTreeMap<String, Moments>,
    loss: Loss,
    below: Below,
}

/// What lies below the blocks that are trained: nothing, or hidden states that do not change.
struct Below {
    layers: usize,
    /// Bytes that may still be kept.
    room: usize,
    kept: BTreeMap<usize, Tensor<2>>,
}

impl Trainer {
    /// Begins; hidden states below the trained blocks are kept in up to `room` bytes, and computed anew beyond.
    ///
    /// # Errors
    /// [`Error::Setting`] for more blocks than there are, no examples in a step, or a rank above the smallest matrix.
    pub fn new(mut model: Model, settings: Settings, loss: Loss, room: usize) -> Result<Self, Error> {
        let setting = |name, found: String, expected: String| Err(Error::Setting { name, found, expected });
        let config = &model.config;
        let layers = match settings.trained {
            Trained::Last(blocks) if blocks > config.num_hidden_layers => {
                let expected = format!("the model has {} blocks", config.num_hidden_layers);
                return setting("last", blocks.to_string(), expected);
            }
            Trained::Last(blocks) => config.num_hidden_layers - blocks,
            Trained::Lora(rank) => {
                let least = config.biases().iter().map(|(_, shape)| shape[0]).min().unwrap_or(0);
                if rank > least {
                    return setting(
                        "lora",
                        rank.to_string(),
                        format!("the smallest matrix has {least} rows"),
                    );
                }
                let names = config.biases().into_iter().map(|(name, _)| name.replace(".bias", ""));
                adapters(&mut model, names.collect(), rank, settings.seed);
                0
            }
            Trained::Full => 0,
        };
        if settings.batch == 0 || settings.micro == 0 || settings.steps == 0 {
            return setting("batch, micro or steps", "0".to_owned(), "each is at least 1".to_owned());
        }
        let names: Vec<String> = model.weights.iter().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            if let Some(tensor) = model.weights.take(&name) {
                let tensor = tensor.inner().autodiff();
                let trained = settings.trained.has(&name, &model.config);
                model.weights.set(name, if trained { tensor.require_grad() } else { tensor });
            }
        }
        let below = Below { layers, room, kept: BTreeMap::new() };
        Ok(Self { model, settings, step: 0, moments: BTreeMap::new(), loss, below })
    }

    /// The names of what is trained.
    pub fn trained(&self) -> Vec<String> {
        let trained = self.model.weights.iter().filter(|(_, tensor)| tensor.is_require_grad());
        trained.map(|(name, _)| name.to_owned()).collect()
    }

    /// One step on the examples of these indices.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the gradient is not finite: nothing has changed then. [`Error::Objective`], [`Error::Device`],
    /// [`Error::Memory`].
    pub fn step(&mut self, examples: &[Example], indices: &[usize]) -> Result<Metrics, Error> {
        self.try_step(examples, indices).map_err(|error| {
            if !ran_out() {
                return error;
            }
            let part = |part: &[usize]| {
                part.len() * part.iter().map(|&index| examples[index].length()).max().unwrap_or(0)
            };
            let tokens = indices.chunks(self.settings.micro).map(part).max().unwrap_or(0);
            Error::Memory { bytes: self.bytes(), tokens }
        })
    }

    /// What parameters, gradients and moments take.
    fn bytes(&self) -> usize {
        let of = |(_, tensor): (&str, &Tensor<2>)| {
            let copies = if tensor.is_require_grad() { 4 } else { 1 };
            copies * tensor.dims().iter().product::<usize>() * size_of::<f32>()
        };
        self.model.weights.iter().map(of).sum()
    }

    fn try_step(&mut self, examples: &[Example], indices: &[usize]) -> Result<Metrics, Error> {
        let since = Instant::now();
        let (gradients, sums) = self.gradients(examples, indices)?;
        let length = norm(&gradients)?;
        if !length.is_finite() {
            return Err(Error::Diverged { step: self.step, norm: length });
        }
        let adam = self.settings.adam.clone();
        let rate = adam.rate(self.step, self.settings.steps);
        let shorter = if length > adam.clip { adam.clip / length } else { 1.0 };
        for (name, gradient) in gradients {
            let gradient = if shorter == 1.0 { gradient } else { gradient.mul_scalar(shorter) };
            let Some(parameter) = self.model.weights.take(&name) else { continue };
            let moments = self.moments.remove(&name);
            let (parameter, moments) = adam.update(parameter.inner(), gradient, moments, self.step, rate);
            self.model.weights.set(name.clone(), parameter.autodiff().require_grad());
            self.moments.insert(name, moments);
        }
        let step = self.step;
        self.step += 1;
        let seconds = since.elapsed().as_secs_f64();
        let rows = sums.rows as f64;
        Ok(Metrics {
            step,
            loss: sums.loss / rows,
            mean_p: sums.p / rows,
            mean_log_p: sums.log_p / rows,
            live: sums.live,
            valid: sums.rows,
            tokens: sums.tokens,
            learning_rate: rate,
            gradient_norm: length,
            seconds,
            tokens_per_second: sums.tokens as f64 / seconds,
        })
    }

    /// The gradient of the mean over all response tokens of these examples.
    ///
    /// # Errors
    /// [`Error::Objective`], [`Error::Device`].
    pub fn gradients(&mut self, examples: &[Example], indices: &[usize]) -> Result<(Gradients, Sums), Error> {
        let names = self.trained();
        let rows = indices.iter().map(|&index| examples[index].response.len()).sum();
        let mut sums = Sums { rows, ..Sums::default() };
        let mut gradients = Gradients::new();
        for micro in indices.chunks(self.settings.micro) {
            let hidden = self.hidden(examples, micro)?;
            let targets: Vec<i32> = micro
                .iter()
                .flat_map(|&index| &examples[index].response)
                .map(|&token| token as i32)
                .collect();
            let judged = self.loss.judge(&hidden, self.model.head(), &targets, rows)?;
            drop(hidden);
            let mut found = judged.loss.backward();
            drop(judged.loss);
            for name in &names {
                let Some(tensor) =
                    self.model.weights.get(name).and_then(|tensor| tensor.grad_remove(&mut found))
                else {
                    continue;
                };
                let sum = match gradients.remove(name) {
                    Some(sum) => sum + tensor,
                    None => tensor,
                };
                gradients.insert(name.clone(), sum);
            }
            sums.loss += judged.totals.loss_sum;
            sums.live += judged.totals.live;
            sums.p += judged.log_p.iter().map(|&log_p| f64::from(log_p).exp()).sum::<f64>();
            sums.log_p += judged.log_p.iter().copied().map(f64::from).sum::<f64>();
            sums.tokens += micro.iter().map(|&index| examples[index].length()).sum::<usize>();
        }
        Ok((gradients, sums))
    }

    /// The hidden states that predict response tokens, `[rows, hidden_size]`.
    fn hidden(&mut self, examples: &[Example], micro: &[usize]) -> Result<Tensor<2>, Error> {
        let longest = micro.iter().map(|&index| examples[index].length()).max().unwrap_or(0);
        let layers = self.model.config.num_hidden_layers;
        let x = if self.below.layers == 0 {
            let padded = |&index: &usize| {
                let pad = longest - examples[index].length();
                examples[index].inputs().chain(std::iter::repeat_n(0, pad))
            };
            self.model.embed(&micro.iter().flat_map(padded).collect::<Vec<u32>>())
        } else {
            let mut parts = Vec::new();
            for &index in micro {
                let part = self.below.get(&self.model, examples, index);
                let [length, dim] = part.dims();
                let device = part.device();
                parts.push(part);
                if length < longest {
                    parts.push(Tensor::zeros([longest - length, dim], &device));
                }
            }
            Tensor::cat(parts, 0).autodiff()
        };
        let x = self.model.blocks(x, micro.len(), self.below.layers..layers);
        let rows: Vec<i32> = micro
            .iter()
            .enumerate()
            .flat_map(|(slot, &index)| {
                let end = slot * longest + examples[index].length();
                (end - examples[index].response.len()..end).map(|row| row as i32)
            })
            .collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows.clone(), [rows.len()]), &x.device());
        Ok(self.model.normed(x.select(0, rows)))
    }
}

impl Below {
    /// The hidden states of an example below the trained blocks, always of the example alone, so that they are the same
    /// to the last bit whether they are kept or computed anew.
    fn get(&mut self, model: &Model, examples: &[Example], index: usize) -> Tensor<2> {
        if let Some(kept) = self.kept.get(&index) {
            return kept.clone();
        }
        let tokens: Vec<u32> = examples[index].inputs().collect();
        let model = model.inner();
        let x = model.blocks(model.embed(&tokens), 1, 0..self.layers);
        let bytes = tokens.len() * model.config.hidden_size * size_of::<f32>();
        if bytes <= self.room {
            self.room -= bytes;
            self.kept.insert(index, x.clone());
        }
        x
    }
}

/// Puts two matrices beside each of `names`: the first is uniform in +- 1 / sqrt(columns), the second 0, so that the
/// model begins as it was.
fn adapters(model: &mut Model, names: Vec<String>, rank: usize, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for name in names {
        let Some((shape, device)) =
            model.weights.get(&format!("{name}.weight")).map(|tensor| (tensor.dims(), tensor.device()))
        else {
            continue;
        };
        let [rows, columns] = shape;
        let bound = (columns as f32).sqrt().recip();
        let first = (0..rank * columns).map(|_| random.random_range(-bound..bound)).collect();
        model.weights.insert(format!("{name}.lora_A.weight"), first, [rank, columns], &device);
        model.weights.insert(format!("{name}.lora_B.weight"), vec![0.0; rows * rank], [rows, rank], &device);
    }
}

/// Sums over the rows of a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sums {
    rows: usize,
    live: usize,
    tokens: usize,
    loss: f64,
    p: f64,
    log_p: f64,
}
