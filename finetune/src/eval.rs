//! How good a model is on examples that it was not trained on.

use crate::Error;
use crate::chat::Chat;
use crate::data::Example;
use crate::loss::Loss;
use crate::model::{Cache, Model};
use crate::tokenizer::Tokens;
use burn::tensor::Tensor;
use serde::Serialize;

/// What a set of examples comes to.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Evaluation {
    /// Examples.
    pub examples: usize,
    /// Response tokens.
    pub tokens: usize,
    /// The mean logarithm of a response token's probability.
    pub mean_log_p: f64,
    /// The mean probability of a response token.
    pub mean_p: f64,
    /// The share of greedy answers that are the response, but for space around them.
    pub exact_match: f64,
    /// The mean Jaro-Winkler similarity of greedy answers and responses, 1 if they are the same.
    pub jaro_winkler: f64,
}

/// What one example comes to.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `log p` of each response token.
    pub log_p: Vec<f32>,
    /// What the model answers greedily; empty where no answer was asked for.
    pub text: String,
}

/// Judges one example; `most` is the number of tokens that an answer may have, of which 0 asks for none.
///
/// # Errors
/// [`Error::Objective`], [`Error::Device`], and [`Error::Template`] if an answer cannot be decoded.
pub fn judge(
    model: &Model,
    loss: &Loss,
    tokens: &Tokens,
    example: &Example,
    most: usize,
) -> Result<Answer, Error> {
    let inputs: Vec<u32> = example.inputs().collect();
    let rows = example.response.len();
    let x = model.blocks(model.embed(&inputs), 1, 0..model.config.num_hidden_layers);
    let hidden = model.normed(x.narrow(0, inputs.len() - rows, rows));
    let targets: Vec<i32> = example.response.iter().map(|&token| token as i32).collect();
    let log_p = loss.log_p(&hidden, model.head(), &targets)?;
    let text = if most == 0 { String::new() } else { answer(model, tokens, &example.prompt, most)? };
    Ok(Answer { log_p, text })
}

/// The most probable token again and again, until a turn ends.
///
/// # Errors
/// [`Error::Device`], [`Error::Template`].
pub fn answer(model: &Model, tokens: &Tokens, prompt: &[u32], most: usize) -> Result<String, Error> {
    let room = model.config.max_position_embeddings.saturating_sub(prompt.len());
    let mut cache = Cache::default();
    let mut next = prompt.to_vec();
    let mut answer = Vec::new();
    while answer.len() < most.min(room) {
        let hidden = model.extend(&next, &mut cache);
        let last = hidden.dims()[0] - 1;
        let logits = hidden.narrow(0, last, 1).matmul(model.head().clone().transpose());
        let token = best(logits)?;
        if token == tokens.end {
            break;
        }
        answer.push(token);
        next = vec![token];
    }
    tokens.decode(&answer)
}

/// The greatest logit's token.
fn best(logits: Tensor<2>) -> Result<u32, Error> {
    let index = logits.argmax(1).try_into_vec_as::<i32>().map_err(Error::device)?;
    Ok(index.first().map_or(0, |&index| index as u32))
}

/// Sums up answers, with the examples that they are of.
pub fn sum_up<'a>(answers: impl IntoIterator<Item = (&'a Example, &'a Answer)>) -> Evaluation {
    let mut sum = Evaluation::default();
    for (example, answer) in answers {
        let (expected, found) = (example.pair.response.trim(), answer.text.trim());
        sum.examples += 1;
        sum.tokens += answer.log_p.len();
        sum.mean_log_p += answer.log_p.iter().copied().map(f64::from).sum::<f64>();
        sum.mean_p += answer.log_p.iter().map(|&log_p| f64::from(log_p).exp()).sum::<f64>();
        sum.exact_match += f64::from(u8::from(expected == found));
        sum.jaro_winkler += strsim::jaro_winkler(expected, found);
    }
    let (tokens, examples) = (sum.tokens.max(1) as f64, sum.examples.max(1) as f64);
    sum.mean_log_p /= tokens;
    sum.mean_p /= tokens;
    sum.exact_match /= examples;
    sum.jaro_winkler /= examples;
    sum
}

/// What a model answers to a prompt under its chat template.
///
/// # Errors
/// [`Error::Device`], [`Error::Template`].
pub fn ask(model: &Model, tokens: &Tokens, chat: &Chat, prompt: &str, most: usize) -> Result<String, Error> {
    answer(model, tokens, &tokens.encode(&chat.prompt(prompt)?)?, most)
}
