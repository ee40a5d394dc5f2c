//! GGUF, as llama.cpp writes it.

use super::{Loaded, Stored, parameters};
use crate::Error;
use crate::chat::Chat;
use crate::config::{Config, Scaling};
use crate::tokenizer::{Tokens, Vocabulary};
use burn::tensor::Device;
use candle_core::quantized::gguf_file::{Content, Value};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Its architectures that are served.
const SERVED: [&str; 2] = ["llama", "qwen2"];

pub(super) fn load(path: &Path, device: &Device) -> Result<Loaded, Error> {
    let mut file = BufReader::new(File::open(path).map_err(Error::file(path))?);
    let content = Content::read(&mut file).map_err(Error::format(path))?;
    let meta = Meta { content: &content, path };
    let family = meta.text("general.architecture")?;
    if !SERVED.contains(&family.as_str()) {
        let expected = "llama or qwen2";
        return Err(Error::Architecture { path: path.to_owned(), found: family, expected });
    }
    let tokens = tokens(&meta)?;
    let mut config = config(&meta, &family)?;
    let mut read = |name: &str| -> Result<Option<Stored>, Error> {
        if !content.tensor_infos.contains_key(name) {
            return Ok(None);
        }
        let cpu = candle_core::Device::Cpu;
        let tensor = content.tensor(&mut file, name, &cpu).and_then(|tensor| tensor.dequantize(&cpu));
        let tensor = tensor.map_err(Error::format(path))?;
        let shape = tensor.dims().to_vec();
        let values = tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).map_err(Error::format(path))?;
        Ok(Some(Stored { values, shape }))
    };
    if let Some(Stored { values, .. }) = read("rope_freqs.weight")? {
        let expected = config.head_size() / 2;
        if values.len() != expected {
            let name = "rope_freqs.weight".to_owned();
            return Err(Error::Shape {
                path: path.to_owned(),
                name,
                found: vec![values.len()],
                expected: vec![expected],
            });
        }
        config.rope_scaling = Some(Scaling::Factors { factors: values.into_iter().map(f64::from).collect() });
    }
    let weights = parameters(&config, path, device, |name| {
        let stored = read(&short(name))?;
        let heads = match name {
            _ if family != "llama" => return Ok(stored),
            _ if name.contains("q_proj") => config.num_attention_heads,
            _ if name.contains("k_proj") => config.key_value_heads(),
            _ => return Ok(stored),
        };
        Ok(stored.map(|Stored { values, shape }| Stored {
            values: apart(&values, heads, config.head_size()),
            shape,
        }))
    })?;
    let chat = Chat::new(
        meta.text("tokenizer.chat_template")?,
        meta.token("tokenizer.ggml.bos_token_id", &tokens),
        meta.token("tokenizer.ggml.eos_token_id", &tokens),
    );
    Ok(Loaded { config, weights, tokens, chat })
}

/// Rows of pairs that turn together, which lie side by side in GGUF, half a head apart.
fn apart(values: &[f32], heads: usize, size: usize) -> Vec<f32> {
    let columns = values.len() / (heads * size).max(1);
    let mut result = Vec::with_capacity(values.len());
    for head in 0..heads {
        for row in 0..size {
            let (half, pair) = (row / (size / 2), row % (size / 2));
            let from = (head * size + 2 * pair + half) * columns;
            result.extend_from_slice(values.get(from..from + columns).unwrap_or_default());
        }
    }
    result
}

/// What GGUF calls a tensor.
fn short(name: &str) -> String {
    const PARTS: [(&str, &str); 12] = [
        ("model.embed_tokens", "token_embd"),
        ("model.layers", "blk"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ];
    PARTS.iter().fold(name.to_owned(), |name, (long, short)| name.replace(long, short))
}

fn config(meta: &Meta<'_>, family: &str) -> Result<Config, Error> {
    let key = |name: &str| format!("{family}.{name}");
    let number = |name: &str| meta.number(&key(name));
    let maybe = |name: &str| meta.content.metadata.contains_key(&key(name)).then(|| number(name)).transpose();
    let heads = number("attention.head_count")?;
    let hidden = number("embedding_length")?;
    let vocab = meta.tokens()?.len();
    let rows = meta
        .content
        .tensor_infos
        .get("token_embd.weight")
        .and_then(|info| info.shape.dims().first().copied());
    Ok(Config {
        vocab_size: rows.unwrap_or(vocab),
        hidden_size: hidden,
        intermediate_size: number("feed_forward_length")?,
        num_hidden_layers: number("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: maybe("attention.head_count_kv")?,
        head_dim: maybe("attention.key_length")?,
        max_position_embeddings: number("context_length")?,
        rms_norm_eps: meta.real(&key("attention.layer_norm_rms_epsilon"))?,
        rope_theta: match meta.content.metadata.contains_key(&key("rope.freq_base")) {
            true => meta.real(&key("rope.freq_base"))?,
            false => 10_000.0,
        },
        rope_scaling: None,
        tie_word_embeddings: !meta.content.tensor_infos.contains_key("output.weight"),
    })
}

fn tokens(meta: &Meta<'_>) -> Result<Tokens, Error> {
    const CONTROL: i32 = 3;
    const USER_DEFINED: i32 = 4;
    let kind = meta.text("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        return Err(Error::format(meta.path)(format!(
            "its tokenizer is of kind {kind}, but only gpt2 (byte pairs) is served: use a folder with tokenizer.json"
        )));
    }
    let types: Vec<i32> = meta
        .array("tokenizer.ggml.token_type")?
        .iter()
        .map(|value| value.to_i32().unwrap_or_default())
        .collect();
    let vocabulary = Vocabulary {
        tokens: meta.tokens()?,
        merges: meta.texts("tokenizer.ggml.merges")?,
        special: types.iter().map(|&kind| kind == CONTROL || kind == USER_DEFINED).collect(),
        split: meta.text("tokenizer.ggml.pre").unwrap_or_else(|_| "default".to_owned()),
        end: meta.number("tokenizer.ggml.eos_token_id")? as u32,
    };
    vocabulary.tokens().map_err(Error::format(meta.path))
}

/// Metadata, with errors that name the file.
struct Meta<'a> {
    content: &'a Content,
    path: &'a Path,
}

impl Meta<'_> {
    fn value(&self, key: &str) -> Result<&Value, Error> {
        let value = self.content.metadata.get(key);
        value.ok_or_else(|| Error::format(self.path)(format!("its metadata has no {key}")))
    }

    fn read<T>(&self, key: &str, read: impl Fn(&Value) -> candle_core::Result<T>) -> Result<T, Error> {
        read(self.value(key)?).map_err(|error| Error::format(self.path)(format!("{key}: {error}")))
    }

    fn text(&self, key: &str) -> Result<String, Error> {
        self.read(key, |value| value.to_string().cloned())
    }

    fn number(&self, key: &str) -> Result<usize, Error> {
        self.read(key, Value::to_u64).map(|number| number as usize)
    }

    fn real(&self, key: &str) -> Result<f64, Error> {
        // An epsilon of 1e-5 is written in f32; the decimal number was meant.
        let value = self.read(key, Value::to_f32)?;
        Ok(value.to_string().parse().unwrap_or_else(|_| f64::from(value)))
    }

    fn array(&self, key: &str) -> Result<Vec<Value>, Error> {
        self.read(key, |value| value.to_vec().cloned())
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, Error> {
        self.read(key, |value| value.to_vec()?.iter().map(|text| text.to_string().cloned()).collect())
    }

    fn tokens(&self) -> Result<Vec<String>, Error> {
        self.texts("tokenizer.ggml.tokens")
    }

    fn token(&self, key: &str, tokens: &Tokens) -> String {
        self.number(key).ok().and_then(|id| tokens.name(id as u32)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_llama_cpp() {
        for (long, expected) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.layers.3.input_layernorm.weight", "blk.3.attn_norm.weight"),
            ("model.layers.3.post_attention_layernorm.weight", "blk.3.ffn_norm.weight"),
            ("model.layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"),
            ("model.layers.3.self_attn.k_proj.bias", "blk.3.attn_k.bias"),
            ("model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
            ("model.norm.weight", "output_norm.weight"),
            ("lm_head.weight", "output.weight"),
        ] {
            assert_eq!(short(long), expected);
        }
    }

    #[test]
    fn pairs_come_apart() {
        // Two heads of four rows with one column.
        assert_eq!(apart(&[0., 1., 2., 3., 4., 5., 6., 7.], 2, 4), [0., 2., 1., 3., 4., 6., 5., 7.]);
    }
}
