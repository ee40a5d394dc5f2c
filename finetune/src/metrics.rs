//! One line of JSON for each step.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// From 0.
    pub step: usize,
    /// The mean over the step's response tokens.
    pub loss: f64,
    /// The mean probability of a response token, before the step.
    pub mean_p: f64,
    /// The mean logarithm of that probability.
    pub mean_log_p: f64,
    /// Response tokens with a gradient.
    pub live: usize,
    /// Response tokens.
    pub valid: usize,
    /// All tokens that went through the model, without padding.
    pub tokens: usize,
    /// The learning rate.
    pub learning_rate: f64,
    /// The norm of the gradient, before it is clipped.
    pub gradient_norm: f64,
    /// How long the step took.
    pub seconds: f64,
    /// `tokens / seconds`.
    pub tokens_per_second: f64,
}

/// The file of them.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Goes on after `steps` steps: what a run that was cut off wrote of later ones is dropped.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn open(path: &Path, steps: usize) -> Result<Self, Error> {
        let before = if steps == 0 { String::new() } else { fs::read_to_string(path).unwrap_or_default() };
        let kept = before
            .lines()
            .filter(|line| serde_json::from_str::<Metrics>(line).is_ok_and(|metrics| metrics.step < steps));
        let text: String = kept.flat_map(|line| [line, "\n"]).collect();
        fs::write(path, text).map_err(Error::file(path))?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::file(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds a step.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn add(&mut self, metrics: &Metrics) -> Result<(), Error> {
        let line = serde_json::to_string(metrics).map_err(Error::format(&self.path))?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(Error::file(&self.path))
    }
}
