//! A model of two blocks with random parameters, and a tokenizer of single characters.
#![allow(dead_code, missing_docs)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tokenloss_finetune::config::Config;

/// Its tokens: characters, and two that are not text.
pub(crate) fn vocabulary() -> Vec<String> {
    let characters = (' '..='~').map(|c| if c == ' ' { "\u{120}".to_owned() } else { c.to_string() });
    ["<user>".to_owned(), "<end>".to_owned(), "\u{10a}".to_owned()].into_iter().chain(characters).collect()
}

pub(crate) fn config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": vocabulary().len(), "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
    })
}

/// Writes the folder of a model.
pub(crate) fn write_model(folder: &Path, config: &Value, seed: u64) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let vocab: serde_json::Map<String, Value> =
        vocabulary().into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(0, "<user>"), special(1, "<end>")], "pre_tokenizer": bytes, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = "{% for m in messages %}{% if m.role == 'user' %}<user>{% endif %}{{ m.content }}{{ eos_token }}{% endfor %}";
    let settings = json!({"chat_template": template, "bos_token": null, "eos_token": {"content": "<end>"}});
    fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();

    let sizes: Config = serde_json::from_value(config.clone()).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = sizes
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let norm = shape.len() == 1;
            let values = (0..shape.iter().product::<usize>())
                .map(|_| if norm { 1.0 } else { random.random_range(-0.2f32..0.2) });
            (name, shape, values.flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

/// Writes examples: words, backwards.
pub(crate) fn write_data(path: &Path, count: usize) {
    let lines = (0..count).map(|i| {
        let word: String = (0..2 + i % 5).map(|j| (b'a' + ((7 * i + 3 * j) % 26) as u8) as char).collect();
        let reversed: String = word.chars().rev().collect();
        format!("{}\n", json!({"prompt": word, "response": reversed, "other": i}))
    });
    fs::write(path, lines.collect::<String>()).unwrap();
}

/// The program.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tokenloss-finetune"))
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
