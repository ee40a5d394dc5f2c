//! The sizes of a model.

use serde::{Deserialize, Serialize};

/// The sizes of a model of the llama family, as `config.json` names them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Elements of a hidden state.
    pub hidden_size: usize,
    /// Elements between the two products of an MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values, each of which serves as many heads of queries.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Elements of a head; `hidden_size / num_attention_heads` where it is not given.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// The longest text.
    pub max_position_embeddings: usize,
    /// Added to the mean square before its root is taken.
    pub rms_norm_eps: f64,
    /// The base of the rotary frequencies.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// How the frequencies are stretched for long texts.
    #[serde(default)]
    pub rope_scaling: Option<Scaling>,
    /// The head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

fn theta() -> f64 {
    10_000.0
}

/// How rotary frequencies are stretched for texts longer than a model was first trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum Scaling {
    /// Not at all.
    Default,
    /// All of them, by one factor.
    Linear {
        /// By which frequencies are divided.
        factor: f64,
    },
    /// Slow ones by a factor, fast ones not, and those between by something between (Llama 3.1).
    Llama3 {
        /// By which slow frequencies are divided.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are slow.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are fast.
        high_freq_factor: f64,
        /// The length that the model was first trained on.
        original_max_position_embeddings: f64,
    },
    /// Each by a factor of its own, which is how GGUF writes down all other ways.
    Factors {
        /// By which each frequency is divided, `head size / 2` of them.
        factors: Vec<f64>,
    },
}

impl Config {
    /// Heads of keys and values.
    pub fn key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Elements of a head.
    pub fn head_size(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// What contradicts itself in it, if anything does.
    pub fn contradiction(&self) -> Option<String> {
        let (heads, groups, size) = (self.num_attention_heads, self.key_value_heads(), self.head_size());
        let sizes = [self.vocab_size, self.hidden_size, self.intermediate_size, self.max_position_embeddings];
        if sizes.contains(&0) || heads == 0 || groups == 0 {
            return Some("a size is 0".to_owned());
        }
        if heads % groups != 0 {
            return Some(format!("{heads} heads of queries cannot share {groups} heads of keys"));
        }
        if size == 0 || size % 2 != 0 {
            return Some(format!("heads have {size} elements, which are not pairs"));
        }
        None
    }

    /// The biases that a model may have beside [`tensors`](Self::tensors), with their shapes.
    pub fn biases(&self) -> Vec<(String, Vec<usize>)> {
        let products = self.tensors().into_iter().filter(|(name, _)| name.contains("_proj."));
        products.map(|(name, shape)| (name.replace(".weight", ".bias"), vec![shape[0]])).collect()
    }

    /// The tensors of such a model by their names in safetensors, with their shapes; biases are not among them.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (dim, ffn, size) = (self.hidden_size, self.intermediate_size, self.head_size());
        let (queries, keys) = (self.num_attention_heads * size, self.key_value_heads() * size);
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, dim])];
        for layer in 0..self.num_hidden_layers {
            let parts: [(&str, Vec<usize>); 9] = [
                ("input_layernorm", vec![dim]),
                ("self_attn.q_proj", vec![queries, dim]),
                ("self_attn.k_proj", vec![keys, dim]),
                ("self_attn.v_proj", vec![keys, dim]),
                ("self_attn.o_proj", vec![dim, queries]),
                ("post_attention_layernorm", vec![dim]),
                ("mlp.gate_proj", vec![ffn, dim]),
                ("mlp.up_proj", vec![ffn, dim]),
                ("mlp.down_proj", vec![dim, ffn]),
            ];
            all.extend(parts.map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape)));
        }
        all.push(("model.norm.weight".to_owned(), vec![dim]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".to_owned(), vec![self.vocab_size, dim]));
        }
        all
    }
}
