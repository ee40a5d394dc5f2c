//! The fused linear form on the CPU: against the oracle, and what it promises beside accuracy.

mod bad_input;
mod gradients;
pub(crate) mod inputs;
mod live;
mod pairs;
mod real;
mod repeat;
mod shards;
pub(crate) mod truth;

use inputs::Case;
use tokenloss::cpu::{Cpu, Level};
use tokenloss::{
    Budget, Element, Error, EvaluateLinear, Linear, LinearGradients, LinearOptions, Objective, Outputs,
    Reduction, Totals,
};

pub(crate) fn levels() -> impl Iterator<Item = Cpu> {
    Level::available().into_iter().map(Cpu::with_level)
}

fn objective(spec: &str) -> Objective {
    Objective::parse(spec).expect("a spec")
}

/// Room for every gradient. Whoever leaves an entry of `dhidden` out shows it.
pub(crate) struct Gradients<G> {
    pub(crate) dhidden: Vec<G>,
    pub(crate) dweight: Vec<f32>,
    pub(crate) dbias: Vec<f32>,
}

impl<G: Element> Gradients<G> {
    pub(crate) fn new<E: Element>(linear: &Linear<'_, E>) -> Self {
        let columns = linear.columns().len();
        Self {
            dhidden: vec![G::from_f32(f32::NAN); linear.rows() * linear.dim()],
            dweight: vec![0.0; columns * linear.dim()],
            dbias: vec![0.0; columns],
        }
    }

    pub(crate) fn all(&mut self) -> LinearGradients<'_, G> {
        self.wanted([true; 3])
    }

    /// Those of `dhidden`, `dweight` and `dbias` that are wanted.
    fn wanted(&mut self, wanted: [bool; 3]) -> LinearGradients<'_, G> {
        LinearGradients {
            dhidden: wanted[0].then_some(&mut self.dhidden[..]),
            dweight: wanted[1].then_some(&mut self.dweight[..]),
            dbias: wanted[2].then_some(&mut self.dbias[..]),
        }
    }

    /// All of them, bit by bit.
    fn bits(&self) -> Vec<u32> {
        let sums = self.dweight.iter().chain(&self.dbias).map(|d| d.to_bits());
        self.dhidden.iter().map(|d| d.to_bits()).chain(sums).collect()
    }
}

/// All gradients of a case that has no fault.
fn gradients<E: Element, G: Element>(
    cpu: Cpu,
    objective: &Objective,
    reduction: Reduction,
    linear: &Linear<'_, E>,
    options: &LinearOptions,
) -> (Totals, Gradients<G>) {
    let mut gradients = Gradients::new(linear);
    let totals = cpu
        .evaluate_linear(objective, reduction, linear, options, gradients.all(), Outputs::default())
        .expect("finite logits");
    (totals, gradients)
}

/// The least budget that works.
fn least<E: Element>(linear: &Linear<'_, E>, options: &LinearOptions) -> usize {
    let none = LinearOptions { budget: Budget(0), ..*options };
    let got = Cpu::new().evaluate_linear(
        &objective("nll"),
        Reduction::Sum,
        linear,
        &none,
        LinearGradients::<f32>::default(),
        Outputs::default(),
    );
    match got {
        Err(Error::Budget { needed, budget: 0 }) => needed,
        other => panic!("a budget of nothing: {other:?}"),
    }
}
