//! The network.

use crate::config::Config;
use crate::rope::Rope;
use crate::weights::Weights;
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use std::ops::Range;

/// A model of the llama family. Its hidden states are `[batch * length, hidden_size]`: positions of one text are
/// adjacent, and texts that are shorter than the longest are padded behind, which nothing before them sees.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its sizes.
    pub config: Config,
    /// Its parameters.
    pub weights: Weights,
    rope: Rope,
}

/// The keys and values of the positions so far, of each block, `[1, heads, length, size]`.
#[derive(Debug, Default)]
pub struct Cache(Vec<(Tensor<4>, Tensor<4>)>);

impl Cache {
    /// Positions so far.
    fn length(&self) -> usize {
        self.0.first().map_or(0, |(keys, _)| keys.dims()[2])
    }
}

/// By how much LoRA's product is multiplied: `alpha / rank` with `alpha` twice the rank.
pub const LORA_SCALE: f32 = 2.0;

impl Model {
    /// Of these parameters, which have all of [`Config::tensors`], for texts of at most `length` tokens.
    pub fn new(config: Config, weights: Weights, length: usize, device: &Device) -> Self {
        let rope = Rope::new(&config, length, device);
        Self { config, weights, rope }
    }

    /// The same without gradients.
    pub fn inner(&self) -> Self {
        Self { config: self.config.clone(), weights: self.weights.inner(), rope: self.rope.clone() }
    }

    /// `[vocab, hidden_size]`: the head, which may be the embedding.
    pub fn head(&self) -> &Tensor<2> {
        self.weight(if self.config.tie_word_embeddings {
            "model.embed_tokens.weight"
        } else {
            "lm_head.weight"
        })
    }

    /// Tokens as hidden states, `batch * length` of them.
    pub fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let table = self.weight("model.embed_tokens.weight").clone();
        let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens.len()]), &table.device());
        table.select(0, ids)
    }

    /// Through some of the blocks.
    pub fn blocks(&self, mut x: Tensor<2>, batch: usize, layers: Range<usize>) -> Tensor<2> {
        let length = x.dims()[0] / batch;
        let mask = future(length, length, &x.device());
        for layer in layers {
            x = self.block(x, batch, layer, mask.as_ref(), None);
        }
        x
    }

    /// The last norm, after which the head gives logits.
    pub fn normed(&self, x: Tensor<2>) -> Tensor<2> {
        self.norm(x, "model.norm.weight")
    }

    /// One text goes on: its new tokens' hidden states before the head. `cache` holds what went before, and then
    /// these, too.
    pub fn extend(&self, tokens: &[u32], cache: &mut Cache) -> Tensor<2> {
        let mut x = self.embed(tokens);
        let mask = future(tokens.len(), cache.length() + tokens.len(), &x.device());
        for layer in 0..self.config.num_hidden_layers {
            x = self.block(x, 1, layer, mask.as_ref(), Some(cache));
        }
        self.normed(x)
    }

    fn block(
        &self,
        x: Tensor<2>,
        batch: usize,
        layer: usize,
        mask: Option<&Tensor<4, Bool>>,
        cache: Option<&mut Cache>,
    ) -> Tensor<2> {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let normed = self.norm(x.clone(), &name("input_layernorm.weight"));
        let x = x + self.attention(normed, batch, layer, mask, cache);
        let normed = self.norm(x.clone(), &name("post_attention_layernorm.weight"));
        let gate = silu(self.linear(normed.clone(), &name("mlp.gate_proj")));
        let up = self.linear(normed, &name("mlp.up_proj"));
        x + self.linear(gate * up, &name("mlp.down_proj"))
    }

    fn attention(
        &self,
        x: Tensor<2>,
        batch: usize,
        layer: usize,
        mask: Option<&Tensor<4, Bool>>,
        cache: Option<&mut Cache>,
    ) -> Tensor<2> {
        let config = &self.config;
        let (heads, groups, size) =
            (config.num_attention_heads, config.key_value_heads(), config.head_size());
        let length = x.dims()[0] / batch;
        let part = |name: &str, heads: usize| {
            let y = self.linear(x.clone(), &format!("model.layers.{layer}.self_attn.{name}"));
            y.reshape([batch, length, heads, size]).swap_dims(1, 2)
        };
        // Where the text goes on: blocks that come before this one have been extended already.
        let start = cache.as_ref().and_then(|cache| cache.0.get(layer)).map_or(0, |(keys, _)| keys.dims()[2]);
        let q = self.rope.turn(part("q_proj", heads), start);
        let mut k = self.rope.turn(part("k_proj", groups), start);
        let mut v = part("v_proj", groups);
        if let Some(cache) = cache {
            if let Some((keys, values)) = cache.0.get(layer) {
                k = Tensor::cat(vec![keys.clone(), k], 2);
                v = Tensor::cat(vec![values.clone(), v], 2);
                cache.0[layer] = (k.clone(), v.clone());
            } else {
                cache.0.push((k.clone(), v.clone()));
            }
        }
        // All queries that share a head of keys are the rows of one product.
        let shared = heads / groups;
        let all = k.dims()[2];
        let q = q.reshape([batch, groups, shared * length, size]);
        let scores = q.matmul(k.swap_dims(2, 3)).mul_scalar(1.0 / (size as f64).sqrt());
        let scores = scores.reshape([batch, groups * shared, length, all]);
        let scores = match mask {
            Some(mask) => {
                scores.mask_fill(mask.clone().expand([batch, heads, length, all]), f32::NEG_INFINITY)
            }
            None => scores,
        };
        let shares = softmax(scores, 3).reshape([batch, groups, shared * length, all]);
        let mixed = shares.matmul(v).reshape([batch, heads, length, size]).swap_dims(1, 2);
        self.linear(
            mixed.reshape([batch * length, heads * size]),
            &format!("model.layers.{layer}.self_attn.o_proj"),
        )
    }

    /// `x W^T`, with a bias and with LoRA's product if there are any.
    fn linear(&self, x: Tensor<2>, name: &str) -> Tensor<2> {
        let part = |part: &str| self.weights.get(&format!("{name}.{part}"));
        let mut y = x.clone().matmul(self.weight(&format!("{name}.weight")).clone().transpose());
        if let Some(bias) = part("bias") {
            y = y + bias.clone();
        }
        if let (Some(a), Some(b)) = (part("lora_A.weight"), part("lora_B.weight")) {
            let inner = x.matmul(a.clone().transpose());
            y = y + inner.matmul(b.clone().transpose()).mul_scalar(LORA_SCALE);
        }
        y
    }

    fn norm(&self, x: Tensor<2>, name: &str) -> Tensor<2> {
        let root = x.clone().square().mean_dim(1).add_scalar(self.config.rms_norm_eps).sqrt();
        x.div(root) * self.weight(name).clone()
    }

    /// The loader has checked that all are there.
    fn weight(&self, name: &str) -> &Tensor<2> {
        self.weights.get(name).unwrap_or_else(|| unreachable!("no parameter {name}"))
    }
}

/// Which of `all` positions lie behind each of the last `length`; `None` where that is none.
fn future(length: usize, all: usize, device: &Device) -> Option<Tensor<4, Bool>> {
    let before = all - length;
    let behind = |row: usize| (0..all).map(move |column| column > before + row);
    let values: Vec<bool> = (0..length).flat_map(behind).collect();
    (length > 1).then(|| Tensor::from_data(TensorData::new(values, [1, 1, length, all]), device))
}
