//! Cooperative matrices, on an adapter that lists them. Mesa's lavapipe does in 26.1, not yet in 25.0.

use crate::linear::{Case, check, evaluate, reference, small};
use crate::machine::{baseline, say};
use std::sync::OnceLock;
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{Denominator, Dtype, Element, LinearOptions, Nll, Objective, Reduction};
use tokenloss_wgpu::{CooperativeMatrix, Gpu, GpuError, GpuOptions, Kernels, Variant, wgpu};

/// The baseline, with cooperative matrices for the products. Devices are shared: the Vulkan loader may crash where threads
/// create and drop them side by side.
fn open(narrowing: bool) -> Option<&'static Gpu> {
    static GPUS: OnceLock<Option<[Gpu; 2]>> = OnceLock::new();
    // No adapter at all is told of, or a failure, there.
    baseline()?;
    match GPUS.get_or_init(|| Some([create(false)?, create(true)?])) {
        Some(gpus) => Some(&gpus[usize::from(narrowing)]),
        None => {
            say("gpu: a test of cooperative matrices did not run");
            None
        }
    }
}

fn create(narrowing: bool) -> Option<Gpu> {
    // SAFETY: experimental features may be incomplete and crash the device; this test wants to know.
    let token = unsafe { wgpu::ExperimentalFeatures::enabled() };
    let variant = Some(Variant::Baseline);
    let options = GpuOptions { variant, cooperative_matrix: Some(token), narrowing, ..GpuOptions::default() };
    match Gpu::with_options(&options) {
        Ok(gpu) => Some(gpu),
        Err(
            error @ (GpuError::MissingFeature { .. }
            | GpuError::SubgroupSize { .. }
            | GpuError::CooperativeMatrix { .. }),
        ) => {
            say(&format!("gpu: cooperative matrices not tested: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn narrows(gpu: &&Gpu) -> bool {
    gpu.kernels().cooperative_matrix().is_some_and(|matrix| matrix.matrices().narrows())
}

/// f16 inputs lose nothing on the way to the operands: the bound is that of the registers.
#[test]
fn f16_is_as_good_as_in_registers() {
    let Some(gpu) = open(false) else { return };
    let objective = Objective::parse("thresholded:inner=power,alpha=0.5,lo=0.003").unwrap();
    for (rows, dim, vocab) in [(20, 19, 333), (1, 1, 2), (65, 64, 129), (70, 130, 1030), (9, 4096, 300)] {
        for options in
            [LinearOptions::default(), LinearOptions { chunk_vocab: Some(61), ..Default::default() }, small()]
        {
            let case = Case::<f16>::new(rows, dim, vocab, true);
            let reduction = Reduction::Mean(Denominator::Kept);
            let (truth, totals) = reference::<f64, _, _>(&objective, reduction, &case);
            let (plain, _) = reference::<f32, _, _>(&objective, reduction, &case);
            match evaluate::<_, f32, _>(gpu, &objective, reduction, &case, &options) {
                Ok((got, counts)) => {
                    check(&format!("{rows} x {dim} x {vocab}"), &got, &truth, &plain, Dtype::F32);
                    assert_eq!(counts.live, totals.live);
                }
                Err(error) => assert!(error.to_string().starts_with("budget"), "{error}"),
            }
        }
    }
    let found = gpu.kernels().cooperative_matrix().map(CooperativeMatrix::matrices);
    say(&format!("gpu: cooperative matrices {found:?} tested"));
}

/// Without that request they are computed as on a device without cooperative matrices, to the bit.
#[test]
fn wider_inputs_are_narrowed_only_on_request() {
    let Some(gpu) = open(false).filter(narrows) else { return };
    stays::<f32>(gpu);
    stays::<bf16>(gpu);
}

fn stays<E: Element>(gpu: &Gpu) {
    let case = Case::<E>::new(30, 64, 200, true);
    let run = |gpu| {
        evaluate::<_, f32, _>(gpu, &Nll, Reduction::default(), &case, &LinearOptions::default()).unwrap()
    };
    assert!(run(gpu) == run(baseline().unwrap()), "{}", E::DTYPE);
}

#[test]
fn wider_inputs_are_narrowed_within_the_bound() {
    let Some(gpu) = open(true).filter(narrows) else { return };
    narrowed::<f32>(gpu);
    narrowed::<bf16>(gpu);
}

fn narrowed<E: Element>(gpu: &Gpu) {
    let case = Case::<E>::new(30, 64, 200, false);
    let options = LinearOptions::default();
    let (truth, _) = reference::<f64, _, _>(&Nll, Reduction::Sum, &case);
    let run = |gpu| evaluate::<_, f32, _>(gpu, &Nll, Reduction::Sum, &case, &options).unwrap().0;
    let got = run(gpu);
    let mut used: f64 = 0.0;
    for row in 0..30 {
        let hidden = &case.hidden[row * 64..][..64];
        let size = |weight: &[E]| -> f64 {
            hidden.iter().zip(weight).map(|(h, w)| f64::from((h.to_f32() * w.to_f32()).abs())).sum()
        };
        let most = case.weight.chunks_exact(64).map(size).fold(0.0, f64::max);
        // Two operands, each off by 2^-10 if it is rounded towards zero. The target's logit and the log-sum-exp are each
        // off by no more than the worst logit.
        let allowed = 2.0 * (2.0 * 2f64.powi(-10)) * most;
        let off = (got.losses[row] - truth.losses[row]).abs();
        assert!(off <= allowed, "row {row}: off by {off:e}, allowed {allowed:e}");
        used = used.max(off / allowed);
    }
    say(&format!("linear {} narrowed to f16: {:.1} % of what is allowed", E::DTYPE, 100.0 * used));
    if E::DTYPE == Dtype::F32 {
        assert!(got.losses != run(baseline().unwrap()).losses, "nothing was narrowed");
    }
}

/// An infinite operand could make a logit -inf, which is a mask: a wrong loss, and no error.
#[test]
fn what_f16_cannot_hold_is_an_error_and_no_mask() {
    let Some(gpu) = open(true).filter(narrows) else { return };
    let options = LinearOptions::default();
    for (value, is_held) in [(65_519.0, true), (65_520.0, false), (7e4, false), (-3e38, false)] {
        let mut case = Case::<f32>::new(3, 8, 10, false);
        (0..3).for_each(|row| case.hidden[row * 8] = -1e-4f32.copysign(value));
        case.weight[7 * 8] = value;
        // Its logit is negative and finite in every row.
        evaluate::<_, f32, _>(baseline().unwrap(), &Nll, Reduction::Sum, &case, &options).unwrap();
        match evaluate::<_, f32, _>(gpu, &Nll, Reduction::Sum, &case, &options) {
            Ok(_) => assert!(is_held, "{value}"),
            Err(error) => {
                // It is finite where it is computed again, on the host: what the device had was too large.
                let expected = "logits: row 0, column 7 is inf, expected a finite number or -inf";
                assert_eq!((error.to_string().as_str(), is_held), (expected, false), "{value}");
            }
        }
    }
}

#[test]
fn a_device_without_the_features_is_refused() {
    let Some(gpu) = open(false) else { return };
    let matrix = gpu.kernels().cooperative_matrix().unwrap().clone();
    let kernels = Kernels::new(baseline().unwrap().device()).unwrap();
    let error = kernels.with_cooperative_matrix(matrix).unwrap_err();
    assert_eq!(error, GpuError::MissingFeature { feature: "EXPERIMENTAL_COOPERATIVE_MATRIX" });
}
