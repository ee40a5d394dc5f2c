//! tokenloss: the fused linear form, within a budget.

use crate::problem::{Framework, Problem, Solution};
use std::error::Error;
use tokenloss_core::{
    Batch, Budget, EvaluateLinear, Linear, LinearGradients, LinearOptions, Nll, Outputs, Reduction, Shape,
};
use tokenloss_cpu::Cpu;

pub struct Tokenloss<'a> {
    problem: &'a Problem,
    options: LinearOptions,
    result: Option<Solution>,
}

impl<'a> Tokenloss<'a> {
    pub fn new(problem: &'a Problem, budget: Budget) -> Self {
        Self { problem, options: LinearOptions { budget, ..LinearOptions::default() }, result: None }
    }
}

impl Framework for Tokenloss<'_> {
    fn name(&self) -> String {
        format!("tokenloss, {} MiB", self.options.budget.0 >> 20)
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let Problem { rows, dim, vocab, hidden, weight, targets } = self.problem;
        let linear = Linear::new(Batch::new(Shape::new(*rows, *vocab)?, targets)?, *dim, hidden, weight)?;
        // New in every step, since the others allocate theirs as well.
        let mut dhidden = vec![0.0; hidden.len()];
        let mut dweight = vec![0.0; weight.len()];
        let gradients =
            LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: Some(&mut dweight), dbias: None };
        let totals = Cpu::new().evaluate_linear(
            &Nll,
            Reduction::default(),
            &linear,
            &self.options,
            gradients,
            Outputs::default(),
        )?;
        self.result = Some(Solution { loss: totals.loss() as f32, dhidden, dweight });
        Ok(())
    }

    fn take(&mut self) -> Result<Solution, Box<dyn Error>> {
        Ok(self.result.take().ok_or("no step was made")?)
    }
}
