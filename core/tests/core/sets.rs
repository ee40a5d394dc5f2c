//! Sets of rows, and what their gradient is of.

use crate::draw::cases;
use proptest::prelude::*;
use tokenloss_core::half::bf16;
use tokenloss_core::reference::{self, LinearResults, Results};
use tokenloss_core::{Batch, Element, Error, Linear, Nll, Reduction, RowSummary, Segments, Shape, sets};

const VOCAB: usize = 5;
const OFFSETS: [usize; 4] = [0, 3, 4, 6];
const TARGETS: [i32; 3] = [2, 0, 4];

fn segments() -> Segments<'static> {
    Segments::new(&OFFSETS, 6).unwrap()
}

/// Loss and gradient of the sets' nll, by way of the two functions.
fn by_sets(logits: &[f32]) -> (f64, Vec<f32>) {
    let mut sums = [0.0f32; 3 * VOCAB];
    sets::sum_rows(segments(), VOCAB, logits, &mut sums).unwrap();
    let batch = Batch::new(Shape::new(3, VOCAB).unwrap(), &TARGETS).unwrap();
    let mut dsums = [0.0; 3 * VOCAB];
    let results =
        Results { losses: &mut [0.0; 3], summaries: &mut [RowSummary::nan(); 3], dlogits: &mut dsums };
    let wide = sums.map(f64::from);
    let totals = reference::evaluate(&Nll, Reduction::Sum, &batch, &wide, results).unwrap();
    let mut dlogits = vec![f32::NAN; 6 * VOCAB];
    sets::share_rows(segments(), VOCAB, &dsums.map(|d| d as f32), &mut dlogits).unwrap();
    (totals.loss_sum, dlogits)
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn every_member_has_the_gradient_of_the_sum(logits in prop::collection::vec(-3i32..3, 6 * VOCAB)) {
        // On a grid of which sums and steps are exact.
        let logits: Vec<_> = logits.into_iter().map(|z| z as f32 * 0.25).collect();
        let (_, dlogits) = by_sets(&logits);
        const STEP: f32 = 1.0 / 1024.0;
        for (at, d) in dlogits.iter().enumerate() {
            let loss = |by: f32| {
                let mut z = logits.clone();
                z[at] += by;
                by_sets(&z).0
            };
            let want = (8.0 * (loss(STEP) - loss(-STEP)) - (loss(2.0 * STEP) - loss(-2.0 * STEP)))
                / (12.0 * f64::from(STEP));
            // Rounding of the loss over the step, and that of the gradient to f32.
            prop_assert!((f64::from(*d) - want).abs() <= 1e-7 * want.abs() + 1e-10, "{at}: {d:e}, {want:e}");
        }
    }
}

/// A head of summed hidden states is the sum of logits, its bias once for each member.
#[test]
fn hidden_states_are_summed_in_place_of_logits() {
    let (dim, size) = (3, 2);
    let number = |i: usize| ((i * 37 % 19) as f32 - 9.0) / 8.0;
    let hidden: Vec<_> = (0..4 * dim).map(number).collect();
    let weight: Vec<_> = (0..VOCAB * dim).map(|i| number(i + 5)).collect();
    let bias: Vec<_> = (0..VOCAB).map(|i| number(i + 11)).collect();
    let sets = Segments::new(&[0, 2, 4], 4).unwrap();
    let logits: Vec<f32> = (0..4 * VOCAB)
        .map(|i| {
            let (row, j) = (i / VOCAB, i % VOCAB);
            (0..dim).fold(bias[j], |sum, e| sum + hidden[row * dim + e] * weight[j * dim + e])
        })
        .collect();
    let mut of_logits = [0.0f32; 2 * VOCAB];
    sets::sum_rows(sets, VOCAB, &logits, &mut of_logits).unwrap();
    let mut sums = vec![0.0f32; 2 * dim];
    sets::sum_rows(sets, dim, &hidden, &mut sums).unwrap();
    let scaled: Vec<_> = bias.iter().map(|b| size as f32 * b).collect();
    let targets = [1, 3];
    let batch = Batch::new(Shape::new(2, VOCAB).unwrap(), &targets).unwrap();
    let linear = Linear::new(batch, dim, &sums, &weight).unwrap().with_bias(&scaled).unwrap();
    for row in 0..2 {
        let mut z = [0.0f64; VOCAB];
        reference::logits_of_row(&linear, row, &mut z);
        for (j, z) in z.iter().enumerate() {
            // All numbers are on a grid of 1/64, so that both are exact.
            assert_eq!(*z, f64::from(of_logits[row * VOCAB + j]));
        }
    }
    // The gradients, against those of every row's own logits.
    let (mut dhidden, mut dweight, mut dbias) = ([0.0f64; 6], [0.0f64; 15], [0.0f64; VOCAB]);
    let results = LinearResults {
        losses: &mut [0.0; 2],
        summaries: &mut [RowSummary::nan(); 2],
        dhidden: &mut dhidden,
        dweight: &mut dweight,
        dbias: &mut dbias,
        scratch: &mut [0.0; 2 * VOCAB],
    };
    reference::evaluate_linear(&Nll, Reduction::Sum, &linear, results).unwrap();
    let wide = of_logits.map(f64::from);
    let mut dsums = [0.0; 2 * VOCAB];
    let results =
        Results { losses: &mut [0.0; 2], summaries: &mut [RowSummary::nan(); 2], dlogits: &mut dsums };
    reference::evaluate(&Nll, Reduction::Sum, &batch, &wide, results).unwrap();
    let mut dlogits = [0.0f32; 4 * VOCAB];
    sets::share_rows(sets, VOCAB, &dsums.map(|d| d as f32), &mut dlogits).unwrap();
    let close =
        |got: f64, want: f64| assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{got}, {want}");
    for j in 0..VOCAB {
        let of_rows = |f: &dyn Fn(usize) -> f64| (0..4).map(f).sum::<f64>();
        let d = |row: usize| f64::from(dlogits[row * VOCAB + j]);
        close(dbias[j] * size as f64, of_rows(&d));
        for e in 0..dim {
            close(dweight[j * dim + e], of_rows(&|row| d(row) * f64::from(hidden[row * dim + e])));
        }
    }
    let mut drows = [0.0f32; 12];
    sets::share_rows(sets, dim, &dhidden.map(|d| d as f32), &mut drows).unwrap();
    for row in 0..4 {
        for e in 0..dim {
            let want: f64 =
                (0..VOCAB).map(|j| f64::from(dlogits[row * VOCAB + j] * weight[j * dim + e])).sum();
            close(drows[row * dim + e].into(), want);
        }
    }
}

#[test]
fn sums_round_once_and_keep_masks() {
    let sets = Segments::new(&[0, 3], 3).unwrap();
    // In bf16, 256 + 1 + 1 is 258; one by one it would stay 256.
    let rows = [256.0, f32::NEG_INFINITY, 1.0, 0.0, 1.0, 0.0].map(bf16::from_f32);
    let mut sums = [bf16::from_f32(0.0); 2];
    sets::sum_rows(sets, 2, &rows, &mut sums).unwrap();
    assert_eq!(sums.map(Element::to_f32), [258.0, f32::NEG_INFINITY]);
}

#[test]
fn lengths() {
    let says = |result: Result<(), Error>, text: &str| assert_eq!(result.unwrap_err().to_string(), text);
    let sets = Segments::new(&[0, 2, 3], 3).unwrap();
    says(sets::sum_rows(sets, 2, &[0.0f32; 5], &mut [0.0f32; 4]), "rows: expected 6 values, got 5");
    says(sets::sum_rows(sets, 2, &[0.0f32; 6], &mut [0.0f32; 5]), "sums: expected 4 values, got 5");
    says(sets::share_rows(sets, 2, &[0.0f32; 3], &mut [0.0f32; 6]), "dsums: expected 4 values, got 3");
    says(sets::share_rows(sets, 2, &[0.0f32; 4], &mut [0.0f32; 7]), "drows: expected 6 values, got 7");
    says(
        sets::sum_rows(sets, usize::MAX, &[0.0f32; 6], &mut [0.0f32; 4]),
        "shape: 3 rows with a stride of 18446744073709551615 exceed what can be indexed",
    );
}
