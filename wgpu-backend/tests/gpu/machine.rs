//! The devices that tests run on.

use std::io::Write;
use std::sync::OnceLock;
use tokenloss_wgpu::{Gpu, GpuError, GpuOptions, Variant, wgpu};

/// Prints past the test harness, which would hide what was skipped.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One device per variant that the adapter runs. Empty, and said so, without an adapter.
pub(crate) fn gpus() -> &'static [Gpu] {
    static GPUS: OnceLock<Vec<Gpu>> = OnceLock::new();
    GPUS.get_or_init(|| {
        let mut gpus = Vec::new();
        for variant in Variant::ALL {
            match open(Some(variant), None) {
                Some(Ok(gpu)) => {
                    let info = gpu.info();
                    say(&format!("gpu: {} ({} {}), {variant}", info.name, info.backend, info.driver_info));
                    gpus.push(gpu);
                }
                Some(Err(error)) => say(&format!("gpu: {variant} not tested: {error}")),
                None => {}
            }
        }
        gpus
    })
}

/// The baseline device; `None` without an adapter.
pub(crate) fn baseline() -> Option<&'static Gpu> {
    gpus().first()
}

/// A device with a variant and limits of the test's; `None` without an adapter.
pub(crate) fn open(variant: Option<Variant>, limits: Option<wgpu::Limits>) -> Option<Result<Gpu, GpuError>> {
    match Gpu::with_options(&GpuOptions { variant, limits, ..GpuOptions::default() }) {
        Err(GpuError::NoAdapter { reason }) => {
            assert!(
                std::env::var("TOKENLOSS_REQUIRE_GPU").as_deref() != Ok("1"),
                "TOKENLOSS_REQUIRE_GPU=1, but there is no adapter: {reason}"
            );
            say("gpu: not tested, no adapter");
            None
        }
        other => Some(other),
    }
}

/// Limits that make small shapes split: 1 MiB a binding, 64 groups a dimension.
pub(crate) fn low_limits() -> wgpu::Limits {
    wgpu::Limits {
        max_storage_buffer_binding_size: 1 << 20,
        max_compute_workgroups_per_dimension: 64,
        ..wgpu::Limits::default()
    }
}
