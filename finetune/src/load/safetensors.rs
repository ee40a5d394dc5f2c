//! A folder as transformers writes it.

use super::{Loaded, Stored, parameters};
use crate::Error;
use crate::chat::Chat;
use crate::config::Config;
use crate::tokenizer::Tokens;
use burn::tensor::Device;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Its families that are served.
const SERVED: [&str; 3] = ["llama", "mistral", "qwen2"];

pub(super) fn load(folder: &Path, device: &Device) -> Result<Loaded, Error> {
    let path = folder.join("config.json");
    let config = json(&path)?;
    let family = config["model_type"].as_str().unwrap_or("model of no type");
    if !SERVED.contains(&family) {
        return Err(Error::Architecture {
            path,
            found: family.to_owned(),
            expected: "llama, mistral or qwen2",
        });
    }
    let config: Config = serde_json::from_value(config).map_err(Error::format(&path))?;

    let path = folder.join("tokenizer_config.json");
    let settings = json(&path)?;
    // A token is its text, or a record that has its text.
    let name = |key: &str| {
        let token = &settings[key];
        token.as_str().or_else(|| token["content"].as_str()).unwrap_or_default().to_owned()
    };
    let template = match settings["chat_template"].as_str() {
        Some(template) => template.to_owned(),
        None => {
            let beside = folder.join("chat_template.jinja");
            fs::read_to_string(&beside).map_err(|_| Error::format(&path)("there is no chat_template"))?
        }
    };
    let chat = Chat::new(template, name("bos_token"), name("eos_token"));
    let tokens = Tokens::read(&folder.join("tokenizer.json"), &name("eos_token"))?;

    let files = files(folder)?;
    let maps: Vec<(PathBuf, Mmap)> = files.into_iter().map(map).collect::<Result<_, _>>()?;
    let parsed = maps.iter().map(|(path, map)| SafeTensors::deserialize(map).map_err(Error::format(path)));
    let parsed: Vec<SafeTensors<'_>> = parsed.collect::<Result<_, _>>()?;
    let weights = parameters(&config, folder, device, |name| {
        let Some(tensor) = parsed.iter().find_map(|file| file.tensor(name).ok()) else {
            return Ok(None);
        };
        let data = tensor.data();
        let values = match tensor.dtype() {
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::F16 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => {
                let what = format!("{name} has type {other:?}, but F32, F16 and BF16 are served");
                return Err(Error::format(folder)(what));
            }
        };
        Ok(Some(Stored { values, shape: tensor.shape().to_vec() }))
    })?;
    Ok(Loaded { config, weights, tokens, chat })
}

fn json(path: &Path) -> Result<Value, Error> {
    let text = fs::read_to_string(path).map_err(Error::file(path))?;
    serde_json::from_str(&text).map_err(Error::format(path))
}

/// The files of a model, which may be cut into several.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file(folder))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("model")))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::format(folder)("there is no model*.safetensors in it"));
    }
    Ok(files)
}

fn map(path: PathBuf) -> Result<(PathBuf, Mmap), Error> {
    let file = File::open(&path).map_err(Error::file(&path))?;
    // SAFETY: the file is read once, while it is loaded, and nothing here writes to it.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::file(&path))?;
    Ok((path, map))
}
