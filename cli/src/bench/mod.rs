//! `tokenloss bench`: the fused pass beside a copy of the same bytes, or beside bare matrix products.

mod linear;

use crate::backend::{Choice, Engine, Timed};
use crate::eval::Format;
use crate::files::Stored;
use crate::linear::Tiling;
use crate::spec::Spec;
use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{Table, presets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use std::time::Instant;
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Composite, Logits, Outputs, Reduction, Shape};

/// Options of `tokenloss bench`.
#[derive(Debug, Args)]
#[command(mut_group(Tiling::GROUP, |tiling| tiling.requires("linear")))]
pub(crate) struct Bench {
    /// Time the linear form, from hidden states and a head, beside the matrix products that it cannot do without
    #[arg(long)]
    linear: bool,
    /// Elements of a hidden state
    #[arg(long, default_value_t = 2048, requires = "linear")]
    dim: usize,
    #[command(flatten)]
    tiling: Tiling,
    /// Columns
    #[arg(long, default_value_t = 128_256)]
    vocab: usize,
    /// Rows
    #[arg(long, default_value_t = 256)]
    rows: usize,
    /// Storage type of logits and gradient, or of hidden states, head and dhidden
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
        let spec = Spec::parse_sum(&self.objective)?;
        let engine = self.backend.open()?;
        let shape = Shape::new(self.rows, self.vocab)?;
        if self.linear {
            self.run_linear(&engine, &spec, shape)
        } else {
            self.run_logits(&engine, &spec, shape)
        }
    }

    fn run_logits(&self, engine: &Engine, spec: &Spec<Composite>, shape: Shape) -> Result<()> {
        let timings = match self.dtype {
            Format::F32 => time::<f32>(engine, &spec.objective, shape, self.runs),
            Format::F16 => time::<f16>(engine, &spec.objective, shape, self.runs),
            Format::Bf16 => time::<bf16>(engine, &spec.objective, shape, self.runs),
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
        let what = format!("{} x {} {dtype}", self.rows, self.vocab);
        println!("{what}, {}, {}", spec.text, self.conditions(engine));
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

    /// On what, and how often.
    fn conditions(&self, engine: &Engine) -> String {
        let threads = match engine {
            Engine::Cpu(_) => format!("{} threads, ", rayon::current_num_threads()),
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => String::new(),
        };
        format!("{}, {threads}median of {} runs", engine.describe(), self.runs)
    }
}

/// The median time of each of `count` things, which take turns so that drift hits all alike.
fn medians(runs: usize, count: usize, mut seconds: impl FnMut(usize) -> Result<f64>) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); count];
    for round in 0..=runs {
        for (which, times) in times.iter_mut().enumerate() {
            let time = seconds(which)?;
            // The first round warms up.
            if round > 0 {
                times.push(time);
            }
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_unstable_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok(times.into_iter().map(median).collect())
}

/// What is timed.
const WHAT: [(Timed, &str); 4] = [
    (Timed::Copy, "copy of the same bytes"),
    (Timed::OutOfPlace, "out of place"),
    (Timed::InPlace, "in place"),
    (Timed::LossesOnly, "losses only"),
];

fn time<E: Stored>(engine: &Engine, objective: &Composite, shape: Shape, runs: usize) -> Result<Vec<Timing>> {
    let mut host: Option<Host<E>> = None;
    let medians = medians(runs, WHAT.len(), |which| {
        let (timed, _) = WHAT[which];
        match engine.time_on_device(objective, shape, E::DTYPE, timed)? {
            Some(seconds) => Ok(seconds),
            None => host.get_or_insert_with(|| Host::new(shape)).time(engine, objective, timed),
        }
    })?;
    let (one, copy) = (shape.elements() * E::DTYPE.bytes(), medians[0]);
    let timing = |(seconds, &(timed, what)): (f64, &(Timed, &'static str))| {
        let bytes = if timed == Timed::LossesOnly { one } else { 2 * one };
        Timing {
            what,
            seconds,
            bytes,
            gigabytes_per_second: bytes as f64 / seconds / 1e9,
            nanoseconds_per_logit: 1e9 * seconds / shape.elements() as f64,
            ratio_to_copy: seconds / copy,
        }
    };
    Ok(medians.into_iter().zip(&WHAT).map(timing).collect())
}

/// Slices of the host to work on.
struct Host<E> {
    shape: Shape,
    logits: Vec<E>,
    out: Vec<E>,
    targets: Vec<i32>,
    losses: Vec<f32>,
}

impl<E: Stored> Host<E> {
    fn new(shape: Shape) -> Self {
        let (rows, vocab) = (shape.rows(), shape.vocab());
        let mut logits = vec![E::default(); shape.elements()];
        logits.par_chunks_mut(vocab).enumerate().for_each(|(row, logits)| {
            let mut rng = ChaCha8Rng::seed_from_u64(row as u64);
            logits.iter_mut().for_each(|z| *z = E::from_f32(rng.random_range(-8.0..8.0)));
        });
        let targets = (0..rows).map(|row| (row * 7919 % vocab) as i32).collect();
        // Touched before it is timed: the first write to a page is not the backend's work.
        let out = logits.clone();
        Self { shape, logits, out, targets, losses: vec![0.0; rows] }
    }

    fn time(&mut self, engine: &Engine, objective: &Composite, timed: Timed) -> Result<f64> {
        let vocab = self.shape.vocab();
        if timed == Timed::InPlace {
            copy(&self.logits, &mut self.out, vocab);
        }
        let batch = Batch::new(self.shape, &self.targets)?;
        let outputs = Outputs { losses: Some(&mut self.losses), ..Outputs::default() };
        let since = Instant::now();
        let logits = match timed {
            Timed::Copy => {
                copy(&self.logits, &mut self.out, vocab);
                return Ok(since.elapsed().as_secs_f64());
            }
            Timed::OutOfPlace => Logits::OutOfPlace { logits: &self.logits, dlogits: &mut self.out },
            Timed::InPlace => Logits::InPlace(&mut self.out),
            Timed::LossesOnly => Logits::Read(&self.logits),
        };
        engine.evaluate(objective, Reduction::default(), &batch, logits, outputs)?;
        Ok(since.elapsed().as_secs_f64())
    }
}

/// The same bytes by the same threads, row by row as the backend takes them.
fn copy<E: Copy + Send + Sync>(from: &[E], to: &mut [E], vocab: usize) {
    to.par_chunks_mut(vocab).zip(from.par_chunks(vocab)).for_each(|(to, from)| to.copy_from_slice(from));
}
