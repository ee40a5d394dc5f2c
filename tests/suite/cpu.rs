//! What the CPU backend promises beside accuracy.

use crate::inputs::{self, Matrix, Stream};
use crate::oracle::{FLUSH, Grant};
use tokenloss::cpu::{Cpu, STREAM_BYTES};
use tokenloss::half::bf16;
use tokenloss::{
    Backend, Batch, Denominator, Element, Evaluate, IGNORE_INDEX, Logits, Nll, Objective, Outputs, Reduction,
    RowObjective, RowSummary, Shape, TokenObjective,
};

fn batch(matrix: &Matrix<impl Element>) -> Batch<'_> {
    let shape = Shape::new(matrix.targets.len(), matrix.vocab).and_then(|s| s.with_stride(matrix.stride));
    Batch::new(shape.expect("a shape"), &matrix.targets).expect("a batch")
}

fn noise(rows: usize, vocab: usize) -> Matrix<f32> {
    let mut s = Stream::new(3);
    let logits = (0..rows * vocab).map(|_| 8.0 * s.uniform()).collect();
    let targets = (0..rows).map(|_| s.below(vocab) as i32).collect();
    Matrix { logits, targets, stride: vocab, vocab, what: vec!["noise"; rows] }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads_nor_on_streaming() {
    // Large enough to be streamed, and rows that no number of threads divides.
    let matrix = noise(67, 33_333);
    assert!(matrix.logits.len() * 4 >= STREAM_BYTES);
    let objective = Objective::parse("power:alpha=1").expect("a spec");
    let run = |threads: usize, in_place: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let mut dlogits = matrix.logits.clone();
        let mut losses = vec![0.0; 67];
        let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
        let logits = if in_place {
            Logits::InPlace(&mut dlogits)
        } else {
            Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits }
        };
        let totals = pool
            .install(|| {
                Cpu::new().evaluate(&objective, Reduction::default(), &batch(&matrix), logits, outputs)
            })
            .expect("finite logits");
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        (bits(&dlogits), bits(&losses), totals.loss_sum.to_bits())
    };
    let one = run(1, false);
    for threads in [1, 2, 3, 8] {
        assert!(run(threads, false) == one, "{threads} threads");
        assert!(run(threads, true) == one, "{threads} threads, in place");
    }
}

#[test]
fn the_three_moves_apart_give_what_evaluate_gives() {
    let rows = inputs::rows(5003, 1);
    let matrix = Matrix::<f32>::new(&rows, 2);
    let batch = batch(&matrix);
    let objective = Objective::parse("power:alpha=0.5").expect("a spec");
    let mut fused = vec![0.0; matrix.logits.len()];
    let logits = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut fused };
    Cpu::new().evaluate(&objective, Reduction::Sum, &batch, logits, Outputs::default()).expect("finite");

    let mut summaries = vec![RowSummary::nan(); rows.len()];
    Cpu::new().summarise(&batch, &matrix.logits, &mut summaries).expect("finite");
    let partials: Vec<_> = summaries.iter().map(|row| objective.of_row(row).partials).collect();
    let mut apart = vec![0.0; matrix.logits.len()];
    let logits = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut apart };
    Cpu::new().push_back(&batch, logits, &summaries, &partials).expect("finite");
    for (j, (a, b)) in fused.iter().zip(&apart).enumerate() {
        let (row, column) = (j / matrix.stride, j % matrix.stride);
        if column < matrix.vocab {
            // Each is within its grant of the truth: the difference to the maximum is taken in two steps or one.
            let margin = summaries[row].stats.max - f64::from(matrix.logits[j]);
            let tolerance = 2.0 * Grant::CPU.at(margin.min(90.0)) as f32 * a.abs() + FLUSH as f32;
            assert!((a - b).abs() <= tolerance, "{} column {column}: {a:e} and {b:e}", matrix.what[row]);
        }
    }
}

/// An objective that looks at the entropy: its gradient needs the third partial.
struct Entropy;

impl RowObjective for Entropy {
    fn of_row<T: num_traits::Float>(&self, row: &RowSummary<T>) -> tokenloss::RowEval<T> {
        let partials = tokenloss::RowPartials { d_entropy: T::one(), ..tokenloss::RowPartials::zero() };
        tokenloss::RowEval { loss: row.stats.entropy(), partials, kept: true }
    }
}

#[test]
fn the_entropy_has_a_gradient_too() {
    let rows = inputs::rows(1001, 5);
    let matrix = Matrix::<f32>::new(&rows, 0);
    for in_place in [false, true] {
        let mut dlogits = matrix.logits.clone();
        let logits = if in_place {
            Logits::InPlace(&mut dlogits)
        } else {
            Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits }
        };
        let totals = Cpu::new()
            .evaluate(&Entropy, Reduction::Sum, &batch(&matrix), logits, Outputs::default())
            .expect("finite");
        let mut truth = 0.0;
        for row in 0..rows.len() {
            let z = matrix.row(row);
            let target = matrix.targets[row] as usize;
            let summary = tokenloss::reference::summarise(&z, target).expect("finite");
            truth += summary.stats.entropy();
            let mut want = vec![0.0; z.len()];
            tokenloss::reference::push_back(
                &z,
                target,
                &summary,
                Entropy.of_row(&summary).partials,
                &mut want,
            );
            for (j, want) in want.iter().enumerate() {
                let got = f64::from(dlogits[row * 1001 + j]);
                // p (log p + H) is a difference: the error is that of its terms.
                let margin = (summary.stats.max - z[j]).min(90.0);
                let log_p = (z[j] - summary.stats.max) - summary.stats.tail.ln_1p();
                let terms = log_p.exp() * (log_p.abs().min(90.0) + summary.stats.entropy());
                let tolerance = Grant::CPU.at(margin) * terms + 100.0 * FLUSH;
                assert!(
                    (got - want).abs() <= tolerance,
                    "{} column {j}: {got:e}, expected {want:e}",
                    matrix.what[row]
                );
            }
        }
        assert!((totals.loss_sum - truth).abs() < 1e-5 * truth);
    }
}

#[test]
fn weights_ignored_rows_and_denominators() {
    let mut matrix = noise(9, 300);
    matrix.targets[4] = IGNORE_INDEX;
    // Row 5 is kept by the threshold, the others are not.
    matrix.logits[5 * 300 + matrix.targets[5] as usize] = 20.0;
    let objective = Objective::parse("thresholded:inner=nll,lo=0.2").expect("a spec");
    let weights = [1.0, 0.0, 2.0, 0.5, 9.0, 3.0, 1.0, 1.0, 1.0];
    let batch = batch(&matrix).with_weights(&weights).expect("weights");
    let run = |reduction| {
        let mut dlogits = vec![f32::NAN; matrix.logits.len()];
        let logits = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits };
        let totals =
            Cpu::new().evaluate(&objective, reduction, &batch, logits, Outputs::default()).expect("finite");
        (totals, dlogits)
    };
    let (sum, gradient) = run(Reduction::Sum);
    assert_eq!((sum.valid, sum.kept, sum.ignored, sum.weight_sum), (8, 1, 1, 9.5));
    assert!(gradient[4 * 300..5 * 300].iter().all(|d| *d == 0.0), "the ignored row");
    let want = 3.0 * -objective.of_log_p(-sum.loss_sum / 3.0).slope;
    assert!(want > 0.0);
    for (reduction, denominator) in
        [(Denominator::Valid, 8.0), (Denominator::Kept, 1.0), (Denominator::Given(20.0), 20.0)]
    {
        let (mean, scaled) = run(Reduction::Mean(reduction));
        assert_eq!((mean.denominator, mean.loss()), (denominator, sum.loss_sum / denominator));
        for (a, b) in gradient.iter().zip(&scaled) {
            let want = f64::from(*a) / denominator;
            assert!((f64::from(*b) - want).abs() <= 2e-6 * want.abs(), "{reduction:?}: {b} and {want}");
        }
    }
}

#[test]
fn all_rows_ignored_is_zero() {
    let mut matrix = noise(3, 40);
    matrix.targets.fill(IGNORE_INDEX);
    matrix.logits.fill(f32::NAN);
    for denominator in [Denominator::Valid, Denominator::Kept, Denominator::Given(2.0)] {
        let mut dlogits = vec![f32::NAN; 120];
        let logits = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits };
        let totals = Cpu::new()
            .evaluate(&Nll, Reduction::Mean(denominator), &batch(&matrix), logits, Outputs::default())
            .expect("nothing is read");
        assert_eq!((totals.loss(), totals.valid, totals.ignored), (0.0, 0, 3));
        assert!(dlogits.iter().all(|d| *d == 0.0));
    }
}

#[test]
fn an_odd_vocabulary_of_halves_in_place_leaves_the_padding() {
    let rows = inputs::rows(37, 2);
    let mut matrix = Matrix::<bf16>::new(&rows, 3);
    let shape = Shape::new(rows.len(), 37).and_then(|s| s.with_stride(40)).expect("a shape");
    let targets = matrix.targets.clone();
    let batch = Batch::new(shape, &targets).expect("a batch");
    let logits = Logits::InPlace(&mut matrix.logits);
    Cpu::new().evaluate(&Nll, Reduction::Sum, &batch, logits, Outputs::default()).expect("finite");
    for row in matrix.logits.chunks(40) {
        assert!(row[..37].iter().all(|d| !d.is_nan()) && row[37..].iter().all(|d| d.is_nan()));
    }
}
