//! burn on its CPU backend, Flex: its own ops, and tokenloss' in their place.

use crate::problem::{Framework, Problem, Solution};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use std::error::Error;
use tokenloss_burn::core::Nll;
use tokenloss_burn::{Options, linear_token_loss, token_loss};

type Loss = fn(&[Tensor<2>], Tensor<1, Int>) -> Result<Tensor<1>, Box<dyn Error>>;

pub struct Burn {
    name: &'static str,
    inputs: Vec<Tensor<2>>,
    targets: Tensor<1, Int>,
    loss: Loss,
    result: Option<(Tensor<1>, Gradients)>,
}

fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
}

impl Burn {
    fn new(name: &'static str, problem: &Problem, loss: Loss) -> Self {
        let device = Device::flex().autodiff();
        let leaf = |input: &crate::problem::Matrix| {
            let data = TensorData::new(input.values.clone(), [input.rows, input.columns]);
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        let targets = TensorData::new(problem.targets.clone(), [problem.targets.len()]);
        let inputs = problem.inputs.iter().map(leaf).collect();
        Self { name, inputs, targets: Tensor::from_data(targets, &device), loss, result: None }
    }

    /// From hidden states and a head.
    pub fn linear(problem: &Problem) -> [Self; 2] {
        [
            Self::new("burn 0.22, Flex", problem, |inputs, targets| {
                Ok(cross_entropy(inputs[0].clone().matmul(inputs[1].clone().transpose()), targets))
            }),
            Self::new("burn 0.22 with `linear_token_loss`", problem, |inputs, targets| {
                let (hidden, weight) = (inputs[0].clone(), inputs[1].clone());
                Ok(linear_token_loss(hidden, weight, None, targets, Nll, &Options::default())?.loss)
            }),
        ]
    }

    /// From logits.
    pub fn logits(problem: &Problem) -> [Self; 2] {
        [
            Self::new("burn 0.22, Flex", problem, |inputs, targets| {
                Ok(cross_entropy(inputs[0].clone(), targets))
            }),
            Self::new("burn 0.22 with `token_loss`", problem, |inputs, targets| {
                Ok(token_loss(inputs[0].clone(), targets, Nll, &Options::default())?.loss)
            }),
        ]
    }
}

impl Framework for Burn {
    fn name(&self) -> String {
        self.name.into()
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let loss = (self.loss)(&self.inputs, self.targets.clone())?;
        let gradients = loss.backward();
        self.result = Some((loss.detach(), gradients));
        Ok(())
    }

    fn take(&mut self) -> Result<Solution, Box<dyn Error>> {
        let (loss, gradients) = self.result.take().ok_or("no step was made")?;
        let read = |of: &Tensor<2>| -> Result<Vec<f32>, Box<dyn Error>> {
            Ok(of.grad(&gradients).ok_or("no gradient")?.into_data().try_to_vec()?)
        };
        let gradients = self.inputs.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Solution { loss: loss.into_scalar(), gradients })
    }
}
