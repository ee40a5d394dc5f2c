//! candle: a matrix product, `loss::cross_entropy`, `backward`.

use crate::problem::{Framework, Problem, Solution};
use candle_core::{Device, Tensor, Var, backprop::GradStore};
use std::error::Error;

pub struct Candle {
    hidden: Var,
    weight: Var,
    targets: Tensor,
    result: Option<(Tensor, GradStore)>,
}

impl Candle {
    pub fn new(problem: &Problem) -> candle_core::Result<Self> {
        let (device, dim) = (&Device::Cpu, problem.dim);
        let targets: Vec<u32> = problem.targets.iter().map(|&target| target as u32).collect();
        Ok(Self {
            hidden: Var::from_slice(&problem.hidden, (problem.rows, dim), device)?,
            weight: Var::from_slice(&problem.weight, (problem.vocab, dim), device)?,
            targets: Tensor::new(targets, device)?,
            result: None,
        })
    }
}

impl Framework for Candle {
    fn name(&self) -> String {
        "candle 0.11".into()
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let logits = self.hidden.matmul(&self.weight.t()?)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &self.targets)?;
        drop(logits);
        let gradients = loss.backward()?;
        self.result = Some((loss.detach(), gradients));
        Ok(())
    }

    fn take(&mut self) -> Result<Solution, Box<dyn Error>> {
        let (loss, gradients) = self.result.take().ok_or("no step was made")?;
        let read = |of: &Var| -> Result<Vec<f32>, Box<dyn Error>> {
            Ok(gradients.get(of).ok_or("no gradient")?.flatten_all()?.to_vec1()?)
        };
        Ok(Solution { loss: loss.to_scalar()?, dhidden: read(&self.hidden)?, dweight: read(&self.weight)? })
    }
}
