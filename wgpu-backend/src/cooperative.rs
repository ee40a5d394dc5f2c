//! Cooperative matrices: an experimental rung that is climbed only on request.

use crate::GpuError;
use tokenloss_core::Dtype;
use tokenloss_shaders::{Matrices, Product};
use wgpu::{AdapterInfo, CooperativeMatrixProperties, CooperativeScalarType as Scalar, Features};

/// Subgroups of a workgroup: each computes 16 of its 64 rows.
const SUBGROUPS: u32 = 4;

/// A feature, and how wgpu spells it.
type Required = (Features, &'static str);

const ALWAYS: [Required; 2] = [
    (Features::EXPERIMENTAL_COOPERATIVE_MATRIX, "EXPERIMENTAL_COOPERATIVE_MATRIX"),
    (Features::SUBGROUP, "SUBGROUP"),
];
const F16: Required = (Features::SHADER_F16, "SHADER_F16");

fn require(has: Features, (needed, feature): Required) -> Result<(), GpuError> {
    if has.contains(needed) { Ok(()) } else { Err(GpuError::MissingFeature { feature }) }
}

/// The proof that an adapter lists cooperative matrices that the products of the linear form can use. wgpu checks neither
/// shapes nor types, and what an adapter does not list gives wrong results in silence.
///
/// Where the operands are f32 all three products use them. Where they are f16 only the logits of f16 inputs are computed by
/// them, which loses nothing, and those of wider inputs on [request](Self::narrowing). Gradients of a mean would not
/// survive f16 and are left to the registers.
///
/// On Metal wgpu 30 names a range for the size of subgroups, so that none are found there.
#[derive(Debug, Clone, PartialEq)]
pub struct CooperativeMatrix {
    matrices: Matrices,
    subgroup: u32,
    adapter: AdapterInfo,
    narrowing: bool,
}

impl CooperativeMatrix {
    /// The best that an adapter lists: f32 before f16, 16 x 16 before 8 x 8.
    ///
    /// # Errors
    /// [`GpuError::MissingFeature`]; [`GpuError::SubgroupSize`] where the size of the adapter's subgroups varies;
    /// [`GpuError::CooperativeMatrix`] where it lists none of these.
    pub fn of(adapter: &wgpu::Adapter) -> Result<Self, GpuError> {
        let properties = adapter.cooperative_matrix_properties();
        Self::find(&properties, adapter.features(), adapter.get_info())
    }

    fn find(
        properties: &[CooperativeMatrixProperties],
        features: Features,
        adapter: AdapterInfo,
    ) -> Result<Self, GpuError> {
        ALWAYS.into_iter().try_for_each(|feature| require(features, feature))?;
        let (least, most) = (adapter.subgroup_min_size, adapter.subgroup_max_size);
        if least != most || least == 0 {
            return Err(GpuError::SubgroupSize { needed: most, has: least });
        }
        let is_listed = |matrices: &Matrices| {
            let operand = if matrices.narrows() { Scalar::F16 } else { Scalar::F32 };
            let side = matrices.side();
            properties.iter().any(|listed| {
                [listed.m_size, listed.n_size, listed.k_size] == [side; 3]
                    && listed.ab_type == operand
                    && listed.cr_type == Scalar::F32
                    && !listed.saturating_accumulation
            })
        };
        let Some(matrices) = Matrices::ALL.into_iter().find(is_listed) else {
            return Err(GpuError::CooperativeMatrix { adapter: adapter.name });
        };
        if matrices.narrows() {
            require(features, F16)?;
        }
        Ok(Self { matrices, subgroup: least, adapter, narrowing: false })
    }

    /// Where the operands are f16, logits of inputs in f32 and bf16 are computed by them, too. Each input is then off by at
    /// most 2^-11 of itself, or 2^-10 where a driver does not round to nearest, and may become 0 below 2^-14. One of 65,520
    /// or more makes its logits NaN. bf16 loses this range only.
    pub fn narrowing(self) -> Self {
        Self { narrowing: true, ..self }
    }

    /// Whether they are to compute a product of inputs of that type.
    pub(crate) fn computes(&self, product: Product, dtype: Dtype) -> bool {
        let is_wider = dtype != Dtype::F16;
        !self.matrices.narrows() || product == Product::Logits && (self.narrowing || !is_wider)
    }

    /// The matrices.
    pub fn matrices(&self) -> Matrices {
        self.matrices
    }

    /// The features that a device needs for them. The first is experimental: the device must be created with
    /// `wgpu::ExperimentalFeatures::enabled()`.
    pub fn features(&self) -> Features {
        self.required().fold(Features::empty(), |all, (feature, _)| all | feature)
    }

    fn required(&self) -> impl Iterator<Item = Required> {
        ALWAYS.into_iter().chain(self.matrices.narrows().then_some(F16))
    }

    /// Lanes of a workgroup.
    pub(crate) fn lanes(&self) -> u32 {
        SUBGROUPS * self.subgroup
    }

    /// Whether a device is of that adapter and has the features.
    pub(crate) fn check(&self, device: &wgpu::Device) -> Result<(), GpuError> {
        let adapter = device.adapter_info();
        if adapter != self.adapter {
            return Err(GpuError::OtherAdapter { needed: self.adapter.name.clone(), has: adapter.name });
        }
        self.required().try_for_each(|feature| require(device.features(), feature))?;
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

    fn info(sizes: [u32; 2]) -> AdapterInfo {
        let (device, _) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let [subgroup_min_size, subgroup_max_size] = sizes;
        AdapterInfo { name: "made-up".into(), subgroup_min_size, subgroup_max_size, ..device.adapter_info() }
    }

    fn find(properties: &[CooperativeMatrixProperties], sizes: [u32; 2]) -> Result<Matrices, GpuError> {
        CooperativeMatrix::find(properties, Features::all(), info(sizes)).map(|found| found.matrices())
    }

    #[test]
    fn only_what_is_listed_is_used() {
        let f16 = listed([8; 3], Scalar::F16, Scalar::F32, false);
        assert_eq!(find(&[f16], [32, 32]), Ok(Matrices::F16x8));
        let f32 = listed([16; 3], Scalar::F32, Scalar::F32, false);
        assert_eq!(find(&[f16, f32], [32, 32]), Ok(Matrices::F32x16));
        let others = [
            listed([16, 8, 16], Scalar::F16, Scalar::F32, false),
            listed([8, 8, 16], Scalar::F16, Scalar::F32, false),
            listed([32; 3], Scalar::F16, Scalar::F32, false),
            listed([16; 3], Scalar::I32, Scalar::I32, false),
            listed([16; 3], Scalar::I32, Scalar::F32, false),
            listed([16; 3], Scalar::F16, Scalar::F16, false),
            listed([16; 3], Scalar::F16, Scalar::F32, true),
        ];
        let none = GpuError::CooperativeMatrix { adapter: "made-up".into() };
        for other in others {
            assert_eq!(find(&[other], [32, 32]), Err(none.clone()), "{other:?}");
        }
        assert_eq!(find(&[], [32, 32]), Err(none));
        assert_eq!(find(&[f16], [8, 32]), Err(GpuError::SubgroupSize { needed: 32, has: 8 }));
    }

    #[test]
    fn the_feature_that_is_missing_is_named() {
        let f16 = listed([8; 3], Scalar::F16, Scalar::F32, false);
        for (feature, name) in ALWAYS.into_iter().chain([F16]) {
            let error = CooperativeMatrix::find(&[f16], Features::all() - feature, info([32, 32]));
            assert_eq!(error, Err(GpuError::MissingFeature { feature: name }));
        }
        let f32 = listed([8; 3], Scalar::F32, Scalar::F32, false);
        assert!(CooperativeMatrix::find(&[f32], Features::all() - F16.0, info([32, 32])).is_ok());
    }

    #[test]
    fn a_device_is_of_that_adapter_and_has_the_features() {
        let f16 = listed([8; 3], Scalar::F16, Scalar::F32, false);
        let (device, _) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let other = CooperativeMatrix::find(&[f16], Features::all(), info([32, 32])).unwrap();
        let error = other.check(&device).unwrap_err().to_string();
        assert!(
            error.starts_with("cooperative matrices: expected a device of made-up, got one of"),
            "{error}"
        );
        let own = CooperativeMatrix { adapter: device.adapter_info(), ..other };
        assert_eq!(
            own.check(&device),
            Err(GpuError::MissingFeature { feature: "EXPERIMENTAL_COOPERATIVE_MATRIX" })
        );
    }

    #[test]
    fn inputs_are_narrowed_only_on_request_and_gradients_never() {
        let of = |ab| {
            let listed = listed([8; 3], ab, Scalar::F32, false);
            CooperativeMatrix::find(&[listed], Features::all(), info([32, 32])).unwrap()
        };
        for dtype in Dtype::ALL {
            assert_eq!(of(Scalar::F16).computes(Product::Logits, dtype), dtype == Dtype::F16);
            assert!(of(Scalar::F16).narrowing().computes(Product::Logits, dtype));
            for product in [Product::Hidden, Product::Weight] {
                assert!(!of(Scalar::F16).narrowing().computes(product, dtype));
                assert!(of(Scalar::F32).computes(product, dtype));
            }
        }
    }
}
