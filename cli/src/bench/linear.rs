//! The linear form beside the matrix products that it cannot do without.

use super::{Bench, medians};
use crate::backend::Engine;
use crate::eval::Format;
use crate::files::Stored;
use crate::spec::Spec;
use anyhow::Result;
use comfy_table::{Table, presets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use std::any::Any;
use std::borrow::Cow;
use std::time::Instant;
use tokenloss::cpu::bare_products;
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Composite, Dtype, Linear, LinearGradients, Outputs, Reduction, Shape, check_dim};

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timed {
    /// Logits, dhidden and dweight, without a loss.
    Products,
    /// Both gradients.
    Both,
    /// No dweight.
    FrozenHead,
    /// No gradient.
    Forward,
}

const WHAT: [(Timed, &str); 4] = [
    (Timed::Products, "three bare products, f32"),
    (Timed::Both, "dhidden and dweight"),
    (Timed::FrozenHead, "frozen head: dhidden"),
    (Timed::Forward, "forward only"),
];

/// One line of the result.
#[derive(Debug, Serialize)]
struct Timing {
    what: &'static str,
    seconds: f64,
    /// Of its time to that of the reference.
    ratio: f64,
    /// Rows with a gradient, where there is one.
    live: Option<usize>,
}

impl Bench {
    /// Times the linear form. The bare products are the CPU backend's own; the GPU is timed beside its forward pass.
    pub(super) fn run_linear(&self, engine: &Engine, spec: &Spec<Composite>, shape: Shape) -> Result<()> {
        let (what, reference, note) = match engine {
            Engine::Cpu(_) => (&WHAT[..], 0, ""),
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => {
                (&WHAT[1..], 2, "; slices of the host, their transfer to and from the GPU included")
            }
        };
        let timings = match self.dtype {
            Format::F32 => self.time_linear::<f32>(engine, spec, shape, what, reference),
            Format::F16 => self.time_linear::<f16>(engine, spec, shape, what, reference),
            Format::Bf16 => self.time_linear::<bf16>(engine, spec, shape, what, reference),
        }?;
        let Self { rows, vocab, dim, .. } = self;
        let (dtype, budget) = (Dtype::from(self.dtype), self.tiling.options().budget.0);
        let reference = what[reference].1;
        if self.json {
            let report = serde_json::json!({
                "backend": engine.describe(),
                "threads": rayon::current_num_threads(),
                "objective": spec.objective.to_string(),
                "rows": rows,
                "dim": dim,
                "vocab": vocab,
                "dtype": dtype.name(),
                "memory": budget,
                "runs": self.runs,
                "reference": reference,
                "timings": timings,
            });
            println!("{report:#}");
            return Ok(());
        }
        println!("{rows} x {dim} x {vocab} {dtype}, {}, {}", spec.text, self.conditions(engine));
        println!("within {budget} bytes; 1 is the time of: {reference}{note}");
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["", "ms", "ratio", "live rows"]);
        for t in &timings {
            table.add_row([
                t.what.to_owned(),
                format!("{:.2}", 1e3 * t.seconds),
                format!("{:.2}", t.ratio),
                t.live.map_or(String::new(), |live| live.to_string()),
            ]);
        }
        println!("{table}");
        Ok(())
    }

    fn time_linear<E: Stored>(
        &self,
        engine: &Engine,
        spec: &Spec<Composite>,
        shape: Shape,
        what: &[(Timed, &'static str)],
        reference: usize,
    ) -> Result<Vec<Timing>> {
        let (rows, vocab, dim) = (shape.rows(), shape.vocab(), self.dim);
        check_dim(dim)?;
        let options = self.tiling.options();
        // Logits with a standard deviation of 3, whatever the dim.
        let hidden = random::<E>(rows, dim, 1.0);
        let weight = random::<E>(vocab, dim, 9.0 / (dim as f64).sqrt());
        let targets: Vec<i32> = (0..rows).map(|row| (row * 7919 % vocab) as i32).collect();
        let batch = Batch::new(shape, &targets)?;
        let linear = Linear::new(batch, dim, &hidden, &weight)?;
        let (wide_hidden, wide_weight) = (widened(&hidden), widened(&weight));
        let bare = Linear::new(batch, dim, &wide_hidden, &wide_weight)?;
        let mut dhidden = vec![E::default(); rows * dim];
        let mut dweight = vec![0.0f32; vocab * dim];

        let mut live = vec![None; what.len()];
        let medians = medians(self.runs, what.len(), |which| {
            let (timed, _) = what[which];
            let since = Instant::now();
            if timed == Timed::Products {
                bare_products(&bare, &options, &mut dweight)?;
            } else {
                let gradients = LinearGradients {
                    dhidden: (timed != Timed::Forward).then_some(&mut dhidden[..]),
                    dweight: (timed == Timed::Both).then_some(&mut dweight[..]),
                    dbias: None,
                };
                let totals = engine.evaluate_linear(
                    &spec.objective,
                    Reduction::default(),
                    &linear,
                    &options,
                    gradients,
                    Outputs::default(),
                )?;
                live[which] = (timed != Timed::Forward).then_some(totals.live);
            }
            Ok(since.elapsed().as_secs_f64())
        })?;
        let timing = |which: usize| Timing {
            what: what[which].1,
            seconds: medians[which],
            ratio: medians[which] / medians[reference],
            live: live[which],
        };
        Ok((0..what.len()).map(timing).collect())
    }
}

/// A matrix of numbers between `-scale` and `scale`, the same on every machine.
fn random<E: Stored>(rows: usize, columns: usize, scale: f64) -> Vec<E> {
    let mut values = vec![E::default(); rows * columns];
    values.par_chunks_mut(columns).enumerate().for_each(|(row, values)| {
        let mut rng = ChaCha8Rng::seed_from_u64(row as u64);
        values.iter_mut().for_each(|value| *value = E::from_f32(rng.random_range(-scale..scale) as f32));
    });
    values
}

/// The same in f32, without a copy where it is that already.
fn widened<E: Stored>(values: &Vec<E>) -> Cow<'_, [f32]> {
    match (values as &dyn Any).downcast_ref::<Vec<f32>>() {
        Some(same) => Cow::Borrowed(same),
        None => Cow::Owned(values.par_iter().map(|value| value.to_f32()).collect()),
    }
}
