//! Rotary positions.

use crate::config::{Config, Scaling};
use burn::tensor::{Device, Tensor, TensorData};
use std::f64::consts::PI;

/// Cosine and sine of every position's angles, `[length, head size]`.
///
/// Element `i` of a head turns with element `i + size / 2` at the same frequency, as safetensors have them; GGUF has
/// them side by side, which the loader puts right.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rope {
    /// Of the first `length` positions.
    pub fn new(config: &Config, length: usize, device: &Device) -> Self {
        let frequencies = frequencies(config);
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..length)
                .flat_map(|position| {
                    let both = frequencies.iter().chain(&frequencies);
                    both.map(move |frequency| f(position as f64 * frequency) as f32)
                })
                .collect();
            Tensor::from_data(TensorData::new(values, [length, config.head_size()]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Turns `x [batch, heads, length, size]`, whose first position is `start`.
    pub(crate) fn turn(&self, x: Tensor<4>, start: usize) -> Tensor<4> {
        let [_, _, length, size] = x.dims();
        let part = |table: &Tensor<2>| table.clone().narrow(0, start, length).reshape([1, 1, length, size]);
        let low = x.clone().narrow(3, 0, size / 2);
        let high = x.clone().narrow(3, size / 2, size / 2);
        let crossed = Tensor::cat(vec![high.neg(), low], 3);
        x * part(&self.cos) + crossed * part(&self.sin)
    }
}

/// One for each pair of elements, in radians for each position.
fn frequencies(config: &Config) -> Vec<f64> {
    let size = config.head_size();
    let plain = (0..size / 2).map(|i| config.rope_theta.powf(-2.0 * i as f64 / size as f64));
    match &config.rope_scaling {
        None | Some(Scaling::Default) => plain.collect(),
        Some(Scaling::Linear { factor }) => plain.map(|frequency| frequency / factor).collect(),
        Some(Scaling::Factors { factors }) => {
            plain.zip(factors).map(|(frequency, factor)| frequency / factor).collect()
        }
        &Some(Scaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        }) => plain
            .map(|frequency| {
                let turns = original * frequency / (2.0 * PI);
                let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (fast + (1.0 - fast) / factor)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::values;

    #[test]
    fn a_position_turns_pairs_by_its_angle() {
        let config: Config = serde_json::from_value(serde_json::json!({
            "vocab_size": 1, "hidden_size": 4, "intermediate_size": 1, "num_hidden_layers": 0,
            "num_attention_heads": 1, "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "rope_theta": 100.0,
        }))
        .unwrap();
        let device = Device::flex();
        let x = Tensor::<4>::from_data([[[[1.0f32, 2.0, 3.0, 4.0]]]], &device);
        let turned = values(Rope::new(&config, 4, &device).turn(x, 3)).unwrap();
        // Frequencies are 1 and 100^-0.5.
        for (i, angle) in [(0, 3.0f64), (1, 0.3)] {
            let (low, high) = ((i + 1) as f64, (i + 3) as f64);
            assert!((f64::from(turned[i]) - (low * angle.cos() - high * angle.sin())).abs() < 1e-6);
            assert!((f64::from(turned[i + 2]) - (high * angle.cos() + low * angle.sin())).abs() < 1e-6);
        }
    }

    #[test]
    fn llama_3_leaves_fast_frequencies_and_divides_slow_ones() {
        let config: Config = serde_json::from_value(serde_json::json!({
            "vocab_size": 1, "hidden_size": 128, "intermediate_size": 1, "num_hidden_layers": 0,
            "num_attention_heads": 1, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192.0},
        }))
        .unwrap();
        let stretched = frequencies(&config);
        let plain = frequencies(&Config { rope_scaling: None, ..config });
        assert_eq!(stretched[0], plain[0]);
        assert_eq!(stretched[63], plain[63] / 8.0);
        assert!(stretched.iter().zip(&plain).all(|(s, p)| (1.0 / 8.0..=1.0).contains(&(s / p))));
    }
}
