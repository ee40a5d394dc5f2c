//! Pairs of rows of which the student's, or neither's, logits are given: every divergence, level and storage type against the
//! oracle, and what is promised beside accuracy. `cargo test --test suite linear::pairs -- --nocapture` prints the largest
//! errors as shares of what is granted.

use super::gradients::{REDUCTIONS, options};
use super::truth::{self, Sums, entries, share};
use super::{Case, Gradients, levels, objective};
use crate::divergences::{self, divergences, listed};
use crate::inputs::Stream;
use crate::oracle::{self, Grant};
use tokenloss::cpu::Cpu;
use tokenloss::divergence::{AnyDivergence, Distillation};
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Batch, Budget, Denominator, Element, Error, EvaluateLinearPair, Linear, LinearGradients, LinearOptions,
    LogitMap, NonFinite, Objective, Outputs, PairOutputs, Reduction, RowSummary, Shape, Teacher, TeacherRows,
    Totals, Unjudged, reference,
};

const INF: f32 = f32::INFINITY;

/// Where a teacher's logits come from.
enum Source<U> {
    /// Given, with padding.
    Given(Vec<U>),
    Linear(Case<U>),
}

/// A student and its teacher.
struct Pair<E, U> {
    student: Case<E>,
    teacher: Source<U>,
}

const PADDING: usize = 3;

impl<E: Element, U: Element> Pair<E, U> {
    /// Logits near the student's.
    fn given(student: Case<E>, seed: u64) -> Self {
        let mut s = Stream::new(seed);
        let mut logits = Vec::new();
        let mut z = vec![0.0; student.vocab];
        for (row, width) in (0..student.rows()).zip([0.01, 0.3, 3.0].into_iter().cycle()) {
            // Ignored rows are NaN, which nobody may read.
            reference::logits_of_row::<f64, E>(&student.linear(), row, &mut z);
            logits.extend(z.iter().map(|z| U::from_f32(*z as f32 + width * (s.uniform() - 0.5))));
            logits.extend([U::from_f32(f32::NAN); PADDING]);
        }
        Self { student, teacher: Source::Given(logits) }
    }

    /// Hidden states and a head of another width. It masks what the student does.
    fn linear(student: Case<E>, dim: usize, seed: u64) -> Self {
        let mut teacher = Case::<U>::new(student.vocab, dim, student.bias.is_some(), seed);
        for (own, other) in teacher.bias.iter_mut().flatten().zip(student.bias.iter().flatten()) {
            let masked = other.to_f32() == -INF;
            if masked || own.to_f32() == -INF {
                *own = U::from_f32(if masked { -INF } else { 0.25 });
            }
        }
        // The targets are not looked at, whatever they are.
        teacher.targets.iter_mut().for_each(|target| *target = target.max(&mut 0).rem_euclid(2));
        Self { student, teacher: Source::Linear(teacher) }
    }

    fn rows(&self) -> TeacherRows<'_, U> {
        let shape = Shape::new(self.student.rows(), self.student.vocab).expect("a shape");
        match &self.teacher {
            Source::Given(logits) => {
                let shape = shape.with_stride(self.student.vocab + PADDING).expect("a stride");
                TeacherRows::Logits(Teacher::new(shape, logits).expect("a teacher"))
            }
            Source::Linear(case) => TeacherRows::Linear(case.linear()),
        }
    }

    /// A teacher's row, and how far off it may be.
    fn row(&self, row: usize) -> (Vec<f64>, f64) {
        let vocab = self.student.vocab;
        match &self.teacher {
            Source::Given(logits) => {
                let row = &logits[row * (vocab + PADDING)..][..vocab];
                (row.iter().map(|u| f64::from(u.to_f32())).collect(), 0.0)
            }
            Source::Linear(case) => {
                let mut u = vec![0.0; vocab];
                reference::logits_of_row(&case.linear(), row, &mut u);
                (u, truth::of_logits(case, row))
            }
        }
    }

    fn least(&self, options: &LinearOptions) -> usize {
        let none = LinearOptions { budget: Budget(0), ..*options };
        let distillation = Distillation::new(listed("forward_kl", &[]), 1.0).expect("a factor");
        let linear = self.student.linear();
        let got = self.evaluate(
            Cpu::new(),
            None,
            &distillation,
            Reduction::Sum,
            &linear,
            &none,
            LinearGradients::<f32>::default(),
        );
        match got {
            Err(Error::Budget { needed, budget: 0 }) => needed,
            other => panic!("a budget of nothing: {:?}", other.map(|got| got.totals)),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn evaluate<G: Element>(
        &self,
        cpu: Cpu,
        objective: Option<&Objective>,
        distillation: &Distillation<AnyDivergence>,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        gradients: LinearGradients<'_, G>,
    ) -> Result<Got, Error> {
        let mut got = Got::new(linear.rows());
        let teacher = self.rows();
        let outputs = got.outputs();
        let totals = match objective {
            Some(objective) => cpu.evaluate_linear_pair(
                objective,
                distillation,
                reduction,
                linear,
                &teacher,
                options,
                gradients,
                outputs,
            ),
            None => cpu.evaluate_linear_pair(
                &Unjudged,
                distillation,
                reduction,
                linear,
                &teacher,
                options,
                gradients,
                outputs,
            ),
        };
        got.totals = Some(totals?);
        Ok(got)
    }
}

struct Got {
    totals: Option<Totals>,
    losses: Vec<f32>,
    log_p: Vec<f32>,
    divergences: Vec<f32>,
}

impl Got {
    fn new(rows: usize) -> Self {
        let nan = vec![f32::NAN; rows];
        Self { totals: None, losses: nan.clone(), log_p: nan.clone(), divergences: nan }
    }

    fn outputs(&mut self) -> PairOutputs<'_> {
        PairOutputs {
            outputs: Outputs {
                losses: Some(&mut self.losses),
                log_p: Some(&mut self.log_p),
                ..Outputs::default()
            },
            divergences: Some(&mut self.divergences),
        }
    }

    fn totals(&self) -> Totals {
        self.totals.expect("finite rows")
    }
}

/// What should come out of a row.
struct Row {
    loss: f64,
    loss_tolerance: f64,
    value: f64,
    value_tolerance: f64,
    log_p: f64,
    granted: f64,
    on_a_kink: bool,
}

struct Truth {
    /// `None` for ignored rows.
    rows: Vec<Option<Row>>,
    totals: Totals,
    sums: Sums,
}

fn truth<E: Element, U: Element>(
    pair: &Pair<E, U>,
    objective: Option<&Objective>,
    distillation: &Distillation<AnyDivergence>,
    reduction: Reduction,
) -> Truth {
    let (case, linear) = (&pair.student, pair.student.linear());
    let (rows, vocab, batch) = (case.rows(), case.vocab, case.batch());
    let mut z = vec![0.0; rows * vocab];
    let mut u = vec![0.0; rows * vocab];
    let mut of_logits = vec![0.0; rows];
    for row in (0..rows).filter(|row| case.targets[*row] >= 0) {
        reference::logits_of_row(&linear, row, &mut z[row * vocab..][..vocab]);
        let (teacher, off) = pair.row(row);
        u[row * vocab..][..vocab].copy_from_slice(&teacher);
        of_logits[row] = truth::of_logits(case, row) + off;
    }
    let (mut losses, mut values, mut dlogits) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; rows * vocab]);
    let mut summaries = vec![RowSummary::nan(); rows];
    let results =
        reference::Results { losses: &mut losses, summaries: &mut summaries, dlogits: &mut dlogits };
    let totals = match objective {
        Some(objective) => {
            reference::evaluate_pair(objective, distillation, reduction, &batch, &z, &u, &mut values, results)
        }
        None => {
            reference::evaluate_pair(&Unjudged, distillation, reduction, &batch, &z, &u, &mut values, results)
        }
    }
    .expect("finite rows");
    let scale = reduction.scale(totals.valid, totals.kept);
    let mut truth = Truth { rows: vec![], totals, sums: Sums::new(case) };
    for row in 0..rows {
        let Some(target) = batch.target(row) else {
            truth.rows.push(None);
            continue;
        };
        let columns = row * vocab..(row + 1) * vocab;
        let (z, u) = (&z[columns.clone()], &u[columns.clone()]);
        let weight = f64::from(case.weights[row]) * scale;
        let (divergence, temperature) = (distillation.divergence(), distillation.temperature());
        let factor = distillation.gradient_factor() * weight;
        let of_pair = divergences::truth(divergence, temperature, z, u, of_logits[row], factor);
        let share = f64::from(distillation.objective_weight());
        let grant = Grant { base: Grant::CPU.base + 2.0 * of_logits[row], ..Grant::CPU };
        let of_objective =
            objective.map(|objective| oracle::truth_of(z, target, objective, share * weight, grant));
        let mut tolerances = of_pair.tolerances.clone();
        if let Some(of_objective) = &of_objective {
            for (j, off) in tolerances.iter_mut().enumerate() {
                let both = of_objective.dlogits[j].abs() + of_pair.dlogits[j].abs();
                *off += of_objective.tolerances[j] + 1e-7 * both;
            }
        }
        truth.sums.add(case, row, &dlogits[columns], &tolerances);
        let of_loss = of_objective.as_ref().map_or(0.0, |truth| truth.loss_tolerance);
        truth.rows.push(Some(Row {
            loss: losses[row],
            loss_tolerance: share * of_loss + distillation.factor().abs() * of_pair.value_tolerance,
            value: values[row],
            value_tolerance: of_pair.value_tolerance,
            log_p: summaries[row].target.log_p,
            granted: of_objective.as_ref().map_or(grant.at(90.0), |truth| truth.granted),
            on_a_kink: of_objective.is_some_and(|truth| truth.on_a_kink),
        }));
    }
    truth
}

/// The largest errors of values, dhidden, dweight and dbias, as shares of what is granted.
#[derive(Default, Debug)]
struct Worst([f64; 4]);

fn check<E: Element, U: Element, G: Element>(
    pair: &Pair<E, U>,
    distillation: &Distillation<AnyDivergence>,
    objective: Option<&Objective>,
    turn: usize,
    worst: &mut Worst,
) {
    let case = &pair.student;
    let reduction = REDUCTIONS[turn / 3 % 4];
    let truth = truth(pair, objective, distillation, reduction);
    if truth.rows.iter().flatten().any(|row| row.on_a_kink) {
        return;
    }
    let linear = case.linear();
    for (step, cpu) in levels().enumerate() {
        let turn = turn + step;
        let options = options(turn, || pair.least(&LinearOptions::default()));
        let wanted = if turn.is_multiple_of(5) { [turn % 2 == 0, turn % 3 == 0, true] } else { [true; 3] };
        let at = |what: &str| {
            let shape =
                format!("{} from {} to {}, {} x {}", E::DTYPE, U::DTYPE, G::DTYPE, case.vocab, case.dim);
            format!(
                "{distillation:?}, {objective:?}, {}, {shape}, {reduction:?}, {options:?}: {what}",
                cpu.level()
            )
        };
        let mut gradients = Gradients::<G>::new(&linear);
        let got = pair
            .evaluate(cpu, objective, distillation, reduction, &linear, &options, gradients.wanted(wanted))
            .unwrap_or_else(|error| panic!("{}", at(&error.to_string())));
        let (totals, want) = (got.totals(), truth.totals);
        let counts = |t: &Totals| (t.valid, t.kept, t.ignored, t.live, t.denominator, t.weight_sum);
        assert_eq!(counts(&totals), counts(&want), "{}", at("counts"));
        let mut sum_tolerance = 1e-12 * want.loss_sum.abs();
        for (row, of_row) in truth.rows.iter().enumerate() {
            let Some(of_row) = of_row else {
                assert!((got.losses[row], got.divergences[row]) == (0.0, 0.0), "{}", at("an ignored row"));
                continue;
            };
            let round = |x: f64| x.abs() * f64::from(f32::EPSILON) / 2.0;
            let mut judge = |what: &str, got: f32, want: f64, tolerance: f64| {
                let at = || at(&format!("row {row} ({}), {what}", case.what[row]));
                worst.0[0] = worst.0[0].max(share(got.into(), want, tolerance, round(want), at));
            };
            judge("the divergence", got.divergences[row], of_row.value, of_row.value_tolerance);
            judge("the loss", got.losses[row], of_row.loss, of_row.loss_tolerance);
            judge("log_p", got.log_p[row], of_row.log_p, of_row.granted * of_row.log_p.abs().max(1.0));
            sum_tolerance +=
                f64::from(case.weights[row]) * (of_row.loss_tolerance + round(of_row.loss)) + 1e-30;
        }
        share(totals.loss_sum, want.loss_sum, sum_tolerance, 0.0, || at("loss_sum"));
        let sums = &truth.sums;
        if wanted[0] {
            let at = |i| at(&format!("dhidden of row {}, element {}", i / case.dim, i % case.dim));
            worst.0[1] = worst.0[1].max(entries(&gradients.dhidden, &sums.dhidden, 1.0, at));
        }
        if wanted[1] {
            let at = |i| at(&format!("dweight of column {}, element {}", i / case.dim, i % case.dim));
            worst.0[2] = worst.0[2].max(entries(&gradients.dweight, &sums.dweight, 1.0, at));
        }
        if wanted[2] {
            let at = |i| at(&format!("dbias of column {i}"));
            worst.0[3] = worst.0[3].max(entries(&gradients.dbias, &sums.dbias, 1.0, at));
        }
        let untouched = |d: &[f32]| d.iter().all(|d| *d == 0.0);
        assert!(wanted[0] || gradients.dhidden.iter().all(|d| d.to_f32().is_nan()), "{}", at("dhidden"));
        assert!(wanted[1] || untouched(&gradients.dweight), "{}", at("dweight"));
    }
}

fn every_divergence<E: Element, U: Element, G: Element>() {
    let (mut turn, mut worst) = (0, Worst::default());
    // Two classes; fewer than a vector of them; blocks and a few columns more. Dims of one element and of a vector and more.
    for (vocab, dim) in [(2, 3), (7, 1), (17, 65), (1100, 5), (4097, 3)] {
        for divergence in divergences() {
            let (temperature, lambda) = ([1.0, 1.0, 2.0, 0.5][turn % 4], [1.0, 0.1, -0.5][turn % 3]);
            let spec = [None, Some("nll"), Some("thresholded:inner=nll,lo=0.2"), None, Some("power:alpha=2")];
            let objective = spec[turn % 5].map(objective);
            let mut distillation = Distillation::new(divergence, lambda)
                .and_then(|d| d.with_temperature(temperature))
                .and_then(|d| d.with_objective_weight([0.3, 1.0][turn % 2]))
                .expect("in the domains");
            if turn.is_multiple_of(2) {
                distillation = distillation.with_square();
            }
            let student = Case::<E>::new(vocab, dim, turn % 3 != 1, turn as u64);
            let pair = if turn % 2 == 1 || turn % 7 == 0 {
                Pair::<E, U>::linear(student, 2 * dim + 1, turn as u64 + 100)
            } else {
                Pair::<E, U>::given(student, turn as u64 + 100)
            };
            check::<E, U, G>(&pair, &distillation, objective.as_ref(), turn, &mut worst);
            turn += 1;
        }
    }
    println!(
        "{} from {} to {}: of what is granted, values, dhidden, dweight and dbias {:.3?}",
        E::DTYPE,
        U::DTYPE,
        G::DTYPE,
        worst.0
    );
}

#[test]
fn every_divergence_f32() {
    every_divergence::<f32, f32, f32>();
}

#[test]
fn every_divergence_bf16_from_f16() {
    every_divergence::<bf16, f16, bf16>();
}

#[test]
fn every_divergence_f16_from_f32() {
    every_divergence::<f16, f32, f32>();
}
