//! Cooperative matrices: an experimental rung that is climbed only on request.

use crate::GpuError;
use tokenloss_shaders::Matrices;
use wgpu::{AdapterInfo, CooperativeMatrixProperties, CooperativeScalarType as Scalar, Features};

/// Subgroups of a workgroup: each computes 16 of its 64 rows.
const SUBGROUPS: u32 = 4;

/// The proof that an adapter lists cooperative matrices that the products of the linear form can use. wgpu checks neither
/// shapes nor types, and what an adapter does not list gives wrong results in silence.
///
/// Where the operands are f16 only the logits are computed by them, from hidden states and a weight that are narrowed: each
/// operand is off by at most 2^-11 of itself, and what exceeds 65,504 becomes infinite. Gradients of a mean would not
/// survive f16 and are left to the registers. Where they are f32 all three products use them.
#[derive(Debug, Clone, PartialEq)]
pub struct CooperativeMatrix {
    matrices: Matrices,
    subgroup: u32,
    adapter: AdapterInfo,
}

impl CooperativeMatrix {
    /// The best that an adapter lists: f32 before f16, 16 x 16 before 8 x 8.
    ///
    /// # Errors
    /// [`GpuError::MissingFeature`] where the adapter has no cooperative matrices or none of these;
    /// [`GpuError::SubgroupSize`] where the size of its subgroups varies.
    pub fn of(adapter: &wgpu::Adapter) -> Result<Self, GpuError> {
        let properties = adapter.cooperative_matrix_properties();
        Self::find(&properties, adapter.features(), adapter.get_info())
    }

    fn find(
        properties: &[CooperativeMatrixProperties],
        features: Features,
        adapter: AdapterInfo,
    ) -> Result<Self, GpuError> {
        if !features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SUBGROUP) {
            return Err(GpuError::MissingFeature { feature: "EXPERIMENTAL_COOPERATIVE_MATRIX" });
        }
        let (least, most) = (adapter.subgroup_min_size, adapter.subgroup_max_size);
        if least != most || least == 0 {
            return Err(GpuError::SubgroupSize { needed: most, has: least });
        }
        let is_listed = |matrices: &Matrices| {
            let operand = if matrices.narrows() { Scalar::F16 } else { Scalar::F32 };
            let runs = !matrices.narrows() || features.contains(Features::SHADER_F16);
            let side = matrices.side();
            runs && properties.iter().any(|listed| {
                [listed.m_size, listed.n_size, listed.k_size] == [side; 3]
                    && listed.ab_type == operand
                    && listed.cr_type == Scalar::F32
                    && !listed.saturating_accumulation
            })
        };
        match Matrices::ALL.into_iter().find(is_listed) {
            Some(matrices) => Ok(Self { matrices, subgroup: least, adapter }),
            None => Err(GpuError::MissingFeature {
                feature: "a square cooperative matrix of f16 or f32 with f32 sums",
            }),
        }
    }

    /// The matrices.
    pub fn matrices(&self) -> Matrices {
        self.matrices
    }

    /// The features that a device needs for them. The first is experimental: the device must be created with
    /// `wgpu::ExperimentalFeatures::enabled()`.
    pub fn features(&self) -> Features {
        let always = Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SUBGROUP;
        if self.matrices.narrows() { always | Features::SHADER_F16 } else { always }
    }

    /// Lanes of a workgroup.
    pub(crate) fn lanes(&self) -> u32 {
        SUBGROUPS * self.subgroup
    }

    /// Whether a device is of that adapter and has the features.
    pub(crate) fn check(&self, device: &wgpu::Device) -> Result<(), GpuError> {
        if !device.features().contains(self.features()) || device.adapter_info() != self.adapter {
            return Err(GpuError::MissingFeature { feature: "EXPERIMENTAL_COOPERATIVE_MATRIX" });
        }
        let limits = device.limits();
        let has = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        if has < self.lanes() {
            let (limit, needed) = ("max_compute_invocations_per_workgroup", self.lanes().into());
            return Err(GpuError::MissingLimit { limit, needed, has: has.into() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(sides: [u32; 3], ab: Scalar, cr: Scalar, saturating: bool) -> CooperativeMatrixProperties {
        let [m_size, n_size, k_size] = sides;
        let (ab_type, cr_type, saturating_accumulation) = (ab, cr, saturating);
        CooperativeMatrixProperties { m_size, n_size, k_size, ab_type, cr_type, saturating_accumulation }
    }

    fn find(properties: &[CooperativeMatrixProperties], sizes: [u32; 2]) -> Result<Matrices, String> {
        let (device, _) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let [subgroup_min_size, subgroup_max_size] = sizes;
        let info = AdapterInfo { subgroup_min_size, subgroup_max_size, ..device.adapter_info() };
        CooperativeMatrix::find(properties, Features::all(), info)
            .map(|found| found.matrices())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_is_listed_is_used() {
        let f16 = listed([8; 3], Scalar::F16, Scalar::F32, false);
        assert_eq!(find(&[f16], [32, 32]), Ok(Matrices::F16x8));
        let f32 = listed([16; 3], Scalar::F32, Scalar::F32, false);
        assert_eq!(find(&[f16, f32], [32, 32]), Ok(Matrices::F32x16));
        let none = [
            listed([16, 8, 16], Scalar::F16, Scalar::F32, false),
            listed([8, 8, 16], Scalar::F16, Scalar::F32, false),
            listed([32; 3], Scalar::F16, Scalar::F32, false),
            listed([16; 3], Scalar::I32, Scalar::I32, false),
            listed([16; 3], Scalar::F16, Scalar::F16, false),
            listed([16; 3], Scalar::F16, Scalar::F32, true),
        ];
        assert!(find(&none, [32, 32]).unwrap_err().contains("a square cooperative matrix"));
        assert!(find(&[], [32, 32]).is_err());
        assert_eq!(
            find(&[f16], [8, 32]).unwrap_err(),
            "subgroups: expected at least 32 lanes, the adapter may use 8"
        );
        let (device, _) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let info = AdapterInfo { subgroup_min_size: 32, subgroup_max_size: 32, ..device.adapter_info() };
        let without = CooperativeMatrix::find(&[f16], Features::all() - Features::SHADER_F16, info.clone());
        assert!(without.is_err());
        let without = Features::all() - Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        assert!(CooperativeMatrix::find(&[f16], without, info).is_err());
    }
}
