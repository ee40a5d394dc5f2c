//! Models from files.

mod gguf;
mod safetensors;

use crate::Error;
use crate::chat::Chat;
use crate::config::Config;
use crate::tokenizer::Tokens;
use crate::weights::Weights;
use burn::tensor::Device;
use std::path::Path;

/// A model with all that turns text into its tokens.
#[derive(Debug)]
pub struct Loaded {
    /// Its sizes.
    pub config: Config,
    /// Its parameters, in `f32`.
    pub weights: Weights,
    /// Its tokens.
    pub tokens: Tokens,
    /// Its chat template.
    pub chat: Chat,
}

/// Reads a GGUF file, or a folder with `config.json`, `*.safetensors`, `tokenizer.json` and `tokenizer_config.json`.
///
/// # Errors
/// [`Error::File`] and [`Error::Format`] for what cannot be read, [`Error::Architecture`] for other families,
/// [`Error::Missing`] and [`Error::Shape`] for tensors, [`Error::Vocabulary`] if the tokenizer has more tokens than the
/// head has rows.
pub fn load(path: &Path, device: &Device) -> Result<Loaded, Error> {
    let loaded = if path.is_dir() { safetensors::load(path, device)? } else { gguf::load(path, device)? };
    let (tokenizer, head) = (loaded.tokens.count(), loaded.config.vocab_size);
    if tokenizer > head {
        return Err(Error::Vocabulary { tokenizer, head });
    }
    Ok(loaded)
}

/// A tensor as a file has it.
struct Stored {
    values: Vec<f32>,
    shape: Vec<usize>,
}

/// All parameters that `config` asks for, and the biases that there are, through `read`, which knows them by their names
/// in safetensors.
fn parameters(
    config: &Config,
    path: &Path,
    device: &Device,
    mut read: impl FnMut(&str) -> Result<Option<Stored>, Error>,
) -> Result<Weights, Error> {
    if let Some(what) = config.contradiction() {
        return Err(Error::Format { path: path.to_owned(), what });
    }
    let mut weights = Weights::default();
    let needed = config.tensors().into_iter().map(|tensor| (tensor, true));
    let possible = config.biases().into_iter().map(|tensor| (tensor, false));
    for ((name, expected), needed) in needed.chain(possible) {
        let Some(Stored { values, shape: found }) = read(&name)? else {
            if needed {
                return Err(Error::Missing { path: path.to_owned(), name });
            }
            continue;
        };
        if found != expected {
            return Err(Error::Shape { path: path.to_owned(), name, found, expected });
        }
        let shape = match *expected {
            [rows, columns] => [rows, columns],
            _ => [1, values.len()],
        };
        weights.insert(name, values, shape, device);
    }
    Ok(weights)
}
