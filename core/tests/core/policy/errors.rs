//! Every fault in a caller's rollouts, provoked, with its message word for word.

use tokenloss_core::policy::*;
use tokenloss_core::sequence::{Counts, SequenceReduction, Sequences};
use tokenloss_core::{Error, IGNORE_INDEX, Nll, Segments};

#[track_caller]
fn says<T>(result: Result<T, Error>, text: &str) {
    assert_eq!(result.err().expect("an error").to_string(), text);
}

fn sequences(offsets: &[usize]) -> Sequences<'_> {
    Sequences::new(Segments::new(offsets, *offsets.last().unwrap()).unwrap())
}

#[test]
fn rollouts() {
    let sequences = sequences(&[0, 2, 3]);
    let good = [-1.0f64, -2.0, -3.0];
    let of = Advantages::Sequences(&[1.0, 2.0]);
    says(Rollouts::new(sequences, &good[..2], &good, of), "log_p: expected 3 values, got 2");
    says(Rollouts::new(sequences, &good, &good[..1], of), "old: expected 3 values, got 1");
    let few = Advantages::Sequences(&good[..1]);
    says(Rollouts::new(sequences, &good, &good, few), "advantages: expected 2 values, got 1");
    let many = Advantages::Rows(&good[..2]);
    says(Rollouts::new(sequences, &good, &good, many), "advantages: expected 3 values, got 2");
    for (bad, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let wrong = [-1.0, bad, -3.0];
        let says = |result: Result<_, Error>, what| {
            says(
                result.map(|_: Rollouts<'_, f64>| ()),
                &format!("{what}: value 1 is {text}, expected a finite number"),
            );
        };
        says(Rollouts::new(sequences, &wrong, &good, of), "log_p");
        says(Rollouts::new(sequences, &good, &wrong, of), "old");
        says(Rollouts::new(sequences, &good, &good, Advantages::Rows(&wrong)), "advantages");
        says(Rollouts::new(sequences, &good, &good, Advantages::Sequences(&wrong[..2])), "advantages");
        says(Rollouts::new(sequences, &good, &good, of).unwrap().with_reference(&wrong), "reference");
        // What stands at an ignored row is nobody's.
        let ignored = sequences.with_targets(&[0, IGNORE_INDEX, 0]).unwrap();
        let rollouts = Rollouts::new(ignored, &wrong, &wrong, Advantages::Rows(&wrong)).unwrap();
        assert!(rollouts.with_reference(&wrong).is_ok());
    }
    let rollouts = Rollouts::new(sequences, &good, &good, of).unwrap();
    says(rollouts.with_reference(&good[..2]), "reference: expected 3 values, got 2");
    let empty = sequences.with_targets(&[0, 0, IGNORE_INDEX]).unwrap();
    says(
        Rollouts::new(empty, &good, &good, of),
        "tokens of sequences: number 1 has 0 members, expected at least 1",
    );
}

#[test]
fn judging() {
    let sequences = sequences(&[0, 2, 3]);
    let good = [-1.0f64, -2.0, -3.0];
    let rollouts = Rollouts::new(sequences, &good, &good, Advantages::Sequences(&[1.0, 2.0])).unwrap();
    let (counts, mean) = (sequences.counts(), SequenceReduction::TokenMean);
    let ppo = Ppo::new(0.2, 0.2).unwrap();
    says(judge(&ppo, mean, counts, &rollouts, &mut [0.0; 2]), "slopes: expected 3 values, got 2");
    let slopes = &mut [7.0; 3];
    says(
        judge(&ppo, SequenceReduction::Constant(0.0), counts, &rollouts, slopes),
        "denominator: expected a positive finite number, got 0",
    );
    says(
        judge(&ppo, mean, Counts { tokens: 2, ..counts }, &rollouts, slopes),
        "counts: value 1 is 2, expected at least what the batch holds",
    );
    says(
        judge(&K1::new(1.0).unwrap(), mean, counts, &rollouts, slopes),
        "reference: expected 3 values, got 0",
    );
    says(
        judge(&K2::new(1.0).unwrap(), mean, counts, &rollouts, slopes),
        "reference: expected 3 values, got 0",
    );
    let grpo = Penalised { surrogate: ppo, penalty: K3::new(0.04).unwrap() };
    says(judge(&grpo, mean, counts, &rollouts, slopes), "reference: expected 3 values, got 0");
    assert_eq!(slopes, &[7.0; 3], "nothing is written where something is wrong");
    assert!(judge(&grpo, mean, counts, &rollouts.with_reference(&good).unwrap(), slopes).is_ok());
}

#[test]
fn switches_and_masks() {
    says(hybrid(1.5, 0.0), "solve_rate: value 0 is 1.5, expected a number from 0 to 1");
    says(hybrid(f32::NAN, 0.0), "solve_rate: value 0 is NaN, expected a number from 0 to 1");
    says(hybrid(0.5, -0.25), "gate: value 0 is -0.25, expected a number from 0 to 1");
    let unified = Unified::new(Nll, Divisor::One);
    says(unified.with_mask(1.5, 0.2), "unified: low = 1.5 lies outside its domain 0 to 1");
    says(unified.with_mask(0.5, -0.2), "unified: high = -0.2 lies outside its domain 0 to 1000000");
}
