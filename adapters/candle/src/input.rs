//! From tensors to slices, each checked once.

use crate::{Error, Options};
use candle_core::{CpuStorage, DType, Layout, Storage, Tensor, WithDType};
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{Batch, Element, IGNORE_INDEX, LogitMap, NonFinite, Shape};

/// A storage type that both sides know.
pub(crate) trait Stored: WithDType + Element {
    /// All elements of a storage, if it is of this type.
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! stored {
    ($($element:ty: $variant:ident),*) => {$(
        impl Stored for $element {
            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(elements) => Some(elements),
                    _ => None,
                }
            }
        }
    )*};
}

stored!(f32: F32, f16: F16, bf16: BF16);

/// What is done for one storage type.
pub(crate) trait Typed {
    type Output;
    fn run<E: Stored>(self) -> Result<Self::Output, Error>;
}

/// Picks the type.
pub(crate) fn typed<T: Typed>(what: &'static str, dtype: DType, call: T) -> Result<T::Output, Error> {
    match dtype {
        DType::F32 => call.run::<f32>(),
        DType::F16 => call.run::<f16>(),
        DType::BF16 => call.run::<bf16>(),
        got => Err(Error::Dtype { what, got, expected: "f32, f16 or bf16" }),
    }
}

/// A tensor on the CPU, its rows one after the other.
pub(crate) fn contiguous(what: &'static str, tensor: &Tensor) -> Result<Tensor, Error> {
    if !tensor.device().is_cpu() {
        return Err(Error::Device { what, got: tensor.device().location() });
    }
    Ok(tensor.contiguous()?)
}

/// The elements of a contiguous storage.
pub(crate) fn elements<'s, E: WithDType>(
    storage: &'s CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'s [E]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(candle_core::Error::RequiresContiguous { op: "token-loss" }.bt())?;
    Ok(&storage.as_slice::<E>()?[start..end])
}

/// Reads a contiguous tensor in place.
pub(crate) fn read<E: WithDType, R>(
    tensor: &Tensor,
    f: impl FnOnce(&[E]) -> Result<R, Error>,
) -> Result<R, Error> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(elements(storage, layout)?),
        _ => Err(Error::Device { what: "tensor", got: tensor.device().location() }),
    }
}

/// What is known of the rows but for their logits.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) shape: Shape,
    targets: Vec<i32>,
    weights: Option<Vec<f32>>,
    map: Option<LogitMap<'static>>,
    non_finite: NonFinite,
}

impl Rows {
    pub(crate) fn new(rows: usize, vocab: usize, targets: &Tensor, options: &Options) -> Result<Self, Error> {
        let rows = Self {
            shape: Shape::new(rows, vocab)?,
            targets: targets_of(targets, vocab)?,
            weights: options.weights.as_ref().map(weights_of).transpose()?,
            map: options.map,
            non_finite: options.non_finite,
        };
        rows.checked()?;
        Ok(rows)
    }

    fn checked(&self) -> Result<Batch<'_>, tokenloss_core::Error> {
        let mut batch = Batch::new(self.shape, &self.targets)?.with_non_finite(self.non_finite);
        if let Some(weights) = &self.weights {
            batch = batch.with_weights(weights)?;
        }
        if let Some(map) = self.map {
            batch = batch.with_map(map)?;
        }
        Ok(batch)
    }

    pub(crate) fn batch(&self) -> Result<Batch<'_>, Error> {
        Ok(self.checked()?)
    }
}

fn targets_of(targets: &Tensor, vocab: usize) -> Result<Vec<i32>, Error> {
    let dtype = targets.dtype();
    if !matches!(dtype, DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64) {
        return Err(Error::Dtype { what: "targets", got: dtype, expected: "an integer" });
    }
    let wide: Vec<i64> = contiguous("targets", targets)?.flatten_all()?.to_dtype(DType::I64)?.to_vec1()?;
    let of_row = |(row, target): (usize, i64)| match target {
        _ if target == i64::from(IGNORE_INDEX) => Ok(IGNORE_INDEX),
        _ if dtype == DType::U32 && target == i64::from(u32::MAX) => Ok(IGNORE_INDEX),
        _ => match i32::try_from(target) {
            Ok(target) if (0..vocab).contains(&(target as usize)) && target >= 0 => Ok(target),
            _ => Err(Error::Target { row, target, vocab }),
        },
    };
    wide.into_iter().enumerate().map(of_row).collect()
}

fn weights_of(weights: &Tensor) -> Result<Vec<f32>, Error> {
    if !weights.dtype().is_float() {
        return Err(Error::Dtype { what: "weights", got: weights.dtype(), expected: "a float" });
    }
    Ok(contiguous("weights", weights)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
}

/// The gradient from above, of each row; one number is that of all.
pub(crate) fn upstream_of(gradient: &Tensor, rows: usize) -> candle_core::Result<Vec<f64>> {
    let values: Vec<f64> = gradient.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
    Ok(if values.len() == 1 { vec![values[0]; rows] } else { values })
}
