//! `tokenloss place`: where a model and its data lie on the continuum.

use crate::backend::{Choice, Engine};
use crate::draw::{self, Anchor, GREY, INK, Panel, text};
use crate::files::{Input, Matrix, Output, Stored, write_tensors};
use crate::progress::Progress;
use crate::spec::{COMPARED, Spec};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;
use serde::Serialize;
use std::path::PathBuf;
use tokenloss::half::{bf16, f16};
use tokenloss::theory::weight;
use tokenloss::{Batch, Dtype, IGNORE_INDEX, Logits, Nll, Outputs, Reduction, Shape};

/// Options of `tokenloss place`.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// File with `logits [rows, vocab]` or `hidden [rows, dim]`, and `targets [rows]`
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// File with `lm_head [vocab, dim]`, for rows that hold hidden states: logits = hidden @ lm_head^T
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Most memory for logits, hidden states and head at a time
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    memory: String,
    /// Mean p below which a model is called weak. The paper gives no number: halfway between its weak and
    /// its intermediate models
    #[arg(long, default_value_t = 0.285, value_name = "P")]
    weak: f64,
    /// Mean p from which a model is called strong: halfway between the paper's intermediate and strong models
    #[arg(long, default_value_t = 0.675, value_name = "P")]
    strong: f64,
    #[command(flatten)]
    backend: Choice,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the log_p of every row, f32, NaN where ignored
    #[arg(long, value_name = "FILE")]
    log_p: Option<PathBuf>,
    /// Write PREFIX.svg and PREFIX.png
    #[arg(long, default_value = "tokenloss-place", value_name = "PREFIX")]
    out: PathBuf,
}

/// What an objective makes of the rows.
#[derive(Debug, Serialize)]
struct Shares {
    objective: String,
    /// The share of the sum of W that falls to each tenth of [0, 1], which add up to 1.
    weight_by_decile_of_p: [f64; 10],
    /// `(sum W)^2 / sum W^2`.
    effective_tokens: f64,
}

#[derive(Debug, Serialize)]
struct Percentile {
    percent: u32,
    p: f64,
}

/// What is reported.
#[derive(Debug, Serialize)]
struct Report {
    rows: usize,
    ignored: usize,
    vocab: usize,
    backend: String,
    mean_p: f64,
    mean_log_p: f64,
    geometric_mean_p: f64,
    share_above_055: f64,
    percentiles: Vec<Percentile>,
    weights: Vec<Shares>,
    weak_below: f64,
    strong_from: f64,
    region: &'static str,
    suggested: Vec<&'static str>,
    reason: String,
    caveats: [&'static str; 4],
    /// Of the rows that are not ignored.
    #[serde(skip)]
    p: Vec<f64>,
}

const CAVEATS: [&str; 4] = [
    "Label noise decides: with clean labels nll does not lose at any capability, and the surer the model, the less noise it takes for a prior-leaning objective to win.",
    "Mean p can mislead: a model may be confident and wrong, and these labels may differ from those it will be judged by.",
    "Adam and clipping remove the scale of an objective: compare the shapes of W, not the sizes.",
    "The paper gives no cut-offs between the regions: those used here are ours (--weak, --strong).",
];

impl Place {
    /// Runs it.
    pub(crate) fn run(self) -> Result<()> {
        let unit = 0.0..=1.0;
        ensure!(
            unit.contains(&self.weak) && unit.contains(&self.strong) && self.weak <= self.strong,
            "weak: expected 0 <= weak <= strong <= 1, got weak {} and strong {}",
            self.weak,
            self.strong
        );
        let memory = bytes(&self.memory)?;
        draw::check_prefix(&self.out)?;
        let engine = self.backend.open()?;
        let input = Input::open(&self.rows)?;
        let progress = Progress::new();
        let named = self.rows.display();
        let (vocab, targets, log_p) = if input.has("logits") {
            let matrix = input.matrix("logits", "[rows, vocab]")?;
            let targets = input.targets(matrix.rows)?;
            let log_p = match matrix.dtype {
                Dtype::F32 => of_logits::<f32>(&engine, matrix, &targets, memory, &progress),
                Dtype::F16 => of_logits::<f16>(&engine, matrix, &targets, memory, &progress),
                Dtype::Bf16 => of_logits::<bf16>(&engine, matrix, &targets, memory, &progress),
            };
            (matrix.columns, targets, log_p.with_context(|| named.to_string())?)
        } else if input.has("hidden") {
            let head = self
                .head
                .as_ref()
                .with_context(|| format!("{named}: has hidden but no logits: --head is needed"))?;
            let head_input = Input::open(head)?;
            let lm_head = head_input.matrix("lm_head", "[vocab, dim]")?;
            let hidden = input.matrix("hidden", "[rows, dim]")?;
            ensure!(
                hidden.columns == lm_head.columns,
                "{named}: hidden has dim {}, but lm_head of {} has dim {}",
                hidden.columns,
                head.display(),
                lm_head.columns
            );
            let targets = input.targets(hidden.rows)?;
            let log_p = of_hidden(&engine, hidden, lm_head, &targets, memory, &progress);
            (lm_head.rows, targets, log_p.with_context(|| named.to_string())?)
        } else {
            bail!("{named}: has neither logits [rows, vocab] nor hidden [rows, dim]");
        };
        let report = self.report(engine.describe(), vocab, &targets, &log_p)?;
        if let Some(file) = &self.log_p {
            write_tensors(file, vec![("log_p", Output::floats(&log_p, &[log_p.len()]))])?;
            eprintln!("wrote {}", file.display());
        }
        let files = draw::save_both(&picture(&report)?, &self.out)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print(&report);
        }
        eprintln!("wrote {} and {}", files[0].display(), files[1].display());
        Ok(())
    }

    fn report(&self, backend: String, vocab: usize, targets: &[i32], log_p: &[f32]) -> Result<Report> {
        let valid: Vec<f64> = log_p
            .iter()
            .zip(targets)
            .filter(|(_, t)| **t != IGNORE_INDEX)
            .map(|(l, _)| f64::from(*l))
            .collect();
        ensure!(!valid.is_empty(), "{}: all {} rows are ignored", self.rows.display(), targets.len());
        let count = valid.len() as f64;
        let p: Vec<f64> = valid.iter().map(|log_p| log_p.exp()).collect();
        let mut sorted = p.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let mean_p = p.iter().sum::<f64>() / count;
        let mean_log_p = valid.iter().sum::<f64>() / count;
        let weights = Spec::parse_all(&COMPARED)?.into_iter().map(|spec| shares(&spec, &p)).collect();
        let (region, suggested, why) = if mean_p < self.weak {
            let why = "the model gives these labels little probability: nll pushes hardest on just these, while \
                       a prior-leaning objective has almost no gradient there and stalls";
            ("weak", vec!["nll"], format!("mean p {mean_p:.4} is below {}: {why}", self.weak))
        } else if mean_p < self.strong {
            let why = "the paper finds no fixed winner here: compare these on held-out data, and take the second \
                       the sooner, the more labels are wrong";
            let range = format!("{} and {}", self.weak, self.strong);
            (
                "intermediate",
                vec!["nll", "power:alpha=1"],
                format!("mean p {mean_p:.4} lies between {range}: {why}"),
            )
        } else {
            let why = "the labels that this model finds improbable are the likeliest to be wrong, and nll spends \
                       most of its gradient on them; if you trust every label, nll does not lose";
            ("strong", vec!["power:alpha=1"], format!("mean p {mean_p:.4} is {} or more: {why}", self.strong))
        };
        Ok(Report {
            rows: targets.len(),
            ignored: targets.len() - valid.len(),
            vocab,
            backend,
            mean_p,
            mean_log_p,
            geometric_mean_p: mean_log_p.exp(),
            share_above_055: p.iter().filter(|p| **p > 0.55).count() as f64 / count,
            percentiles: (1..20)
                .map(|i| Percentile { percent: 5 * i, p: quantile(&sorted, f64::from(i) / 20.0) })
                .collect(),
            weights,
            weak_below: self.weak,
            strong_from: self.strong,
            region,
            suggested,
            reason: why_one_line(why),
            caveats: CAVEATS,
            p,
        })
    }
}

fn why_one_line(text: String) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `256MiB`, `1GB`, `4096`: bytes.
fn bytes(text: &str) -> Result<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1024f64.powi(2),
        "gib" | "g" => 1024f64.powi(3),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => bail!("memory: '{text}' is no size, expected a number of bytes, KiB, MiB or GiB"),
    };
    match digits.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * unit) as usize),
        _ => bail!("memory: '{text}' is no size, expected a number of bytes, KiB, MiB or GiB"),
    }
}

/// Linear interpolation between the order statistics, as numpy does.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

fn shares(spec: &Spec, p: &[f64]) -> Shares {
    let mut deciles = [0.0; 10];
    let (mut sum, mut squares) = (0.0, 0.0);
    for &p in p {
        let w = weight(&spec.objective, p);
        deciles[((p * 10.0) as usize).min(9)] += w;
        sum += w;
        squares += w * w;
    }
    let share = |x: f64| if sum > 0.0 { x / sum } else { 0.0 };
    // Of weights so small that their squares vanish, the sum is what is left to say.
    let effective_tokens = if squares > 0.0 { sum * sum / squares } else { 0.0 };
    Shares { objective: spec.text.clone(), weight_by_decile_of_p: deciles.map(share), effective_tokens }
}

/// How many rows fit, at `fixed` bytes once and `row` bytes each.
fn rows_within(memory: usize, fixed: usize, row: usize, rows: usize) -> Result<usize> {
    let least = fixed + row;
    ensure!(memory >= least, "memory: {memory} bytes hold not even one row, the least that works is {least}");
    Ok(((memory - fixed) / row).min(rows).max(1))
}

fn judge<E: Stored>(
    engine: &Engine,
    vocab: usize,
    first: usize,
    targets: &[i32],
    logits: &[E],
    log_p: &mut [f32],
) -> Result<()> {
    let batch = Batch::new(Shape::new(targets.len(), vocab)?, targets).map_err(|e| in_file(e, first))?;
    let outputs = Outputs { log_p: Some(log_p), ..Outputs::default() };
    engine.evaluate(&Nll.into(), Reduction::Sum, &batch, Logits::Read(logits), outputs).map_err(|error| {
        match error.downcast::<tokenloss::Error>() {
            Ok(error) => in_file(error, first).into(),
            Err(error) => error,
        }
    })?;
    Ok(())
}

/// The fault of a chunk, with the row's number in the file.
fn in_file(error: tokenloss::Error, first: usize) -> tokenloss::Error {
    use tokenloss::Error;
    match error {
        Error::Target { row, target, vocab } => Error::Target { row: row + first, target, vocab },
        Error::NonFinite { row, .. } | Error::NoMass { row, .. } => error.in_row(row + first),
        other => other,
    }
}

fn of_logits<E: Stored>(
    engine: &Engine,
    matrix: Matrix<'_>,
    targets: &[i32],
    memory: usize,
    progress: &Progress,
) -> Result<Vec<f32>> {
    let (rows, vocab) = (matrix.rows, matrix.columns);
    Shape::new(rows, vocab)?;
    let chunk = rows_within(memory, 0, vocab * E::DTYPE.bytes(), rows)?;
    let mut log_p = vec![0.0; rows];
    progress.stage("rows", rows as u64);
    for from in (0..rows).step_by(chunk) {
        let to = (from + chunk).min(rows);
        let logits = matrix.read::<E>(from, to);
        judge(engine, vocab, from, &targets[from..to], &logits, &mut log_p[from..to])?;
        progress.advance((to - from) as u64);
    }
    progress.done();
    Ok(log_p)
}

/// Rows of the head that are widened to f32 at a time.
const HEAD_ROWS: usize = 1024;

fn of_hidden(
    engine: &Engine,
    hidden: Matrix<'_>,
    head: Matrix<'_>,
    targets: &[i32],
    memory: usize,
    progress: &Progress,
) -> Result<Vec<f32>> {
    let (rows, dim, vocab) = (hidden.rows, hidden.columns, head.rows);
    Shape::new(rows, vocab)?;
    ensure!(dim > 0, "hidden: expected a dim of at least 1, got 0");
    let float = size_of::<f32>();
    let block = HEAD_ROWS.min(vocab);
    let chunk = rows_within(memory, block * dim * float, (vocab + dim) * float, rows)?;
    let mut log_p = vec![0.0; rows];
    let mut logits = vec![0.0f32; chunk * vocab];
    progress.stage("rows", (rows * vocab.div_ceil(block)) as u64);
    for from in (0..rows).step_by(chunk) {
        let to = (from + chunk).min(rows);
        let states = hidden.read::<f32>(from, to);
        let logits = &mut logits[..(to - from) * vocab];
        // Rows are shared out among the threads, so that each writes memory of its own.
        let part = (to - from).div_ceil(rayon::current_num_threads());
        for first in (0..vocab).step_by(block) {
            let last = (first + block).min(vocab);
            let weights = head.read::<f32>(first, last);
            let weights = ArrayView2::from_shape((last - first, dim), &weights)?;
            logits.par_chunks_mut(part * vocab).zip(states.par_chunks(part * dim)).try_for_each(
                |(logits, states)| -> Result<()> {
                    let rows = states.len() / dim;
                    let states = ArrayView2::from_shape((rows, dim), states)?;
                    let mut logits = ArrayViewMut2::from_shape((rows, vocab), logits)?;
                    let mut columns = logits.slice_mut(s![.., first..last]);
                    general_mat_mul(1.0, &states, &weights.t(), 0.0, &mut columns);
                    Ok(())
                },
            )?;
            progress.advance((to - from) as u64);
        }
        judge(engine, vocab, from, &targets[from..to], logits, &mut log_p[from..to])?;
    }
    progress.done();
    Ok(log_p)
}

fn print(report: &Report) {
    let Report { rows, ignored, vocab, mean_p, mean_log_p, geometric_mean_p, share_above_055, .. } = report;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_row(["rows".to_owned(), format!("{rows} of vocab {vocab}, {ignored} of them ignored")]);
    table.add_row(["mean p".to_owned(), format!("{mean_p:.4}")]);
    table.add_row([
        "mean log_p".to_owned(),
        format!("{mean_log_p:.4}, geometric mean p {geometric_mean_p:.4}"),
    ]);
    table.add_row(["share with p > .55".to_owned(), format!("{:.1} %", 100.0 * share_above_055)]);
    table.add_row(["region".to_owned(), format!("model-{}", report.region)]);
    table.add_row(["suggested objective".to_owned(), report.suggested.join(" or ")]);
    println!("{table}\n");

    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(report.percentiles.iter().step_by(2).map(|q| format!("{} %", q.percent)));
    table.add_row(report.percentiles.iter().step_by(2).map(|q| format!("{:.4}", q.p)));
    println!("percentiles of p (--json has 5, 10, ... 95)\n{table}\n");

    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let deciles = (0..10).map(|i| format!(".{i}"));
    table.set_header(
        ["objective".to_owned()].into_iter().chain(deciles).chain(["effective tokens".to_owned()]),
    );
    for shares in &report.weights {
        let cells = shares.weight_by_decile_of_p.map(|share| format!("{:.1}", 100.0 * share));
        let effective = format!("{:.1}", shares.effective_tokens);
        table.add_row([shares.objective.clone()].into_iter().chain(cells).chain([effective]));
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    println!(
        "share of the gradient weight W, in %, by tenth of p (from .0 to .1, ...); effective tokens: (sum W)^2 / sum W^2\n{table}\n"
    );
    println!("Why: {}.", report.reason);
    report.caveats.iter().for_each(|caveat| println!("- {caveat}"));
}

fn picture(report: &Report) -> Result<String> {
    draw::svg((1240, 620), |area| {
        let title = format!("mean p {:.3}: the model is {} on these labels", report.mean_p, report.region);
        text(area, &title, (40, 34), 27, INK, Anchor::Start)?;
        let subtitle = format!(
            "left: where the {} labels lie; right: which of them each objective learns from",
            report.p.len()
        );
        text(area, &subtitle, (40, 64), 18, GREY, Anchor::Start)?;
        let names: Vec<&str> = report.weights.iter().map(|shares| shares.objective.as_str()).collect();
        draw::legend(area, &names, (40, 98))?;

        let mut bins = [0.0f64; 20];
        report.p.iter().for_each(|p| bins[((p * 20.0) as usize).min(19)] += 100.0 / report.p.len() as f64);
        let ends = draw::ticks(0.0, 1.0, 5, "");
        let axis = |top: f64| draw::ticks(0.0, top, 5, " %");
        let top = bins.iter().copied().fold(1.0, f64::max) * 1.08;
        let left = Panel { frame: [120, 140, 590, 540], x: (0.0, 1.0), y: (0.0, top) };
        left.axes(area, &ends, &axis(top), "p of the label", "share of labels")?;
        for (bin, share) in bins.iter().enumerate() {
            let (from, height) = left.at(bin as f64 / 20.0, *share);
            let (to, bottom) = left.at((bin + 1) as f64 / 20.0, 0.0);
            draw::rectangle(area, [(from + 1, height), (to - 1, bottom)], draw::colour(7))?;
        }
        let (mean, _) = left.at(report.mean_p, 0.0);
        draw::path(area, vec![(mean, 140), (mean, 540)], INK, 2)?;
        let anchor = if report.mean_p > 0.6 { Anchor::End } else { Anchor::Start };
        let beside = if report.mean_p > 0.6 { -8 } else { 8 };
        text(area, &format!("mean p {:.3}", report.mean_p), (mean + beside, 150), 17, INK, anchor)?;

        let shares = report.weights.iter().flat_map(|s| s.weight_by_decile_of_p);
        let top = 100.0 * shares.fold(0.01, f64::max) * 1.08;
        let right = Panel { frame: [740, 140, 1210, 540], x: (0.0, 1.0), y: (0.0, top) };
        right.axes(area, &ends, &axis(top), "p of the label, by tenths", "share of W")?;
        for (series, shares) in report.weights.iter().enumerate() {
            let points = shares.weight_by_decile_of_p.iter().enumerate();
            let points: Vec<_> = points.map(|(i, share)| ((i as f64 + 0.5) / 10.0, 100.0 * share)).collect();
            right.line(area, series, &points, true)?;
        }
        Ok(())
    })
}
