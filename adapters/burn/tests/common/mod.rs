//! Numbers, and the oracle: the reference in f64, differentiated by central differences.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use burn::tensor::{Device, Int, Tensor, TensorData};
use tokenloss_burn::core::{Composite, RowObjective, reference};

/// Numbers from -1 to 1.
pub fn uniform(elements: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        2.0 * ((state >> 40) as f32 / (1u64 << 24) as f32) - 1.0
    };
    (0..elements).map(|_| next()).collect()
}

pub fn scaled(values: Vec<f32>, by: f32) -> Vec<f32> {
    values.into_iter().map(|x| by * x).collect()
}

pub fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub fn ints<const D: usize>(values: &[i32], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

/// `rows` rows of a known loss: `sum_i by_i L(z_i, t_i)` and its gradient, ignored rows left out.
pub struct Oracle {
    pub losses: Vec<f64>,
    pub log_p: Vec<f64>,
    pub entropy: Vec<f64>,
    pub dlogits: Vec<f64>,
}

impl Oracle {
    pub fn new(logits: &[f64], vocab: usize, targets: &[i32], by: &[f64], objective: &Composite) -> Self {
        let rows = targets.len();
        let mut oracle = Self {
            losses: vec![0.0; rows],
            log_p: vec![f64::NAN; rows],
            entropy: vec![f64::NAN; rows],
            dlogits: vec![0.0; logits.len()],
        };
        for row in 0..rows {
            let Ok(target) = usize::try_from(targets[row]) else { continue };
            let mut z = logits[row * vocab..][..vocab].to_vec();
            let summary = reference::summarise(&z, target).unwrap();
            oracle.losses[row] = by[row] * objective.of_row(&summary).loss;
            oracle.log_p[row] = summary.target.log_p;
            oracle.entropy[row] = summary.stats.entropy();
            for column in 0..vocab {
                // The error of a central difference is of the order of STEP^2, and 1e-16 / STEP of rounding.
                const STEP: f64 = 1e-5;
                let held = z[column];
                let mut at = |x: f64| {
                    z[column] = x;
                    objective.held_row(&summary, &reference::summarise(&z, target).unwrap())
                };
                let slope = (at(held + STEP) - at(held - STEP)) / (2.0 * STEP);
                z[column] = held;
                oracle.dlogits[row * vocab + column] = by[row] * slope;
            }
        }
        oracle
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// `a [m, k] @ b [k, n]`
pub fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for l in 0..k {
            for j in 0..n {
                c[i * n + j] += a[i * k + l] * b[l * n + j];
            }
        }
    }
    c
}

pub fn transposed(a: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..columns * rows).map(|i| a[i % rows * columns + i / rows]).collect()
}

/// The greatest difference, where both are NaN or neither is.
pub fn distance(ours: &[f32], reference: &[f64]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    ours.iter().zip(reference).fold(0.0, |most, (&a, &b)| {
        assert_eq!(a.is_nan(), b.is_nan(), "{a} beside {b}");
        if a.is_nan() { most } else { f64::max(most, (f64::from(a) - b).abs()) }
    })
}

#[track_caller]
pub fn assert_near(what: &str, ours: &[f32], reference: &[f64], tolerance: f64) {
    let distance = distance(ours, reference);
    assert!(distance <= tolerance, "{what}: {distance:.2e} from the reference, not within {tolerance:.0e}");
}

pub fn objectives() -> Vec<Composite> {
    [
        "nll",
        "power:alpha=1",
        "focal:gamma=2",
        "nll + z_loss:lambda=0.01",
        "power:alpha=0.5 + entropy:lambda=0.1",
    ]
    .map(|spec| Composite::parse(spec).unwrap())
    .to_vec()
}
