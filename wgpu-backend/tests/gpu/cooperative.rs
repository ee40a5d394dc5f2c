//! Cooperative matrices, on an adapter that lists them.

use crate::linear::{Case, check, evaluate, reference, small};
use crate::machine::{baseline, say};
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{Denominator, Dtype, Element, LinearOptions, Nll, Objective, Reduction};
use tokenloss_wgpu::{Gpu, GpuError, GpuOptions, wgpu};

fn open() -> Option<Gpu> {
    // No adapter at all is told of, or a failure, there.
    baseline()?;
    // SAFETY: experimental features may be incomplete and crash the device; this test wants to know.
    let token = unsafe { wgpu::ExperimentalFeatures::enabled() };
    match Gpu::with_options(&GpuOptions { cooperative_matrix: Some(token), ..GpuOptions::default() }) {
        Ok(gpu) => Some(gpu),
        Err(error @ (GpuError::MissingFeature { .. } | GpuError::SubgroupSize { .. })) => {
            say(&format!("gpu: cooperative matrices not tested: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// f16 inputs lose nothing on the way to the operands: the bound is that of the registers.
#[test]
fn f16_is_as_good_as_in_registers() {
    let Some(gpu) = open() else { return };
    let objective = Objective::parse("thresholded:inner=power,alpha=0.5,lo=0.003").unwrap();
    for (rows, dim, vocab) in [(20, 19, 333), (1, 1, 2), (65, 64, 129), (70, 130, 1030)] {
        for options in
            [LinearOptions::default(), LinearOptions { chunk_vocab: Some(61), ..Default::default() }, small()]
        {
            let case = Case::<f16>::new(rows, dim, vocab, true);
            let reduction = Reduction::Mean(Denominator::Kept);
            let (truth, totals) = reference::<f64, _, _>(&objective, reduction, &case);
            let (plain, _) = reference::<f32, _, _>(&objective, reduction, &case);
            match evaluate::<_, f32, _>(&gpu, &objective, reduction, &case, &options) {
                Ok((got, counts)) => {
                    check(&format!("{rows} x {dim} x {vocab}"), &got, &truth, &plain, Dtype::F32);
                    assert_eq!(counts.live, totals.live);
                }
                Err(error) => assert!(error.to_string().starts_with("budget"), "{error}"),
            }
        }
    }
    let found = gpu.kernels().cooperative_matrix().map(tokenloss_wgpu::CooperativeMatrix::matrices);
    say(&format!("gpu: cooperative matrices {found:?} tested"));
}

/// Wider inputs are narrowed: each operand is off by 2^-11 of itself.
#[test]
fn wider_inputs_are_narrowed_within_the_bound() {
    let Some(gpu) = open() else { return };
    narrowed::<f32>(&gpu);
    narrowed::<bf16>(&gpu);
}

fn narrowed<E: Element>(gpu: &Gpu) {
    let case = Case::<E>::new(30, 64, 200, false);
    let options = LinearOptions::default();
    let (truth, _) = reference::<f64, _, _>(&Nll, Reduction::Sum, &case);
    let (got, _) = evaluate::<_, f32, _>(gpu, &Nll, Reduction::Sum, &case, &options).unwrap();
    for row in 0..30 {
        let hidden = &case.hidden[row * 64..][..64];
        let size = |weight: &[E]| -> f64 {
            hidden.iter().zip(weight).map(|(h, w)| f64::from((h.to_f32() * w.to_f32()).abs())).sum()
        };
        let most = case.weight.chunks_exact(64).map(size).fold(0.0, f64::max);
        // The target's logit and the log-sum-exp are each off by no more than the worst logit.
        let allowed = 2.0 * (2.0 * 2f64.powi(-11)) * most;
        let off = (got.losses[row] - truth.losses[row]).abs();
        assert!(off <= allowed, "row {row}: off by {off:e}, allowed {allowed:e}");
    }
}
