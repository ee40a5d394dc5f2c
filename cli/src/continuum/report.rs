//! What came out, in numbers and words.

use super::experiment::{Outcome, Run, Setup};
use super::model::Score;
use crate::spec::Spec;
use comfy_table::{Table, presets};
use serde::Serialize;
use tokenloss::Objective;
use tokenloss::theory::{Leaning, leaning};

/// A mean over seeds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Estimate {
    /// The mean.
    pub(super) mean: f64,
    /// The sample standard deviation; absent for one seed.
    pub(super) sd: Option<f64>,
    /// The value of each seed.
    pub(super) seeds: Vec<f64>,
}

impl Estimate {
    fn of(seeds: Vec<f64>) -> Self {
        let count = seeds.len() as f64;
        let mean = seeds.iter().sum::<f64>() / count;
        let squares = seeds.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let sd = (seeds.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        Self { mean, sd, seeds }
    }

    /// In percent.
    fn percent(&self) -> String {
        let sd = self.sd.map_or(String::new(), |sd| format!(" ± {:.1}", 100.0 * sd));
        format!("{:.1}{sd}", 100.0 * self.mean)
    }
}

/// One cell: a capability, a share of wrong labels, an objective.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cell {
    /// The capability's name.
    pub(super) capability: String,
    /// The share of wrong labels.
    pub(super) noise: f64,
    /// The objective as written.
    pub(super) objective: String,
    /// The share of test sentences whose best token the model finds.
    pub(super) accuracy: Estimate,
    /// Eq. 5 of the paper: the mean probability of the fine-tuning labels before fine-tuning.
    pub(super) mean_p_before: Estimate,
    /// And after it.
    pub(super) mean_p_after: Estimate,
    /// Whether no other objective is better, to a tenth of a percent.
    pub(super) best: bool,
}

/// A pretrained model.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BaseReport {
    /// Its name.
    pub(super) capability: String,
    /// Pretraining steps.
    pub(super) steps: usize,
    /// Test accuracy before fine-tuning.
    pub(super) accuracy: Estimate,
    /// Mean probability of the best token on the test sentences.
    pub(super) mean_p: Estimate,
}

/// What the paper leads one to expect of one group of cells, and whether it came out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    /// The expectation.
    pub(super) expected: String,
    /// What was seen.
    pub(super) seen: String,
    /// Whether that is as expected.
    pub(super) holds: bool,
}

/// The whole result.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    backend: String,
    setup: serde_json::Value,
    /// The models before fine-tuning.
    pub(super) bases: Vec<BaseReport>,
    /// All cells, in the order capability, noise, objective.
    pub(super) cells: Vec<Cell>,
    /// Expectations and outcomes.
    pub(super) findings: Vec<Finding>,
    /// The shares of wrong labels.
    #[serde(skip)]
    pub(super) noise: Vec<f64>,
    /// The objectives as written.
    #[serde(skip)]
    pub(super) objectives: Vec<String>,
}

/// Of three numbers of pretraining steps, the names of the paper's regions.
fn capabilities(pretrain: &[usize]) -> Vec<String> {
    match pretrain {
        [_, _, _] => ["weak", "intermediate", "strong"].map(String::from).to_vec(),
        steps => steps.iter().map(|steps| format!("{steps} steps")).collect(),
    }
}

/// Percent, to a tenth: what is printed, and so what ties.
fn tenths(accuracy: f64) -> i64 {
    (1000.0 * accuracy).round() as i64
}

impl Report {
    /// From the runs.
    pub(super) fn new(setup: &Setup, outcome: &Outcome, backend: String) -> Self {
        let names = capabilities(&setup.pretrain);
        let over_seeds = |of: &dyn Fn(&[super::experiment::Base]) -> f64| {
            Estimate::of(outcome.bases.iter().map(|bases| of(bases)).collect())
        };
        let bases = names.iter().enumerate().map(|(c, name)| BaseReport {
            capability: name.clone(),
            steps: setup.pretrain[c],
            accuracy: over_seeds(&|bases| bases[c].test.accuracy),
            mean_p: over_seeds(&|bases| bases[c].test.mean_p),
        });
        let mut cells = Vec::new();
        // The runs come in the order of the cells, each with all its seeds.
        for runs in outcome.runs.chunks(setup.seeds) {
            let Run { capability, noise, objective, .. } = runs[0];
            let of = |of: fn(&Run) -> Score| runs.iter().map(of).collect::<Vec<_>>();
            let (test, training) = (of(|run| run.test), of(|run| run.training));
            cells.push(Cell {
                capability: names[capability].clone(),
                noise: setup.noise[noise],
                objective: setup.specs[objective].text.clone(),
                accuracy: Estimate::of(test.iter().map(|score| score.accuracy).collect()),
                mean_p_before: over_seeds(&|bases| bases[capability].training[noise].mean_p),
                mean_p_after: Estimate::of(training.iter().map(|score| score.mean_p).collect()),
                best: false,
            });
        }
        for group in cells.chunks_mut(setup.specs.len()) {
            let best = group.iter().map(|cell| tenths(cell.accuracy.mean)).max();
            group.iter_mut().for_each(|cell| cell.best = Some(tenths(cell.accuracy.mean)) == best);
        }
        let findings = findings(&cells, &names, &setup.specs);
        Self {
            backend,
            setup: description(setup),
            bases: bases.collect(),
            cells,
            findings,
            noise: setup.noise.clone(),
            objectives: setup.specs.iter().map(|spec| spec.text.clone()).collect(),
        }
    }

    /// The cells of one capability and share of wrong labels.
    pub(super) fn group(&self, capability: usize, noise: usize) -> &[Cell] {
        let count = self.objectives.len();
        &self.cells[(capability * self.noise.len() + noise) * count..][..count]
    }

    /// For people.
    pub(super) fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        let columns = ["model", "wrong labels", "mean p before"].map(String::from);
        table.set_header(columns.into_iter().chain(["before".to_owned()]).chain(self.objectives.clone()));
        for (c, base) in self.bases.iter().enumerate() {
            for (n, noise) in self.noise.iter().enumerate() {
                let cells = self.group(c, n);
                let Some(first) = cells.first() else { continue };
                let name = if n == 0 { base.capability.clone() } else { String::new() };
                let lead = [
                    name,
                    percent(*noise),
                    format!("{:.3}", first.mean_p_before.mean),
                    base.accuracy.percent(),
                ];
                let marked =
                    |cell: &Cell| format!("{}{}", cell.accuracy.percent(), if cell.best { " *" } else { "" });
                table.add_row(lead.into_iter().chain(cells.iter().map(marked)));
            }
        }
        println!(
            "Clean test accuracy after fine-tuning, %, mean ± sample standard deviation over seeds; * best of its row"
        );
        println!("{table}");
        for Finding { expected, seen, holds } in &self.findings {
            println!("{} {expected}: {seen}", if *holds { "as the paper:    " } else { "unlike the paper:" });
        }
        println!(
            "All objectives share optimiser, learning rate, steps and data. AdamW removes the scale of an objective, so\n\
             that only the shape of W over tokens is compared; below a gradient of 1e-8 it stands still."
        );
    }
}

/// `30 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", (1000.0 * share).round() / 10.0)
}

fn description(setup: &Setup) -> serde_json::Value {
    serde_json::json!({
        "seed": setup.seed,
        "seeds": setup.seeds,
        "vocab": setup.sizes.vocab,
        "classes": setup.classes,
        "dim": setup.sizes.dim,
        "hidden": setup.sizes.hidden,
        "ambiguity": setup.ambiguity,
        "pretrain_steps": setup.pretrain,
        "pretrain_objective": "nll",
        "steps": setup.steps,
        "examples": setup.examples,
        "batch": setup.batch,
        "rate": setup.rate.to_string(),
        "schedule": "pretraining: warm-up, then constant; fine-tuning: warm-up over a tenth, then a cosine to 0",
        "optimiser": "AdamW, betas .9 and .95, eps 1e-8, weight decay .01, gradient norm clipped at 1",
        "reduction": "mean over kept rows",
        "test": setup.test,
        "noise": setup.noise,
        "objectives": setup.specs.iter().map(|spec| spec.objective.to_string()).collect::<Vec<_>>(),
    })
}

/// The paper's expectations, one by one. Those that need nll, or the three capabilities, are left out where
/// these are.
fn findings(cells: &[Cell], names: &[String], specs: &[Spec]) -> Vec<Finding> {
    let is_nll = |spec: &Spec| Some(spec.objective) == Objective::parse("nll").ok();
    let (Some(nll), true) = (specs.iter().position(is_nll), names.len() == 3 && specs.len() > 1) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for group in cells.chunks(specs.len()) {
        let (capability, noise) = (group[0].capability.as_str(), group[0].noise);
        let score = |i: &usize| tenths(group[*i].accuracy.mean);
        let others = (0..specs.len()).filter(|i| *i != nll);
        let Some(other) = others.max_by_key(|i| (score(i), std::cmp::Reverse(*i))) else { continue };
        let said = |i: usize| format!("{} {}", specs[i].text, group[i].accuracy.percent());
        let seen = format!("{}, best other {}", said(nll), said(other));
        let averse = leaning(&specs[other].objective) == Leaning::PriorAverse
            && matches!(specs[other].objective, Objective::Token(_));
        let (expected, holds) = match (capability, noise == 0.0) {
            (_, true) => ("nll does not lose", score(&nll) >= score(&other)),
            ("weak", false) => ("nll wins", score(&nll) >= score(&other)),
            ("strong", false) => {
                ("another than a prior-averse objective wins", score(&other) > score(&nll) && !averse)
            }
            _ => continue,
        };
        findings.push(Finding {
            expected: format!("{capability}, {} wrong, {expected}", percent(noise)),
            seen,
            holds,
        });
    }
    findings
}
