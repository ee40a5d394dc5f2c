//! `tokenloss eval`: losses and gradient of a file of logits, or of hidden states and their head.

use crate::backend::Choice;
use crate::files::{Input, Matrix, Output, Stored, write_tensors};
use crate::linear::{StoredLinear, Tiling};
use crate::map::Map;
use crate::spec::Spec;
use anyhow::{Context, Result};
use clap::{ArgGroup, Args, ValueEnum};
use comfy_table::{Table, presets};
use serde_json::json;
use std::path::PathBuf;
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Batch, Composite, Denominator, Dtype, LinearGradients, Logits, NonFinite, Outputs, Reduction, Shape,
    Totals,
};

/// Options of `tokenloss eval`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("input").required(true)))]
#[command(mut_group(Tiling::GROUP, |tiling| tiling.conflicts_with("logits")))]
pub(crate) struct Eval {
    /// File with `logits [rows, vocab]` (f32, f16 or bf16), `targets [rows]` (i32 or i64; -100 is ignored) and
    /// optionally `weights [rows]` (f32)
    #[arg(long, value_name = "FILE", group = "input")]
    logits: Option<PathBuf>,
    /// File with `hidden [rows, dim]` instead, and targets and weights as above. The logits are hidden @ lm_head^T +
    /// bias, and are never held as a whole
    #[arg(long, value_name = "FILE", group = "input", requires = "head")]
    hidden: Option<PathBuf>,
    /// File with `lm_head [vocab, dim]` (or `lm_head.weight`, `weight`) and optionally `bias [vocab]`. Where hidden, head and bias are
    /// not of one type, all are taken as f32, which is exact
    #[arg(long, value_name = "FILE", conflicts_with = "logits")]
    head: Option<PathBuf>,
    /// Write the head's gradient, too: `dweight [vocab, dim]`, f32
    #[arg(long, conflicts_with = "logits")]
    dweight: bool,
    /// Write the bias's gradient, too: `dbias [vocab]`, f32
    #[arg(long, conflicts_with = "logits")]
    dbias: bool,
    #[command(flatten)]
    tiling: Tiling,
    /// The objective, such as nll, power:alpha=1, thresholded:inner=nll,lo=0.2 or 'nll + z_loss:lambda=0.001'
    #[arg(long, value_name = "SPEC")]
    objective: String,
    #[command(flatten)]
    map: Map,
    #[command(flatten)]
    backend: Choice,
    /// Convert logits, or hidden states and head, first; their own type by default
    #[arg(long, value_enum)]
    dtype: Option<Format>,
    /// What the sum over rows is divided by: valid, kept, sum (nothing) or a number
    #[arg(long, default_value = "valid", value_name = "WHAT", allow_negative_numbers = true)]
    denominator: String,
    /// What to do about a row with NaN or +inf, or with -inf alone
    #[arg(long, value_enum, default_value = "error")]
    non_finite: OnNonFinite,
    /// File for losses, log_p, lse, entropy, argmax (each `[rows]`), and for `dlogits [rows, vocab]` or `dhidden
    /// [rows, dim]` in the type of the input
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

/// What is evaluated.
enum Source<'a> {
    Logits(Matrix<'a>),
    Linear(StoredLinear<'a>),
}

/// What the pass over the rows tells beside the gradient, each `[rows]`.
struct Columns {
    losses: Vec<f32>,
    log_p: Vec<f32>,
    lse: Vec<f32>,
    entropy: Vec<f32>,
    argmax: Vec<i32>,
}

impl Columns {
    fn new(rows: usize) -> Self {
        let [losses, log_p, lse, entropy] = [(); 4].map(|()| vec![0.0f32; rows]);
        Self { losses, log_p, lse, entropy, argmax: vec![0; rows] }
    }

    fn outputs(&mut self) -> Outputs<'_> {
        Outputs {
            losses: Some(&mut self.losses),
            log_p: Some(&mut self.log_p),
            lse: Some(&mut self.lse),
            entropy: Some(&mut self.entropy),
            argmax: Some(&mut self.argmax),
            ..Outputs::default()
        }
    }

    fn tensors(&self) -> Vec<(&'static str, Output)> {
        let rows = [self.losses.len()];
        vec![
            ("losses", Output::floats(&self.losses, &rows)),
            ("log_p", Output::floats(&self.log_p, &rows)),
            ("lse", Output::floats(&self.lse, &rows)),
            ("entropy", Output::floats(&self.entropy, &rows)),
            ("argmax", Output::integers(&self.argmax)),
        ]
    }
}

impl Eval {
    /// Runs it.
    pub(crate) fn run(self) -> Result<()> {
        let path = self.logits.as_ref().or(self.hidden.as_ref()).context("expected --logits or --hidden")?;
        let input = Input::open(path)?;
        let head = self.head.as_deref().map(Input::open).transpose()?;
        let source = match &head {
            None => Source::Logits(input.matrix("logits", "[rows, vocab]")?),
            Some(head) => Source::Linear(StoredLinear::of(&input, head)?),
        };
        let own = match &source {
            Source::Logits(matrix) => matrix.dtype,
            Source::Linear(stored) => stored.dtype(),
        };
        match self.dtype.map_or(own, Dtype::from) {
            Dtype::F32 => self.run_as::<f32>(&input, &source),
            Dtype::F16 => self.run_as::<f16>(&input, &source),
            Dtype::Bf16 => self.run_as::<bf16>(&input, &source),
        }
    }

    fn run_as<E: Stored>(&self, input: &Input, source: &Source<'_>) -> Result<()> {
        let spec = Spec::parse_sum(&self.objective)?;
        let reduction = reduction(&self.denominator)?;
        let (rows, vocab, name) = match source {
            Source::Logits(matrix) => (matrix.rows, matrix.columns, input.name().to_string()),
            Source::Linear(stored) => (stored.rows(), stored.vocab(), stored.name()),
        };
        let named = || name.clone();
        let shape = Shape::new(rows, vocab).with_context(named)?;
        let targets = input.targets(rows)?;
        let weights = input.weights(rows)?;
        let mut batch = Batch::new(shape, &targets).with_context(named)?;
        if let Some(weights) = &weights {
            batch = batch.with_weights(weights).with_context(named)?;
        }
        if let Some(map) = self.map.of()? {
            batch = batch.with_map(map).with_context(named)?;
        }
        batch = batch.with_non_finite(match self.non_finite {
            OnNonFinite::Error => NonFinite::Error,
            OnNonFinite::Nan => NonFinite::NanRow,
        });

        let engine = self.backend.open()?;
        let mut columns = Columns::new(rows);
        let objective = &spec.objective;
        let (dim, totals, gradients) = match source {
            Source::Logits(matrix) => {
                let mut dlogits = matrix.read::<E>(0..rows).into_owned();
                let logits = Logits::InPlace(&mut dlogits);
                let totals = engine
                    .evaluate(objective, reduction, &batch, logits, columns.outputs())
                    .with_context(named)?;
                let dlogits = Output::floats(&dlogits, &[rows, vocab]);
                (None, totals, vec![("dlogits", dlogits)])
            }
            Source::Linear(stored) => {
                let dim = stored.dim();
                let tensors = stored.read::<E>();
                let linear = tensors.linear(batch, 0..rows).with_context(named)?;
                let mut dhidden = vec![E::default(); rows * dim];
                let mut dweight = self.dweight.then(|| vec![0.0f32; vocab * dim]);
                let mut dbias = self.dbias.then(|| vec![0.0f32; vocab]);
                let gradients = LinearGradients {
                    dhidden: Some(&mut dhidden),
                    dweight: dweight.as_deref_mut(),
                    dbias: dbias.as_deref_mut(),
                };
                let options = self.tiling.options();
                let totals = engine
                    .evaluate_linear(objective, reduction, &linear, &options, gradients, columns.outputs())
                    .with_context(named)?;
                let mut tensors = vec![("dhidden", Output::floats(&dhidden, &[rows, dim]))];
                tensors.extend(dweight.map(|dweight| ("dweight", Output::floats(&dweight, &[vocab, dim]))));
                tensors.extend(dbias.map(|dbias| ("dbias", Output::floats(&dbias, &[vocab]))));
                (Some(dim), totals, tensors)
            }
        };
        let mut tensors = columns.tensors();
        tensors.extend(gradients);
        write_tensors(&self.out, tensors)?;
        self.report(&spec, &engine.describe(), E::DTYPE, shape, dim, &totals);
        Ok(())
    }

    fn report(
        &self,
        spec: &Spec<Composite>,
        backend: &str,
        dtype: Dtype,
        shape: Shape,
        dim: Option<usize>,
        totals: &Totals,
    ) {
        let out = self.out.display();
        let (rows, vocab) = (shape.rows(), shape.vocab());
        if self.json {
            let report = json!({
                "objective": spec.objective.to_string(),
                "backend": backend,
                "dtype": dtype.name(),
                "rows": rows,
                "vocab": vocab,
                "dim": dim,
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
        let from = dim.map_or(String::new(), |dim| format!(" from hidden states of dim {dim}"));
        table.add_row(["logits", &format!("{rows} x {vocab}{from}, {dtype}")]);
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
