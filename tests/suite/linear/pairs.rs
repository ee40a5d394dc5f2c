//! Pairs of rows of which the student's, or neither's, logits are given: every divergence, backend and storage type against the
//! oracle, and what is promised beside accuracy. `cargo test --test suite linear::pairs -- --nocapture` prints the largest
//! errors as shares of what is granted.

use super::gradients::{REDUCTIONS, options};
use super::truth::{self, Sums, entries, share};
use super::{Case, Gradients, objective};
use crate::divergences::{self, divergences, listed};
use crate::inputs::Stream;
use crate::oracle::{self, Grant};
use crate::runner::Runner;
use tokenloss::divergence::{AnyDivergence, Distillation};
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Batch, Budget, Denominator, Element, Error, Linear, LinearGradients, LinearOptions, LogitMap, NonFinite,
    Objective, Outputs, PairOutputs, Reduction, RowSummary, Shape, Teacher, TeacherRows, Totals, Unjudged,
    reference,
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

/// Columns behind each row of given logits.
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
        teacher.targets.fill(1);
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

    fn least(&self, on: &Runner, options: &LinearOptions) -> usize {
        let none = LinearOptions { budget: Budget(0), ..*options };
        let distillation = Distillation::new(listed("forward_kl", &[]), 1.0).expect("a factor");
        let linear = self.student.linear();
        let mut all = Gradients::<f32>::new(&linear);
        let got = self.evaluate(on, None, &distillation, Reduction::Sum, &linear, &none, all.all());
        match got {
            Err(Error::Budget { needed, budget: 0 }) => needed,
            other => panic!("a budget of nothing: {:?}", other.map(|got| got.totals)),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn evaluate<G: Element>(
        &self,
        on: &Runner,
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
            Some(objective) => on.evaluate_linear_pair(
                objective,
                distillation,
                reduction,
                linear,
                &teacher,
                options,
                gradients,
                outputs,
            ),
            None => on.evaluate_linear_pair(
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
    granted: Grant,
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
        let of_pair = divergences::truth(divergence, temperature, z, u, of_logits[row], factor, granted);
        let share = f64::from(distillation.objective_weight());
        let grant = Grant { base: granted.base + 2.0 * of_logits[row], ..granted };
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

/// The best level of the CPU, and the GPU where there is one.
fn best() -> impl Iterator<Item = &'static Runner> {
    let all = Runner::all();
    all.iter().rfind(|on| on.is_cpu()).into_iter().chain(all.iter().filter(|on| !on.is_cpu()))
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
    let reduction = REDUCTIONS[turn / 3 % 4];
    let truths = [Grant::CPU, Grant::GPU].map(|grant| truth(pair, objective, distillation, reduction, grant));
    if truths[0].rows.iter().flatten().any(|row| row.on_a_kink) {
        return;
    }
    for (step, on) in Runner::all().iter().enumerate() {
        let truth = &truths[usize::from(!on.is_cpu())];
        let turn = turn + step;
        let options = options(turn, || pair.least(on, &LinearOptions::default()));
        let wanted = if turn.is_multiple_of(5) {
            [turn.is_multiple_of(2), turn.is_multiple_of(3), true]
        } else {
            [true; 3]
        };
        let call = Call { on, objective, distillation, reduction, options };
        call.compare::<E, U, G>(pair, truth, wanted, worst);
    }
}

/// One way through.
struct Call<'a> {
    on: &'a Runner,
    objective: Option<&'a Objective>,
    distillation: &'a Distillation<AnyDivergence>,
    reduction: Reduction,
    options: LinearOptions,
}

impl Call<'_> {
    fn compare<E: Element, U: Element, G: Element>(
        &self,
        pair: &Pair<E, U>,
        truth: &Truth,
        wanted: [bool; 3],
        worst: &mut Worst,
    ) {
        let Self { on, objective, distillation, reduction, options } = self;
        let (case, linear) = (&pair.student, pair.student.linear());
        let at = |what: &str| {
            let shape =
                format!("{} from {} to {}, {} x {}", E::DTYPE, U::DTYPE, G::DTYPE, case.vocab, case.dim);
            format!("{distillation:?}, {objective:?}, {on}, {shape}, {reduction:?}, {options:?}: {what}")
        };
        let mut gradients = Gradients::<G>::new(&linear);
        let got = pair
            .evaluate(on, *objective, distillation, *reduction, &linear, options, gradients.wanted(wanted))
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
            let pair = if turn % 2 == 1 || turn.is_multiple_of(7) {
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

/// A vocabulary of 262,144, held a few columns at a time.
#[test]
fn a_wide_vocabulary_in_a_small_budget() {
    let mut worst = Worst::default();
    for (turn, name) in ["forward_kl", "jensen_shannon"].into_iter().enumerate() {
        let distillation = Distillation::new(listed(name, &[0.5][..turn]), 1.0)
            .and_then(|d| d.with_temperature([1.0, 2.0][turn]))
            .expect("in the domain");
        let mut student = Case::<f32>::new(262_144, 2, false, 5);
        // Three rows are enough.
        (4..student.rows()).for_each(|row| student.targets[row] = tokenloss::IGNORE_INDEX);
        let pair = Pair::<f32, bf16>::linear(student, 3, 6);
        let nll = objective("nll");
        for on in best() {
            let truth = truth(&pair, Some(&nll), &distillation, Reduction::Sum, on.grant());
            let least = pair.least(on, &LinearOptions::default());
            assert!(least < 1 << 14, "{on}: {least} bytes");
            for budget in [1 << 16, 1 << 19] {
                let options = LinearOptions { budget: Budget(budget), ..LinearOptions::default() };
                let (objective, reduction) = (Some(&nll), Reduction::Sum);
                let call = Call { on, objective, distillation: &distillation, reduction, options };
                call.compare::<f32, bf16, f32>(&pair, &truth, [true; 3], &mut worst);
            }
        }
    }
    println!("262,144 columns: of what is granted, values, dhidden, dweight and dbias {:.3?}", worst.0);
}

/// With the bytes that the error asks for the call works, and with one less it does not. Both sides count.
#[test]
fn the_least_budget_is_the_least() {
    let distillation = Distillation::new(listed("reverse_kl", &[]), 1.0).expect("a factor");
    let default = LinearOptions::default();
    let check = |pair: &dyn Fn(LinearOptions) -> (usize, Result<Got, Error>), options: LinearOptions| {
        let needed = pair(LinearOptions { budget: Budget(0), ..options }).0;
        let of = |budget| pair(LinearOptions { budget: Budget(budget), ..options }).1;
        assert_eq!(of(needed - 1).err(), Some(Error::Budget { needed, budget: needed - 1 }));
        assert!(of(needed).expect("within the budget").totals().loss().is_finite());
        needed
    };
    let run = |on: &Runner, pair: &Pair<f32, bf16>, options: LinearOptions| {
        let (linear, least) = (pair.student.linear(), LinearOptions { budget: default.budget, ..options });
        let all = &mut Gradients::<f32>::new(&linear);
        let (sum, all) = (Reduction::Sum, all.all());
        (pair.least(on, &least), pair.evaluate(on, None, &distillation, sum, &linear, &options, all))
    };
    for (chunk_vocab, block_tolerance) in [(None, 0.0), (Some(5), 0.0), (None, 1e-5)] {
        let options = LinearOptions { chunk_vocab, block_tolerance, ..default };
        let student = || Case::<f32>::new(1100, 24, true, 3);
        let given = Pair::given(student(), 4);
        let narrow = Pair::linear(student(), 24, 4);
        let wide = Pair::linear(student(), 600, 4);
        let pairs = [given, narrow, wide];
        // On a GPU there is no such tolerance, and tiles of 5 columns are tens of thousands of dispatches.
        for on in best().filter(|on| on.is_cpu() || (chunk_vocab.is_none() && block_tolerance == 0.0)) {
            let [given, narrow, wide] =
                pairs.each_ref().map(|pair| check(&|options| run(on, pair, options), options));
            assert!(given < narrow && narrow <= wide, "{on}: {given}, {narrow}, {wide}");
            if on.is_cpu() {
                let alone = super::least(&student().linear(), &options);
                assert!(alone < given && narrow < wide, "{alone}, {given}, {narrow}, {wide}");
            }
        }
    }
}

fn on_any_number_of_threads<E: Element>(linear: bool) {
    // Several blocks and several slices of a hidden state, none of which a number of threads divides.
    let student = Case::<E>::noise(35, 2201, 520, 6);
    let pair = if linear {
        let mut teacher = Case::<E>::noise(35, 2201, 300, 7);
        teacher.targets.clone_from(&student.targets);
        Pair { student, teacher: Source::Linear(teacher) }
    } else {
        Pair::given(student, 7)
    };
    let default = LinearOptions::default();
    let filter = LinearOptions { row_tolerance: 1e-6, block_tolerance: 1e-5, ..default };
    let distillation = Distillation::new(listed("reverse_kl", &[]), 0.5)
        .and_then(|d| d.with_temperature(if linear { 2.0 } else { 1.0 }))
        .expect("in the domain");
    let power = objective("power:alpha=1");
    for (options, reduction) in [
        (default, Reduction::Sum),
        (default, Reduction::Mean(Denominator::Kept)),
        (LinearOptions { chunk_rows: Some(11), ..default }, Reduction::Sum),
        (LinearOptions { chunk_vocab: Some(1500), ..default }, Reduction::Sum),
        (LinearOptions { budget: Budget(1 << 20), ..filter }, Reduction::Sum),
    ] {
        let run = |on: &Runner, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let linear = pair.student.linear();
            let mut all = Gradients::<E>::new(&linear);
            let got = pool.install(|| {
                pair.evaluate(on, Some(&power), &distillation, reduction, &linear, &options, all.all())
            });
            let got = got.expect("finite rows");
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            (all.bits(), bits(&got.losses), bits(&got.divergences), got.totals().loss_sum.to_bits())
        };
        for on in best().filter(|on| on.is_cpu() || options.block_tolerance == 0.0) {
            let one = run(on, 1);
            for threads in if on.is_cpu() { &[1, 2, 3, 8][..] } else { &[1] } {
                let same = run(on, *threads) == one;
                assert!(same, "{on}, {}, {options:?}, {reduction:?}: {threads} threads", E::DTYPE);
            }
        }
    }
}

#[test]
fn on_any_number_of_threads_f32() {
    on_any_number_of_threads::<f32>(true);
    on_any_number_of_threads::<f32>(false);
}

#[test]
fn on_any_number_of_threads_bf16() {
    on_any_number_of_threads::<bf16>(true);
}

fn message<T>(result: Result<T, Error>) -> String {
    result.err().expect("a fault").to_string()
}

/// Every fault of a row, whatever the way through: the message, and that all other rows are done.
#[test]
fn bad_rows() {
    let (vocab, dim) = (1100, 3);
    let finite = "expected a finite number or -inf";
    let none = format!("is -inf in all {vocab} columns, so that no class has probability");
    type Change = fn(&mut Case<f32>, &mut Source<f32>);
    fn given(teacher: &mut Source<f32>) -> &mut [f32] {
        match teacher {
            Source::Given(logits) => &mut logits[4 * (1100 + PADDING)..][..1100],
            Source::Linear(_) => panic!("logits"),
        }
    }
    fn case(teacher: &mut Source<f32>) -> &mut Case<f32> {
        match teacher {
            Source::Given(_) => panic!("hidden states"),
            Source::Linear(case) => case,
        }
    }
    let faults: [(bool, Change, String); 6] = [
        (
            false,
            |student, _| student.hidden[4 * 3 + 1] = f32::NAN,
            format!("logits: row 4, column 0 is NaN, {finite}"),
        ),
        (false, |_, u| given(u)[1030] = f32::NAN, format!("teacher: row 4, column 1030 is NaN, {finite}")),
        (false, |_, u| given(u)[1099] = INF, format!("teacher: row 4, column 1099 is inf, {finite}")),
        (false, |_, u| given(u).fill(-INF), format!("teacher: row 4 {none}")),
        (true, |_, u| case(u).hidden[4 * 7] = f32::NAN, format!("teacher: row 4, column 0 is NaN, {finite}")),
        (
            false,
            |student, u| {
                let bias = student.bias.as_ref().expect("a bias");
                let masked = (500..1100).find(|j| bias[*j] == -INF).expect("a mask");
                given(u)[masked] = 1.5;
            },
            "divergence: row 4 is infinite, because column 500 is -inf in logits and 1.5 in teacher".into(),
        ),
    ];
    let power = objective("power:alpha=0.5");
    for (linear, change, text) in &faults {
        for (temperature, denominator) in
            [(1.0, Denominator::Valid), (2.0, Denominator::Kept), (1.0, Denominator::Kept)]
        {
            let student = || {
                let mut student = Case::<f32>::new(vocab, dim, true, 7);
                student.weights.fill(1.0);
                // The same columns masked, whatever the targets.
                let bias = student.bias.iter_mut().flatten();
                bias.enumerate().for_each(|(j, b)| *b = if j % 7 == 3 { -INF } else { b.max(-1.0) });
                student
            };
            let mut pair = if *linear {
                Pair::<f32, f32>::linear(student(), 7, 8)
            } else {
                Pair::<f32, f32>::given(student(), 8)
            };
            let distillation = Distillation::new(listed("forward_kl", &[]), 1.0)
                .and_then(|d| d.with_temperature(temperature))
                .expect("in the domain");
            let reduction = Reduction::Mean(denominator);
            // The bad row weighs nothing and misses nothing: its share of the sums is 0.
            pair.student.weights[4] = 0.0;
            let truth = truth(&pair, Some(&power), &distillation, reduction, Grant::GPU);
            pair.student.weights[4] = 1.0;
            change(&mut pair.student, &mut pair.teacher);
            let ways = [(None, None), (Some(4), None), (None, Some(100)), (Some(1), Some(7))];
            let ways =
                ways.into_iter().flat_map(|way| [NonFinite::Error, NonFinite::NanRow].map(|n| (way, n)));
            for (((chunk_rows, chunk_vocab), non_finite), on) in
                ways.flat_map(|way| best().map(move |on| (way, on)))
            {
                if !on.is_cpu() && chunk_vocab == Some(7) {
                    // Thousands of dispatches, on a driver that is a CPU, too.
                    continue;
                }
                let options = LinearOptions { chunk_rows, chunk_vocab, ..LinearOptions::default() };
                let linear = pair.student.of_batch(pair.student.batch().with_non_finite(non_finite));
                let mut all = Gradients::<f32>::new(&linear);
                let mut got = Got::new(linear.rows());
                let teacher = pair.rows();
                let totals = on.evaluate_linear_pair(
                    &power,
                    &distillation,
                    reduction,
                    &linear,
                    &teacher,
                    &options,
                    all.all(),
                    got.outputs(),
                );
                let at = |i: usize| format!("{on}, {text}, {options:?}, {non_finite:?}: entry {i}");
                for row in (0..linear.rows()).filter(|row| pair.student.targets[*row] >= 0) {
                    let bad = (got.losses[row].is_nan(), got.divergences[row].is_nan());
                    assert_eq!(bad, (row == 4, row == 4), "{}", at(row));
                }
                let dhidden = &mut all.dhidden;
                assert!(dhidden[4 * dim..5 * dim].iter().all(|d| d.is_nan()), "{}", at(4));
                dhidden[4 * dim..5 * dim].fill(0.0);
                entries(dhidden, &truth.sums.dhidden, 1.0, at);
                if non_finite == NonFinite::Error {
                    assert_eq!(&message(totals), text, "{options:?}");
                    entries(&all.dweight, &truth.sums.dweight, 1.0, at);
                    entries(&all.dbias, &truth.sums.dbias, 1.0, at);
                } else {
                    assert!(totals.expect("no error").loss().is_nan());
                    assert!(all.dweight.iter().chain(&all.dbias).all(|d| d.is_nan()), "{}", at(0));
                }
            }
        }
    }
}

#[test]
fn bad_input() {
    best().for_each(refused);
}

fn refused(on: &Runner) {
    let pair = Pair::<f32, f32>::linear(Case::new(40, 3, false, 1), 5, 2);
    let (case, options) = (&pair.student, LinearOptions::default());
    let rows = case.rows();
    let distillation = Distillation::new(listed("forward_kl", &[]), 1.0).expect("a factor");
    let run = |linear: &Linear<'_, f32>, teacher: &TeacherRows<'_, f32>, options: &LinearOptions| {
        let none = LinearGradients::<f32>::default();
        let (sum, outputs) = (Reduction::Sum, PairOutputs::default());
        message(on.evaluate_linear_pair(
            &Unjudged,
            &distillation,
            sum,
            linear,
            teacher,
            options,
            none,
            outputs,
        ))
    };
    let linear = case.linear();
    let columns = "columns: 1..40 is empty, or not what a vocab of 40 asks for";
    assert_eq!(run(&case.shard(1..40), &pair.rows(), &options), columns);
    let Source::Linear(teacher) = &pair.teacher else { panic!("hidden states") };
    assert_eq!(run(&linear, &TeacherRows::Linear(teacher.shard(1..40)), &options), columns);
    let map = "map: divergences and labels take logits as they are, expected a batch without a map";
    let mapped =
        |batch: Batch<'static>| batch.with_map(LogitMap::softcap(30.0).expect("a cap")).expect("a map");
    let leak = |case: &Case<f32>| -> &'static Case<f32> {
        let mut copy = Case::new(40, case.dim, false, 1);
        copy.hidden.clone_from(&case.hidden);
        copy.weight.clone_from(&case.weight);
        Box::leak(Box::new(copy))
    };
    let (student, of_teacher) = (leak(case), leak(teacher));
    assert_eq!(run(&student.of_batch(mapped(student.batch())), &pair.rows(), &options), map);
    let of_teacher = TeacherRows::Linear(of_teacher.of_batch(mapped(of_teacher.batch())));
    assert_eq!(run(&linear, &of_teacher, &options), map);
    // Other rows, and another vocabulary, given and not.
    for (n, vocab, text) in [
        (rows - 1, 40, format!("teacher rows: expected {rows} values, got {}", rows - 1)),
        (rows, 41, "teacher vocab: expected 40 values, got 41".into()),
    ] {
        let shape = Shape::new(n, vocab).expect("a shape");
        let (logits, targets) = (vec![0.0f32; n * vocab], vec![0; n]);
        let (hidden, weight) = (vec![0.0f32; n * 2], vec![0.0f32; vocab * 2]);
        let given = TeacherRows::Logits(Teacher::new(shape, &logits).expect("a teacher"));
        assert_eq!(run(&linear, &given, &options), text);
        let batch = Batch::new(shape, &targets).expect("a batch");
        let form = Linear::new(batch, 2, &hidden, &weight).expect("a linear form");
        assert_eq!(run(&linear, &TeacherRows::Linear(form), &options), text);
    }
    let chunk = LinearOptions { chunk_rows: Some(0), ..options };
    assert_eq!(run(&linear, &pair.rows(), &chunk), "chunk_rows: expected at least 1, got 0");
    let tolerance = LinearOptions { block_tolerance: -1.0, ..options };
    assert_eq!(
        run(&linear, &pair.rows(), &tolerance),
        "block_tolerance: expected a finite number of at least 0, got -1"
    );
    let text = run(&linear, &pair.rows(), &LinearOptions { budget: Budget(10), ..options });
    assert!(text.starts_with("budget: 10 bytes hold not even one row and a few columns"), "{text}");
    if on.is_cpu() {
        // Whatever gradients are wanted.
        assert!(text.ends_with(&format!("expected at least {}", pair.least(on, &options))), "{text}");
    }
    let teacher = pair.rows();
    let all = |reduction, gradients: LinearGradients<'_, f32>, outputs: PairOutputs<'_>| {
        message(on.evaluate_linear_pair(
            &Unjudged,
            &distillation,
            reduction,
            &linear,
            &teacher,
            &options,
            gradients,
            outputs,
        ))
    };
    let short = &mut vec![0.0f32; rows * 3 - 1];
    let gradients = LinearGradients { dhidden: Some(&mut short[..]), dweight: None, dbias: None };
    assert_eq!(
        all(Reduction::Sum, gradients, PairOutputs::default()),
        format!("dhidden: expected {} values, got {}", rows * 3, rows * 3 - 1)
    );
    let outputs = PairOutputs { divergences: Some(&mut short[..1]), ..PairOutputs::default() };
    assert_eq!(
        all(Reduction::Sum, LinearGradients::default(), outputs),
        format!("divergences: expected {rows} values, got 1")
    );
    let given = Reduction::Mean(Denominator::Given(0.0));
    assert_eq!(
        all(given, LinearGradients::default(), PairOutputs::default()),
        "denominator: expected a positive finite number, got 0"
    );
}

/// What a row tolerance leaves out is bounded as its documentation says, and by default nothing is.
#[test]
fn tolerances() {
    let (rows, vocab, dim) = (120, 1100, 24);
    let pair = Pair::<f32, f32>::given(Case::noise(rows, vocab, dim, 3), 4);
    let reduction = Reduction::default();
    for (name, on) in
        ["forward_kl", "reverse_kl"].into_iter().flat_map(|name| best().map(move |on| (name, on)))
    {
        let distillation = Distillation::new(listed(name, &[]), 1.0).expect("a factor");
        let truth = truth(&pair, None, &distillation, reduction, on.grant());
        for chunk_vocab in [None, Some(500)] {
            let exact = LinearOptions { chunk_rows: Some(50), chunk_vocab, ..LinearOptions::default() };
            let run = |options: LinearOptions| {
                let linear = pair.student.linear();
                let mut all = Gradients::<f32>::new(&linear);
                let got = pair.evaluate(on, None, &distillation, reduction, &linear, &options, all.all());
                (got.expect("finite rows"), all)
            };
            // Between rows that differ by 0.01 and those that differ by 0.3.
            let tolerance = 5e-4f32;
            let (all, want) = run(exact);
            let (some, got) = run(LinearOptions { row_tolerance: tolerance, ..exact });
            let is_nothing = |d: &[f32]| d.iter().all(|d| *d == 0.0);
            let dropped: Vec<_> = (0..rows)
                .filter(|row| {
                    let of_row = row * dim..(row + 1) * dim;
                    is_nothing(&got.dhidden[of_row.clone()]) && !is_nothing(&want.dhidden[of_row])
                })
                .collect();
            assert!(dropped.len() > 3 && dropped.len() < 100, "{dropped:?}");
            assert_eq!(some.totals().live, all.totals().live - dropped.len());
            assert_eq!(some.totals().loss_sum, all.totals().loss_sum, "losses are exact");
            let widest = pair.student.weight.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            for (i, (entry, got)) in truth.sums.dhidden.iter().zip(&got.dhidden).enumerate() {
                let left_out = dropped.contains(&(i / dim));
                let bound = if left_out { f64::from(tolerance * widest) } else { 0.0 };
                let off = (entry.want - f64::from(*got)).abs();
                assert!(off <= bound + entry.tolerance + 1e-7 * entry.want.abs(), "{name}: {off:e}");
            }
            // Rows that differ by 0.3 and more have a gradient of more than this, but those of a confident student.
            let may_be = |row: &usize| row.is_multiple_of(3) || row.is_multiple_of(10);
            assert!(dropped.iter().all(may_be), "{name}: {dropped:?}");

            if !on.is_cpu() {
                continue;
            }
            let (rough, got) = run(LinearOptions { block_tolerance: 1e-6, ..exact });
            assert_eq!(rough.totals(), all.totals(), "the filter leaves losses and counts alone");
            let off = got.dhidden.iter().zip(&want.dhidden).filter(|(a, b)| a != b).count();
            assert!(off > 0, "a filter that left nothing out");
            for (i, (entry, got)) in truth.sums.dhidden.iter().zip(&got.dhidden).enumerate() {
                let sum: f64 =
                    (0..vocab).map(|j| f64::from(pair.student.weight[j * dim + i % dim].abs())).sum();
                let off = (entry.want - f64::from(*got)).abs();
                assert!(off <= 1e-6 * sum + entry.tolerance + 1e-7 * entry.want.abs(), "{name}: {off:e}");
            }
        }
    }
}

/// Rows that are the same have neither divergence nor gradient, and where all are ignored nothing is read.
#[test]
fn nothing_to_do() {
    let distillation = Distillation::new(listed("skew_kl", &[0.1]), 1.0).expect("a factor");
    for (chunk_vocab, on) in [None, Some(300)].into_iter().flat_map(|chunk| best().map(move |on| (chunk, on)))
    {
        let options = LinearOptions { chunk_vocab, ..LinearOptions::default() };
        let case = || Case::<f32>::new(1100, 5, true, 9);
        let mut pair = Pair { student: case(), teacher: Source::Linear(case()) };
        for ignored in [false, true] {
            if ignored {
                pair.student.targets.fill(tokenloss::IGNORE_INDEX);
                pair.student.hidden.fill(f32::NAN);
            }
            let linear = pair.student.linear();
            let mut all = Gradients::<f32>::new(&linear);
            let reduction = Reduction::default();
            let got = pair
                .evaluate(on, None, &distillation, reduction, &linear, &options, all.all())
                .expect("no fault");
            assert_eq!((got.totals().loss(), got.totals().live), (0.0, 0), "{on}");
            assert!(all.bits().iter().all(|bits| *bits == 0));
        }
    }
}
