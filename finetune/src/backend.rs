//! Where a model is computed.

use crate::Error;
use burn::tensor::Device;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// A processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// The CPU. The same run gives the same bits.
    #[default]
    Cpu,
    /// The first GPU that Vulkan, Metal or DX12 knows, in builds with the feature `gpu`.
    Gpu,
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => Err("expected cpu or gpu".to_owned()),
        }
    }
}

impl Backend {
    /// Its device.
    ///
    /// # Errors
    /// [`Error::Setting`] in a build without the feature, [`Error::Objective`] where there is no GPU.
    pub fn device(self) -> Result<Device, Error> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Gpu => gpu(),
        }
    }
}

static RAN_OUT: AtomicBool = AtomicBool::new(false);

/// Whether the GPU ran out of memory.
pub(crate) fn ran_out() -> bool {
    RAN_OUT.load(Ordering::Relaxed)
}

/// burn's runtime tells that memory ran out by a panic on a thread of its own, and afterwards only that results are missing.
#[cfg(feature = "gpu")]
fn listen() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|text| text.contains("Out of Memory")) {
            RAN_OUT.store(true, Ordering::Relaxed);
        } else {
            others(panic);
        }
    }));
}

#[cfg(feature = "gpu")]
fn gpu() -> Result<Device, Error> {
    static LISTENS: std::sync::Once = std::sync::Once::new();
    LISTENS.call_once(listen);
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    tokenloss_burn::init_wgpu(&device)?;
    Ok(device)
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> Result<Device, Error> {
    Err(Error::Setting {
        name: "backend",
        found: "gpu".to_owned(),
        expected: "this build has none: build it with `--features gpu`".to_owned(),
    })
}
