//! `tokenloss place`: where a model and its data lie on the continuum.

mod summaries;

use crate::backend::Choice;
use crate::draw::{self, Anchor, GREY, INK, Panel, text};
use crate::files::{Input, Output, write_tensors};
use crate::linear::{DEFAULT_BUDGET, budget};
use crate::progress::Progress;
use crate::spec::{COMPARED, Spec};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::path::PathBuf;
use tokenloss::{Budget, Diagnostics, Nll, RowObjective, RowSummary};

/// Options of `tokenloss place`.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// File with `logits [rows, vocab]` or `hidden [rows, dim]`, and `targets [rows]`
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// File with `lm_head [vocab, dim]` (or `lm_head.weight`, `weight`) and optionally `bias [vocab]`, for rows that hold hidden
    /// states: logits = hidden @ lm_head^T + bias. Where they are not of one type, all are taken as f32
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Budget: the most bytes held of logits, beside the files themselves, such as 64MiB
    #[arg(long, default_value = DEFAULT_BUDGET, value_parser = budget, value_name = "SIZE")]
    memory: Budget,
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
    weight_by_decile_of_p: [f64; Diagnostics::BUCKETS],
    /// `(sum W)^2 / sum W^2`.
    effective_tokens: f64,
    /// Rows with a gradient.
    live: usize,
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
    /// How many rows have a p in each tenth of [0, 1].
    rows_by_decile_of_p: [usize; Diagnostics::BUCKETS],
    weights: Vec<Shares>,
    weak_below: f64,
    strong_from: f64,
    region: &'static str,
    suggested: Vec<&'static str>,
    reason: String,
    caveats: [&'static str; 4],
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
        draw::check_prefix(&self.out)?;
        let engine = self.backend.open()?;
        let input = Input::open(&self.rows)?;
        let progress = Progress::new();
        let named = self.rows.display();
        let (vocab, summaries) = if input.has("logits") {
            summaries::of_logits(&engine, &input, self.memory, &progress)
        } else if input.has("hidden") {
            let head = self.head.as_ref();
            let head =
                head.with_context(|| format!("{named}: has hidden but no logits: --head is needed"))?;
            summaries::of_linear(&engine, &input, &Input::open(head)?, self.memory, &progress)
        } else {
            bail!("{named}: has neither logits [rows, vocab] nor hidden [rows, dim]");
        }?;
        let report = self.report(engine.describe(), vocab, &summaries)?;
        if let Some(file) = &self.log_p {
            let log_p: Vec<f32> = summaries.iter().map(|summary| summary.target.log_p as f32).collect();
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

    fn report(&self, backend: String, vocab: usize, summaries: &[RowSummary<f64>]) -> Result<Report> {
        let of_nll = diagnostics(&Nll, summaries);
        let (rows, valid) = (summaries.len(), of_nll.count());
        ensure!(valid > 0, "{}: all {rows} rows are ignored", self.rows.display());
        let mut sorted: Vec<f64> = summaries.iter().map(|s| s.target.p()).filter(|p| !p.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (mean_p, mean_log_p) = (of_nll.mean_p(), of_nll.mean_log_p());
        let weights = Spec::parse_all(&COMPARED)?.iter().map(|spec| shares(spec, summaries)).collect();
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
            rows,
            ignored: rows - valid,
            vocab,
            backend,
            mean_p,
            mean_log_p,
            geometric_mean_p: mean_log_p.exp(),
            share_above_055: sorted.iter().filter(|p| **p > 0.55).count() as f64 / valid as f64,
            percentiles: (1..20)
                .map(|i| Percentile { percent: 5 * i, p: quantile(&sorted, f64::from(i) / 20.0) })
                .collect(),
            rows_by_decile_of_p: of_nll.rows,
            weights,
            weak_below: self.weak,
            strong_from: self.strong,
            region,
            suggested,
            reason: why_one_line(why),
            caveats: CAVEATS,
        })
    }
}

fn why_one_line(text: String) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Linear interpolation between the order statistics, as numpy does.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

fn shares(spec: &Spec, summaries: &[RowSummary<f64>]) -> Shares {
    let of = diagnostics(&spec.objective, summaries);
    Shares {
        objective: spec.text.clone(),
        weight_by_decile_of_p: of.mass_shares(),
        effective_tokens: of.effective_tokens(),
        live: of.live,
    }
}

/// What an objective makes of the rows, without another look at their logits.
fn diagnostics<O: RowObjective>(objective: &O, summaries: &[RowSummary<f64>]) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    for summary in summaries {
        diagnostics.add(summary, &objective.of_row(summary).partials);
    }
    diagnostics
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
        ["objective".to_owned()]
            .into_iter()
            .chain(deciles)
            .chain(["effective tokens".to_owned(), "live rows".to_owned()]),
    );
    for shares in &report.weights {
        let cells = shares.weight_by_decile_of_p.map(|share| format!("{:.1}", 100.0 * share));
        let effective = format!("{:.1}", shares.effective_tokens);
        table.add_row(
            [shares.objective.clone()].into_iter().chain(cells).chain([effective, shares.live.to_string()]),
        );
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    println!(
        "share of the gradient weight W, in %, by tenth of p (from .0 to .1, ...); effective tokens: (sum W)^2 / sum W^2; live\nrows: those with a gradient, all others cost no backward pass\n{table}\n"
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
            report.rows - report.ignored
        );
        text(area, &subtitle, (40, 64), 18, GREY, Anchor::Start)?;
        let names: Vec<&str> = report.weights.iter().map(|shares| shares.objective.as_str()).collect();
        draw::legend(area, &names, (40, 98))?;

        let valid = (report.rows - report.ignored) as f64;
        let bins = report.rows_by_decile_of_p.map(|rows| 100.0 * rows as f64 / valid);
        let ends = draw::ticks(0.0, 1.0, 5, "");
        let axis = |top: f64| draw::ticks(0.0, top, 5, " %");
        let top = bins.iter().copied().fold(1.0, f64::max) * 1.08;
        let left = Panel { frame: [120, 140, 590, 540], x: (0.0, 1.0), y: (0.0, top) };
        left.axes(area, &ends, &axis(top), "p of the label, by tenths", "share of labels")?;
        for (bin, share) in bins.iter().enumerate() {
            let (from, height) = left.at(bin as f64 / 10.0, *share);
            let (to, bottom) = left.at((bin + 1) as f64 / 10.0, 0.0);
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
