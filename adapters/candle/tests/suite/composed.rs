//! Losses composed of candle's ops, in f64, and how far apart two tensors are.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use tokenloss_candle::core::half::{bf16, f16};
use tokenloss_candle::core::{Composite, IGNORE_INDEX};

/// Floats of a fixed sequence, between -scale and scale.
pub(crate) fn values(shape: &[usize], scale: f64, seed: u32) -> Result<Tensor> {
    let of = |i: usize| scale * ((i as f64 + 1.0) * 12.9898 + f64::from(seed) * 78.233).sin();
    Tensor::from_vec((0..shape.iter().product()).map(of).collect::<Vec<f64>>(), shape, &Device::Cpu)
}

/// A tracked tensor of one type, and the same numbers tracked in f64.
pub(crate) fn tracked(values: &Tensor, dtype: DType) -> Result<(Var, Var)> {
    let stored = values.to_dtype(dtype)?;
    Ok((Var::from_tensor(&stored)?, Var::from_tensor(&stored.to_dtype(DType::F64)?)?))
}

/// An objective, and the same from `log_p [rows]` and `lse [rows]`.
pub(crate) struct Case {
    pub(crate) spec: &'static str,
    of_row: fn(&Tensor, &Tensor) -> Result<Tensor>,
}

impl Case {
    pub(crate) fn objective(&self) -> Composite {
        Composite::parse(self.spec).unwrap()
    }
}

pub(crate) const CASES: [Case; 4] = [
    Case { spec: "nll", of_row: |log_p, _| log_p.neg() },
    Case { spec: "power:alpha=0.5", of_row: |log_p, _| ((log_p * 0.5)?.exp()?.neg()? + 1.0)? * 2.0 },
    Case {
        spec: "thresholded:inner=nll,lo=0.005",
        of_row: |log_p, _| log_p.neg()? * log_p.exp()?.ge(0.005)?.to_dtype(DType::F64)?,
    },
    Case { spec: "nll + z_loss:lambda=0.01", of_row: |log_p, lse| log_p.neg()? + (lse.sqr()? * 0.01)? },
];

/// The losses of `logits [rows, vocab]`; 0 where a target is ignored.
pub(crate) fn losses(case: &Case, logits: &Tensor, targets: &[i64]) -> Result<Tensor> {
    let device = &Device::Cpu;
    let ignored = |&target: &i64| target == i64::from(IGNORE_INDEX);
    let index: Vec<u32> =
        targets.iter().map(|target| if ignored(target) { 0 } else { *target as u32 }).collect();
    let mask: Vec<f64> = targets.iter().map(|target| if ignored(target) { 0.0 } else { 1.0 }).collect();
    let index = Tensor::new(index, device)?.unsqueeze(1)?;
    let z = logits.gather(&index, D::Minus1)?.squeeze(1)?;
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?.gather(&index, D::Minus1)?.squeeze(1)?;
    (case.of_row)(&log_p, &(z - &log_p)?)? * Tensor::new(mask, device)?
}

/// What rounding to a type can be off by, of a number of 1.
pub(crate) fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => bf16::EPSILON.to_f64() / 2.0,
        DType::F16 => f16::EPSILON.to_f64() / 2.0,
        _ => f64::from(f32::EPSILON) / 2.0,
    }
}

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn greatest(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |most, number| if number.is_nan() { f64::NAN } else { number.abs().max(most) })
}

/// No entry is further off than `tolerance` times the greatest, and not all are 0.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let (got, expected) = (numbers(got), numbers(expected));
    let most = greatest(expected.iter().copied());
    assert!(most > 0.0, "{what}: all is 0");
    let off = greatest(got.iter().zip(&expected).map(|(got, expected)| got - expected));
    assert!(
        off <= tolerance * most,
        "{what}: off by {:.1e} of the greatest, not {tolerance:.1e}",
        off / most
    );
}

/// All entries have the same bits.
#[track_caller]
pub(crate) fn assert_same(got: &Tensor, expected: &Tensor) {
    let bits = |tensor: &Tensor| numbers(tensor).into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(got), bits(expected));
}
