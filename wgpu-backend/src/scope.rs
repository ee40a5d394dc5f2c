//! What wgpu reports on the side.

use crate::GpuError;
use crate::dispatch::ready;

/// Does some work on a device, and turns what wgpu reports on the side into errors. Without a scope it would end the process.
/// `bytes` are those of the buffers that the work asks for, 0 if that is not known.
///
/// # Errors
/// [`GpuError::OutOfMemory`] and [`GpuError::Internal`] for what is reported, which comes before the work's own.
pub fn guarded<T>(
    device: &wgpu::Device,
    bytes: u64,
    work: impl FnOnce() -> Result<T, GpuError>,
) -> Result<T, GpuError> {
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let result = work();
    let reported = [internal.pop(), memory.pop()].map(ready);
    let mut reported = reported.into_iter().chain([ready(validation.pop())]).flatten().flatten();
    match reported.next() {
        None => result,
        Some(wgpu::Error::OutOfMemory { .. }) => Err(GpuError::OutOfMemory { bytes }),
        Some(other) => Err(GpuError::Internal { reason: other.to_string() }),
    }
}
