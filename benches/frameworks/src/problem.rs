//! The loss that all compute: the mean cross entropy of `hidden @ weight^T`.

use std::error::Error;

/// `hidden [rows, dim]`, `weight [vocab, dim]`, `targets [rows]`.
pub struct Problem {
    pub rows: usize,
    pub dim: usize,
    pub vocab: usize,
    pub hidden: Vec<f32>,
    pub weight: Vec<f32>,
    pub targets: Vec<i32>,
}

impl Problem {
    /// Logits with a standard deviation of 3, as a trained model's.
    pub fn new(rows: usize, dim: usize, vocab: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            2.0 * ((state >> 40) as f32 / (1u64 << 24) as f32) - 1.0
        };
        // A product of two such numbers has variance 1/9, and a logit is a sum of `dim` of them.
        let scale = 9.0 / (dim as f32).sqrt();
        Self {
            rows,
            dim,
            vocab,
            hidden: (0..rows * dim).map(|_| uniform()).collect(),
            weight: (0..vocab * dim).map(|_| scale * uniform()).collect(),
            targets: (0..rows).map(|row| ((row * 7919) % vocab) as i32).collect(),
        }
    }

    /// Bytes of `dhidden` and `dweight`.
    pub fn gradient_bytes(&self) -> usize {
        (self.hidden.len() + self.weight.len()) * size_of::<f32>()
    }
}

/// A step's result: `dhidden [rows, dim]`, `dweight [vocab, dim]`.
pub struct Solution {
    pub loss: f32,
    pub dhidden: Vec<f32>,
    pub dweight: Vec<f32>,
}

impl Solution {
    /// The relative errors of loss, `dhidden` and `dweight`, in the 2-norm.
    pub fn errors(&self, reference: &Self) -> [f64; 3] {
        [
            relative(&[self.loss], &[reference.loss]),
            relative(&self.dhidden, &reference.dhidden),
            relative(&self.dweight, &reference.dweight),
        ]
    }
}

fn relative(ours: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = ours.iter().zip(reference).map(|(a, b)| square(a - b)).sum();
    (difference / reference.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

/// One way to the loss and its gradients.
pub trait Framework {
    /// Its name, and what sets it apart.
    fn name(&self) -> String;

    /// Forward and backward. The gradients are kept until they are taken.
    fn step(&mut self) -> Result<(), Box<dyn Error>>;

    /// What the last step found.
    fn take(&mut self) -> Result<Solution, Box<dyn Error>>;
}
