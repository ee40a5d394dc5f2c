//! Prompts and responses, and the order in which they are trained on.

use crate::Error;
use crate::chat::Chat;
use crate::tokenizer::Tokens;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A line of the data, `{"prompt": .., "response": ..}`; what else it has is not looked at.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Pair {
    /// What a user asks.
    pub prompt: String,
    /// What the model shall answer.
    pub response: String,
}

/// A pair as tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The text.
    pub pair: Pair,
    /// The prompt under the chat template, up to where the response begins.
    pub prompt: Vec<u32>,
    /// The response with the token that ends a turn.
    pub response: Vec<u32>,
}

impl Example {
    /// What the model is given: all but the last token.
    pub fn inputs(&self) -> impl Iterator<Item = u32> + '_ {
        self.prompt.iter().chain(&self.response[..self.response.len() - 1]).copied()
    }

    /// How many of them there are.
    pub fn length(&self) -> usize {
        self.prompt.len() + self.response.len() - 1
    }
}

/// Reads lines of JSON.
///
/// # Errors
/// [`Error::Line`] for a line that is no pair, [`Error::EmptyResponse`], [`Error::TooLong`] for more than `context`
/// tokens, [`Error::Empty`] if there is no line.
pub fn read(path: &Path, tokens: &Tokens, chat: &Chat, context: usize) -> Result<Vec<Example>, Error> {
    let file = BufReader::new(File::open(path).map_err(Error::file(path))?);
    let mut examples = Vec::new();
    for (number, text) in file.lines().enumerate() {
        let line = number + 1;
        let wrong = |what: String| Error::Line { path: path.to_owned(), line, what };
        let text = text.map_err(|error| wrong(error.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        let pair: Pair = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if pair.response.trim().is_empty() {
            return Err(Error::EmptyResponse { path: path.to_owned(), line });
        }
        let (prompt, response) =
            chat.tokens(tokens, &pair.prompt, &pair.response).map_err(|error| wrong(error.to_string()))?;
        if prompt.is_empty() {
            return Err(wrong("the prompt has no tokens".to_owned()));
        }
        let length = prompt.len() + response.len();
        if length > context {
            return Err(Error::TooLong { path: path.to_owned(), line, tokens: length, context });
        }
        examples.push(Example { pair, prompt, response });
    }
    if examples.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    Ok(examples)
}

/// The order of training: epoch after epoch, each shuffled. It follows from the seed alone, so that a run that goes on
/// sees what it would have seen.
#[derive(Debug, Clone)]
pub struct Order {
    seed: u64,
    examples: usize,
    /// The epoch that was asked for last, which is nearly always the next one, too.
    epoch: Option<(usize, Vec<usize>)>,
}

impl Order {
    /// Of so many examples.
    pub fn new(seed: u64, examples: usize) -> Self {
        Self { seed, examples, epoch: None }
    }

    /// The examples at positions `step * batch` and on.
    pub fn step(&mut self, step: usize, batch: usize) -> Vec<usize> {
        (step * batch..(step + 1) * batch).map(|position| self.at(position)).collect()
    }

    fn at(&mut self, position: usize) -> usize {
        let epoch = position / self.examples;
        if self.epoch.as_ref().is_none_or(|&(held, _)| held != epoch) {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(epoch as u64);
            let mut order: Vec<usize> = (0..self.examples).collect();
            order.shuffle(&mut random);
            self.epoch = Some((epoch, order));
        }
        self.epoch.as_ref().map_or(0, |(_, order)| order[position % self.examples])
    }
}

/// A number that differs where an example or their order differs (FNV-1a over tokens).
pub fn fingerprint(examples: &[Example]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for example in examples {
        let ends = [example.prompt.len() as u32, example.response.len() as u32];
        for token in ends.iter().chain(&example.prompt).chain(&example.response) {
            hash = (hash ^ u64::from(*token)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_example_once_from_wherever_it_is_asked() {
        let mut order = Order::new(7, 10);
        let whole: Vec<usize> = (0..5).flat_map(|step| order.step(step, 4)).collect();
        for epoch in whole.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(whole[..10], whole[10..]);
        assert_eq!(Order::new(7, 10).step(3, 4), whole[12..16]);
        assert_ne!(Order::new(8, 10).step(0, 10), whole[..10]);
    }
}
