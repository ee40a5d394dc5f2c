//! Learns to continue a text, letter by letter: `cargo run --release -p tokenloss-burn --example train -- "power:alpha=0.5"`

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::gelu};
use std::error::Error;
use tokenloss_burn::core::Composite;
use tokenloss_burn::{Options, linear_token_loss};

const TEXT: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of \
    foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the \
    season of Darkness, it was the spring of hope, it was the winter of despair. ";

const CONTEXT: usize = 8;
const DIM: usize = 32;
const STEPS: usize = 300;

/// From the letters before it to a letter's hidden state. The head is the table of letters.
#[derive(Module, Debug)]
struct Model {
    letters: Embedding,
    mix: Linear,
    out: Linear,
}

impl Model {
    fn new(device: &Device) -> Self {
        Self {
            letters: EmbeddingConfig::new(256, DIM).init(device),
            mix: LinearConfig::new(CONTEXT * DIM, 4 * DIM).init(device),
            out: LinearConfig::new(4 * DIM, DIM).init(device),
        }
    }

    /// `[rows, CONTEXT] -> [rows, DIM]`
    fn hidden(&self, context: Tensor<2, Int>) -> Tensor<2> {
        let [rows, _] = context.dims();
        let states = self.letters.forward(context).reshape([rows, CONTEXT * DIM]);
        self.out.forward(gelu(self.mix.forward(states)))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let spec = std::env::args().nth(1).unwrap_or_else(|| "nll".into());
    let objective = Composite::parse(&spec).map_err(|error| error.to_string())?;
    let device = Device::flex().autodiff();
    let letters: Vec<i32> = TEXT.bytes().map(i32::from).collect();
    let rows = letters.len() - CONTEXT;
    let contexts: Vec<i32> = (0..rows).flat_map(|row| letters[row..row + CONTEXT].to_vec()).collect();
    let contexts = Tensor::<2, Int>::from_data(TensorData::new(contexts, [rows, CONTEXT]), &device);
    let targets = Tensor::<1, Int>::from_data(TensorData::new(letters[CONTEXT..].to_vec(), [rows]), &device);

    let mut model = Model::new(&device);
    let mut optimizer = AdamConfig::new().init();
    for step in 0..=STEPS {
        let (hidden, head) = (model.hidden(contexts.clone()), model.letters.weight.val());
        let out = linear_token_loss(hidden, head, None, targets.clone(), objective, &Options::default())?;
        if step % 100 == 0 {
            let (loss, log_p) = (out.totals()?.loss(), out.log_p.clone().mean().into_scalar::<f32>());
            println!("step {step}: {objective} {loss:.4}, mean log p {log_p:.4}");
        }
        let gradients = GradientsParams::from_grads(out.loss.backward(), &model);
        model = optimizer.step(0.003, model, gradients);
    }
    Ok(())
}
