//! A model of two layers learns to count up, once from logits and once from its head: `cargo run --release --example train`.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Embedding, Linear, Module, Optimizer, SGD, VarBuilder, VarMap, embedding, linear_no_bias};
use std::error::Error;
use tokenloss_candle::core::Composite;
use tokenloss_candle::{Options, TokenLoss, linear_token_loss, token_loss};

const VOCAB: usize = 512;
const DIM: usize = 64;
const STEPS: usize = 60;

struct Model {
    embedding: Embedding,
    head: Linear,
}

impl Model {
    fn new(variables: &VarMap) -> Result<Self> {
        let builder = VarBuilder::from_varmap(variables, DType::F32, &Device::Cpu);
        Ok(Self {
            embedding: embedding(VOCAB, DIM, builder.pp("embedding"))?,
            head: linear_no_bias(DIM, VOCAB, builder.pp("head"))?,
        })
    }

    fn hidden(&self, tokens: &Tensor) -> Result<Tensor> {
        self.embedding.forward(tokens)?.silu()
    }
}

type Step = fn(&Model, &Tensor, &Tensor, Composite) -> std::result::Result<TokenLoss, Box<dyn Error>>;

fn from_logits(
    model: &Model,
    tokens: &Tensor,
    next: &Tensor,
    objective: Composite,
) -> std::result::Result<TokenLoss, Box<dyn Error>> {
    let logits = model.head.forward(&model.hidden(tokens)?)?;
    Ok(token_loss(&logits, next, objective, &Options::default())?)
}

fn from_head(
    model: &Model,
    tokens: &Tensor,
    next: &Tensor,
    objective: Composite,
) -> std::result::Result<TokenLoss, Box<dyn Error>> {
    let hidden = model.hidden(tokens)?;
    Ok(linear_token_loss(&hidden, model.head.weight(), None, next, objective, &Options::default())?)
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let tokens = Tensor::arange(0u32, VOCAB as u32, &Device::Cpu)?;
    let next = tokens.affine(1.0, 1.0)?.to_dtype(DType::I64)?;
    // The last token has no next one.
    let ignored = Tensor::new(&[-100i64], &Device::Cpu)?;
    let next = Tensor::cat(&[next.narrow(0, 0, VOCAB - 1)?, ignored], 0)?;
    let objective = Composite::parse("power:alpha=0.1")?;
    for (name, step) in [("logits", from_logits as Step), ("head", from_head as Step)] {
        let variables = VarMap::new();
        let model = Model::new(&variables)?;
        let mut optimizer = SGD::new(variables.all_vars(), 200.0)?;
        for index in 0..=STEPS {
            let out = step(&model, &tokens, &next, objective)?;
            optimizer.backward_step(&out.loss)?;
            if index % (STEPS / 4) == 0 {
                let (loss, live) = (out.totals.loss(), out.totals.live);
                println!("from {name}: step {index:3}, loss {loss:.4}, {live} rows with a gradient");
            }
        }
    }
    Ok(())
}
