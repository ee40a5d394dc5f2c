//! burn on its CPU backend, Flex: a matrix product, `CrossEntropyLoss`, `backward`.

use crate::problem::{Framework, Problem, Solution};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use std::error::Error;

pub struct Burn {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    loss: CrossEntropyLoss,
    result: Option<(Tensor<1>, Gradients)>,
}

impl Burn {
    pub fn new(problem: &Problem) -> Self {
        let device = Device::flex().autodiff();
        let leaf = |values: &[f32], rows| {
            let data = TensorData::new(values.to_vec(), [rows, problem.dim]);
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        Self {
            hidden: leaf(&problem.hidden, problem.rows),
            weight: leaf(&problem.weight, problem.vocab),
            targets: Tensor::from_data(TensorData::new(problem.targets.clone(), [problem.rows]), &device),
            loss: CrossEntropyLossConfig::new().init(&device),
            result: None,
        }
    }
}

impl Framework for Burn {
    fn name(&self) -> String {
        "burn 0.22, Flex".into()
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let logits = self.hidden.clone().matmul(self.weight.clone().transpose());
        let loss = self.loss.forward(logits, self.targets.clone());
        let gradients = loss.backward();
        self.result = Some((loss.detach(), gradients));
        Ok(())
    }

    fn take(&mut self) -> Result<Solution, Box<dyn Error>> {
        let (loss, gradients) = self.result.take().ok_or("no step was made")?;
        let read = |of: &Tensor<2>| -> Result<Vec<f32>, Box<dyn Error>> {
            Ok(of.grad(&gradients).ok_or("no gradient")?.into_data().try_to_vec()?)
        };
        Ok(Solution { loss: loss.into_scalar(), dhidden: read(&self.hidden)?, dweight: read(&self.weight)? })
    }
}
