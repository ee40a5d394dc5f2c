//! Every objective in `f32` against itself in `f64`, near p = 1 and near p = 0.

use crate::agree::agree;
use crate::draw::{cases, token};
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases(4000))]

    /// Near p = 1, 1 - p from 1/2 down to a margin of 80.
    #[test]
    fn near_one(objective in token(), margin in 0.7f64..80.0) {
        let tail = (-margin).exp();
        agree(objective, (-tail.ln_1p()) as f32, (tail / (1.0 + tail)) as f32).map_err(TestCaseError::fail)?;
    }

    /// Near p = 0, log_p from -0.7 down to a margin of 80.
    #[test]
    fn near_zero(objective in token(), log_p in -80.0f32..-0.7) {
        agree(objective, log_p, (-f64::from(log_p).exp_m1()) as f32).map_err(TestCaseError::fail)?;
    }
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
