//! Objectives of groups.

use crate::draw::cases;
use crate::errors::says;
use crate::responses::{double, responses};
use proptest::prelude::*;
use tokenloss_core::group::*;
use tokenloss_core::preference::{Dpo, PreferenceObjective};
use tokenloss_core::sequence::Response;
use tokenloss_core::{Error, Reduction, Segments, Totals};

fn of<O: GroupObjective>(objective: &O, group: &[Response<f64>]) -> (f64, Vec<f64>) {
    let mut slopes = vec![f64::NAN; group.len()];
    let loss = objective.of_group(group, &mut slopes);
    (loss, slopes)
}

fn judged<O: GroupObjective>(
    objective: &O,
    responses: &[Response<f64>],
    offsets: &[usize],
    weights: Option<&[f64]>,
) -> Result<(Totals, Vec<f64>, Vec<f64>), Error> {
    let groups = Segments::new(offsets, *offsets.last().unwrap())?;
    let (mut losses, mut slopes) = (vec![f64::NAN; groups.count()], vec![f64::NAN; responses.len()]);
    let totals =
        judge(objective, Reduction::default(), responses, groups, weights, &mut losses, &mut slopes)?;
    Ok((totals, losses, slopes))
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn known_identities(drawn in responses(2usize..7), beta in 0.01f32..10.0) {
        let group = double(&drawn);
        let count = group.len() as f64;
        // With a large temperature, and with equal rewards, reward-weighted regression is the mean nll.
        let mean: f64 = group.iter().map(|r| -r.log_p).sum::<f64>() / count;
        let (loss, slopes) = of(&Rwr::new(1000.0, 0.0).unwrap(), &group);
        // Rewards differ by 3.5 at most, weights by a share of .0035 of themselves.
        prop_assert!((loss - mean).abs() <= 0.0036 * mean && slopes.iter().all(|s| (s * count + 1.0).abs() <= 0.0036));
        let equal: Vec<_> = group.iter().map(|r| Response { reward: 2.0, ..*r }).collect();
        let (loss, slopes) = of(&Rwr::new(beta, 0.0).unwrap(), &equal);
        prop_assert!((loss - mean).abs() <= 1e-15 * count * mean && slopes.iter().all(|s| (s * count + 1.0).abs() <= 1e-15 * count));
        // One sample of the importance-weighted bound is nll, and so is one trace of variational reasoning.
        let one = &group[..1];
        let (loss, slopes) = of(&Iwae, one);
        prop_assert!((loss + one[0].log_p - one[0].reference).abs() <= 1e-15 * one[0].log_p.abs());
        prop_assert_eq!(slopes, vec![-1.0]);
        prop_assert_eq!(of(&Variational::new(1.0).unwrap(), one), (-one[0].log_p, vec![-1.0]));
        // The bound lies between the least and the mean of the samples' own, and its weights are those of variational
        // reasoning with answers that are all right.
        let (loss, slopes) = of(&Iwae, &group);
        let bounds: Vec<f64> = group.iter().map(|r| r.reference - r.log_p).collect();
        let slack = 1e-14 * bounds.iter().fold(1.0f64, |a, b| a.max(b.abs()));
        prop_assert!(loss >= bounds.iter().copied().fold(f64::INFINITY, f64::min) - slack);
        prop_assert!(loss <= bounds.iter().sum::<f64>() / count + slack);
        prop_assert!((slopes.iter().sum::<f64>() + 1.0).abs() <= 1e-15 * count);
        let right: Vec<_> = group.iter().map(|r| Response { reward: 1.0, ..*r }).collect();
        let (_, weights) = of(&Variational::new(0.0).unwrap(), &right);
        prop_assert!(slopes.iter().zip(&weights).all(|(a, b)| (a - b).abs() <= 1e-14));
        // A ranking of two is DPO; any ranking's slopes sum to 0.
        let two = &group[..2];
        let (loss, slopes) = of(&PlackettLuce::new(beta).unwrap(), two);
        let dpo = Dpo::new(beta, 0.0, 0.0).unwrap().of_pair(&two[0], &two[1], f64::NAN);
        let scale: f64 = f64::from(beta) * two.iter().map(|r| r.log_p.abs() + r.reference.abs()).sum::<f64>();
        prop_assert!((loss - dpo.loss).abs() <= 4.0 * f64::EPSILON * (scale + dpo.loss));
        prop_assert!((slopes[0] - dpo.slope_chosen).abs() <= 4.0 * f64::EPSILON * (1.0 + scale) * dpo.slope_chosen.abs());
        prop_assert!((slopes[1] - dpo.slope_rejected).abs() <= 4.0 * f64::EPSILON * (1.0 + scale) * dpo.slope_rejected.abs());
        let (_, slopes) = of(&PlackettLuce::new(beta).unwrap(), &group);
        prop_assert!(slopes.iter().sum::<f64>().abs() <= 1e-15 * count * count * f64::from(beta));
        // Equal rewards leave PRO's ranking without a slope.
        let (loss, slopes) = of(&Pro::new(0.0).unwrap(), &equal);
        let permutations: f64 = (2..=group.len()).map(|k| (k as f64).ln()).sum();
        prop_assert!((loss - permutations).abs() <= 1e-14 * permutations && slopes.iter().all(|s| *s == 0.0));
    }

    /// The sum over all pairs as the paper prints it, and the mean per gap of the authors' code.
    #[test]
    fn brio_counts_pairs_or_gaps(drawn in responses(2usize..7), margin in 0.0f32..2.0) {
        let group = double(&drawn);
        let score = |i: usize| group[i].log_p / group[i].length;
        let n = group.len();
        let (mut pairs, mut gaps) = (0.0, 0.0);
        for i in 0..n {
            for j in i + 1..n {
                let near = (score(j) - score(i) + (j - i) as f64 * f64::from(margin)).max(0.0);
                pairs += near;
                gaps += near / (n - (j - i)) as f64;
            }
        }
        let (sum, _) = of(&Brio::new(margin, 1.0, 0.0).unwrap(), &group);
        let (mean, slopes) = of(&Brio::new(margin, 1.0, 1.0).unwrap(), &group);
        prop_assert!((sum - pairs).abs() <= 1e-14 * pairs && (mean - gaps).abs() <= 1e-14 * gaps);
        // What one sequence gains per token another loses.
        let balance: f64 = slopes.iter().zip(&group).map(|(slope, r)| slope * r.length).sum();
        prop_assert!(balance.abs() <= 1e-13);
        prop_assert!(slopes[0] <= 0.0 && slopes[n - 1] >= 0.0);
    }

    #[test]
    fn groups_are_judged_one_by_one(drawn in responses(Just(5usize)), weight in 0.0f64..3.0) {
        let responses = double(&drawn);
        let rwr = Rwr::new(0.5, 1.0).unwrap();
        let (totals, losses, slopes) = judged(&rwr, &responses, &[0, 2, 5], Some(&[weight, 1.0])).unwrap();
        let (first, second) = (of(&rwr, &responses[..2]), of(&rwr, &responses[2..]));
        prop_assert_eq!(&losses, &vec![first.0, second.0]);
        let sum = weight * first.0 + second.0;
        prop_assert!((totals.loss() - sum / 2.0).abs() <= 1e-15 * sum);
        for (slope, want) in slopes.iter().zip(first.1.iter().map(|s| weight * s).chain(second.1.iter().copied())) {
            prop_assert!((slope - want / 2.0).abs() <= 1e-15);
        }
        prop_assert_eq!(totals.valid, 2);
    }
}

#[test]
fn faults() {
    let known = |reward: f64| Response { reference: -4.0, reward, ..Response::new(-3.0, 2.0) };
    let four = [known(2.0), known(1.0), known(3.0), known(0.0)];
    let brio = Brio::new(0.1, 1.0, 1.0).unwrap();
    says(judged(&brio, &four, &[0, 1, 4], None), "groups: number 0 has 1 members, expected at least 2");
    says(
        judged(&brio, &four, &[0, 2, 2, 4], None),
        "offsets: offset 2 is 2, expected more than the 2 before it",
    );
    let order =
        "reward: value 2 is 3, expected at most the reward before it, since a group is given best first";
    says(judged(&brio, &four, &[0, 4], None), order);
    says(judged(&PlackettLuce::new(1.0).unwrap(), &four, &[0, 4], None), order);
    says(judged(&Pro::new(1.0).unwrap(), &four, &[0, 4], None), order);
    assert!(judged(&brio, &four, &[0, 2, 4], None).is_ok());
    says(judged(&brio, &four, &[0, 2, 3], None), "responses: expected 3 values, got 4");
    says(judged(&brio, &four, &[0, 2, 4], Some(&[1.0])), "weights: expected 2 values, got 1");
    says(
        judged(&brio, &four, &[0, 2, 4], Some(&[1.0, f64::NAN])),
        "weights: value 1 is NaN, expected a finite number of at least 0",
    );
    let groups = Segments::new(&[0, 2, 4], 4).unwrap();
    let sum = Reduction::Sum;
    let (mut losses, mut slopes) = ([0.0; 2], [0.0; 4]);
    says(
        judge(&brio, sum, &four, groups, None, &mut losses[..1], &mut slopes),
        "losses: expected 2 values, got 1",
    );
    says(
        judge(&brio, sum, &four, groups, None, &mut losses, &mut slopes[..3]),
        "slopes: expected 4 values, got 3",
    );
    let bare = [Response::new(-1.0, 1.0), Response::new(-2.0, 1.0)];
    let missing =
        |what: &str| format!("{what}: value 0 is NaN, expected a finite number, which this objective needs");
    says(judged(&brio, &bare, &[0, 2], None), &missing("reward"));
    says(judged(&Iwae, &bare, &[0, 2], None), &missing("reference"));
    // Variational weights are shares of right answers.
    let variational = Variational::new(1.0).unwrap();
    says(
        judged(&variational, &[known(1.0), known(-0.5)], &[0, 2], None),
        "reward: value 1 is -0.5, expected a finite number of at least 0",
    );
    says(
        judged(&variational, &[known(1.0), known(0.0), known(0.0), known(0.0)], &[0, 2, 4], None),
        "reward: the sum is 0, which nothing can be divided by",
    );
    let (_, _, slopes) = judged(&variational, &[known(1.0), known(0.0)], &[0, 2], None).unwrap();
    assert_eq!(slopes, [-1.0, 0.0]);
}
