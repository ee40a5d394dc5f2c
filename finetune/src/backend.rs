//! Where a model is computed.

use crate::Error;
use burn::tensor::Device;
use std::str::FromStr;

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

#[cfg(feature = "gpu")]
fn gpu() -> Result<Device, Error> {
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
