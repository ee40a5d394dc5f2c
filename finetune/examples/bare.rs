//! How long the network's own forward and backward take, without head, objective and optimiser: what a step is measured
//! by.
//!
//!     cargo run --release --example bare -- MODEL TEXTS LENGTH

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use std::path::Path;
use std::time::Instant;
use tokenloss_finetune::load::load;
use tokenloss_finetune::model::Model;
use tokenloss_finetune::weights::Weights;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(arguments.len() == 3, "expected MODEL TEXTS LENGTH");
    let (texts, length): (usize, usize) = (arguments[1].parse()?, arguments[2].parse()?);
    let device = Device::flex();
    let loaded = load(Path::new(&arguments[0]), &device)?;
    let mut weights = Weights::default();
    for (name, tensor) in loaded.weights.iter() {
        weights.set(name.to_owned(), tensor.clone().autodiff().require_grad());
    }
    let model = Model::new(loaded.config, weights, length, &device);
    let tokens: Vec<u32> = (0..texts * length).map(|i| (i * 7919 % model.config.vocab_size) as u32).collect();
    for _ in 0..3 {
        let since = Instant::now();
        let x = model.normed(model.blocks(model.embed(&tokens), texts, 0..model.config.num_hidden_layers));
        let forward = since.elapsed();
        let gradients = x.sum().backward();
        let all = since.elapsed();
        let norm = model.weights.get("model.norm.weight").context("no norm")?;
        ensure!(norm.grad(&gradients).is_some(), "no gradient");
        let rate = tokens.len() as f64 / all.as_secs_f64();
        println!("forward {forward:.2?}, with backward {all:.2?}: {rate:.0} tokens/s");
    }
    Ok(())
}
