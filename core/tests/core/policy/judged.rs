//! What a batch amounts to, under every reduction.

use super::{Rows, rollout};
use crate::draw::cases;
use proptest::prelude::*;
use tokenloss_core::policy::*;
use tokenloss_core::sequence::{Counts, SequenceReduction, Sequences};
use tokenloss_core::{IGNORE_INDEX, Segments};

/// The rows of several rollouts, one after the other, with ignored rows of NaN before each.
struct Batch {
    offsets: Vec<usize>,
    targets: Vec<i32>,
    log_p: Vec<f64>,
    old: Vec<f64>,
    reference: Vec<f64>,
    advantages: Vec<f64>,
}

fn batch(rollouts: &[Rows], ignored: usize) -> Batch {
    let mut batch = Batch {
        offsets: vec![0],
        targets: vec![],
        log_p: vec![],
        old: vec![],
        reference: vec![],
        advantages: vec![],
    };
    for rows in rollouts {
        let nan = vec![f64::NAN; ignored];
        let tokens = rows.log_p.len();
        batch.targets.extend([vec![IGNORE_INDEX; ignored], vec![3; tokens]].concat());
        batch.log_p.extend([&nan, &rows.log_p].into_iter().flatten());
        batch.old.extend([&nan, &rows.old].into_iter().flatten());
        batch.reference.extend([&nan, &rows.reference].into_iter().flatten());
        let advantages = if rows.advantages.len() == 1 {
            vec![rows.advantages[0]; tokens]
        } else {
            rows.advantages.clone()
        };
        batch.advantages.extend([nan, advantages].concat());
        batch.offsets.push(batch.targets.len());
    }
    batch
}

const REDUCTIONS: [SequenceReduction; 5] = [
    SequenceReduction::TokenMean,
    SequenceReduction::SequenceMean,
    SequenceReduction::Sum,
    SequenceReduction::LengthPower(0.5),
    SequenceReduction::Constant(7.0),
];

proptest! {
    #![proptest_config(cases(300))]

    /// Ignored rows change nothing, a batch is the sum of its rollouts times their scale, and parts of a step with the
    /// counts of the whole add up to it.
    #[test]
    fn a_batch_is_made_of_its_rollouts(rollouts in prop::collection::vec(rollout(), 1..5), ignored in 0usize..3) {
        let objective = Penalised { surrogate: Gmpo::new(0.4, 0.4).unwrap(), penalty: K3::new(0.04).unwrap() };
        let all = batch(&rollouts, ignored);
        let sequences = Sequences::new(Segments::new(&all.offsets, all.log_p.len()).unwrap())
            .with_targets(&all.targets).unwrap();
        let checked = Rollouts::new(sequences, &all.log_p, &all.old, Advantages::Rows(&all.advantages)).unwrap()
            .with_reference(&all.reference).unwrap();
        let counts = sequences.counts();
        for reduction in REDUCTIONS {
            let mut slopes = vec![f64::NAN; all.log_p.len()];
            let totals = judge(&objective, reduction, counts, &checked, &mut slopes).unwrap();
            let (mut loss, mut clipped, mut parts) = (0.0, 0, 0.0);
            for (index, rows) in rollouts.iter().enumerate() {
                let tokens = rows.log_p.len();
                let scale = reduction.scale(tokens, counts);
                // Means of equal advantages may be rounded.
                let (own_loss, own_slopes, own_clipped) = rows.eval(&objective);
                loss += scale * own_loss;
                clipped += own_clipped;
                let at = all.offsets[index] + ignored;
                prop_assert!(slopes[all.offsets[index]..at].iter().all(|slope| *slope == 0.0));
                for (got, want) in slopes[at..at + tokens].iter().zip(own_slopes) {
                    prop_assert!((got - scale * want).abs() <= 1e-14 * (scale * want).abs());
                }
                let part = batch(std::slice::from_ref(rows), 0);
                let offsets = [0, tokens];
                let sequence = Sequences::new(Segments::new(&offsets, tokens).unwrap());
                let part = Rollouts::new(sequence, &part.log_p, &part.old, Advantages::Rows(&part.advantages)).unwrap()
                    .with_reference(&rows.reference).unwrap();
                parts += judge(&objective, reduction, counts, &part, &mut vec![0.0; tokens]).unwrap().loss;
            }
            let size = 1e-13 * (1.0 + loss.abs());
            prop_assert!((totals.loss - loss).abs() <= size && (parts - loss).abs() <= size);
            prop_assert_eq!((totals.clipped, totals.tokens), (clipped, counts.tokens));
            prop_assert_eq!(totals.clipped_share(), clipped as f64 / counts.tokens as f64);
        }
    }

    /// The mean ratio and the divergence are those of all tokens alike.
    #[test]
    fn the_diagnostics_are_means_over_tokens(rollouts in prop::collection::vec(rollout(), 1..5)) {
        let all = batch(&rollouts, 0);
        let sequences = Sequences::new(Segments::new(&all.offsets, all.log_p.len()).unwrap());
        let checked = Rollouts::new(sequences, &all.log_p, &all.old, Advantages::Rows(&all.advantages)).unwrap();
        let mut slopes = vec![0.0; all.log_p.len()];
        let totals = judge(&Reinforce, SequenceReduction::Sum, sequences.counts(), &checked, &mut slopes).unwrap();
        let ratios: Vec<f64> = all.log_p.iter().zip(&all.old).map(|(p, old)| (p - old).exp()).collect();
        let n = ratios.len() as f64;
        let (ratio, kl) = (ratios.iter().sum::<f64>() / n, ratios.iter().map(|r| r - 1.0 - r.ln()).sum::<f64>() / n);
        prop_assert!((totals.mean_ratio - ratio).abs() <= 1e-13 * ratio);
        // The plain formula cancels where a ratio is near 1.
        prop_assert!(totals.kl >= 0.0 && (totals.kl - kl).abs() <= 1e-13 * (1.0 + kl), "{} and {kl}", totals.kl);
    }
}

#[test]
fn counts_of_the_whole_step_divide_a_part_of_it() {
    let log_p = [-1.0f64, -2.0];
    let sequences = Sequences::new(Segments::new(&[0, 2], 2).unwrap());
    let rollouts = Rollouts::new(sequences, &log_p, &log_p, Advantages::Sequences(&[1.0])).unwrap();
    let mut slopes = [0.0; 2];
    let counts = Counts { sequences: 4, tokens: 10 };
    judge(&Reinforce, SequenceReduction::TokenMean, counts, &rollouts, &mut slopes).unwrap();
    assert_eq!(slopes, [-0.1, -0.1]);
    judge(&Reinforce, SequenceReduction::SequenceMean, counts, &rollouts, &mut slopes).unwrap();
    assert_eq!(slopes, [-0.125, -0.125]);
}
