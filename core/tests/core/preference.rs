//! Objectives of pairs.

use crate::draw::cases;
use crate::errors::says;
use crate::responses::{double, responses};
use proptest::prelude::*;
use tokenloss_core::preference::*;
use tokenloss_core::sequence::{Response, Sequences};
use tokenloss_core::{Error, Reduction, RowPartials, Segments, Totals, reference};

fn judged<O: PreferenceObjective>(
    objective: &O,
    responses: &[Response<f64>],
    pairs: &[Pair],
) -> Result<(Totals, Vec<f64>, Vec<f64>), Error> {
    let (mut losses, mut slopes) = (vec![f64::NAN; pairs.len()], vec![f64::NAN; responses.len()]);
    let totals = judge(objective, Reduction::default(), responses, pairs, &mut losses, &mut slopes)?;
    Ok((totals, losses, slopes))
}

fn close(a: PairEval<f64>, b: PairEval<f64>, relative: f64) -> bool {
    let near = |x: f64, y: f64| (x - y).abs() <= relative * x.abs().max(y.abs());
    near(a.loss, b.loss) && near(a.slope_chosen, b.slope_chosen) && near(a.slope_rejected, b.slope_rejected)
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn known_identities(drawn in responses(Just(2usize)), beta in 0.001f32..10.0, smoothing in 0.0f32..0.5, gap in 0.01f64..8.0) {
        let both = double(&drawn);
        let (chosen, rejected) = (both[0], both[1]);
        let nan = f64::NAN;
        let plain = Dpo::new(beta, 0.0, 0.0).unwrap().of_pair(&chosen, &rejected, nan);
        // Margin matching of a gap that is as good as infinite is DPO.
        let sure = Mmpo::new(beta, 100.0).unwrap().of_pair(&chosen, &rejected, 1e3);
        let h = f64::from(beta) * ((chosen.log_p - chosen.reference) - (rejected.log_p - rejected.reference));
        let rounding = 16.0 * f64::EPSILON * (1.0 + h.abs());
        prop_assert!(close(plain, sure, rounding), "{plain:?} and {sure:?}");
        // Of the gap at which p = 1 - smoothing it is conservative DPO. The slopes may be 0 as differences.
        let conservative = Dpo::new(beta, smoothing, 0.0).unwrap().of_pair(&chosen, &rejected, nan);
        let epsilon = f64::from(smoothing).max(1e-9);
        let matched = Mmpo::new(beta, 1.0).unwrap().of_pair(&chosen, &rejected, ((1.0 - epsilon) / epsilon).ln());
        prop_assert!((matched.loss - conservative.loss).abs() <= rounding * (1.0 + matched.loss) + 2e-9 * h.abs());
        prop_assert!((matched.slope_chosen - conservative.slope_chosen).abs() <= (rounding + 2e-9) * f64::from(beta));
        // Robust DPO undoes the flips that smoothing expects: their mixture is DPO on clean labels.
        let flip = 0.3f32;
        let robust = RobustDpo::new(beta, flip).unwrap();
        let right = robust.of_pair(&chosen, &rejected, nan);
        let wrong = robust.of_pair(&rejected, &chosen, nan);
        let eps = f64::from(flip);
        let mixed = (1.0 - eps) * right.loss + eps * wrong.loss;
        let terms = 10.0 * (right.loss.abs() + wrong.loss.abs());
        prop_assert!((mixed - plain.loss).abs() <= 1e-14 * (1.0 + terms), "{mixed} and {}", plain.loss);
        prop_assert!(close(RobustDpo::new(beta, 0.0).unwrap().of_pair(&chosen, &rejected, nan), plain, 1e-15));
        // SimPO without a margin, of sequences of one token, is CPO without its nll; and DPO without a reference.
        let (short, shorter) = (Response { length: 1.0, reference: 0.0, ..chosen }, Response { length: 1.0, reference: 0.0, ..rejected });
        let simpo = SimPo::new(beta, 0.0, smoothing, 0.0).unwrap().of_pair(&short, &shorter, nan);
        prop_assert_eq!(simpo, Cpo::new(beta, smoothing, 0.0).unwrap().of_pair(&short, &shorter, nan));
        prop_assert!(close(simpo, Dpo::new(beta, smoothing, 0.0).unwrap().of_pair(&short, &shorter, nan), 1e-15));
        // With its nll it is CPO-SimPO.
        let with = SimPo::new(beta, 0.0, smoothing, 2.0).unwrap().of_pair(&chosen, &rejected, nan);
        let without = SimPo::new(beta, 0.0, smoothing, 0.0).unwrap().of_pair(&chosen, &rejected, nan);
        prop_assert_eq!(with.loss, without.loss - 2.0 * (chosen.log_p / chosen.length));
        prop_assert_eq!(with.slope_rejected, without.slope_rejected);
        // ORPO without odds is nll, the mean over the tokens.
        let orpo = Orpo::new(0.0).unwrap().of_pair(&chosen, &rejected, nan);
        prop_assert_eq!((orpo.loss, orpo.slope_chosen, orpo.slope_rejected), (-chosen.log_p / chosen.length, -1.0 / chosen.length, 0.0));
        // The optima: of IPO and SPPO at their targets, of the others at the log-odds of the labels.
        let at = |ratio: f64| Response { log_p: -50.0 + ratio, reference: -50.0, ..chosen };
        let target = 0.5 / f64::from(beta);
        if target < 50.0 {
            let ipo = Ipo::new(beta, 0.0).unwrap();
            let best = ipo.of_pair(&at(target), &at(0.0), nan);
            prop_assert!(best.loss <= 1e-25 && best.slope_chosen.abs() <= 1e-13);
            prop_assert!(ipo.of_pair(&at(target * 0.9), &at(0.0), nan).slope_chosen < 0.0);
            prop_assert!(ipo.of_pair(&at(target * 1.1 - 0.1 * target), &at(0.1 * target), nan).slope_chosen < 0.0);
            let sppo = Sppo::new(beta).unwrap().of_pair(&at(target), &at(-target), nan);
            prop_assert!(sppo.loss <= 1e-24 && sppo.slope_chosen.abs() <= 1e-12 && sppo.slope_rejected.abs() <= 1e-12);
        }
        let odds = gap / f64::from(beta);
        if odds < 50.0 {
            let size = f64::from(beta) * 1e-12;
            let best = Mmpo::new(beta, 1.0).unwrap().of_pair(&at(odds), &at(0.0), gap);
            prop_assert!(best.slope_chosen.abs() <= size, "{best:?}");
            let eps = (1.0 + gap.exp()).recip() as f32;
            let label = ((1.0 - f64::from(eps)) / f64::from(eps)).ln() / f64::from(beta);
            if eps > 2e-6 && label < 50.0 {
                prop_assert!(Dpo::new(beta, eps, 0.0).unwrap().of_pair(&at(label), &at(0.0), nan).slope_chosen.abs() <= size);
                prop_assert!(Exo::new(beta, eps).unwrap().of_pair(&at(label), &at(0.0), nan).slope_chosen.abs() <= size);
            }
        }
        let two = 2f64.ln() / f64::from(beta);
        if two < 50.0 {
            prop_assert!(Nca::new(beta).unwrap().of_pair(&at(two), &at(0.0), nan).slope_chosen.abs() <= f64::from(beta) * 1e-12);
        }
    }

    #[test]
    fn signs_and_ranges(drawn in responses(Just(2usize)), beta in 0.001f32..10.0) {
        let both = double(&drawn);
        let (chosen, rejected) = (both[0], both[1]);
        for (objective, greatest) in [
            (AnyPreference::from(Dpo::new(beta, 0.0, 0.5).unwrap()), f64::INFINITY),
            (RobustDpo::new(beta, 0.25).unwrap().into(), f64::INFINITY),
            (Hinge::new(beta).unwrap().into(), f64::INFINITY),
            (Slic::new(2.0, 0.5).unwrap().into(), f64::INFINITY),
            (SimPo::new(beta, 1.0, 0.0, 0.0).unwrap().into(), f64::INFINITY),
            (Orpo::new(0.5).unwrap().into(), f64::INFINITY),
            (Cpo::new(beta, 0.0, 1.0).unwrap().into(), f64::INFINITY),
            (ApoZero::new(beta).unwrap().into(), 2.0),
        ] {
            let eval = objective.of_pair(&chosen, &rejected, f64::NAN);
            prop_assert!(eval.slope_chosen <= 0.0 && eval.slope_rejected >= 0.0, "{objective:?}: {eval:?}");
            let bounded = matches!(objective, AnyPreference::RobustDpo(_)) || eval.loss >= 0.0;
            prop_assert!(bounded && eval.loss <= greatest, "{objective:?}: {eval:?}");
        }
        for objective in [AnyPreference::from(ApoDown::new(beta).unwrap()), Nca::new(beta).unwrap().into()] {
            prop_assert!(objective.of_pair(&chosen, &rejected, f64::NAN).slope_rejected >= 0.0);
        }
    }

    /// One sequence in many pairs, each pair with a weight of its own.
    #[test]
    fn slopes_are_summed_over_pairs(drawn in responses(Just(4usize)), weight in 0.0f64..3.0) {
        let responses = double(&drawn);
        let pairs = [Pair { weight, ..Pair::new(0, 1) }, Pair::new(0, 2), Pair::new(2, 1)];
        let dpo = Dpo::new(0.25, 0.1, 0.5).unwrap();
        let (totals, losses, slopes) = judged(&dpo, &responses, &pairs).unwrap();
        let evals: Vec<_> = pairs.iter()
            .map(|pair| dpo.of_pair(&responses[pair.chosen], &responses[pair.rejected], f64::NAN)).collect();
        let want = [
            weight * evals[0].slope_chosen + evals[1].slope_chosen,
            weight * evals[0].slope_rejected + evals[2].slope_rejected,
            evals[1].slope_rejected + evals[2].slope_chosen,
            0.0,
        ];
        for (slope, want) in slopes.iter().zip(want) {
            prop_assert!((slope - want / 3.0).abs() <= 1e-15);
        }
        prop_assert!(losses.iter().zip(&evals).all(|(loss, eval)| *loss == eval.loss));
        let sum = weight * losses[0] + losses[1] + losses[2];
        prop_assert!((totals.loss() - sum / 3.0).abs() <= 1e-15 * sum);
        prop_assert_eq!((totals.valid, totals.weight_sum), (3, weight + 1.0 + 1.0));
    }
}

/// IPO on sums and on means asks for margins that differ by the length.
#[test]
fn the_two_readings_of_ipo_differ_by_the_length() {
    let chosen = Response { reference: -30.0, ..Response::new(-25.0, 10.0) };
    let rejected = Response { reference: -30.0, ..Response::new(-30.0, 10.0) };
    let of = |beta: f32, alpha: f32| Ipo::new(beta, alpha).unwrap().of_pair(&chosen, &rejected, f64::NAN);
    assert_eq!((of(0.1, 0.0).loss, of(1.0, 1.0).loss), ((5.0f64 - 0.5 / f64::from(0.1f32)).powi(2), 0.0));
    assert!(of(0.1, 1.0).loss > 20.0);
}

/// From logits to the gradient of logits, through summaries, sums, pairs and slopes.
#[test]
fn the_gradient_of_logits_is_that_of_the_batch() {
    let targets = [1usize, 0, 3, 2, 2, 1, 0];
    let logits: Vec<Vec<f64>> =
        (0..7).map(|i| (0..4).map(|j| (f64::from(i * 7 + j * 5) * 0.37).sin() * 3.0).collect()).collect();
    let offsets = [0, 3, 4, 7];
    let sequences = Sequences::new(Segments::new(&offsets, 7).unwrap());
    let pairs = [Pair { weight: 0.5, ..Pair::new(0, 1) }, Pair::new(2, 1)];
    let objective = Dpo::new(0.5, 0.1, 0.25).unwrap();
    let of = |logits: &[Vec<f64>]| {
        let log_p: Vec<f64> = logits
            .iter()
            .zip(targets)
            .map(|(row, target)| reference::summarise(row, target).unwrap().target.log_p)
            .collect();
        let mut responses = [Response::new(0.0, 1.0); 3];
        sequences.responses(&log_p, &mut responses).unwrap();
        for (response, reference) in responses.iter_mut().zip([-3.0, -1.5, -4.0]) {
            response.reference = reference;
        }
        let (totals, _, slopes) = judged(&objective, &responses, &pairs).unwrap();
        let mut rows = [f64::NAN; 7];
        sequences.spread(&slopes, &mut rows).unwrap();
        (totals.loss(), rows)
    };
    let (_, rows) = of(&logits);
    for (i, &target) in targets.iter().enumerate() {
        let summary = reference::summarise(&logits[i], target).unwrap();
        let mut dlogits = [f64::NAN; 4];
        reference::push_back(&logits[i], target, &summary, RowPartials::of_slope(rows[i]), &mut dlogits);
        for j in 0..4 {
            let step = 1e-3;
            let loss = |steps: f64| {
                let mut moved = logits.clone();
                moved[i][j] += steps * step;
                of(&moved).0
            };
            let want = (8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0))) / (12.0 * step);
            // Truncation is step^4 = 1e-12 of derivatives below 1, rounding eps / step.
            assert!((dlogits[j] - want).abs() < 2e-12, "row {i}, column {j}: {} and {want}", dlogits[j]);
        }
    }
}

#[test]
fn faults() {
    let known = |log_p: f64| Response { reference: -4.0, ..Response::new(log_p, 2.0) };
    let responses = [known(-1.0), known(-2.0)];
    let dpo = Dpo::new(0.1, 0.0, 0.0).unwrap();
    let of = |pairs: &[Pair]| judged(&dpo, &responses, pairs);
    says(of(&[]), "pairs: number 0 has 0 members, expected at least 1");
    says(of(&[Pair::new(0, 1), Pair::new(2, 1)]), "chosen: value 1 is 2, expected the place of a sequence");
    says(of(&[Pair::new(0, 7)]), "rejected: value 0 is 7, expected the place of a sequence");
    says(of(&[Pair::new(1, 1)]), "rejected: value 0 is 1, expected another sequence than the preferred one");
    for (bad, text) in [(-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        says(
            of(&[Pair { weight: bad, ..Pair::new(0, 1) }]),
            &format!("weights: value 0 is {text}, expected a finite number of at least 0"),
        );
    }
    let pairs = [Pair::new(0, 1)];
    let mmpo = Mmpo::new(0.1, 1.0).unwrap();
    says(
        judged(&mmpo, &responses, &pairs),
        "gap: value 0 is NaN, expected a finite number, which this objective needs",
    );
    says(
        judged(&dpo, &[known(-1.0), Response::new(-2.0, 1.0)], &pairs),
        "reference: value 1 is NaN, expected a finite number, which this objective needs",
    );
    says(
        judged(&dpo, &[known(-1.0), known(f64::NAN)], &pairs),
        "log_p: value 1 is NaN, expected a finite number of at most 0",
    );
    let mut out = [0.0; 2];
    let sum = Reduction::Sum;
    says(judge(&dpo, sum, &responses, &pairs, &mut out, &mut [0.0; 2]), "losses: expected 1 values, got 2");
    says(judge(&dpo, sum, &responses, &pairs, &mut [0.0], &mut [0.0]), "slopes: expected 2 values, got 1");
    // What needs no reference model runs without one.
    let bare = [Response::new(-1.0, 1.0), Response::new(-2.0, 1.0)];
    assert!(judged(&SimPo::new(2.0, 1.0, 0.0, 0.0).unwrap(), &bare, &pairs).is_ok());
    says(Exo::new(0.1, 0.0), "exo: smoothing = 0 lies outside its domain 0.000001 to 0.5");
    says(RobustDpo::new(0.1, 0.5), "robust_dpo: smoothing = 0.5 lies outside its domain 0 to 0.49");
}
