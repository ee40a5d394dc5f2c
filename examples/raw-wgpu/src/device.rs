//! The trainer's own device, with what the loss takes.

use tokenloss_wgpu::{GpuError, LinearRequest, LinearRequirements, Variant, linear_requirements};

/// The fastest adapter, if there is one.
pub(crate) fn adapter() -> Option<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    pollster::block_on(instance.request_adapter(&options)).ok()
}

/// What a step takes, before there is a device, and the variant of the kernels that takes it.
pub(crate) fn requirements(
    adapter: &wgpu::Adapter,
    request: &LinearRequest,
) -> Result<(LinearRequirements, Variant), GpuError> {
    let variant = Variant::best(adapter.features(), &adapter.get_info());
    Ok((linear_requirements(request, variant, &adapter.limits())?, variant))
}

/// A device with just that. A trainer would add what its own shaders take.
pub(crate) fn create(
    adapter: &wgpu::Adapter,
    needs: &LinearRequirements,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("trainer"),
        required_features: needs.features,
        required_limits: needs.limits.clone(),
        ..Default::default()
    }))
}
