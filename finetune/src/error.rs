//! What can be wrong.

use crate::backend::ran_out;
use std::path::{Path, PathBuf};

/// What can be wrong with files, models and data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written: it is not there, or the disk is full.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A model's or tokenizer's file is not what it should be.
    #[error("{path}: {what}")]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong in it.
        what: String,
    },
    /// A model of a family that is not served.
    #[error("{path}: the model is a {found}, but only {expected} is served")]
    Architecture {
        /// Which file says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What is served.
        expected: &'static str,
    },
    /// A tensor is missing.
    #[error("{path}: there is no tensor {name}")]
    Missing {
        /// In which file or folder.
        path: PathBuf,
        /// Its name, as it is called in safetensors.
        name: String,
    },
    /// A tensor has another shape than the model's sizes ask for.
    #[error("{path}: {name} has shape {found:?}, but the model's sizes make it {expected:?}")]
    Shape {
        /// In which file or folder.
        path: PathBuf,
        /// Its name, as it is called in safetensors.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that it should have.
        expected: Vec<usize>,
    },
    /// The tokenizer makes tokens that the head does not know.
    #[error("the tokenizer has {tokenizer} tokens, but the head has {head}")]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Rows of the head.
        head: usize,
    },
    /// A line of the data is not `{"prompt": .., "response": ..}`.
    #[error("{path}:{line}: {what}")]
    Line {
        /// In which file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
        /// What is wrong in it.
        what: String,
    },
    /// A response has no tokens.
    #[error("{path}:{line}: the response is empty")]
    EmptyResponse {
        /// In which file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
    },
    /// Prompt and response are longer than the context.
    #[error("{path}:{line}: prompt and response are {tokens} tokens, but the context has {context}")]
    TooLong {
        /// In which file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
        /// Tokens of both.
        tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// There is nothing to train or to evaluate on.
    #[error("{path}: there is no example")]
    Empty {
        /// The file without one.
        path: PathBuf,
    },
    /// The chat template fails, or does not put a response behind its prompt.
    #[error("chat template: {what}")]
    Template {
        /// What it says.
        what: String,
    },
    /// A checkpoint was made from another model, from other data, or with other settings.
    #[error("{path}: the checkpoint is of {what} {found}, but this run is of {expected}")]
    Checkpoint {
        /// Which.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// A setting does not fit the model, or another setting.
    #[error("{name} is {found}, but {expected}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What was given.
        found: String,
        /// What is possible.
        expected: String,
    },
    /// A gradient is not finite, so that a step would destroy the model.
    #[error("step {step}: the norm of the gradient is {norm}")]
    Diverged {
        /// At which step.
        step: usize,
        /// The norm.
        norm: f64,
    },
    /// The device cannot do it.
    #[error("device: {what}")]
    Device {
        /// What it says.
        what: String,
    },
    /// The GPU is out of memory.
    #[error(
        "the GPU is out of memory: parameters, gradients and moments take {bytes} bytes, and a part of a step has {tokens} tokens; lower --micro or --context, or train less: --train last:K or lora:R"
    )]
    Memory {
        /// What does not depend on the examples.
        bytes: usize,
        /// Tokens of the longest part of the step, padding included.
        tokens: usize,
    },
    /// From the head and the objective.
    #[error(transparent)]
    Objective(#[from] tokenloss_burn::Error),
}

impl Error {
    /// What a device says.
    pub(crate) fn device(error: impl std::fmt::Display) -> Self {
        Self::Device { what: if ran_out() { "out of memory".to_owned() } else { error.to_string() } }
    }

    /// A [`Error::File`] of `path`.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// A [`Error::Format`] of `path`.
    pub(crate) fn format<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |what| Self::Format { path, what: what.to_string() }
    }
}
