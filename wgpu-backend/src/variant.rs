//! The rungs of the ladder.

use crate::GpuError;
use tokenloss_shaders::Reduce;

/// Which optional abilities of an adapter the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// None: runs wherever WebGPU's default limits exist.
    Baseline,
    /// Lanes are merged by subgroup operations.
    Subgroups,
}

/// What the subgroup kernels take for granted.
const LEAST_SUBGROUP: u32 = 4;

impl Variant {
    /// Every variant, the plainest first.
    pub const ALL: [Variant; 2] = [Variant::Baseline, Variant::Subgroups];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Subgroups => "subgroups",
        }
    }

    /// The features that a device needs for it.
    pub const fn features(self) -> wgpu::Features {
        match self {
            Self::Baseline => wgpu::Features::empty(),
            Self::Subgroups => wgpu::Features::SUBGROUP,
        }
    }

    pub(crate) fn reduce(self) -> Reduce {
        match self {
            Self::Baseline => Reduce::Tree,
            Self::Subgroups => Reduce::Subgroup,
        }
    }

    /// Whether a device with these features, or an adapter that could make one, runs it.
    pub(crate) fn check(self, features: wgpu::Features, info: &wgpu::AdapterInfo) -> Result<(), GpuError> {
        if self == Self::Baseline {
            return Ok(());
        }
        if !features.contains(self.features()) {
            return Err(GpuError::MissingFeature { feature: "SUBGROUP" });
        }
        if info.subgroup_min_size < LEAST_SUBGROUP {
            return Err(GpuError::SubgroupSize { needed: LEAST_SUBGROUP, has: info.subgroup_min_size });
        }
        Ok(())
    }

    /// The best that an adapter of these features runs, or a device that was created with them.
    pub fn best(features: wgpu::Features, info: &wgpu::AdapterInfo) -> Self {
        let runs = |variant: &&Self| variant.check(features, info).is_ok();
        *Self::ALL.iter().rfind(runs).unwrap_or(&Self::Baseline)
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
