//! tokenloss on slices: the fused linear form within a budget, and from logits.

use crate::problem::{Framework, Problem, Solution};
use std::error::Error;
use tokenloss_core::{
    Batch, Budget, Evaluate, EvaluateLinear, Linear, LinearGradients, LinearOptions, Logits, Nll, Outputs,
    Reduction, Shape,
};
use tokenloss_cpu::Cpu;

pub struct Tokenloss<'a> {
    problem: &'a Problem,
    /// From hidden states and a head; else from logits.
    budget: Option<Budget>,
    result: Option<Solution>,
}

impl<'a> Tokenloss<'a> {
    pub fn linear(problem: &'a Problem, budget: Budget) -> Self {
        Self { problem, budget: Some(budget), result: None }
    }

    pub fn logits(problem: &'a Problem) -> Self {
        Self { problem, budget: None, result: None }
    }
}

impl Framework for Tokenloss<'_> {
    fn name(&self) -> String {
        match self.budget {
            Some(budget) => format!("tokenloss, {} MiB", budget.0 >> 20),
            None => "tokenloss".into(),
        }
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let Problem { inputs, targets } = self.problem;
        // New in every step, since the others allocate theirs as well.
        let mut gradients: Vec<_> = inputs.iter().map(|input| vec![0.0; input.values.len()]).collect();
        let (nll, mean, none) = (&Nll, Reduction::default(), Outputs::default());
        let batch = |vocab| -> Result<_, tokenloss_core::Error> {
            Batch::new(Shape::new(targets.len(), vocab)?, targets)
        };
        let totals = match (&inputs[..], &mut gradients[..], self.budget) {
            ([hidden, weight], [dhidden, dweight], Some(budget)) => {
                let options = LinearOptions { budget, ..LinearOptions::default() };
                let linear =
                    Linear::new(batch(weight.rows)?, hidden.columns, &hidden.values, &weight.values)?;
                let gradients =
                    LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: Some(dweight), dbias: None };
                Cpu::new().evaluate_linear(nll, mean, &linear, &options, gradients, none)?
            }
            ([logits], [dlogits], None) => {
                let batch = batch(logits.columns)?;
                let logits = Logits::OutOfPlace { logits: &logits.values, dlogits };
                Cpu::new().evaluate(nll, mean, &batch, logits, none)?
            }
            _ => return Err("the problem has other inputs".into()),
        };
        self.result = Some(Solution { loss: totals.loss() as f32, gradients });
        Ok(())
    }

    fn take(&mut self) -> Result<Solution, Box<dyn Error>> {
        Ok(self.result.take().ok_or("no step was made")?)
    }
}
