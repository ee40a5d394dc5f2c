//! candle: its own ops, and tokenloss' in their place.

use crate::problem::{Framework, Problem, Solution};
use candle_core::{Device, Tensor, Var, backprop::GradStore};
use std::error::Error;
use tokenloss_candle::core::Nll;
use tokenloss_candle::{Options, linear_token_loss, token_loss};

type Loss = fn(&[Var], &Tensor) -> Result<Tensor, Box<dyn Error>>;

pub struct Candle<'a> {
    name: &'static str,
    problem: &'a Problem,
    inputs: Vec<Var>,
    targets: Tensor,
    loss: Loss,
    result: Option<(Tensor, GradStore)>,
}

impl<'a> Candle<'a> {
    fn new(name: &'static str, problem: &'a Problem, loss: Loss) -> candle_core::Result<Self> {
        let device = &Device::Cpu;
        let targets: Vec<u32> = problem.targets.iter().map(|&target| target as u32).collect();
        let inputs = problem.inputs.iter();
        let inputs = inputs.map(|input| Var::from_slice(&input.values, (input.rows, input.columns), device));
        let (inputs, targets) = (inputs.collect::<Result<_, _>>()?, Tensor::new(targets, device)?);
        Ok(Self { name, problem, inputs, targets, loss, result: None })
    }

    /// From hidden states and a head.
    pub fn linear(problem: &'a Problem) -> candle_core::Result<[Self; 2]> {
        Ok([
            Self::new("candle 0.11", problem, |inputs, targets| {
                let logits = inputs[0].matmul(&inputs[1].t()?)?;
                Ok(candle_nn::loss::cross_entropy(&logits, targets)?)
            })?,
            Self::new("candle 0.11 with `linear_token_loss`", problem, |inputs, targets| {
                Ok(linear_token_loss(&inputs[0], &inputs[1], None, targets, Nll, &Options::default())?.loss)
            })?,
        ])
    }

    /// From logits.
    pub fn logits(problem: &'a Problem) -> candle_core::Result<[Self; 3]> {
        Ok([
            Self::new("candle 0.11", problem, |inputs, targets| {
                Ok(candle_nn::loss::cross_entropy(&inputs[0], targets)?)
            })?,
            Self::new("candle 0.11 with `token_loss`", problem, |inputs, targets| {
                Ok(token_loss(&inputs[0], targets, Nll, &Options::default())?.loss)
            })?,
            Self::new("the same, over the logits", problem, |inputs, targets| {
                let options = Options { overwrite_logits: true, ..Options::default() };
                Ok(token_loss(&inputs[0], targets, Nll, &options)?.loss)
            })?,
        ])
    }
}

impl Framework for Candle<'_> {
    fn name(&self) -> String {
        self.name.into()
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let loss = (self.loss)(&self.inputs, &self.targets)?;
        let gradients = loss.backward()?;
        self.result = Some((loss.detach(), gradients));
        Ok(())
    }

    fn take(&mut self) -> Result<Solution, Box<dyn Error>> {
        let (loss, gradients) = self.result.take().ok_or("no step was made")?;
        let read = |of: &Var| -> Result<Vec<f32>, Box<dyn Error>> {
            Ok(gradients.get(of).ok_or("no gradient")?.flatten_all()?.to_vec1()?)
        };
        let found = self.inputs.iter().map(read).collect::<Result<_, _>>()?;
        for (input, start) in self.inputs.iter().zip(&self.problem.inputs) {
            input.set(&Tensor::from_slice(&start.values, input.shape(), &Device::Cpu)?)?;
        }
        Ok(Solution { loss: loss.to_scalar()?, gradients: found })
    }
}
