//! The network beside a plain one in f64.

mod common;

use burn::tensor::Device;
use common::{config, write_model};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenloss_finetune::config::Config;
use tokenloss_finetune::load::{Loaded, load};
use tokenloss_finetune::model::Model;
use tokenloss_finetune::weights::values;

type Rows = Vec<Vec<f64>>;

struct Plain<'a> {
    model: &'a Loaded,
}

impl Plain<'_> {
    fn get(&self, name: &str) -> Option<Rows> {
        let tensor = self.model.weights.get(name)?;
        let columns = tensor.dims()[1];
        let numbers: Vec<f64> = values(tensor.clone()).unwrap().into_iter().map(f64::from).collect();
        Some(numbers.chunks(columns).map(<[f64]>::to_vec).collect())
    }

    fn norm(&self, x: &Rows, name: &str) -> Rows {
        let weight = &self.get(name).unwrap()[0];
        let one = |row: &Vec<f64>| {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
            let root = (mean + self.model.config.rms_norm_eps).sqrt();
            row.iter().zip(weight).map(|(x, w)| x / root * w).collect()
        };
        x.iter().map(one).collect()
    }

    fn linear(&self, x: &Rows, name: &str) -> Rows {
        let weight = self.get(&format!("{name}.weight")).unwrap();
        let bias = self.get(&format!("{name}.bias")).map_or(vec![0.0; weight.len()], |bias| bias[0].clone());
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        x.iter().map(|row| weight.iter().zip(&bias).map(|(w, b)| dot(row, w) + b).collect()).collect()
    }

    /// One head of `x` at a position, turned.
    fn turned(&self, x: &[f64], head: usize, position: usize) -> Vec<f64> {
        let (size, theta) = (self.model.config.head_size(), self.model.config.rope_theta);
        let x = &x[head * size..(head + 1) * size];
        let angle = |i: usize| position as f64 * theta.powf(-2.0 * i as f64 / size as f64);
        let half = size / 2;
        let low = (0..half).map(|i| x[i] * angle(i).cos() - x[i + half] * angle(i).sin());
        let high = (0..half).map(|i| x[i + half] * angle(i).cos() + x[i] * angle(i).sin());
        low.chain(high).collect()
    }

    fn attention(&self, x: &Rows, layer: usize) -> Rows {
        let Config { num_attention_heads: heads, .. } = self.model.config;
        let (groups, size) = (self.model.config.key_value_heads(), self.model.config.head_size());
        let part = |name: &str, x: &Rows| self.linear(x, &format!("model.layers.{layer}.self_attn.{name}"));
        let (q, k, v) = (part("q_proj", x), part("k_proj", x), part("v_proj", x));
        let mut mixed = vec![vec![0.0; heads * size]; x.len()];
        for head in 0..heads {
            let group = head / (heads / groups);
            for row in 0..x.len() {
                let query = self.turned(&q[row], head, row);
                let scores: Vec<f64> = (0..=row)
                    .map(|other| {
                        let key = self.turned(&k[other], group, other);
                        let dot: f64 = query.iter().zip(&key).map(|(a, b)| a * b).sum();
                        (dot / (size as f64).sqrt()).exp()
                    })
                    .collect();
                let sum: f64 = scores.iter().sum();
                for (other, score) in scores.iter().enumerate() {
                    for i in 0..size {
                        mixed[row][head * size + i] += score / sum * v[other][group * size + i];
                    }
                }
            }
        }
        part("o_proj", &mixed)
    }

    fn hidden(&self, tokens: &[u32]) -> Rows {
        let add = |a: &Rows, b: &Rows| -> Rows {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
        };
        let table = self.get("model.embed_tokens.weight").unwrap();
        let mut x: Rows = tokens.iter().map(|&token| table[token as usize].clone()).collect();
        for layer in 0..self.model.config.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            x = add(&x, &self.attention(&self.norm(&x, &name("input_layernorm.weight")), layer));
            let normed = self.norm(&x, &name("post_attention_layernorm.weight"));
            let (gate, up) =
                (self.linear(&normed, &name("mlp.gate_proj")), self.linear(&normed, &name("mlp.up_proj")));
            let inner = gate.iter().zip(&up).map(|(gate, up)| {
                gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
            });
            x = add(&x, &self.linear(&inner.collect(), &name("mlp.down_proj")));
        }
        self.norm(&x, "model.norm.weight")
    }
}

#[test]
fn hidden_states_are_those_of_a_plain_network() {
    let device = Device::flex();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for (heads, groups, biased) in [(4, 2, false), (4, 4, true), (4, 1, true), (2, 1, false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut sizes = config();
        sizes["num_attention_heads"] = heads.into();
        sizes["num_key_value_heads"] = groups.into();
        sizes["tie_word_embeddings"] = biased.into();
        write_model(folder.path(), &sizes, 2);
        let mut loaded = load(folder.path(), &device).unwrap();
        if biased {
            for (name, shape) in loaded.config.biases() {
                let bias = (0..shape[0]).map(|_| random.random_range(-0.5f32..0.5)).collect();
                loaded.weights.insert(name, bias, [1, shape[0]], &device);
            }
        }
        for length in [1, 2, 17] {
            let tokens: Vec<u32> =
                (0..length).map(|_| random.random_range(0..loaded.config.vocab_size as u32)).collect();
            let expected = Plain { model: &loaded }.hidden(&tokens);
            let model = Model::new(loaded.config.clone(), loaded.weights.clone(), 64, &device);
            // Beside another text that is longer, whose padding must not be seen.
            let longer = length + 3;
            let padded: Vec<u32> =
                tokens.iter().copied().chain([0; 3]).chain((0..longer).map(|i| i as u32 % 90)).collect();
            let found = values(model.normed(model.blocks(model.embed(&padded), 2, 0..2))).unwrap();
            let dim = model.config.hidden_size;
            for (row, expected) in expected.iter().enumerate() {
                for (found, expected) in found[row * dim..].iter().zip(expected) {
                    // Normed numbers are about 1; sums of at most 40 products on the way, two blocks of four each.
                    let granted = 40.0 * 8.0 * f64::from(f32::EPSILON);
                    assert!(
                        (f64::from(*found) - expected).abs() < granted,
                        "{heads}/{groups}: {found} {expected}"
                    );
                }
            }
        }
    }
}
