//! Pairs of rows: every divergence and storage type against the oracle, on every level of the CPU and on the GPU, and what is
//! promised beside accuracy. `cargo test --test suite divergences -- --nocapture` prints the largest errors as shares of what is granted.

use crate::inputs::{self, Matrix, Stream};
use crate::oracle::{self, FLUSH, Grant, half_spacing};
use crate::runner::Runner;
use tokenloss::cpu::{Cpu, STREAM_BYTES};
use tokenloss::divergence::{AnyDivergence, Distillation, Divergence, Entry, EntrySums};
use tokenloss::half::{bf16, f16};
use tokenloss::reference;
use tokenloss::{
    Batch, Denominator, Element, Error, IGNORE_INDEX, LogitMap, Logits, MAX_PARAMETERS, Nll, NonFinite,
    Objective, Outputs, PairOutputs, Reduction, Shape, Teacher, Totals, Unjudged,
};

const INF: f32 = f32::INFINITY;

pub(crate) fn listed(name: &str, values: &[f32]) -> AnyDivergence {
    let mut all = [0.0; MAX_PARAMETERS];
    all[..values.len()].copy_from_slice(values);
    AnyDivergence::with_parameters(name, all).expect("listed").expect("in the domain")
}

/// Each of the list by its defaults, and with each parameter at both ends.
pub(crate) fn divergences() -> Vec<AnyDivergence> {
    let of_name = |name: &&'static str| {
        let settings = inputs::settings(AnyDivergence::parameters_of(name).expect("listed"), &[0.0, 1.0]);
        settings.into_iter().map(|values| listed(name, &values))
    };
    AnyDivergence::NAMES.iter().flat_map(of_name).collect()
}

/// What an error of the last place grows by where the terms of a class cancel: see each divergence's documentation.
fn condition(divergence: &AnyDivergence) -> f64 {
    let weight = f64::from(divergence.parameters()[0]);
    match divergence {
        AnyDivergence::JensenShannon(_) | AnyDivergence::Alpha(_) => 1.0 / weight.min(1.0 - weight),
        AnyDivergence::SkewKl(_) | AnyDivergence::SkewReverseKl(_) => (1.0 - weight).powi(-2),
        _ => 1.0,
    }
}

/// A teacher for each row: the same, near, apart, at an offset, and another row; masked where the student is.
fn teachers(rows: &[inputs::Row], seed: u64) -> Vec<inputs::Row> {
    let mut s = Stream::new(seed);
    let mut teachers = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let mut of = |width: f32, by: f32| -> Vec<f32> {
            row.logits.iter().map(|z| z + by + width * (2.0 * s.uniform() - 1.0)).collect()
        };
        let mut logits = match i % 6 {
            0 => of(1e-3, 0.0),
            1 => of(0.5, 0.0),
            2 => of(3.0, 0.25),
            3 => of(0.1, 700.0),
            4 => row.logits.clone(),
            _ => rows[(i + 7) % rows.len()].logits.clone(),
        };
        for (u, z) in logits.iter_mut().zip(&row.logits) {
            if *z == -INF || *u == -INF {
                *u = if *z == -INF { -INF } else { *z };
            }
        }
        teachers.push(inputs::Row { what: row.what, logits, target: row.target });
    }
    teachers
}

/// A pair's truth in f64, and what may be off.
pub(crate) struct Truth {
    pub(crate) value: f64,
    pub(crate) value_tolerance: f64,
    pub(crate) dlogits: Vec<f64>,
    pub(crate) tolerances: Vec<f64>,
}

/// Half a unit in the last place of an f32.
const UNIT: f64 = 6e-8;

/// What both rows' normalisers are off by: a shift that all log-ratios share.
fn shift(grant: Grant, temperature: f64, z: &[f64], u: &[f64]) -> f64 {
    if grant == Grant::CPU {
        return 4e-7;
    }
    // An exponential, and one rounding per addition: of a lane's partial sums, of the merges of at least 64 lanes.
    let mass = grant.base + (z.len() as f64 / 256.0 + 10.0) * UNIT;
    // What the maxima differ by and what the logarithms of the masses differ by are rounded, the latter a few times.
    let most = |row: &[f64]| row.iter().copied().fold(f64::MIN, f64::max);
    let ln_mass = |row: &[f64]| {
        let max = most(row);
        row.iter().map(|x| ((x - max) / temperature).exp()).sum::<f64>().ln()
    };
    let apart = (most(z) - most(u)).abs();
    let maxima = if apart > 16.0 { 0.0 } else { apart / temperature };
    2.0 * mass + UNIT * maxima + 8.0 * UNIT * (ln_mass(z) - ln_mass(u)).abs()
}

/// The divergence alone, its gradient times `factor`, of two logits that are off by `of_logits` together.
pub(crate) fn truth(
    divergence: &AnyDivergence,
    temperature: f32,
    z: &[f64],
    u: &[f64],
    of_logits: f64,
    factor: f64,
    grant: Grant,
) -> Truth {
    let t = f64::from(temperature);
    // Each class's logits are off by themselves, and twice so its share of both rows.
    let of_logits = of_logits / t;
    let shift = shift(grant, t, z, u) + of_logits;
    // On the CPU a part of what is granted anyway.
    let of_mass = if grant == Grant::CPU { 0.0 } else { shift };
    let grant = Grant { base: grant.base + 2.0 * of_logits, ..grant };
    let sums = reference::divergence(divergence, temperature, z, u).expect("a finite divergence");
    let most = |row: &[f64]| row.iter().copied().fold(f64::MIN, f64::max);
    let (z_max, u_max) = (most(z), most(u));
    let far = (z_max - u_max).abs() > 16.0;
    let entries: Vec<_> = reference::entries(temperature, z, u).expect("finite rows").collect();
    let moved = |entry: &Entry<f64>, by: f64| {
        divergence.of_entry(&Entry::new(entry.greater.ln(), entry.log_ratio + by))
    };
    let response = |a: f64, b: f64, here: f64| (a - here).abs().max((b - here).abs());
    let mut off = EntrySums { value: 0.0, pull: 0.0 };
    let mut shifted = [off, off];
    let mut of_pull = Vec::with_capacity(z.len());
    for ((entry, z), u) in entries.iter().zip(z).zip(u) {
        let here = divergence.of_entry(entry);
        if entry.greater < 1e-40 || entry.log_ratio.is_nan() {
            of_pull.push(0.0);
            continue;
        }
        let own = (grant.at(-entry.greater.ln().max(-90.0)) + of_mass) * condition(divergence);
        // A difference of logits, or two to the maxima where these are apart, less a shift, in units of the temperature.
        let difference = if far { (z - z_max).abs() + (u - u_max).abs() } else { (z - u).abs() };
        let apart = UNIT * (difference / t + 3.0 * entry.log_ratio.abs()) + of_logits;
        let (above, below) = (moved(entry, apart), moved(entry, -apart));
        off.value += response(above.value, below.value, here.value) + own * here.value.abs();
        off.pull += response(above.pull, below.pull, here.pull) + own * here.pull.abs();
        let (above, below) = (moved(entry, apart + shift), moved(entry, -apart - shift));
        of_pull.push(response(above.pull, below.pull, here.pull) + own * here.pull.abs());
        for (sums, by) in shifted.iter_mut().zip([shift, -shift]) {
            let eval = moved(entry, by);
            *sums = sums.merge(EntrySums { value: eval.value, pull: eval.pull });
        }
    }
    off.value += response(shifted[0].value, shifted[1].value, sums.value);
    off.pull += response(shifted[0].pull, shifted[1].pull, sums.pull);
    let flushed = FLUSH * 90.0 * z.len() as f64;
    let mut dlogits = vec![0.0; z.len()];
    reference::push_back_divergence(divergence, temperature, z, u, &sums, factor, &mut dlogits)
        .expect("finite");
    let tolerances = entries.iter().zip(of_pull).map(|(entry, pull)| {
        let (p, own) = (entry.p(), grant.at(-entry.greater.ln().max(-90.0)) + of_mass);
        let others = p * (off.pull + own * sums.pull.abs());
        factor.abs() * (pull + others) + FLUSH * 90.0 * factor.abs().max(1.0)
    });
    Truth {
        value: sums.value,
        value_tolerance: off.value + flushed,
        tolerances: tolerances.collect(),
        dlogits,
    }
}

struct Got<E> {
    totals: Totals,
    losses: Vec<f32>,
    divergences: Vec<f32>,
    dlogits: Vec<E>,
}

fn batch(matrix: &Matrix<impl Element>) -> Batch<'_> {
    Batch::new(shape(matrix), &matrix.targets).expect("a batch")
}

fn shape(matrix: &Matrix<impl Element>) -> Shape {
    Shape::new(matrix.targets.len(), matrix.vocab)
        .and_then(|s| s.with_stride(matrix.stride))
        .expect("a shape")
}

#[allow(clippy::too_many_arguments)]
fn evaluate<E: Element, U: Element>(
    runner: &Runner,
    objective: Option<&Objective>,
    distillation: &Distillation<AnyDivergence>,
    reduction: Reduction,
    batch: &Batch<'_>,
    logits: &[E],
    teacher: Teacher<'_, U>,
    in_place: bool,
) -> Result<Got<E>, Error> {
    let rows = batch.shape().rows();
    // Whoever leaves an entry out shows it.
    let mut dlogits = if in_place { logits.to_vec() } else { vec![E::from_f32(f32::NAN); logits.len()] };
    let (mut losses, mut divergences) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
    let outputs = PairOutputs {
        outputs: Outputs { losses: Some(&mut losses), ..Outputs::default() },
        divergences: Some(&mut divergences),
    };
    let io = if in_place {
        Logits::InPlace(&mut dlogits)
    } else {
        Logits::OutOfPlace { logits, dlogits: &mut dlogits }
    };
    let totals = match objective {
        Some(objective) => {
            runner.evaluate_pair(objective, distillation, reduction, batch, io, teacher, outputs)
        }
        None => runner.evaluate_pair(&Unjudged, distillation, reduction, batch, io, teacher, outputs),
    }?;
    Ok(Got { totals, losses, divergences, dlogits })
}

/// The largest errors of values and of gradients, as shares of what is granted.
#[derive(Default)]
struct Worst(f64, f64);

fn check<E: Element, U: Element>(
    divergence: AnyDivergence,
    turn: usize,
    student: &Matrix<E>,
    teacher: &Matrix<U>,
    worst: &mut [Worst; 2],
) {
    let temperature = [1.0, 1.0, 2.0, 0.5][turn % 4];
    let (lambda, share) = ([1.0, 0.1, -0.5][turn % 3], [0.3, 1.0][turn % 2]);
    let objective = [None, Some("nll"), Some("dft"), None, Some("power:alpha=2")][turn % 5];
    let objective = objective.map(|spec| Objective::parse(spec).expect("a spec"));
    let mut distillation = Distillation::new(divergence, lambda)
        .and_then(|d| d.with_temperature(temperature))
        .and_then(|d| d.with_objective_weight(share))
        .expect("in the domains");
    if turn.is_multiple_of(2) {
        distillation = distillation.with_square();
    }
    let factor = distillation.gradient_factor();
    let rows = student.targets.len();
    let truths = |grant| -> Vec<_> {
        let of_row = |row: usize| {
            let (z, u) = (student.row(row), teacher.row(row));
            let of_objective = objective.as_ref().map(|objective| {
                let target = student.targets[row] as usize;
                oracle::truth_of(&z, target, objective, f64::from(share), grant)
            });
            (truth(&divergence, temperature, &z, &u, 0.0, factor, grant), of_objective)
        };
        (0..rows).map(of_row).collect()
    };
    let truths = [Grant::CPU, Grant::GPU].map(truths);
    for runner in Runner::all() {
        let at = usize::from(runner.grant() == Grant::GPU);
        let (truths, worst) = (&truths[at], &mut worst[at]);
        let of_teacher = Teacher::new(shape(teacher), &teacher.logits).expect("a teacher");
        let got = evaluate(
            runner,
            objective.as_ref(),
            &distillation,
            Reduction::Sum,
            &batch(student),
            &student.logits,
            of_teacher,
            turn % 3 == 1,
        )
        .expect("finite rows");
        let mut loss_sum = 0.0;
        let mut loss_tolerance = 1e-12;
        for (row, (of_pair, of_objective)) in truths.iter().enumerate() {
            let what = student.what[row];
            let at = || {
                format!(
                    "{divergence:?} at {temperature}, {objective:?}, {runner}, {} from {}, vocab {}, row {row} ({what})",
                    E::DTYPE,
                    U::DTYPE,
                    student.vocab
                )
            };
            let judge = |what: &str, got: f64, want: f64, tolerance: f64, rounding: f64| {
                let share = ((got - want).abs() - rounding).max(0.0) / tolerance;
                assert!(share <= 1.0, "{}: {what} is {got:e}, expected {want:e}, off by {share:.2}", at());
                share
            };
            let round = |x: f64| x.abs() * f64::from(f32::EPSILON) / 2.0;
            let (value, tolerance) = (of_pair.value, of_pair.value_tolerance);
            let got_value = f64::from(got.divergences[row]);
            worst.0 = worst.0.max(judge("the divergence", got_value, value, tolerance, round(value)));
            let kink = of_objective.as_ref().is_some_and(|truth| truth.on_a_kink);
            let (loss, of_loss) =
                of_objective.as_ref().map_or((0.0, 0.0), |truth| (truth.loss, truth.loss_tolerance));
            let loss = f64::from(share) * loss + distillation.factor() * value;
            let of_loss = f64::from(share) * of_loss + distillation.factor().abs() * tolerance;
            judge("the loss", got.losses[row].into(), loss, of_loss, round(loss));
            loss_sum += loss;
            loss_tolerance += of_loss + round(loss);
            for j in 0..student.vocab {
                let got = f64::from(got.dlogits[row * student.stride + j].to_f32());
                let (mut want, mut tolerance) = (of_pair.dlogits[j], of_pair.tolerances[j]);
                if let Some(truth) = of_objective {
                    want += truth.dlogits[j];
                    tolerance +=
                        truth.tolerances[j] + 1e-7 * (truth.dlogits[j].abs() + of_pair.dlogits[j].abs());
                }
                if student.logits[row * student.stride + j].to_f32() == -INF {
                    assert_eq!(got, 0.0, "{}: the gradient of masked column {j}", at());
                }
                let rounding = half_spacing::<E>(want).max(round(want));
                if !kink {
                    let share = judge(&format!("column {j}"), got, want, tolerance, rounding);
                    worst.1 = worst.1.max(share);
                }
            }
            for j in student.vocab..student.stride {
                let padding = got.dlogits[row * student.stride + j].to_f32();
                assert!(padding.is_nan(), "{}: padding {j} was written: {padding}", at());
            }
        }
        let off = (got.totals.loss_sum - loss_sum).abs();
        assert!(off <= loss_tolerance, "{divergence:?}, {runner}: {:?}, expected {loss_sum}", got.totals);
    }
}

fn every_divergence<E: Element, U: Element>() {
    let (mut turn, mut all) = (0, Vec::new());
    for divergence in divergences() {
        let mut worst = <[Worst; 2]>::default();
        // Two classes; a vector more or less than one of any level; a block and one more.
        for (seed, vocab) in [2, 3, 8, 17, 33, 257, 4097].into_iter().enumerate() {
            let rows = inputs::rows(vocab, seed as u64);
            let of_teacher = teachers(&rows, 100 + seed as u64);
            let (student, teacher) =
                (Matrix::<E>::new(&rows, seed % 3), Matrix::<U>::new(&of_teacher, (seed + 1) % 3));
            check(divergence, turn, &student, &teacher, &mut worst);
            turn += 1;
        }
        all.push((divergence, worst));
    }
    println!("{} from {}: of what is granted, value and gradient, CPU and GPU", E::DTYPE, U::DTYPE);
    for (divergence, [Worst(value, gradient), Worst(of_gpu, gradient_of_gpu)]) in all {
        let name = format!("{divergence:?}");
        println!("  {name:50} {value:.3} {gradient:.3}   {of_gpu:.3} {gradient_of_gpu:.3}");
    }
}

#[test]
fn every_divergence_f32() {
    every_divergence::<f32, f32>();
}

#[test]
fn every_divergence_bf16_from_f16() {
    every_divergence::<bf16, f16>();
}

#[test]
fn every_divergence_f16_from_bf16() {
    every_divergence::<f16, bf16>();
}

#[test]
fn a_real_vocabulary() {
    let rows = inputs::rows(128_256, 7);
    let of_teacher = teachers(&rows, 9);
    let (student, teacher) = (Matrix::<f32>::new(&rows, 0), Matrix::<bf16>::new(&of_teacher, 1));
    let mut worst = <[Worst; 2]>::default();
    for (turn, divergence) in divergences().into_iter().enumerate().step_by(4) {
        check(divergence, turn, &student, &teacher, &mut worst);
    }
    for (of, Worst(value, gradient)) in ["CPU", "GPU"].into_iter().zip(worst) {
        println!("128,256 classes, {of}: value {value:.3}, gradient {gradient:.3} of what is granted");
    }
}

/// Rows that are nearly the same, where a difference of logarithms in f32 is all rounding error.
#[test]
fn small_divergences_keep_their_relative_accuracy() {
    let vocab = 50_257;
    let mut s = Stream::new(11);
    let z: Vec<f32> = (0..vocab).map(|_| 16.0 * s.uniform()).collect();
    println!("relative errors of value and gradient by the distance of the logits");
    for width in [1.0f32, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5] {
        let u: Vec<_> = z.iter().map(|z| z + width * (2.0 * s.uniform() - 1.0)).collect();
        let wide = |row: &[f32]| row.iter().map(|z| f64::from(*z)).collect::<Vec<_>>();
        let (wide_z, wide_u) = (wide(&z), wide(&u));
        let shape = Shape::new(1, vocab).expect("a shape");
        let batch = Batch::new(shape, &[0]).expect("a batch");
        let names =
            ["forward_kl", "reverse_kl", "mixed_kl", "jensen_shannon", "skew_kl", "skew_reverse_kl", "alpha"];
        for name in names {
            let values = AnyDivergence::parameters_of(name).expect("listed").iter().map(|p| p.default);
            let divergence = listed(name, &values.collect::<Vec<_>>());
            let distillation = Distillation::new(divergence, 1.0).expect("a factor");
            let sums = reference::divergence(&divergence, 1.0, &wide_z, &wide_u).expect("finite");
            let mut want = vec![0.0; vocab];
            reference::push_back_divergence(&divergence, 1.0, &wide_z, &wide_u, &sums, 1.0, &mut want)
                .expect("finite");
            let norm = |row: &mut dyn Iterator<Item = f64>| row.map(|d| d * d).sum::<f64>().sqrt();
            for runner in Runner::all() {
                let teacher = Teacher::new(shape, &u).expect("a teacher");
                let got = evaluate(runner, None, &distillation, Reduction::Sum, &batch, &z, teacher, false)
                    .expect("finite");
                let value = (f64::from(got.divergences[0]) / sums.value - 1.0).abs();
                let off = norm(&mut want.iter().zip(&got.dlogits).map(|(want, got)| want - f64::from(*got)));
                let gradient = off / norm(&mut want.iter().copied());
                println!(
                    "  {width:7.0e} {name:16} {:10} {:9.2e} {value:8.1e} {gradient:8.1e}",
                    runner.to_string(),
                    sums.value
                );
                // The rounding of logits up to 16 is 5e-7, and what is made of them is good to a few 1e-7 beside that.
                // Both normalisers are good to 3e-8 on the CPU: a shift of all log-ratios, of which the square is left. On
                // the GPU what they differ by is that of sums in f32, whose exponentials err alike in both.
                let shift = if runner.grant() == Grant::CPU { 3e-8 } else { 2e-7 };
                assert!(
                    value <= 5e-6 + (shift / f64::from(width)).powi(2),
                    "{divergence:?} at {width}, {runner}: {value:e}"
                );
                // Of the gradient nothing is left of it: all pulls share it, and their measured sum is taken off. Logarithms of
                // probabilities lie below 32, so that they round by 2^-20, and differences below 16 by 2^-21: 12 units in the
                // last place, and 4 for the exponentials. Measured: at most 1.6e-7, 1.4 units.
                assert!(
                    gradient <= 16.0 * f64::from(f32::EPSILON),
                    "{divergence:?} at {width}, {runner}: {gradient:e}"
                );
            }
        }
    }
}

#[test]
fn the_same_rows_have_neither_divergence_nor_gradient() {
    let rows = inputs::rows(1001, 3);
    let matrix = Matrix::<f32>::new(&rows, 0);
    for divergence in divergences() {
        for runner in Runner::all() {
            let distillation = Distillation::new(divergence, 1.0).expect("a factor");
            let teacher = Teacher::new(shape(&matrix), &matrix.logits).expect("a teacher");
            let batch = batch(&matrix);
            let got =
                evaluate(runner, None, &distillation, Reduction::Sum, &batch, &matrix.logits, teacher, false)
                    .expect("finite");
            assert_eq!((got.totals.loss_sum, got.totals.live), (0.0, 0), "{divergence:?}, {runner}");
            assert!(got.dlogits.iter().all(|d| *d == 0.0), "{divergence:?}, {runner}");
        }
    }
}

fn noise(rows: usize, vocab: usize, seed: u64) -> Matrix<f32> {
    let mut s = Stream::new(seed);
    let logits = (0..rows * vocab).map(|_| 8.0 * s.uniform()).collect();
    let targets = (0..rows).map(|_| s.below(vocab) as i32).collect();
    Matrix { logits, targets, stride: vocab, vocab, what: vec!["noise"; rows] }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads_nor_on_streaming() {
    // Large enough to be streamed, and rows that no number of threads divides.
    let (student, teacher) = (noise(67, 33_333, 3), noise(67, 33_333, 4));
    assert!(student.logits.len() * 4 >= STREAM_BYTES);
    let nll = Objective::parse("nll").expect("a spec");
    for (name, temperature) in [("forward_kl", 1.0), ("reverse_kl", 1.0), ("total_variation", 2.0)] {
        let distillation = Distillation::new(listed(name, &[]), 0.5)
            .and_then(|d| d.with_temperature(temperature))
            .expect("in the domain");
        let run = |threads: usize, in_place: bool| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let of_teacher = Teacher::new(shape(&teacher), &teacher.logits).expect("a teacher");
            let batch = batch(&student);
            let got = pool.install(|| {
                let reduction = Reduction::default();
                let z = &student.logits;
                evaluate(
                    &Runner::Cpu(Cpu::new()),
                    Some(&nll),
                    &distillation,
                    reduction,
                    &batch,
                    z,
                    of_teacher,
                    in_place,
                )
            });
            let Got { totals, losses, divergences, dlogits } = got.expect("finite rows");
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            (bits(&dlogits), bits(&losses), bits(&divergences), totals.loss_sum.to_bits())
        };
        let one = run(1, false);
        for threads in [1, 2, 3, 8] {
            assert!(run(threads, false) == one, "{name}: {threads} threads");
            assert!(run(threads, true) == one, "{name}: {threads} threads, in place");
        }
    }
}

#[test]
fn weights_ignored_rows_and_denominators() {
    let (mut student, teacher) = (noise(9, 300, 5), noise(9, 300, 6));
    student.targets[4] = IGNORE_INDEX;
    student.logits[4 * 300..5 * 300].fill(f32::NAN);
    // Row 5 is kept by the threshold, the others are not.
    student.logits[5 * 300 + student.targets[5] as usize] = 20.0;
    let objective = Objective::parse("thresholded:inner=nll,lo=0.2").expect("a spec");
    let weights = [1.0, 0.0, 2.0, 0.5, 9.0, 3.0, 1.0, 1.0, 1.0];
    let distillation = Distillation::new(listed("reverse_kl", &[]), 0.25).expect("a factor");
    let batch = batch(&student).with_weights(&weights).expect("weights");
    for runner in Runner::all() {
        let run = |reduction| {
            let of_teacher = Teacher::new(shape(&teacher), &teacher.logits).expect("a teacher");
            let z = &student.logits;
            evaluate(runner, Some(&objective), &distillation, reduction, &batch, z, of_teacher, false)
                .expect("finite rows")
        };
        let sum = run(Reduction::Sum);
        let totals = sum.totals;
        assert_eq!(
            (totals.valid, totals.kept, totals.ignored, totals.weight_sum, totals.live),
            (8, 1, 1, 9.5, 7)
        );
        assert_eq!((sum.losses[4], sum.divergences[4]), (0.0, 0.0));
        let gradient = |row: usize| &sum.dlogits[row * 300..][..300];
        assert!(
            gradient(4).iter().chain(gradient(1)).all(|d| *d == 0.0),
            "an ignored row, and one that weighs nothing"
        );
        // What the threshold drops keeps its divergence.
        assert!(gradient(0).iter().any(|d| *d != 0.0) && sum.losses[0] == 0.25 * sum.divergences[0]);
        let want: f64 =
            (0..9).filter(|row| *row != 4).map(|row| f64::from(weights[row] * sum.losses[row])).sum();
        assert!((totals.loss_sum - want).abs() < 1e-5 * want);
        for (reduction, denominator) in
            [(Denominator::Valid, 8.0), (Denominator::Kept, 1.0), (Denominator::Given(20.0), 20.0)]
        {
            let mean = run(Reduction::Mean(reduction));
            assert_eq!(
                (mean.totals.denominator, mean.totals.loss()),
                (denominator, totals.loss_sum / denominator)
            );
            for (a, b) in sum.dlogits.iter().zip(&mean.dlogits) {
                let want = f64::from(*a) / denominator;
                assert!(
                    (f64::from(*b) - want).abs() <= 2e-6 * want.abs() + 1e-9,
                    "{reduction:?}: {b} and {want}"
                );
            }
        }
    }
}

fn message<T>(result: Result<T, Error>) -> String {
    result.err().expect("a fault").to_string()
}

#[test]
fn bad_input() {
    let (student, teacher) = (noise(3, 40, 7), noise(3, 40, 8));
    let distillation = Distillation::new(listed("forward_kl", &[]), 1.0).expect("a factor");
    let batch = batch(&student);
    let of = |rows: usize, vocab: usize, logits: &[f32]| {
        Teacher::new(Shape::new(rows, vocab)?, logits).map(|_| ())
    };
    assert_eq!(message(of(3, 40, &teacher.logits[1..])), "teacher: expected 120 values, got 119");
    for runner in Runner::all() {
        let run = |logits: &[f32], teacher: Teacher<'_, f32>, reduction| {
            evaluate(runner, None, &distillation, reduction, &batch, logits, teacher, false)
        };
        let other = |rows: usize, vocab: usize| {
            let logits = vec![0.0f32; rows * vocab].leak();
            Teacher::new(Shape::new(rows, vocab).expect("a shape"), logits).expect("a teacher")
        };
        let (good, sum) =
            (Teacher::new(shape(&teacher), &teacher.logits).expect("a teacher"), Reduction::Sum);
        assert_eq!(
            message(run(&student.logits, other(2, 40), sum)),
            "teacher rows: expected 3 values, got 2"
        );
        assert_eq!(
            message(run(&student.logits, other(3, 41), sum)),
            "teacher vocab: expected 40 values, got 41"
        );
        assert_eq!(message(run(&student.logits[1..], good, sum)), "logits: expected 120 values, got 119");
        let given = Reduction::Mean(Denominator::Given(0.0));
        assert_eq!(
            message(run(&student.logits, good, given)),
            "denominator: expected a positive finite number, got 0"
        );
        let mapped = batch.with_map(LogitMap::softcap(30.0).expect("a cap")).expect("a map");
        let z = &student.logits;
        assert_eq!(
            message(evaluate(runner, None, &distillation, sum, &mapped, z, good, false)),
            "map: divergences and labels take logits as they are, expected a batch without a map"
        );
        let mut divergences = [0.0; 2];
        let outputs = PairOutputs { divergences: Some(&mut divergences), ..PairOutputs::default() };
        let io = Logits::Read(&student.logits);
        let got = runner.evaluate_pair(&Nll, &distillation, sum, &batch, io, good, outputs);
        assert_eq!(message(got), "divergences: expected 3 values, got 2");
    }
}

/// Every fault of a row, by every backend and at both temperatures: the message, and that all other rows are done.
#[test]
fn bad_rows() {
    let (student, teacher) = (noise(5, 41, 9), noise(5, 41, 10));
    let finite = "expected a finite number or -inf";
    let none = "is -inf in all 41 columns, so that no class has probability";
    type Change = fn(&mut [f32], &mut [f32]);
    let faults: [(Change, String); 7] = [
        (|z, _| z[3] = f32::NAN, format!("logits: row 2, column 3 is NaN, {finite}")),
        (|z, _| z[40] = INF, format!("logits: row 2, column 40 is inf, {finite}")),
        (|z, _| z.fill(-INF), format!("logits: row 2 {none}")),
        (|_, u| u[0] = f32::NAN, format!("teacher: row 2, column 0 is NaN, {finite}")),
        (|_, u| u[17] = INF, format!("teacher: row 2, column 17 is inf, {finite}")),
        (|_, u| u.fill(-INF), format!("teacher: row 2 {none}")),
        (
            |z, u| (z[38], u[38]) = (-INF, 1.5),
            "divergence: row 2 is infinite, because column 38 is -inf in logits and 1.5 in teacher".into(),
        ),
    ];
    for (change, text) in &faults {
        for (runner, temperature) in Runner::all().iter().flat_map(|runner| [(runner, 1.0), (runner, 2.0)]) {
            for name in ["forward_kl", "mixed_kl"] {
                let (mut z, mut u) = (student.logits.clone(), teacher.logits.clone());
                change(&mut z[2 * 41..3 * 41], &mut u[2 * 41..3 * 41]);
                let distillation = Distillation::new(listed(name, &[0.5]), 1.0)
                    .and_then(|d| d.with_temperature(temperature))
                    .expect("in the domain");
                for non_finite in [NonFinite::Error, NonFinite::NanRow] {
                    let batch = batch(&student).with_non_finite(non_finite);
                    let of_teacher = Teacher::new(shape(&teacher), &u).expect("a teacher");
                    let mut dlogits = vec![7.0f32; z.len()];
                    let (mut losses, mut values) = ([7.0f32; 5], [7.0f32; 5]);
                    let outputs = PairOutputs {
                        outputs: Outputs { losses: Some(&mut losses), ..Outputs::default() },
                        divergences: Some(&mut values),
                    };
                    let io = Logits::OutOfPlace { logits: &z, dlogits: &mut dlogits };
                    let sum = Reduction::Sum;
                    let got = runner.evaluate_pair(&Nll, &distillation, sum, &batch, io, of_teacher, outputs);
                    match non_finite {
                        NonFinite::Error => {
                            assert_eq!(&message(got), text, "{runner}, {name} at {temperature}")
                        }
                        NonFinite::NanRow => assert!(got.expect("no error").loss_sum.is_nan()),
                    }
                    for row in 0..5 {
                        let bad = row == 2;
                        assert!(
                            losses[row].is_nan() == bad && values[row].is_nan() == bad,
                            "{runner}, {text}: row {row}"
                        );
                        assert!(
                            dlogits[row * 41..][..41].iter().all(|d| d.is_nan() == bad),
                            "{runner}, {text}: row {row}"
                        );
                    }
                }
            }
        }
    }
}

/// A class that one row masks and the other does not, where that is finite.
#[test]
fn masks_of_one_row() {
    for divergence in divergences() {
        for (student_masks, at) in [(true, 5), (false, 5), (true, 32), (false, 32)] {
            let (mut student, mut teacher) = (noise(1, 33, 12), noise(1, 33, 13));
            if student_masks {
                student.logits[at] = -INF;
            } else {
                teacher.logits[at] = -INF;
            }
            let wide = |row: &[f32]| row.iter().map(|z| f64::from(*z)).collect::<Vec<_>>();
            let (z, u) = (wide(&student.logits), wide(&teacher.logits));
            let want = reference::divergence(&divergence, 1.0, &z, &u);
            for runner in Runner::all() {
                let distillation = Distillation::new(divergence, 1.0).expect("a factor");
                let of_teacher = Teacher::new(shape(&teacher), &teacher.logits).expect("a teacher");
                let batch = batch(&student);
                let got = evaluate(
                    runner,
                    None,
                    &distillation,
                    Reduction::Sum,
                    &batch,
                    &student.logits,
                    of_teacher,
                    false,
                );
                let Ok(_) = want else {
                    assert_eq!(got.err(), want.err(), "{divergence:?}, {runner}");
                    continue;
                };
                let (got, want) =
                    (got.expect("finite"), truth(&divergence, 1.0, &z, &u, 0.0, 1.0, runner.grant()));
                let off = (f64::from(got.divergences[0]) - want.value).abs();
                assert!(off <= want.value_tolerance + 1e-7 * want.value, "{divergence:?}, {runner}: {off:e}");
                for j in 0..33 {
                    let off = (f64::from(got.dlogits[j]) - want.dlogits[j]).abs();
                    let tolerance = want.tolerances[j] + 1e-7 * want.dlogits[j].abs();
                    assert!(
                        off <= tolerance,
                        "{divergence:?}, {runner}, column {j}: {off:e} and {tolerance:e}"
                    );
                }
                assert!(!student_masks || got.dlogits[at] == 0.0, "{divergence:?}, {runner}");
            }
        }
    }
}

/// Objectives that look at more than the target, and one whose third partial is not 0, at two temperatures.
#[test]
fn row_objectives_are_added() {
    let (student, teacher) = (noise(4, 2000, 14), noise(4, 2000, 15));
    let entropy = tokenloss::Entropy::new(0.7).expect("in the domain");
    for temperature in [1.0, 3.0] {
        let distillation = Distillation::new(listed("jensen_shannon", &[0.5]), 2.0)
            .and_then(|d| d.with_temperature(temperature))
            .expect("in the domain");
        let wide = |row: &[f32]| row.iter().map(|z| f64::from(*z)).collect::<Vec<_>>();
        let (z, u) = (wide(&student.logits), wide(&teacher.logits));
        let (mut losses, mut divergences, mut want) = (vec![0.0; 4], vec![0.0; 4], vec![0.0; z.len()]);
        let results = reference::Results {
            losses: &mut losses,
            summaries: &mut vec![tokenloss::RowSummary::nan(); 4],
            dlogits: &mut want,
        };
        let (sum, batch) = (Reduction::Sum, batch(&student));
        reference::evaluate_pair(&entropy, &distillation, sum, &batch, &z, &u, &mut divergences, results)
            .expect("finite");
        for runner in Runner::all() {
            let mut got = vec![0.0f32; z.len()];
            let of_teacher = Teacher::new(shape(&teacher), &teacher.logits).expect("a teacher");
            let mut of_rows = vec![0.0f32; 4];
            let outputs = PairOutputs {
                outputs: Outputs { losses: Some(&mut of_rows), ..Outputs::default() },
                ..PairOutputs::default()
            };
            let io = Logits::OutOfPlace { logits: &student.logits, dlogits: &mut got };
            runner
                .evaluate_pair(&entropy, &distillation, sum, &batch, io, of_teacher, outputs)
                .expect("finite");
            for (got, want) in of_rows.iter().zip(&losses) {
                assert!((f64::from(*got) / want - 1.0).abs() < 2e-6, "{got} and {want}");
            }
            for (j, (got, want)) in got.iter().zip(&want).enumerate() {
                // Differences of numbers of the size of p.
                let p = reference::entries(1.0, &z[j / 2000 * 2000..][..2000], &u[j / 2000 * 2000..][..2000])
                    .expect("finite")
                    .nth(j % 2000)
                    .map_or(0.0, |entry| entry.greater);
                assert!(
                    (f64::from(*got) - want).abs() < 2e-5 * p.max(want.abs()) + 1e-9,
                    "column {j}: {got:e}, {want:e}"
                );
                if j % 2000 == 20 {
                    break;
                }
            }
        }
    }
}
