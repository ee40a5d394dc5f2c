//! Every objective in `f32` against itself in `f64`, near p = 1 and near p = 0.

use crate::draw::{cases, token};
use proptest::prelude::*;
use tokenloss_core::{AnyToken, TargetProb, TokenObjective};

/// The exponent that an objective raises p or 1 - p to, at least 1.
fn exponent(objective: AnyToken) -> f64 {
    objective.parameters().into_iter().fold(1.0, |k: f64, p| k.max(f64::from(p.abs())))
}

/// Both float types see the same number: the `f32` pair, exactly.
fn pair(log_p: f32, one_minus_p: f32) -> (TargetProb<f32>, TargetProb<f64>) {
    (TargetProb { log_p, one_minus_p }, TargetProb { log_p: log_p.into(), one_minus_p: one_minus_p.into() })
}

proptest! {
    #![proptest_config(cases(4000))]

    /// Near p = 1, 1 - p from 1/2 down to a margin of 80.
    ///
    /// Tolerance: `one_minus_p` and `log_p` are given exactly, so that only the objective's own operations
    /// count: each at most 1 ulp (`exp`, `ln`, `exp_m1`, `powf` of the platform or libm), at most 8 of them.
    /// `exp(k log_p)` adds `k |log_p|` <= 0.7 k half-ulps for the rounding of its argument. The condition of
    /// `powf(1 - p, k)` by its base does not count, the base being exact. unlikelihood passes through 0 at
    /// p = eps, and rounds by half an ulp of the greater of its two terms there.
    #[test]
    fn near_one(objective in token(), margin in 0.7f64..80.0) {
        let tail = (-margin).exp();
        let (single, double) = pair((-tail.ln_1p()) as f32, (tail / (1.0 + tail)) as f32);
        agree(objective, single, double)?;
    }

    /// Near p = 0, log_p from -0.7 down to a margin of 80.
    ///
    /// Tolerance: as above, with `exp(k log_p)` now adding `k |log_p|` half-ulps, and `exp(log_p)`, which is p,
    /// `|log_p|` of them.
    #[test]
    fn near_zero(objective in token(), log_p in -80.0f32..-0.7) {
        let (single, double) = pair(log_p, (-f64::from(log_p).exp_m1()) as f32);
        agree(objective, single, double)?;
    }
}

fn agree(objective: AnyToken, single: TargetProb<f32>, double: TargetProb<f64>) -> Result<(), TestCaseError> {
    let eps = f64::from(f32::EPSILON);
    let (got, want) = (objective.of_target(single), objective.of_target(double));
    let k = exponent(objective);
    let unit = eps * (8.0 + 0.5 * k * double.log_p.abs() + double.log_p.abs());
    // Below the normal numbers, rounding is absolute; and a kink may fall between the two.
    let floor = f64::from(f32::MIN_POSITIVE);
    let zero_crossing = if objective.name() == "unlikelihood" {
        let eps = f64::from(objective.parameters()[0]);
        f64::from(f32::EPSILON)
            * double.p().max(eps).min(double.one_minus_p + eps)
            * (1.0 + double.log_p.abs())
    } else {
        0.0
    };
    let close =
        |got: f32, want: f64, slack: f64| (f64::from(got) - want).abs() <= unit * want.abs() + slack + floor;
    prop_assert!(
        close(got.loss, want.loss, zero_crossing),
        "{} at {:?}: loss {:e} instead of {:e}, relative {:e}",
        objective,
        double,
        got.loss,
        want.loss,
        f64::from(got.loss) / want.loss - 1.0
    );
    prop_assert!(
        close(got.slope, want.slope, 0.0),
        "{} at {:?}: slope {:e} instead of {:e}, relative {:e}",
        objective,
        double,
        got.slope,
        want.slope,
        f64::from(got.slope) / want.slope - 1.0
    );
    Ok(())
}

/// The project's own bound, 1e-6 + 1e-7 margin, for the whole of an `f32` row with a target that leads by a
/// margin: loss and target gradient, where plain f32 softmax has lost both at a margin of 17.
#[test]
fn a_confident_row_keeps_its_gradient_in_f32() {
    use tokenloss_core::{RowObjective, reference};
    for margin in 0..=80 {
        let logits = [margin as f32, 0.0, -1.0];
        let wide = logits.map(f64::from);
        for spec in
            ["nll", "power:alpha=0.5", "power:alpha=1", "power:alpha=10", "unlikelihood", "mix", "dft"]
        {
            let objective = crate::draw::parsed(spec);
            let (single, double) =
                (reference::summarise(&logits, 0).unwrap(), reference::summarise(&wide, 0).unwrap());
            let (got, want) = (objective.of_row(&single), objective.of_row(&double));
            let (mut narrow, mut truth) = ([0f32; 3], [0f64; 3]);
            reference::push_back(&logits, 0, &single, got.partials, &mut narrow);
            reference::push_back(&wide, 0, &double, want.partials, &mut truth);
            let bound = 1e-6 + 1e-7 * f64::from(margin);
            for (got, want) in narrow.into_iter().zip(truth).chain([(got.loss, want.loss)]) {
                let error = (f64::from(got) / want - 1.0).abs();
                assert!(error <= bound, "{spec} at a margin of {margin}: {got:e} for {want:e}, {error:e}");
            }
        }
    }
}
