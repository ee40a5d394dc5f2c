//! `tokenloss bench`: the fused pass beside a copy of the same bytes.

use crate::backend::{Choice, Engine};
use crate::eval::Format;
use crate::files::Stored;
use crate::spec::Spec;
use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{Table, presets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Logits, Objective, Outputs, Reduction, Shape};

/// Options of `tokenloss bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Columns
    #[arg(long, default_value_t = 128_256)]
    vocab: usize,
    /// Rows
    #[arg(long, default_value_t = 256)]
    rows: usize,
    /// Storage type of logits and gradient
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Format,
    #[command(flatten)]
    backend: Choice,
    /// The objective
    #[arg(long, default_value = "power:alpha=1", value_name = "SPEC")]
    objective: String,
    /// Timed runs of each, of which the median is taken
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Timing {
    what: &'static str,
    seconds: f64,
    bytes: usize,
    gigabytes_per_second: f64,
    nanoseconds_per_logit: f64,
    /// Of its time to that of the copy.
    ratio_to_copy: f64,
}

impl Bench {
    /// Runs it.
    pub(crate) fn run(self) -> Result<()> {
        ensure!(self.runs > 0, "runs: expected at least 1, got 0");
        let spec = Spec::parse(&self.objective)?;
        let engine = self.backend.open()?;
        let shape = Shape::new(self.rows, self.vocab)?;
        let timings = match self.dtype {
            Format::F32 => time::<f32>(&engine, &spec.objective, shape, self.runs),
            Format::F16 => time::<f16>(&engine, &spec.objective, shape, self.runs),
            Format::Bf16 => time::<bf16>(&engine, &spec.objective, shape, self.runs),
        }?;
        let dtype = tokenloss::Dtype::from(self.dtype);
        if self.json {
            let report = serde_json::json!({
                "backend": engine.describe(),
                "threads": rayon::current_num_threads(),
                "objective": spec.objective.to_string(),
                "rows": self.rows,
                "vocab": self.vocab,
                "dtype": dtype.name(),
                "runs": self.runs,
                "timings": timings,
            });
            println!("{report:#}");
            return Ok(());
        }
        let (threads, runs) = (rayon::current_num_threads(), self.runs);
        println!(
            "{} x {} {dtype}, {}, {}, {threads} threads, median of {runs}",
            self.rows,
            self.vocab,
            spec.text,
            engine.describe()
        );
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["", "ms", "GB/s", "ns per logit", "of the copy's time"]);
        for t in &timings {
            table.add_row([
                t.what.to_owned(),
                format!("{:.2}", 1e3 * t.seconds),
                format!("{:.1}", t.gigabytes_per_second),
                format!("{:.3}", t.nanoseconds_per_logit),
                format!("{:.2}", t.ratio_to_copy),
            ]);
        }
        println!("{table}");
        Ok(())
    }
}

/// What is timed, in this order in every round, so that drift hits all alike.
const WHAT: [&str; 4] = ["copy of the same bytes", "out of place", "in place", "losses only"];

fn time<E: Stored>(engine: &Engine, objective: &Objective, shape: Shape, runs: usize) -> Result<Vec<Timing>> {
    let (rows, vocab) = (shape.rows(), shape.vocab());
    let mut logits = vec![E::default(); shape.elements()];
    logits.par_chunks_mut(vocab).enumerate().for_each(|(row, logits)| {
        let mut rng = ChaCha8Rng::seed_from_u64(row as u64);
        logits.iter_mut().for_each(|z| *z = E::from_f32(rng.random_range(-8.0..8.0)));
    });
    let targets: Vec<i32> = (0..rows).map(|row| (row * 7919 % vocab) as i32).collect();
    let batch = Batch::new(shape, &targets)?;
    // Touched before they are timed: the first write to a page is not the backend's work.
    let mut out = logits.clone();
    let mut losses = vec![0.0f32; rows];

    let mut times: [Vec<Duration>; WHAT.len()] = Default::default();
    for round in 0..=runs {
        for (what, times) in times.iter_mut().enumerate() {
            if what == 2 {
                copy(&logits, &mut out, vocab);
            }
            let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
            let since = Instant::now();
            let reduction = Reduction::default();
            match what {
                0 => copy(&logits, &mut out, vocab),
                1 => {
                    let to = Logits::OutOfPlace { logits: &logits, dlogits: &mut out };
                    engine.evaluate(objective, reduction, &batch, to, outputs)?;
                }
                2 => {
                    engine.evaluate(objective, reduction, &batch, Logits::InPlace(&mut out), outputs)?;
                }
                _ => {
                    engine.evaluate(objective, reduction, &batch, Logits::Read(&logits), outputs)?;
                }
            }
            let time = since.elapsed();
            // The first round warms up.
            if round > 0 {
                times.push(time);
            }
        }
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    let one = size_of_val(&logits[..]);
    let timing = |(what, seconds): (usize, f64)| {
        let bytes = if what == 3 { one } else { 2 * one };
        Timing {
            what: WHAT[what],
            seconds,
            bytes,
            gigabytes_per_second: bytes as f64 / seconds / 1e9,
            nanoseconds_per_logit: 1e9 * seconds / shape.elements() as f64,
            ratio_to_copy: seconds / medians[0],
        }
    };
    Ok(medians.into_iter().enumerate().map(timing).collect())
}

/// The same bytes by the same threads, row by row as the backend takes them.
fn copy<E: Copy + Send + Sync>(from: &[E], to: &mut [E], vocab: usize) {
    to.par_chunks_mut(vocab).zip(from.par_chunks(vocab)).for_each(|(to, from)| to.copy_from_slice(from));
}
