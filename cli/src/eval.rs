//! `tokenloss eval`: losses and gradient of a file of logits.

use crate::backend::Choice;
use crate::files::{Input, Output, Stored, write_tensors};
use crate::spec::Spec;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use serde_json::json;
use std::path::PathBuf;
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Denominator, Dtype, Logits, NonFinite, Outputs, Reduction, Shape, Totals};

/// Options of `tokenloss eval`.
#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// File with `logits [rows, vocab]` (f32, f16 or bf16), `targets [rows]` (i32 or i64; -100 is ignored) and
    /// optionally `weights [rows]` (f32)
    #[arg(long, value_name = "FILE")]
    logits: PathBuf,
    /// The objective, such as nll, power:alpha=1 or thresholded:inner=nll,lo=0.2
    #[arg(long, value_name = "SPEC")]
    objective: String,
    #[command(flatten)]
    backend: Choice,
    /// Convert the logits first; their own type by default
    #[arg(long, value_enum)]
    dtype: Option<Format>,
    /// What the sum over rows is divided by: valid, kept, sum (nothing) or a number
    #[arg(long, default_value = "valid", value_name = "WHAT", allow_negative_numbers = true)]
    denominator: String,
    /// What to do about a row with NaN or +inf, or with -inf alone
    #[arg(long, value_enum, default_value = "error")]
    non_finite: OnNonFinite,
    /// File for losses, log_p, lse, entropy, argmax and dlogits
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print the totals as JSON
    #[arg(long)]
    json: bool,
}

/// A storage type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// IEEE 754 binary32
    F32,
    /// IEEE 754 binary16
    F16,
    /// The upper half of a binary32
    Bf16,
}

impl From<Format> for Dtype {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Dtype::F32,
            Format::F16 => Dtype::F16,
            Format::Bf16 => Dtype::Bf16,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnNonFinite {
    /// Stop, naming the row and the column
    Error,
    /// Give that row NaN everywhere
    Nan,
}

fn reduction(text: &str) -> Result<Reduction> {
    let reduction = match text {
        "valid" => Reduction::Mean(Denominator::Valid),
        "kept" => Reduction::Mean(Denominator::Kept),
        "sum" => Reduction::Sum,
        number => Reduction::Mean(Denominator::Given(number.parse().ok().with_context(|| {
            format!("denominator: '{number}' is not a number, expected valid, kept, sum or a number")
        })?)),
    };
    Ok(reduction.check()?)
}

impl Eval {
    /// Runs it.
    pub(crate) fn run(self) -> Result<()> {
        let input = Input::open(&self.logits)?;
        let dtype = input.matrix("logits", "[rows, vocab]")?.dtype;
        match self.dtype.map_or(dtype, Dtype::from) {
            Dtype::F32 => self.run_as::<f32>(&input),
            Dtype::F16 => self.run_as::<f16>(&input),
            Dtype::Bf16 => self.run_as::<bf16>(&input),
        }
    }

    fn run_as<E: Stored>(&self, input: &Input) -> Result<()> {
        let spec = Spec::parse(&self.objective)?;
        let reduction = reduction(&self.denominator)?;
        let matrix = input.matrix("logits", "[rows, vocab]")?;
        let (rows, vocab) = (matrix.rows, matrix.columns);
        let named = || self.logits.display().to_string();
        let shape = Shape::new(rows, vocab).with_context(named)?;
        let targets = input.targets(rows)?;
        let weights = input.weights(rows)?;
        let mut batch = Batch::new(shape, &targets).with_context(named)?;
        if let Some(weights) = &weights {
            batch = batch.with_weights(weights).with_context(named)?;
        }
        batch = batch.with_non_finite(match self.non_finite {
            OnNonFinite::Error => NonFinite::Error,
            OnNonFinite::Nan => NonFinite::NanRow,
        });

        let engine = self.backend.open()?;
        let mut dlogits = matrix.read::<E>(0, rows);
        let [mut losses, mut log_p, mut lse, mut entropy] = [(); 4].map(|()| vec![0.0f32; rows]);
        let mut argmax = vec![0i32; rows];
        let outputs = Outputs {
            losses: Some(&mut losses),
            log_p: Some(&mut log_p),
            lse: Some(&mut lse),
            entropy: Some(&mut entropy),
            argmax: Some(&mut argmax),
            ..Outputs::default()
        };
        let logits = Logits::InPlace(&mut dlogits);
        let totals =
            engine.evaluate(&spec.objective, reduction, &batch, logits, outputs).with_context(named)?;

        let tensors = vec![
            ("losses", Output::floats(&losses, &[rows])),
            ("log_p", Output::floats(&log_p, &[rows])),
            ("lse", Output::floats(&lse, &[rows])),
            ("entropy", Output::floats(&entropy, &[rows])),
            ("argmax", Output::integers(&argmax)),
            ("dlogits", Output::floats(&dlogits, &[rows, vocab])),
        ];
        write_tensors(&self.out, tensors)?;
        self.report(&spec, &engine.describe(), E::DTYPE, shape, &totals);
        Ok(())
    }

    fn report(&self, spec: &Spec, backend: &str, dtype: Dtype, shape: Shape, totals: &Totals) {
        let out = self.out.display();
        if self.json {
            let report = json!({
                "objective": spec.objective.to_string(),
                "backend": backend,
                "dtype": dtype.name(),
                "rows": shape.rows(),
                "vocab": shape.vocab(),
                "loss": totals.loss(),
                "loss_sum": totals.loss_sum,
                "denominator": totals.denominator,
                "weight_sum": totals.weight_sum,
                "valid": totals.valid,
                "kept": totals.kept,
                "live": totals.live,
                "ignored": totals.ignored,
                "out": out.to_string(),
            });
            println!("{report:#}");
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.add_row(["objective", &spec.objective.to_string()]);
        table.add_row(["backend", backend]);
        table.add_row(["logits", &format!("{} x {} {dtype}", shape.rows(), shape.vocab())]);
        table.add_row(["loss", &totals.loss().to_string()]);
        table.add_row(["loss sum", &totals.loss_sum.to_string()]);
        table.add_row(["denominator", &totals.denominator.to_string()]);
        table.add_row(["weight sum", &totals.weight_sum.to_string()]);
        let Totals { valid, kept, live, ignored, .. } = totals;
        let counts = format!("{valid} valid, {kept} kept, {live} live, {ignored} ignored");
        table.add_row(["rows", &counts]);
        println!("{table}");
        println!("wrote {out}");
    }
}
