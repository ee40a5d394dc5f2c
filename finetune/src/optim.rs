//! AdamW, its learning rate, and clipping.

use crate::Error;
use crate::weights::values;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Gradients by the names of their parameters.
pub type Gradients = BTreeMap<String, Tensor<2>>;

/// The settings of AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The share of the steps in which it rises from 0; after them it falls to 0 along a cosine.
    pub warm_up: f64,
    /// The decay of the mean gradient.
    pub beta1: f64,
    /// The decay of the mean square.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// The share of a matrix that is taken off at learning rate 1; vectors do not decay.
    pub weight_decay: f64,
    /// The greatest norm of all gradients together; longer ones are shortened to it.
    pub clip: f64,
}

impl Default for AdamW {
    /// The paper's: 5e-5 after a tenth of the steps, (0.9, 0.95), decay 0.01, clipped at 1.
    fn default() -> Self {
        Self {
            learning_rate: 5e-5,
            warm_up: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip: 1.0,
        }
    }
}

/// The mean gradient and the mean square of a parameter.
#[derive(Debug, Clone)]
pub struct Moments {
    /// The mean gradient.
    pub first: Tensor<2>,
    /// The mean square.
    pub second: Tensor<2>,
}

impl AdamW {
    /// The learning rate of step `step` of `steps`, both from 0.
    pub fn rate(&self, step: usize, steps: usize) -> f64 {
        let rising = (self.warm_up * steps as f64).ceil() as usize;
        if step < rising {
            return self.learning_rate * (step + 1) as f64 / rising as f64;
        }
        let done = (step - rising) as f64 / (steps - rising).max(1) as f64;
        self.learning_rate * 0.5 * (1.0 + (PI * done).cos())
    }

    /// One parameter's step: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    /// `p (1 - rate decay) - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)`, `t = step + 1`.
    pub fn update(
        &self,
        parameter: Tensor<2>,
        gradient: Tensor<2>,
        moments: Option<Moments>,
        step: usize,
        rate: f64,
    ) -> (Tensor<2>, Moments) {
        let (b1, b2) = (self.beta1, self.beta2);
        let decay = if parameter.dims()[0] == 1 { 0.0 } else { self.weight_decay };
        let Moments { first, second } = moments.unwrap_or_else(|| {
            let zeros = gradient.zeros_like();
            Moments { first: zeros.clone(), second: zeros }
        });
        let first = first.mul_scalar(b1) + gradient.clone().mul_scalar(1.0 - b1);
        let second = second.mul_scalar(b2) + gradient.square().mul_scalar(1.0 - b2);
        let t = (step + 1) as i32;
        let root = second.clone().sqrt().mul_scalar((1.0 - b2.powi(t)).powf(-0.5)).add_scalar(self.epsilon);
        let direction = first.clone().div(root).mul_scalar(rate / (1.0 - b1.powi(t)));
        let parameter = parameter.mul_scalar(1.0 - rate * decay) - direction;
        (parameter, Moments { first, second })
    }
}

/// The norm of all gradients together. Rows are summed by burn and their sums here, in order: burn's sum over a whole
/// tensor adds its parts in an order that differs from run to run.
///
/// # Errors
/// [`Error::Device`] if sums cannot be read.
pub fn norm(gradients: &Gradients) -> Result<f64, Error> {
    let mut sum = 0.0;
    for gradient in gradients.values() {
        sum += values(gradient.clone().square().sum_dim(1))?.into_iter().map(f64::from).sum::<f64>();
    }
    Ok(sum.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_rate_rises_and_falls() {
        let adam = AdamW { learning_rate: 1.0, ..AdamW::default() };
        let rates: Vec<f64> = (0..20).map(|step| adam.rate(step, 20)).collect();
        assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
        assert!(rates[2..].is_sorted_by(|a, b| a > b) && rates[19] < 0.01);
    }

    #[test]
    fn steps_are_those_of_the_equations() {
        let adam = AdamW { weight_decay: 0.1, ..AdamW::default() };
        let device = Device::flex();
        let (mut p, mut m, mut v) = ([0.5f64, -1.0], [0.0; 2], [0.0; 2]);
        let mut tensor = Tensor::<2>::from_data([[0.5f32], [-1.0]], &device);
        let mut moments = None;
        for (step, g) in [[0.25f64, -2.0], [0.125, 1.0], [-1.0, 0.0]].into_iter().enumerate() {
            let gradient = Tensor::<2>::from_data([[g[0] as f32], [g[1] as f32]], &device);
            let (next, kept) = adam.update(tensor, gradient, moments, step, 0.01);
            (tensor, moments) = (next, Some(kept));
            for i in 0..2 {
                m[i] = 0.9 * m[i] + 0.1 * g[i];
                v[i] = 0.95 * v[i] + 0.05 * g[i] * g[i];
                let t = step as i32 + 1;
                let (m, v) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.95f64.powi(t)));
                p[i] = p[i] * (1.0 - 0.001) - 0.01 * m / (v.sqrt() + 1e-8);
            }
        }
        for (found, expected) in values(tensor).unwrap().iter().zip(p) {
            // Three steps, each of ten roundings of terms below 0.03 and two of p itself.
            assert!((f64::from(*found) - expected).abs() < 3.0 * 2.0 * f64::from(f32::EPSILON));
        }
    }
}
