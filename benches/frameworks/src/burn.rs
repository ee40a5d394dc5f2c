//! burn on its CPU backend, Flex: its own ops.

use crate::problem::{Framework, Problem, Solution};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use std::error::Error;

type Loss = fn(&[Tensor<2>], Tensor<1, Int>) -> Tensor<1>;

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
    pub fn linear(problem: &Problem) -> [Self; 1] {
        [Self::new("burn 0.22, Flex", problem, |inputs, targets| {
            cross_entropy(inputs[0].clone().matmul(inputs[1].clone().transpose()), targets)
        })]
    }

    /// From logits.
    pub fn logits(problem: &Problem) -> [Self; 1] {
        [Self::new("burn 0.22, Flex", problem, |inputs, targets| cross_entropy(inputs[0].clone(), targets))]
    }
}

impl Framework for Burn {
    fn name(&self) -> String {
        self.name.into()
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let loss = (self.loss)(&self.inputs, self.targets.clone());
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
