//! From rows to sequences and back, and the reductions over tokens.

use crate::draw::cases;
use crate::errors::says;
use proptest::prelude::*;
use tokenloss_core::sequence::{Counts, Response, SequenceReduction, Sequences};
use tokenloss_core::{Error, IGNORE_INDEX, Segments};

/// Offsets of sequences, and the target of every row; each sequence has a token.
pub(crate) fn batch() -> impl Strategy<Value = (Vec<usize>, Vec<i32>)> {
    prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.7), 0..9), 1..7).prop_map(
        |sequences| {
            let (mut offsets, mut targets) = (vec![0], Vec::new());
            for tokens in sequences {
                targets.push(0);
                targets.extend(tokens.into_iter().map(|token| if token { 0 } else { IGNORE_INDEX }));
                offsets.push(targets.len());
            }
            (offsets, targets)
        },
    )
}

fn of<'a>(offsets: &'a [usize], targets: &'a [i32]) -> Sequences<'a> {
    Sequences::new(Segments::new(offsets, targets.len()).unwrap()).with_targets(targets).unwrap()
}

proptest! {
    #![proptest_config(cases(300))]

    /// Each reduction as its formula, over losses that are drawn.
    #[test]
    fn weights_are_the_formulas((offsets, targets) in batch(), power in -1.0f64..2.0, constant in 0.5f64..100.0,
        seed in 0u32..1000) {
        let sequences = of(&offsets, &targets);
        let losses: Vec<f64> = (0..targets.len()).map(|row| f64::from((seed + 7919 * row as u32) % 1009)).collect();
        let tokens: Vec<Vec<f64>> = sequences.segments().iter()
            .map(|range| range.filter(|&row| targets[row] == 0).map(|row| losses[row]).collect()).collect();
        let count = tokens.len() as f64;
        let sums: Vec<f64> = tokens.iter().map(|tokens| tokens.iter().sum()).collect();
        let mean = |power: f64| {
            sums.iter().zip(&tokens).map(|(sum, tokens)| sum / (tokens.len() as f64).powf(power)).sum::<f64>() / count
        };
        for (reduction, want) in [
            (SequenceReduction::TokenMean, sums.iter().sum::<f64>() / tokens.concat().len() as f64),
            (SequenceReduction::SequenceMean, mean(1.0)),
            (SequenceReduction::Sum, sums.iter().sum()),
            (SequenceReduction::LengthPower(power), mean(power)),
            (SequenceReduction::Constant(constant), mean(0.0) / constant),
        ] {
            let mut weights = vec![f32::NAN; targets.len()];
            reduction.weights(&sequences, sequences.counts(), &mut weights).unwrap();
            let got: f64 = weights.iter().zip(&losses).map(|(weight, loss)| f64::from(*weight) * loss).sum();
            // A weight is rounded to f32 once; all terms have one sign.
            prop_assert!((got - want).abs() <= f64::from(f32::EPSILON) * want, "{reduction:?}: {got} instead of {want}");
        }
    }

    #[test]
    fn half_the_batch_with_the_counts_of_all_gives_the_same_weights((offsets, targets) in batch()) {
        let all = of(&offsets, &targets);
        let first = offsets[1];
        let part = of(&offsets[..2], &targets[..first]);
        for reduction in [SequenceReduction::TokenMean, SequenceReduction::SequenceMean,
            SequenceReduction::LengthPower(0.5), SequenceReduction::Constant(32.0)] {
            let (mut whole, mut half) = (vec![f32::NAN; targets.len()], vec![f32::NAN; first]);
            reduction.weights(&all, all.counts(), &mut whole).unwrap();
            reduction.weights(&part, all.counts(), &mut half).unwrap();
            prop_assert_eq!(&whole[..first], &half[..]);
        }
    }

    #[test]
    fn sums_and_slopes_are_those_of_tokens((offsets, targets) in batch(), seed in 0u32..1000) {
        let sequences = of(&offsets, &targets);
        // What is ignored is not looked at.
        let log_p: Vec<f64> = (0..targets.len())
            .map(|row| if targets[row] == 0 { -f64::from((seed + 7919 * row as u32) % 1009) } else { f64::NAN })
            .collect();
        let count = offsets.len() - 1;
        let (mut responses, mut sums) = (vec![Response::new(f64::NAN, f64::NAN); count], vec![f64::NAN; count]);
        sequences.responses(&log_p, &mut responses).unwrap();
        sequences.sum(&log_p, &mut sums).unwrap();
        let slopes: Vec<f64> = (0..count).map(|i| i as f64 + 1.0).collect();
        let mut rows = vec![f64::NAN; targets.len()];
        sequences.spread(&slopes, &mut rows).unwrap();
        for (i, range) in sequences.segments().iter().enumerate() {
            let tokens: Vec<usize> = range.clone().filter(|&row| targets[row] == 0).collect();
            let sum: f64 = tokens.iter().map(|&row| log_p[row]).sum();
            prop_assert_eq!((responses[i].log_p, sums[i]), (sum, sum));
            prop_assert_eq!(responses[i].length, tokens.len() as f64);
            prop_assert!(responses[i].reference.is_nan());
            for row in range {
                prop_assert_eq!(rows[row], if targets[row] == 0 { slopes[i] } else { 0.0 });
            }
        }
    }
}

#[test]
fn faults() {
    let segments = Segments::new(&[0, 2, 3], 3).unwrap();
    let sequences = Sequences::new(segments);
    says(sequences.with_targets(&[0, 0]), "targets: expected 3 values, got 2");
    let hidden = sequences.with_targets(&[0, 0, IGNORE_INDEX]).unwrap();
    let none = "tokens of sequences: number 1 has 0 members, expected at least 1";
    says(hidden.length(1), none);
    let mut responses = [Response::new(0.0, 1.0); 2];
    says(hidden.responses(&[-1.0, -1.0, -1.0], &mut responses), none);
    says(sequences.responses(&[-1.0], &mut responses), "log_p: expected 3 values, got 1");
    says(sequences.responses(&[-1.0; 3], &mut responses[..1]), "responses: expected 2 values, got 1");
    says(sequences.sum(&[-1.0; 4], &mut [0.0; 2]), "log_p: expected 3 values, got 4");
    says(sequences.sum(&[-1.0; 3], &mut [0.0; 3]), "sums: expected 2 values, got 3");
    for (bad, text) in [(0.5, "0.5"), (f64::NAN, "NaN"), (f64::NEG_INFINITY, "-inf"), (f64::INFINITY, "inf")]
    {
        let text = format!("log_p: value 2 is {text}, expected a finite number of at most 0");
        says(sequences.responses(&[-1.0, 0.0, bad], &mut responses), &text);
        says(sequences.sum(&[-1.0, 0.0, bad], &mut [0.0; 2]), &text);
    }
    says(sequences.spread(&[1.0; 3], &mut [0.0; 3]), "slopes: expected 2 values, got 3");
    says(sequences.spread(&[1.0; 2], &mut [0.0; 2]), "rows: expected 3 values, got 2");

    let mut weights = [0.0; 3];
    let counts = sequences.counts();
    assert_eq!(counts, Counts { sequences: 2, tokens: 3 });
    let weigh = |reduction: SequenceReduction, counts: Counts, weights: &mut [f32]| -> Result<(), Error> {
        reduction.weights(&sequences, counts, weights)
    };
    says(weigh(SequenceReduction::Sum, counts, &mut weights[..2]), "weights: expected 3 values, got 2");
    says(
        weigh(SequenceReduction::LengthPower(f64::NAN), counts, &mut weights),
        "length power: value 0 is NaN, expected a finite number",
    );
    says(
        weigh(SequenceReduction::Constant(0.0), counts, &mut weights),
        "denominator: expected a positive finite number, got 0",
    );
    says(
        weigh(SequenceReduction::TokenMean, Counts { sequences: 1, tokens: 3 }, &mut weights),
        "counts: value 0 is 1, expected at least what the batch holds",
    );
    says(
        weigh(SequenceReduction::TokenMean, Counts { sequences: 2, tokens: 2 }, &mut weights),
        "counts: value 1 is 2, expected at least what the batch holds",
    );
    says(SequenceReduction::Sum.weights(&hidden, counts, &mut weights), none);
}
