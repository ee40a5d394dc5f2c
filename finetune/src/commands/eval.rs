//! Held-out examples.

use super::{Ready, Source};
use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tokenloss_core::{Budget, Composite, Nll, Objective};
use tokenloss_finetune::data::{self, Example};
use tokenloss_finetune::eval::{Answer, Evaluation, judge, sum_up};
use tokenloss_finetune::loss::Loss;
use tokenloss_finetune::model::Model;
use tokenloss_finetune::{Error, tokenizer::Tokens};

/// Probabilities of held-out responses, and greedy answers beside them.
#[derive(Debug, Args)]
pub(crate) struct Eval {
    #[command(flatten)]
    source: Source,
    /// Lines of {"prompt": .., "response": ..}
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Judge the first examples only
    #[arg(long, value_name = "EXAMPLES")]
    limit: Option<usize>,
    /// The most tokens of a greedy answer; 0 asks for none
    #[arg(long, default_value_t = 64, value_name = "TOKENS")]
    answer: usize,
    /// Write a line of JSON for each example: prompt, response, answer and log_p of its tokens
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
}

impl Eval {
    pub(crate) fn run(&self) -> Result<()> {
        let Ready { model, tokens, chat, context } = self.source.load()?;
        let mut examples = data::read(&self.data, &tokens, &chat, context)?;
        examples.truncate(self.limit.unwrap_or(usize::MAX));
        let answers = answers(&model, &tokens, &examples, self.answer)?;
        if let Some(path) = &self.answers {
            write(path, &examples, &answers)?;
        }
        println!("{}", serde_json::to_string(&sum_up(examples.iter().zip(&answers)))?);
        Ok(())
    }
}

/// Judges all, with a bar.
pub(crate) fn answers(
    model: &Model,
    tokens: &Tokens,
    examples: &[Example],
    most: usize,
) -> Result<Vec<Answer>, Error> {
    // Probabilities are the same under every objective.
    let loss = Loss { objective: Composite::from(Objective::from(Nll)), budget: Budget::default() };
    let bar = ProgressBar::new(examples.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("evaluating {bar:40} {pos}/{len}  {eta} left") {
        bar.set_style(style);
    }
    let answers = examples.iter().map(|example| {
        let answer = judge(model, &loss, tokens, example, most);
        bar.inc(1);
        answer
    });
    let answers = answers.collect();
    bar.finish_and_clear();
    answers
}

fn write(path: &Path, examples: &[Example], answers: &[Answer]) -> Result<()> {
    let lines = examples.iter().zip(answers).map(|(example, answer)| {
        let line = json!({"prompt": example.pair.prompt, "response": example.pair.response,
            "answer": answer.text, "log_p": answer.log_p});
        format!("{line}\n")
    });
    let text: String = lines.collect();
    fs::write(path, text).map_err(|source| Error::File { path: path.to_owned(), source })?;
    Ok(())
}

/// As a line for people.
pub(crate) fn line(evaluation: &Evaluation) -> String {
    let Evaluation { examples, mean_log_p, mean_p, exact_match, jaro_winkler, .. } = evaluation;
    format!(
        "held out ({examples} examples): mean log p {mean_log_p:.4}, mean p {mean_p:.4}, exact match {exact_match:.3}, Jaro-Winkler {jaro_winkler:.3}"
    )
}
