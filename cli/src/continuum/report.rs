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
    /// Whether what was seen is as expected.
    pub(super) verdict: Verdict,
    /// The expectation.
    pub(super) expected: String,
    /// What was seen.
    pub(super) seen: String,
}

/// Two means differ if they are more than two standard errors of their difference apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As expected.
    AsThePaper,
    /// The other way round.
    UnlikeThePaper,
    /// No difference that these seeds could show.
    Undecided,
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
    /// How often a fine-tuning sentence is seen, and how many sentences are seen once in the same steps.
    epochs: f64,
    once: usize,
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
            epochs: (setup.steps * setup.batch) as f64 / setup.examples as f64,
            once: setup.steps * setup.batch,
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
        for Finding { verdict, expected, seen } in &self.findings {
            let verdict = match verdict {
                Verdict::AsThePaper => "as the paper:",
                Verdict::UnlikeThePaper => "unlike the paper:",
                Verdict::Undecided => "undecided:",
            };
            println!("{verdict:17} {expected}: {seen}");
        }
        println!(
            "All objectives share optimiser, learning rate, steps and data. AdamW removes the scale of an objective, so\n\
             that only the shape of W over tokens is compared; below a gradient of 1e-8 it stands still."
        );
        if self.epochs > 1.0 {
            println!(
                "Every fine-tuning sentence is seen {:.1} times, so that nll can learn wrong labels by heart. Seen once\n\
                 (--examples {}), they average out, and noise costs it far less.",
                self.epochs, self.once
            );
        }
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

/// How many standard errors of their difference one mean is above another.
fn above(a: &Estimate, b: &Estimate) -> f64 {
    let difference = a.mean - b.mean;
    let variance = |e: &Estimate| e.sd.map_or(0.0, |sd| sd * sd / e.seeds.len() as f64);
    if difference == 0.0 { 0.0 } else { difference / (variance(a) + variance(b)).sqrt() }
}

/// The paper's expectations, one by one. Those that need nll, or the three capabilities, are left out where
/// these are.
fn findings(cells: &[Cell], names: &[String], specs: &[Spec]) -> Vec<Finding> {
    let is_nll = |i: &usize| Some(specs[*i].objective) == Objective::parse("nll").ok();
    // The paper counts a threshold from below as prior-leaning, whatever is inside.
    let is_averse = |i: &usize| match specs[*i].objective {
        Objective::Token(objective) => leaning(&objective) == Leaning::PriorAverse,
        Objective::Thresholded(_) => false,
    };
    let nll: Vec<usize> = (0..specs.len()).filter(is_nll).collect();
    let others: Vec<usize> = (0..specs.len()).filter(|i| !is_nll(i)).collect();
    let (averse, rest): (Vec<usize>, Vec<usize>) = (0..specs.len()).partition(is_averse);
    if names.len() != 3 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for group in cells.chunks(specs.len()) {
        let best = |of: &[usize]| {
            of.iter().map(|i| &group[*i]).max_by(|a, b| a.accuracy.mean.total_cmp(&b.accuracy.mean))
        };
        let (capability, noise) = (group[0].capability.as_str(), group[0].noise);
        let (expected, ours, theirs) = match (capability, noise == 0.0) {
            (_, true) => ("nll does not lose", &nll, &others),
            ("weak", false) => ("nll wins", &nll, &others),
            ("strong", false) => ("one that is not prior-averse wins", &rest, &averse),
            _ => continue,
        };
        let (Some(ours), Some(theirs)) = (best(ours), best(theirs)) else { continue };
        let margin = above(&ours.accuracy, &theirs.accuracy);
        let verdict = match margin {
            m if m < -2.0 => Verdict::UnlikeThePaper,
            m if m > 2.0 || noise == 0.0 => Verdict::AsThePaper,
            _ => Verdict::Undecided,
        };
        let said = |cell: &Cell| format!("{} {}", cell.objective, cell.accuracy.percent());
        findings.push(Finding {
            verdict,
            expected: format!("{capability}, {} wrong, {expected}", percent(noise)),
            seen: format!("{}, best of the rest {}", said(ours), said(theirs)),
        });
    }
    findings
}
