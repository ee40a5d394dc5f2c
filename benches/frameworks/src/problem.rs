//! The loss that all compute: the mean cross entropy of `hidden @ weight^T`, or of logits.

use std::error::Error;

/// A matrix `[rows, columns]`.
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

/// Inputs that all have a gradient, and targets `[rows]`.
pub struct Problem {
    pub inputs: Vec<Matrix>,
    pub targets: Vec<i32>,
}

struct Uniform(u64);

impl Uniform {
    fn matrix(&mut self, rows: usize, columns: usize, scale: f32) -> Matrix {
        let mut number = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            scale * (2.0 * ((self.0 >> 40) as f32 / (1u64 << 24) as f32) - 1.0)
        };
        Matrix { rows, columns, values: (0..rows * columns).map(|_| number()).collect() }
    }
}

fn targets(rows: usize, vocab: usize) -> Vec<i32> {
    (0..rows).map(|row| ((row * 7919) % vocab) as i32).collect()
}

impl Problem {
    /// Hidden states and a head, with logits of a standard deviation of 3, as a trained model's.
    pub fn linear(rows: usize, dim: usize, vocab: usize) -> Self {
        let mut uniform = Uniform(0x9e37_79b9_7f4a_7c15);
        let hidden = uniform.matrix(rows, dim, 1.0);
        // A product of two such numbers has variance 1/9, and a logit is a sum of `dim` of them.
        let weight = uniform.matrix(vocab, dim, 9.0 / (dim as f32).sqrt());
        Self { inputs: vec![hidden, weight], targets: targets(rows, vocab) }
    }

    /// Logits, of the same standard deviation.
    pub fn logits(rows: usize, vocab: usize) -> Self {
        let logits = Uniform(0x9e37_79b9_7f4a_7c15).matrix(rows, vocab, 3.0 * 3f32.sqrt());
        Self { inputs: vec![logits], targets: targets(rows, vocab) }
    }

    /// Bytes of all gradients.
    pub fn gradient_bytes(&self) -> usize {
        self.inputs.iter().map(|input| size_of_val(&input.values[..])).sum()
    }
}

/// A step's result.
pub struct Solution {
    pub loss: f32,
    /// One for each input.
    pub gradients: Vec<Vec<f32>>,
}

impl Solution {
    /// The greatest relative error of loss and gradients, in the 2-norm.
    pub fn error(&self, reference: &Self) -> f64 {
        let gradients = self.gradients.iter().zip(&reference.gradients);
        gradients.fold(relative(&[self.loss], &[reference.loss]), |most, (ours, theirs)| {
            let error = relative(ours, theirs);
            if error.is_nan() { error } else { most.max(error) }
        })
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

    /// What the last step found. The inputs are as they were before it.
    fn take(&mut self) -> Result<Solution, Box<dyn Error>>;
}
