//! What can be known of tensors without reading them.

use crate::{Error, Options};
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Int, Tensor};

#[cfg(not(feature = "wgpu"))]
pub(crate) fn check_device(what: &'static str, device: &Device, _: &Options) -> Result<(), Error> {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Flex(_) => Ok(()),
        #[allow(unreachable_patterns, reason = "burn has other backends only with features of its own")]
        _ => Err(Error::Device {
            what,
            got: Box::new(device.clone()),
            served: "burn's Flex backend in this build",
        }),
    }
}

#[cfg(feature = "wgpu")]
pub(crate) fn check_device(what: &'static str, device: &Device, options: &Options) -> Result<(), Error> {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Flex(_) => Ok(()),
        _ => crate::cube::check(what, device, options.map.as_ref()),
    }
}

pub(crate) fn check_same(what: &'static str, got: Device, expected: &Device) -> Result<(), Error> {
    if got == *expected {
        return Ok(());
    }
    Err(Error::OtherDevice { what, got: Box::new(got), expected: Box::new(expected.clone()) })
}

pub(crate) fn check_dtype(what: &'static str, got: DType) -> Result<(), Error> {
    match got {
        DType::F32 | DType::F16 | DType::BF16 => Ok(()),
        _ => Err(Error::Dtype { what, got, expected: "f32, f16 or bf16" }),
    }
}

/// Rows as one dimension, however many there are before the last. Returns the leading dimensions, too.
pub(crate) fn flatten<const D: usize, const R: usize>(
    what: &'static str,
    tensor: Tensor<D>,
    targets: &Tensor<R, Int>,
) -> Result<(Tensor<2>, [usize; R]), Error> {
    const { assert!(R + 1 == D, "targets have one dimension less: the last is that of the vocabulary or of dim") };
    let (got, leading) = (tensor.dims(), targets.dims());
    if got[..R] != leading {
        let expected = format!("{:?}, a target for each row of the {what}", &got[..R]);
        return Err(Error::Shape { what: "targets", got: leading.to_vec(), expected });
    }
    let [rows, last] = [leading.iter().product(), got[R]];
    if rows == 0 {
        return Err(tokenloss_core::Error::NoRows.into());
    }
    Ok((tensor.reshape([rows, last]), leading))
}

pub(crate) fn check_options(options: &Options, rows: usize, device: &Device) -> Result<(), Error> {
    options.reduction.unwrap_or_default().check()?;
    let Some(weights) = &options.weights else { return Ok(()) };
    check_same("weights", weights.device(), device)?;
    if weights.dims() != [rows] {
        let (got, expected) = (weights.dims().to_vec(), format!("[{rows}]"));
        return Err(Error::Shape { what: "weights", got, expected });
    }
    Ok(())
}
