//! Files that are either the old one or the new one, whatever happens while they are written.

use crate::Error;
use crate::chat::Chat;
use crate::model::{LORA_SCALE, Model};
use crate::tokenizer::Tokens;
use crate::weights::values;
use burn::tensor::Tensor;
use safetensors::{Dtype, View};
use serde_json::json;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Lets `write` make a file of another name, waits until the disk has it, and then gives it the name `path`.
///
/// # Errors
/// What `write` says, and [`Error::File`]; what was at `path` is still there then.
pub fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all()).map_err(Error::file(path));
    let result = write(&partial)
        .and_then(|()| sync(&partial))
        .and_then(|()| fs::rename(&partial, path).map_err(Error::file(path)))
        .and_then(|()| path.parent().map_or(Ok(()), sync));
    if result.is_err() {
        // It takes the room that is missing; if even that fails, the first error says more.
        let _ = fs::remove_file(&partial);
    }
    result
}

/// A tensor on its way to a file.
pub(crate) struct Whole {
    values: Vec<f32>,
    shape: Vec<usize>,
}

impl Whole {
    /// A row is a vector.
    pub(crate) fn new(tensor: &Tensor<2>) -> Result<Self, Error> {
        let [rows, columns] = tensor.dims();
        let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
        Ok(Self { values: values(tensor.clone())?, shape })
    }
}

impl View for Whole {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        bytemuck::cast_slice(&self.values).into()
    }

    fn data_len(&self) -> usize {
        size_of_val(&self.values[..])
    }
}

/// Replaces a safetensors file.
pub(crate) fn tensors(
    path: &Path,
    tensors: Vec<(String, Whole)>,
    about: Option<HashMap<String, String>>,
) -> Result<(), Error> {
    replace(path, |path| {
        safetensors::serialize_to_file(tensors, about, path).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(error) => Error::file(path)(error),
            other => Error::format(path)(other),
        })
    })
}

/// Writes a folder that [`load`](crate::load::load) reads again; LoRA's products are added to their matrices.
///
/// # Errors
/// [`Error::File`] if something cannot be written.
pub fn model(folder: &Path, model: &Model, tokens: &Tokens, chat: &Chat) -> Result<(), Error> {
    let weights = model.weights.inner();
    let merged = weights.iter().filter(|(name, _)| !name.contains(".lora_")).map(|(name, tensor)| {
        let part = |part: &str| weights.get(&name.replace(".weight", part));
        let tensor = match (part(".lora_A.weight"), part(".lora_B.weight")) {
            (Some(a), Some(b)) => tensor.clone() + b.clone().matmul(a.clone()).mul_scalar(LORA_SCALE),
            _ => tensor.clone(),
        };
        Whole::new(&tensor).map(|whole| (name.to_owned(), whole))
    });
    tensors(&folder.join("model.safetensors"), merged.collect::<Result<_, _>>()?, None)?;

    let text = |name: &str, value: serde_json::Value| {
        replace(&folder.join(name), |path| {
            let written = File::create(path).and_then(|mut file| write!(file, "{value:#}"));
            written.map_err(Error::file(path))
        })
    };
    let mut config = serde_json::to_value(&model.config).map_err(Error::format(folder))?;
    let biased = weights.iter().any(|(name, _)| name.ends_with(".bias"));
    config["model_type"] = if biased { "qwen2" } else { "llama" }.into();
    config["architectures"] = json!([if biased { "Qwen2ForCausalLM" } else { "LlamaForCausalLM" }]);
    config["torch_dtype"] = "float32".into();
    text("config.json", config)?;
    text(
        "tokenizer_config.json",
        json!({"chat_template": chat.template, "bos_token": chat.begin, "eos_token": chat.end,
            "tokenizer_class": "PreTrainedTokenizerFast"}),
    )?;
    replace(&folder.join("tokenizer.json"), |path| tokens.save(path))
}
