//! Rows with a label for each class: every objective and storage type against the oracle, on every level of the CPU and on the
//! GPU, and what is promised beside accuracy. `cargo test --test suite labels -- --nocapture` prints the largest errors as shares of what is
//! granted.

use crate::inputs::{self, Matrix, Stream};
use crate::oracle::{FLUSH, Grant, half_spacing};
use crate::runner::Runner;
use tokenloss::cpu::Level;
use tokenloss::half::{bf16, f16};
use tokenloss::label::{AnyLabel, Class, ClassLink, EntryEval, LabelObjective};
use tokenloss::reference;
use tokenloss::{
    Batch, Denominator, Element, Error, IGNORE_INDEX, Labels, LogitMap, Logits, MAX_PARAMETERS, NonFinite,
    Reduction, Shape, Totals,
};

const INF: f32 = f32::INFINITY;

fn listed(name: &str, values: &[f32]) -> AnyLabel {
    let mut all = [0.0; MAX_PARAMETERS];
    all[..values.len()].copy_from_slice(values);
    AnyLabel::with_parameters(name, all).expect("listed").expect("in the domain")
}

/// Each of the list by its defaults, and with each parameter at both ends.
fn objectives() -> Vec<AnyLabel> {
    let of_name = |name: &&'static str| {
        let settings = inputs::settings(AnyLabel::parameters_of(name).expect("listed"), &[0.0, 1.0]);
        settings.into_iter().map(|values| listed(name, &values))
    };
    AnyLabel::NAMES.iter().flat_map(of_name).collect()
}

/// Labels for each row: of the target alone, smoothed, many on, none, any numbers; 0 where the row is masked.
fn labels(rows: &[inputs::Row], bounded: bool, seed: u64) -> Vec<inputs::Row> {
    let mut s = Stream::new(seed);
    let of_row = |(i, row): (usize, &inputs::Row)| {
        let vocab = row.logits.len();
        let of_class = |(j, z): (usize, &f32)| {
            let label = match i % 5 {
                0 => f32::from(u8::from(j == row.target)),
                1 => 0.1 / vocab as f32 + if j == row.target { 0.9 } else { 0.0 },
                2 => f32::from(u8::from(s.uniform() < 0.3)),
                3 if bounded => s.uniform(),
                3 => 6.0 * s.uniform() - 3.0,
                _ => 0.0,
            };
            if *z == -INF { 0.0 } else { label }
        };
        let logits = row.logits.iter().enumerate().map(of_class).collect();
        inputs::Row { what: row.what, logits, target: row.target }
    };
    rows.iter().enumerate().map(of_row).collect()
}

/// A row's truth in f64, and what may be off.
struct Truth {
    loss: f64,
    loss_tolerance: f64,
    dlogits: Vec<f64>,
    tolerances: Vec<f64>,
}

/// Half a unit in the last place of an f32.
const UNIT: f64 = 6e-8;

fn truth(objective: &AnyLabel, z: &[f64], labels: &[f64], weights: Option<&[f64]>, grant: Grant) -> Truth {
    // What the GPU adds up in f32: a lane's share of a row, and the lanes.
    let sums = if grant == Grant::GPU { (z.len() as f64 / 256.0 + 10.0) * UNIT } else { 0.0 };
    let mut dlogits = vec![0.0; z.len()];
    let loss =
        reference::labels(objective, z, labels, weights, 1.0, &mut dlogits).expect("a row without faults");
    let classes: Vec<_> = reference::classes(objective.link(), z).expect("finite").collect();
    let max = z.iter().copied().fold(f64::MIN, f64::max);
    // A power takes a logarithm of up to 87 that is good to a few units of the last place times its exponent.
    let exponent =
        objective.parameters().into_iter().fold(1.0f64, |k, p| k.max(f64::from(p.abs()))).min(17.0);
    let softmax = objective.link() == ClassLink::Softmax;
    let moved = |class: &Class<f64>, label: f64, by: f64| {
        let class = if softmax {
            Class::softmax((class.log_p + by).min(0.0))
        } else {
            Class::sigmoid(class.log_p - class.log_rest + by)
        };
        objective.of_class(&class, label)
    };
    let (mut loss_tolerance, mut off_pulls, mut pulls, mut sizes) = (0.0, 0.0, 0.0, [0.0; 2]);
    let mut of_pull = Vec::new();
    for (j, class) in classes.iter().enumerate() {
        let (label, weight) = (labels[j], weights.map_or(1.0, |weights| weights[j]));
        let here = objective.of_class(class, label);
        sizes = [sizes[0] + weight * here.value.abs(), sizes[1] + weight * here.pull.abs()];
        if z[j] == f64::NEG_INFINITY {
            of_pull.push(0.0);
            continue;
        }
        // The logit's distance from the maximum and the normaliser round; next to a margin so does what is left of p.
        let by = if softmax {
            UNIT * ((max - z[j]).min(90.0) + 2.0 * class.log_p.abs().min(90.0)) + 2e-7 + sums
        } else {
            3e-7
        };
        let (above, below) = (moved(class, label, by), moved(class, label, -by));
        let response = |of: fn(&EntryEval<f64>) -> f64| {
            (of(&above) - of(&here)).abs().max((of(&below) - of(&here)).abs())
        };
        let logs = class.log_p.abs().min(90.0) + class.log_rest.abs().min(90.0);
        let own = 2e-6 + 1e-6 * exponent + 4.0 * UNIT * exponent * logs;
        // What damps by a power is 0 below the least normal number.
        let flushed = FLUSH.powf(1.0 / exponent.max(1.0)).min(2e-36) * 90.0;
        loss_tolerance += weight * (response(|e| e.value) + own * here.value.abs() + flushed);
        // What is on and what is off pull against each other.
        let sides = |label: f64| objective.of_class(class, label).pull.abs();
        let size = match objective {
            AnyLabel::BinaryNll(_) | AnyLabel::BinaryFocal(_) | AnyLabel::AsymmetricFocal(_) => {
                label.abs() * sides(1.0) + (1.0 - label).abs() * sides(0.0)
            }
            _ => here.pull.abs(),
        };
        let off = weight * (response(|e| e.pull) + own * size + flushed);
        of_pull.push(off);
        off_pulls += off;
        pulls += weight * here.pull;
    }
    let (loss_tolerance, off_pulls) = (loss_tolerance + sums * sizes[0], off_pulls + sums * sizes[1]);
    let tolerances = classes.iter().zip(of_pull).zip(&dlogits).enumerate().map(|(j, ((class, off), d))| {
        if !softmax {
            return off + UNIT * d.abs() + FLUSH;
        }
        let of_p = 1e-6 + sums + 1e-7 * (max - z[j]).min(90.0);
        off + class.p * (off_pulls + of_p * pulls.abs()) + 2e-7 * d.abs() + FLUSH * (1.0 + pulls.abs()) * 90.0
    });
    Truth { loss, loss_tolerance: loss_tolerance + FLUSH, tolerances: tolerances.collect(), dlogits }
}

struct Got<E> {
    totals: Totals,
    losses: Vec<f32>,
    dlogits: Vec<E>,
}

fn shape(matrix: &Matrix<impl Element>) -> Shape {
    Shape::new(matrix.targets.len(), matrix.vocab)
        .and_then(|s| s.with_stride(matrix.stride))
        .expect("a shape")
}

fn evaluate<E: Element, U: Element>(
    runner: &Runner,
    objective: &AnyLabel,
    reduction: Reduction,
    batch: &Batch<'_>,
    logits: &[E],
    labels: Labels<'_, U>,
    in_place: bool,
) -> Result<Got<E>, Error> {
    // Whoever leaves an entry out shows it.
    let mut dlogits = if in_place { logits.to_vec() } else { vec![E::from_f32(f32::NAN); logits.len()] };
    let mut losses = vec![f32::NAN; batch.shape().rows()];
    let io = if in_place {
        Logits::InPlace(&mut dlogits)
    } else {
        Logits::OutOfPlace { logits, dlogits: &mut dlogits }
    };
    let totals = runner.evaluate_labels(objective, reduction, batch, io, labels, Some(&mut losses))?;
    Ok(Got { totals, losses, dlogits })
}

/// The largest errors of losses and of gradients, as shares of what is granted.
#[derive(Default)]
struct Worst(f64, f64);

fn check<E: Element, U: Element>(
    objective: &AnyLabel,
    turn: usize,
    logits: &Matrix<E>,
    labels: &Matrix<U>,
    worst: &mut [Worst; 2],
) {
    let mut s = Stream::new(turn as u64);
    let weights: Vec<f32> =
        (0..logits.vocab).map(|j| if j % 7 == 3 { 0.0 } else { 2.0 * s.uniform() }).collect();
    let weights = (turn % 3 == 2).then_some(&weights);
    let wide: Option<Vec<f64>> = weights.map(|weights| weights.iter().map(|w| f64::from(*w)).collect());
    let rows = logits.targets.len();
    let truths = [Grant::CPU, Grant::GPU].map(|grant| -> Vec<_> {
        let of_row = |row| truth(objective, &logits.row(row), &labels.row(row), wide.as_deref(), grant);
        (0..rows).map(of_row).collect()
    });
    let batch = Batch::new(shape(logits), &logits.targets).expect("a batch");
    for runner in Runner::all() {
        let (truths, worst) = match runner.grant() {
            Grant::GPU => (&truths[1], &mut worst[1]),
            _ => (&truths[0], &mut worst[0]),
        };
        let mut of_rows = Labels::new(shape(labels), &labels.logits).expect("labels");
        if let Some(weights) = weights {
            of_rows = of_rows.with_class_weights(weights).expect("weights");
        }
        let got = evaluate(runner, objective, Reduction::Sum, &batch, &logits.logits, of_rows, turn % 2 == 1)
            .expect("rows without faults");
        let mut losses = vec![0.0; rows];
        let read = Logits::Read(&logits.logits[..]);
        let alone =
            runner.evaluate_labels(objective, Reduction::Sum, &batch, read, of_rows, Some(&mut losses));
        assert_eq!((alone.expect("rows without faults"), losses), (got.totals, got.losses.clone()));
        for (row, truth) in truths.iter().enumerate() {
            let judge = |what: &str, got: f64, want: f64, tolerance: f64, rounding: f64| {
                let share = ((got - want).abs() - rounding).max(0.0) / tolerance;
                assert!(
                    share <= 1.0,
                    "{objective:?}, {runner}, {} with {}, vocab {}, row {row} ({}): {what} is {got:e}, expected {want:e}, off by {share:.2}",
                    E::DTYPE,
                    U::DTYPE,
                    logits.vocab,
                    logits.what[row]
                );
                share
            };
            let round = |x: f64| x.abs() * f64::from(f32::EPSILON) / 2.0;
            let share = judge(
                "the loss",
                got.losses[row].into(),
                truth.loss,
                truth.loss_tolerance,
                round(truth.loss),
            );
            worst.0 = worst.0.max(share);
            for j in 0..logits.vocab {
                let got = f64::from(got.dlogits[row * logits.stride + j].to_f32());
                let (want, tolerance) = (truth.dlogits[j], truth.tolerances[j]);
                let rounding = half_spacing::<E>(want).max(round(want));
                worst.1 = worst.1.max(judge(&format!("column {j}"), got, want, tolerance, rounding));
            }
            for j in logits.vocab..logits.stride {
                let padding = got.dlogits[row * logits.stride + j].to_f32();
                assert!(padding.is_nan(), "{objective:?}: padding {j} was written: {padding}");
            }
        }
    }
}

fn every_objective<E: Element, U: Element>() {
    println!("{} with {}: of what is granted, loss and gradient, CPU and GPU", E::DTYPE, U::DTYPE);
    let mut turn = 0;
    for objective in objectives() {
        let mut worst = <[Worst; 2]>::default();
        // Two classes; a vector more or less than one of any level; a block and one more.
        for (seed, vocab) in [2, 3, 8, 17, 33, 257, 4097].into_iter().enumerate() {
            let rows = inputs::rows(vocab, seed as u64);
            let of_rows = labels(&rows, objective.domain() == [0.0, 1.0], 100 + seed as u64);
            let (logits, of_rows) =
                (Matrix::<E>::new(&rows, seed % 3), Matrix::<U>::new(&of_rows, (seed + 1) % 3));
            check(&objective, turn, &logits, &of_rows, &mut worst);
            turn += 1;
        }
        let [Worst(loss, gradient), Worst(of_gpu, gradient_of_gpu)] = worst;
        let name = format!("{objective:?}");
        println!("  {name:70} {loss:.3} {gradient:.3}   {of_gpu:.3} {gradient_of_gpu:.3}");
    }
}

#[test]
fn every_objective_f32() {
    every_objective::<f32, f32>();
}

#[test]
fn every_objective_bf16_with_f16() {
    every_objective::<bf16, f16>();
}

#[test]
fn every_objective_f16_with_bf16() {
    every_objective::<f16, bf16>();
}

#[test]
fn a_real_vocabulary() {
    // One of each pattern of labels.
    let rows: Vec<_> = inputs::rows(128_256, 7).into_iter().step_by(6).collect();
    let mut worst = <[Worst; 2]>::default();
    for (turn, objective) in objectives().into_iter().enumerate().step_by(9) {
        let of_rows = labels(&rows, objective.domain() == [0.0, 1.0], 9);
        let (logits, of_rows) = (Matrix::<f32>::new(&rows, 0), Matrix::<bf16>::new(&of_rows, 1));
        check(&objective, turn, &logits, &of_rows, &mut worst);
    }
    for (of, Worst(loss, gradient)) in ["CPU", "GPU"].into_iter().zip(worst) {
        println!("128,256 classes, {of}: loss {loss:.3}, gradient {gradient:.3} of what is granted");
    }
}

fn noise(rows: usize, vocab: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut s = Stream::new(seed);
    (0..rows * vocab).map(|_| (8.0 * s.uniform(), s.uniform())).unzip()
}

#[test]
fn results_do_not_depend_on_the_number_of_threads_nor_on_streaming() {
    // Large enough to be streamed, and rows that no number of threads divides.
    let (rows, vocab) = (67, 33_333);
    let (logits, labels) = noise(rows, vocab, 3);
    let (shape, targets) = (Shape::new(rows, vocab).expect("a shape"), vec![0; rows]);
    let batch = Batch::new(shape, &targets).expect("a batch");
    for name in ["soft_targets", "asymmetric_focal"] {
        let values: Vec<_> =
            AnyLabel::parameters_of(name).expect("listed").iter().map(|p| p.default).collect();
        let objective = listed(name, &values);
        let runner = Runner::cpu(Level::best());
        let run = |threads: usize, in_place: bool| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let labels = Labels::new(shape, &labels).expect("labels");
            let mean = Reduction::default();
            pool.install(|| {
                evaluate(&runner, &objective, mean, &batch, &logits, labels, in_place).expect("finite")
            })
        };
        let first = run(1, false);
        for (threads, in_place) in [(2, false), (5, true)] {
            let other = run(threads, in_place);
            assert_eq!((first.totals, &first.losses), (other.totals, &other.losses));
            assert!(first.dlogits.iter().zip(&other.dlogits).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn weights_denominators_and_ignored_rows() {
    let (logits, labels) = noise(4, 9, 5);
    let shape = Shape::new(4, 9).expect("a shape");
    let objective = listed("soft_targets", &[]);
    let weights = [1.0, 5.0, 0.0, 0.5];
    let batch =
        Batch::new(shape, &[0, IGNORE_INDEX, 3, 8]).and_then(|b| b.with_weights(&weights)).expect("a batch");
    let labels = Labels::new(shape, &labels).expect("labels");
    for runner in Runner::all() {
        let run = |reduction| {
            evaluate(runner, &objective, reduction, &batch, &logits, labels, false).expect("finite")
        };
        let sum = run(Reduction::Sum);
        let totals = sum.totals;
        assert_eq!((totals.valid, totals.kept, totals.ignored, totals.live), (3, 3, 1, 2));
        assert_eq!((sum.losses[1], totals.weight_sum), (0.0, 1.5));
        let want = f64::from(sum.losses[0]) + 0.5 * f64::from(sum.losses[3]);
        assert!((totals.loss_sum / want - 1.0).abs() < 1e-6);
        assert!(sum.dlogits[9..27].iter().all(|d| *d == 0.0));
        for (denominator, by) in
            [(Denominator::Valid, 3.0), (Denominator::Kept, 3.0), (Denominator::Given(7.0), 7.0)]
        {
            let mean = run(Reduction::Mean(denominator));
            assert_eq!(mean.totals.denominator, by);
            for (mean, sum) in mean.dlogits.iter().zip(&sum.dlogits) {
                // The denominator's inverse rounds, and so do both products and their sum.
                assert!(
                    (f64::from(*mean) * by - f64::from(*sum)).abs() <= 5e-7 * f64::from(sum.abs()) + 2e-7
                );
            }
        }
    }
}

#[test]
fn faults_name_the_row_and_leave_the_others_alone() {
    let shape = Shape::new(3, 3).expect("a shape");
    let batch = Batch::new(shape, &[0, IGNORE_INDEX, 1]).expect("a batch");
    let (good, none) = ([0.5, 1.0, 0.25], [0.0, 1.0, 0.0]);
    let bad_rows = [f32::NAN; 3];
    let says = |objective: AnyLabel, z: [f32; 3], labels: [f32; 3], text: &str| {
        let logits: Vec<f32> = [good, bad_rows, z].concat();
        let labels: Vec<f32> = [none, bad_rows, labels].concat();
        let labels = Labels::new(shape, &labels).expect("labels");
        for runner in Runner::all() {
            let run = |batch: &Batch<'_>, dlogits: &mut [f32], losses: &mut [f32]| {
                let io = Logits::OutOfPlace { logits: &logits, dlogits };
                runner.evaluate_labels(&objective, Reduction::Sum, batch, io, labels, Some(losses))
            };
            let (mut dlogits, mut losses) = ([7.0; 9], [7.0; 3]);
            let error = run(&batch, &mut dlogits, &mut losses).expect_err(text);
            assert_eq!(error.to_string(), text, "{objective:?}, {runner}");
            assert!(losses[0].is_finite() && losses[1] == 0.0 && losses[2].is_nan());
            assert!(dlogits[..6].iter().all(|d| d.is_finite()) && dlogits[6..].iter().all(|d| d.is_nan()));
            let relaxed = batch.with_non_finite(NonFinite::NanRow);
            assert!(run(&relaxed, &mut dlogits, &mut losses).expect("no error").loss().is_nan());
        }
    };
    for name in AnyLabel::NAMES {
        let values: Vec<_> =
            AnyLabel::parameters_of(name).expect("listed").iter().map(|p| p.default).collect();
        let objective = listed(name, &values);
        let [min, max] = objective.domain();
        let expected = format!("expected {min} to {max} there");
        for column in 0..3 {
            let with = |bad: f32| std::array::from_fn(|j| if j == column { bad } else { 0.5 });
            let finite = "expected a finite number or -inf";
            says(objective, with(INF), none, &format!("logits: row 2, column {column} is inf, {finite}"));
            says(
                objective,
                with(f32::NAN),
                none,
                &format!("logits: row 2, column {column} is NaN, {finite}"),
            );
            says(
                objective,
                good,
                with(f32::NAN),
                &format!("labels: row 2, column {column} is NaN, {expected}"),
            );
            says(objective, good, with(-INF), &format!("labels: row 2, column {column} is -inf, {expected}"));
            if max == 1.0 {
                says(
                    objective,
                    good,
                    with(1.5),
                    &format!("labels: row 2, column {column} is 1.5, {expected}"),
                );
                says(
                    objective,
                    good,
                    with(-1.0),
                    &format!("labels: row 2, column {column} is -1, {expected}"),
                );
            }
        }
    }
    let masked = [0.5, -INF, 1.0];
    for name in ["soft_targets", "binary_nll"] {
        says(listed(name, &[1.0]), masked, none, "labels: row 2, column 1 is 1, expected 0 to 0 there");
    }
    let all = "logits: row 2 is -inf in all 3 columns, so that no class has probability";
    says(listed("soft_targets", &[]), [-INF; 3], [0.0; 3], all);
}

#[test]
fn slices_and_maps_are_checked() {
    let shape = Shape::new(2, 3).expect("a shape");
    let batch = Batch::new(shape, &[0, 1]).expect("a batch");
    let objective = listed("brier", &[]);
    let (logits, labels) = ([0.0f32; 6], [0.0f32; 6]);
    let says =
        |result: Result<Totals, Error>, text: &str| assert_eq!(result.expect_err(text).to_string(), text);
    for runner in Runner::all() {
        let run = |batch: &Batch<'_>, logits: &[f32], labels: Labels<'_, f32>, losses: &mut [f32]| {
            let read = Logits::Read(logits);
            runner.evaluate_labels(&objective, Reduction::Sum, batch, read, labels, Some(losses))
        };
        let of = Labels::new(shape, &labels).expect("labels");
        says(run(&batch, &logits[..5], of, &mut [0.0; 2]), "logits: expected 6 values, got 5");
        says(run(&batch, &logits, of, &mut [0.0; 3]), "losses: expected 2 values, got 3");
        let other = Labels::new(Shape::new(3, 2).expect("a shape"), &labels).expect("labels");
        says(run(&batch, &logits, other, &mut [0.0; 2]), "label rows: expected 2 values, got 3");
        let mapped = batch.with_map(LogitMap::stable_max()).expect("a map");
        assert_eq!(run(&mapped, &logits, of, &mut [0.0; 2]), Err(Error::Map));
    }
}
