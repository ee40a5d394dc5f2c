//! Objectives of whole sequences, and the way from rows to them and back.

mod rows;
mod transition;

use crate::draw::cases;
use crate::errors::says;
use crate::responses::{double, responses};
use proptest::prelude::*;
use tokenloss_core::preference::{Dpo, PreferenceObjective};
use tokenloss_core::sequence::*;
use tokenloss_core::{Denominator, Error, Reduction, Totals};

fn known(log_p: f64, length: f64) -> Response<f64> {
    Response { reference: -4.0, reward: 1.0, baseline: 0.0, ..Response::new(log_p, length) }
}

fn judged<O: SequenceObjective>(
    objective: &O,
    reduction: Reduction,
    responses: &[Response<f64>],
    weights: Option<&[f64]>,
) -> Result<(Totals, Vec<f64>, Vec<f64>), Error> {
    let (mut losses, mut slopes) = (vec![f64::NAN; responses.len()], vec![f64::NAN; responses.len()]);
    let totals = judge(objective, reduction, responses, weights, &mut losses, &mut slopes)?;
    Ok((totals, losses, slopes))
}

proptest! {
    #![proptest_config(cases(300))]

    /// The reduced loss, by each sequence's `log_p`.
    #[test]
    fn slopes_are_those_of_the_reduced_loss(drawn in responses(2usize..6), weight in 0.0f64..3.0, given in 0.5f64..9.0) {
        let responses = double(&drawn);
        let mut weights = vec![1.0; responses.len()];
        weights[0] = weight;
        let poft = Poft::new(0.5, 0.25).unwrap();
        let filtered = FilteredNll::new(1.0).unwrap();
        for reduction in [Reduction::Sum, Reduction::default(), Reduction::Mean(Denominator::Kept),
            Reduction::Mean(Denominator::Given(given))] {
            let (totals, losses, slopes) = judged(&poft, reduction, &responses, Some(&weights)).unwrap();
            let denominator = match reduction {
                Reduction::Sum => 1.0,
                Reduction::Mean(Denominator::Given(given)) => given,
                _ => responses.len() as f64,
            };
            let sum: f64 = losses.iter().zip(&weights).map(|(loss, weight)| loss * weight).sum();
            prop_assert!((totals.loss() - sum / denominator).abs() <= 1e-14 * sum / denominator);
            prop_assert_eq!((totals.valid, totals.kept, totals.ignored), (responses.len(), responses.len(), 0));
            for (i, slope) in slopes.iter().enumerate() {
                let want = poft.of_sequence(&responses[i]).slope * weights[i] / denominator;
                prop_assert!((slope - want).abs() <= 4.0 * f64::EPSILON * want.abs());
            }
            // Dropped sequences count neither in the sum nor among the kept.
            let (totals, _, slopes) = judged(&filtered, reduction, &responses, None).unwrap();
            let kept = responses.iter().filter(|r| r.reward >= 1.0).count();
            prop_assert_eq!((totals.kept, totals.live), (kept, kept));
            let denominator = if reduction == Reduction::Mean(Denominator::Kept) { kept as f64 } else { denominator };
            for (response, slope) in responses.iter().zip(slopes) {
                let want = if response.reward >= 1.0 { -1.0 / denominator } else { 0.0 };
                prop_assert!((slope - want).abs() <= f64::EPSILON);
            }
        }
    }

    #[test]
    fn known_identities(drawn in responses(Just(2usize)), beta in 0.001f32..10.0) {
        let responses = double(&drawn);
        let response = responses[0];
        let nll = SequenceEval { loss: -response.log_p, slope: -1.0, kept: true };
        // The ends of the length power are the sum and the mean, whose slopes are those of the reductions over tokens.
        let power = |alpha: f32| LengthNll::new(alpha).unwrap().of_sequence(&response);
        prop_assert_eq!(power(0.0), nll);
        prop_assert_eq!(power(1.0).loss, -response.log_p / response.length);
        let one = Counts { sequences: 1, tokens: response.length as usize };
        for alpha in [0.0f32, 0.5, 1.0, 2.0] {
            let scale = SequenceReduction::LengthPower(f64::from(alpha)).scale(response.length as usize, one);
            prop_assert!((power(alpha).slope + scale).abs() <= 2.0 * f64::EPSILON * scale);
        }
        // PoFT is DPO with a constant in the place of the rejected sequence, whose tokens are one.
        let gamma = 0.75f32;
        let mean = Response { log_p: response.log_p / response.length, length: 1.0,
            reference: response.reference / response.length, ..response };
        let rejected = Response { reference: -1.0 + f64::from(gamma) / f64::from(beta), ..Response::new(-1.0, 1.0) };
        let poft = Poft::new(beta, gamma).unwrap().of_sequence(&mean);
        let dpo = Dpo::new(beta, 0.0, 0.0).unwrap().of_pair(&mean, &rejected, f64::NAN);
        prop_assert!((poft.loss - dpo.loss).abs() <= 1e-12 * (1.0 + dpo.loss));
        prop_assert!((poft.slope - dpo.slope_chosen).abs() <= 1e-12 * f64::from(beta));
        // Tsallis at q = 1 is maximum likelihood, at q = 0 the probability of being wrong.
        prop_assert_eq!(Tsallis::new(1.0).unwrap().of_sequence(&response), nll);
        let wrong = Tsallis::new(0.0).unwrap().of_sequence(&response);
        prop_assert_eq!((wrong.loss, wrong.slope), (-response.log_p.exp_m1(), -response.log_p.exp()));
        let q = 1.0 - f32::EPSILON;
        let (near, x) = (Tsallis::new(q).unwrap().of_sequence(&response), response.log_p * f64::from(f32::EPSILON));
        let off = x.abs() + 2.0 * f64::EPSILON;
        prop_assert!((near.loss - nll.loss).abs() <= nll.loss * off && (near.slope + 1.0).abs() <= off);
        // At the reference every implicit reward is 0, and pulls as maximum likelihood does.
        let there = Response { reference: response.log_p, ..response };
        let slope = -f64::from(beta);
        prop_assert_eq!(ImplicitChi2::new(beta).unwrap().of_sequence(&there).slope, slope);
        prop_assert_eq!(ImplicitTv::new(beta).unwrap().of_sequence(&there).slope, slope);
        prop_assert_eq!(ImplicitHellinger::new(beta, -0.5).unwrap().of_sequence(&there).slope, slope);
        prop_assert_eq!(ImplicitJs::new(beta, -0.5).unwrap().of_sequence(&there).slope, slope);
    }

    /// `log Z` is where the sum of the slopes, its own derivative, is 0; there trajectory balance is a
    /// variance.
    #[test]
    fn the_estimated_log_z_is_the_best(drawn in responses(1usize..6), beta in 0.01f32..10.0) {
        let mut responses = double(&drawn);
        let objective = TrajectoryBalance::new(beta).unwrap();
        let log_z = objective.log_z(&responses).unwrap();
        responses.iter_mut().for_each(|response| response.baseline = log_z);
        let slopes: Vec<f64> = responses.iter().map(|r| objective.of_sequence(r).slope).collect();
        let size: f64 = slopes.iter().map(|slope| slope.abs()).sum::<f64>() + log_z.abs();
        prop_assert!(slopes.iter().sum::<f64>().abs() <= 1e-13 * size + 1e-300);
    }

    #[test]
    fn signs_and_ranges(drawn in responses(Just(1usize)), beta in 0.001f32..10.0) {
        let response = double(&drawn)[0];
        for (objective, least, greatest) in [
            (AnySequence::from(LengthNll::new(0.5).unwrap()), 0.0, f64::INFINITY),
            (Poft::new(beta, 1.0).unwrap().into(), 0.0, f64::INFINITY),
            (ImplicitHellinger::new(beta, -0.75).unwrap().into(), -1.0, f64::INFINITY),
            (ImplicitJs::new(beta, -0.5).unwrap().into(), -2f64.ln(), f64::INFINITY),
            (ImplicitReverseKl::new(beta, -3.0).unwrap().into(), 0.0, f64::INFINITY),
            (ImplicitTv::new(beta).unwrap().into(), -0.5, f64::INFINITY),
            (FilteredNll::new(1.0).unwrap().into(), 0.0, f64::INFINITY),
            (Tsallis::new(0.25).unwrap().into(), 0.0, 1.0 / 0.75),
        ] {
            let eval = objective.of_sequence(&response);
            prop_assert!(eval.slope <= 0.0, "{objective:?} has slope {}", eval.slope);
            prop_assert!(eval.loss >= least && eval.loss <= greatest, "{objective:?} has loss {}", eval.loss);
        }
        // KTO pushes by the label, and saturates on both sides.
        let kto = Kto::new(beta, 2.0, 3.0).unwrap();
        for (reward, weight, sign) in [(1.0, 2.0, -1.0), (0.0, 3.0, 1.0), (-1.0, 3.0, 1.0)] {
            let eval = kto.of_sequence(&Response { reward, ..response });
            prop_assert!(eval.loss >= 0.0 && eval.loss <= weight);
            prop_assert!(eval.slope * sign >= 0.0 && eval.slope.abs() <= 0.25001 * weight * f64::from(beta));
        }
    }
}

#[test]
fn the_baseline_of_kto_is_the_mean_log_ratio_and_never_negative() {
    let of = |ratio: f64| Response { reference: -9.0, ..Response::new(-9.0 + ratio, 3.0) };
    assert_eq!(Kto::baseline(&[of(1.0), of(-0.5), of(2.5)]).unwrap(), 1.0);
    assert_eq!(Kto::baseline(&[of(-1.0), of(0.5)]).unwrap(), 0.0);
    says(Kto::baseline(&[]), "mismatched: number 0 has 0 members, expected at least 1");
    says(
        Kto::baseline(&[of(1.0), Response::new(-1.0, 1.0)]),
        "reference: value 1 is NaN, expected a finite number, which this objective needs",
    );
}

#[test]
fn faults() {
    let two = [known(-1.0, 1.0), known(-2.0, 3.0)];
    let poft = Poft::new(1.0, 0.0).unwrap();
    let of = |responses: &[Response<f64>]| judged(&poft, Reduction::Sum, responses, None);
    says(of(&[]), "responses: number 0 has 0 members, expected at least 1");
    let mut out = [0.0; 2];
    says(judge(&poft, Reduction::Sum, &two, None, &mut [0.0], &mut out), "losses: expected 2 values, got 1");
    says(judge(&poft, Reduction::Sum, &two, None, &mut out, &mut [0.0]), "slopes: expected 2 values, got 1");
    says(judged(&poft, Reduction::Sum, &two, Some(&[1.0])), "weights: expected 2 values, got 1");
    for (bad, text) in [(-0.5, "-0.5"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        says(
            judged(&poft, Reduction::Sum, &two, Some(&[1.0, bad])),
            &format!("weights: value 1 is {text}, expected a finite number of at least 0"),
        );
    }
    says(
        judged(&poft, Reduction::Mean(Denominator::Given(0.0)), &two, None),
        "denominator: expected a positive finite number, got 0",
    );
    for (bad, text) in [(0.5, "0.5"), (f64::NAN, "NaN"), (f64::NEG_INFINITY, "-inf")] {
        says(
            of(&[two[0], known(bad, 1.0)]),
            &format!("log_p: value 1 is {text}, expected a finite number of at most 0"),
        );
    }
    for (bad, text) in [(0.0, "0"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        says(
            of(&[two[0], known(-1.0, bad)]),
            &format!("length: value 1 is {text}, expected a finite number of at least 1"),
        );
    }
    // What is missing is named before anything is computed, and what is not needed is not asked for.
    let bare = [Response::new(-1.0, 1.0)];
    let missing =
        |what: &str| format!("{what}: value 0 is NaN, expected a finite number, which this objective needs");
    let mut untouched = [7.0];
    says(judge(&poft, Reduction::Sum, &bare, None, &mut untouched, &mut [0.0]), &missing("reference"));
    assert_eq!(untouched, [7.0]);
    says(judged(&FilteredNll::new(0.0).unwrap(), Reduction::Sum, &bare, None), &missing("reward"));
    let rewarded = [Response { reward: 1.0, ..bare[0] }];
    says(
        judged(&TrajectoryBalance::new(1.0).unwrap(), Reduction::Sum, &rewarded, None),
        &missing("baseline"),
    );
    assert!(judged(&LengthNll::new(1.0).unwrap(), Reduction::Sum, &bare, None).is_ok());
    says(
        TrajectoryBalance::new(1.0).unwrap().log_z(&[]),
        "prompt: number 0 has 0 members, expected at least 1",
    );
}

#[test]
fn a_weight_of_0_switches_a_sequence_off() {
    let responses = [known(-1.0, 1.0), known(-2.0, 3.0)];
    let poft = Poft::new(1.0, 0.0).unwrap();
    let (totals, _, slopes) = judged(&poft, Reduction::Sum, &responses, Some(&[0.0, 0.0])).unwrap();
    assert_eq!((totals.loss(), totals.weight_sum, totals.live, slopes), (0.0, 0.0, 0, vec![0.0, 0.0]));
    // Nothing kept is loss 0 and gradient 0, and never a division by 0.
    let filtered = FilteredNll::new(5.0).unwrap();
    let kept = Reduction::Mean(Denominator::Kept);
    let (totals, losses, slopes) = judged(&filtered, kept, &responses, None).unwrap();
    assert_eq!((totals.loss(), totals.kept, losses, slopes), (0.0, 0, vec![0.0, 0.0], vec![0.0, 0.0]));
}
