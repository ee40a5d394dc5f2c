//! One loss over the ranks of an MPI job, each with a slice of the vocabulary, compared with the whole.
//!
//! `sharded-mpi compare` (the default) prints a table and exits with 1 on a mismatch; `sharded-mpi disagree` gives the last rank
//! another dim and expects the same error on every rank; `sharded-mpi control` gives it other hidden states, which
//! only the comparison can see.

mod collective;
mod problem;

use collective::Ranks;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};
use problem::{Problem, Size};
use std::convert::Infallible;
use std::error::Error;
use std::ops::Range;
use std::process::ExitCode;
use tokenloss::cpu::Cpu;
use tokenloss::half::{bf16, f16};
use tokenloss::reference::{self, LinearResults};
use tokenloss::{
    Denominator, Element, EvaluateLinear, LinearGradients, LinearOptions, Objective, Outputs, Reduction,
    RowSummary, ShardError, Sharded, Totals,
};

/// The head of a small model of today, at a vocabulary that an oracle in `f64` gets through, and at its own.
const SMALL: Size = Size { rows: 64, dim: 576, vocab: 8_003 };
const REAL: Size = Size { rows: 256, dim: 576, vocab: 128_256 };

type Case = (&'static str, Reduction);

const CASES: [Case; 3] = [
    ("nll", Reduction::Mean(Denominator::Valid)),
    ("thresholded:inner=power,lo=0.01", Reduction::Mean(Denominator::Kept)),
    ("dft", Reduction::Mean(Denominator::Given(100.0))),
];

type Failure = ShardError<tokenloss::Error, Infallible>;

fn main() -> ExitCode {
    let Some(universe) = mpi::initialize() else {
        eprintln!("MPI is already in use");
        return ExitCode::FAILURE;
    };
    let world = universe.world();
    let mode = std::env::args().nth(1).unwrap_or_else(|| "compare".to_owned());
    let good = match mode.as_str() {
        "compare" => compare(&world, false),
        "control" => compare(&world, true),
        "disagree" => disagree(&world),
        _ => Err(format!("{mode}: expected compare, control or disagree").into()),
    };
    match good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rank {}: {error}", world.rank());
            // The others may be waiting for this one.
            world.abort(1)
        }
    }
}

/// The columns of a rank: of about the same number, but not of the same.
fn columns(world: &SimpleCommunicator, vocab: usize) -> Range<usize> {
    let (rank, ranks) = (world.rank() as usize, world.size() as usize);
    let start = |rank: usize| if rank == 0 { 0 } else { (vocab * rank / ranks + 13 * rank).min(vocab) };
    start(rank)..if rank + 1 == ranks { vocab } else { start(rank + 1) }
}

/// The last rank has another dim. Every rank prints the same error.
fn disagree(world: &SimpleCommunicator) -> Result<bool, Box<dyn Error>> {
    let last = world.rank() + 1 == world.size();
    let size = Size { dim: SMALL.dim + usize::from(last), ..SMALL };
    let problem = Problem::<f32>::new(size, columns(world, size.vocab));
    let sharded = Sharded { backend: &Cpu::new(), collective: &Ranks(world) };
    let result = sharded.evaluate_linear(
        &Objective::parse("nll")?,
        Reduction::default(),
        &problem.linear()?,
        &LinearOptions::default(),
        LinearGradients::default(),
        Outputs::default(),
    );
    match result {
        Err(error @ ShardError::Disagree { what: "dim", .. }) => {
            println!("rank {}: {error}", world.rank());
            Ok(true)
        }
        other => Err(format!("expected a disagreement on dim, got {other:?}").into()),
    }
}

/// What a call returns; on ranks but the first `dweight` and `dbias` are of the shard.
struct Results<T> {
    totals: Totals,
    losses: Vec<T>,
    lse: Vec<T>,
    dhidden: Vec<T>,
    dweight: Vec<T>,
    dbias: Vec<T>,
}

impl<T: Copy + Default> Results<T> {
    fn new(rows: usize, dim: usize, columns: usize) -> Self {
        let zeros = |count: usize| vec![T::default(); count];
        Self {
            totals: Totals::default(),
            losses: zeros(rows),
            lse: zeros(rows),
            dhidden: zeros(rows * dim),
            dweight: zeros(columns * dim),
            dbias: zeros(columns),
        }
    }
}

impl<T> Results<T> {
    fn quantities(&self) -> [&[T]; 5] {
        [&self.losses, &self.lse, &self.dhidden, &self.dweight, &self.dbias]
    }
}

const QUANTITIES: [&str; 5] = ["losses", "lse", "dhidden", "dweight", "dbias"];

impl Results<f32> {
    fn call<F>(
        mut self,
        evaluate: impl FnOnce(LinearGradients<'_, f32>, Outputs<'_>) -> Result<Totals, F>,
    ) -> Result<Self, F> {
        let Self { totals, losses, lse, dhidden, dweight, dbias } = &mut self;
        let gradients =
            LinearGradients { dhidden: Some(dhidden), dweight: Some(dweight), dbias: Some(dbias) };
        let outputs = Outputs { losses: Some(losses), lse: Some(lse), ..Outputs::default() };
        *totals = evaluate(gradients, outputs)?;
        Ok(self)
    }
}

/// This rank's share of the work.
fn of_shard<E: Element>(
    world: &SimpleCommunicator,
    problem: &Problem<E>,
    objective: &Objective,
    reduction: Reduction,
) -> Result<Results<f32>, Failure> {
    let linear = problem.linear().map_err(ShardError::Backend)?;
    let sharded = Sharded { backend: &Cpu::new(), collective: &Ranks(world) };
    let options = LinearOptions::default();
    Results::new(linear.rows(), linear.dim(), linear.columns().len()).call(|gradients, outputs| {
        sharded.evaluate_linear(objective, reduction, &linear, &options, gradients, outputs)
    })
}

/// All of it in one process.
fn of_whole<E: Element>(
    problem: &Problem<E>,
    objective: &Objective,
    reduction: Reduction,
) -> Result<Results<f32>, tokenloss::Error> {
    let linear = problem.linear()?;
    let options = LinearOptions::default();
    Results::new(linear.rows(), linear.dim(), linear.columns().len()).call(|gradients, outputs| {
        Cpu::new().evaluate_linear(objective, reduction, &linear, &options, gradients, outputs)
    })
}

/// All of it in `f64`, in the plainest code.
fn of_oracle<E: Element>(
    problem: &Problem<E>,
    objective: &Objective,
    reduction: Reduction,
) -> Result<Results<f64>, tokenloss::Error> {
    let linear = problem.linear()?;
    let (rows, vocab) = (linear.rows(), linear.columns().len());
    let mut results = Results::new(rows, linear.dim(), vocab);
    let mut summaries = vec![RowSummary::nan(); rows];
    let into = LinearResults {
        losses: &mut results.losses,
        summaries: &mut summaries,
        dhidden: &mut results.dhidden,
        dweight: &mut results.dweight,
        dbias: &mut results.dbias,
        scratch: &mut vec![0.0; 2 * vocab],
    };
    results.totals = reference::evaluate_linear(objective, reduction, &linear, into)?;
    results.lse = summaries.iter().map(|summary| summary.stats.lse()).collect();
    Ok(results)
}

/// Whether totals, outputs and `dhidden` have the same bits on all ranks.
fn agrees(world: &SimpleCommunicator, results: &Results<f32>) -> bool {
    let totals = &results.totals;
    let counts = [totals.valid, totals.kept, totals.ignored, totals.live].map(|count| count as u64);
    let sums = [totals.loss_sum, totals.weight_sum, totals.denominator].map(f64::to_bits);
    let values = [&results.losses, &results.lse, &results.dhidden];
    let values = values.into_iter().flatten().map(|value| u64::from(value.to_bits()));
    let hash = counts
        .into_iter()
        .chain(sums)
        .chain(values)
        .fold(0u64, |hash, word| (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29));
    let mut all = vec![0u64; world.size() as usize];
    world.all_gather_into(&hash, &mut all[..]);
    all.iter().all(|theirs| *theirs == hash)
}

/// Appends the shards of all other ranks to rank 0's.
fn collect(world: &SimpleCommunicator, shard: &mut Vec<f32>) {
    if world.rank() > 0 {
        return world.process_at_rank(0).send(&shard[..]);
    }
    for rank in 1..world.size() {
        shard.extend(world.process_at_rank(rank).receive_vec::<f32>().0);
    }
}

/// The norm of the difference by the norm; NaN, a row that is ignored, must be in the same places.
fn error<T: Copy + Into<f64>>(got: &[f32], want: &[T]) -> f64 {
    let (mut difference, mut norm) = (0.0, 0.0);
    for (&got, &want) in got.iter().zip(want) {
        let (got, want) = (f64::from(got), want.into());
        if got.is_nan() != want.is_nan() {
            return f64::INFINITY;
        }
        if !want.is_nan() {
            difference += (got - want) * (got - want);
            norm += want * want;
        }
    }
    if got.len() == want.len() { (difference / norm).sqrt() } else { f64::INFINITY }
}

fn errors<T: Copy + Into<f64>>(got: &Results<f32>, want: &Results<T>) -> [f64; 5] {
    let (got, want) = (got.quantities(), want.quantities());
    std::array::from_fn(|at| error(got[at], want[at]))
}

/// The table, and whether all of it holds.
struct Report {
    ranks: i32,
    good: bool,
}

impl Report {
    fn line(
        &mut self,
        title: &str,
        agrees: bool,
        got: &Totals,
        want: &Totals,
        errors: [f64; 5],
        limits: [f64; 5],
    ) {
        let counts =
            |totals: &Totals| (totals.valid, totals.kept, totals.ignored, totals.live, totals.denominator);
        // NaN is above every limit.
        let within = errors.iter().zip(limits).all(|(error, limit)| *error <= limit);
        let good = agrees && counts(got) == counts(want) && within;
        self.good &= good;
        print!("{:>5}  {title:<66}", self.ranks);
        errors.iter().zip(limits).for_each(|(error, limit)| print!("  {error:.1e} of {limit:.1e}"));
        println!("  {}", if good { "ok" } else { "MISMATCH" });
        if !agrees {
            println!("       the bits differ between ranks");
        }
        if counts(got) != counts(want) {
            println!("       totals: {got:?}, expected {want:?}");
        }
    }
}

fn compare(world: &SimpleCommunicator, control: bool) -> Result<bool, Box<dyn Error>> {
    let mut report = Report { ranks: world.size(), good: true };
    if world.rank() == 0 {
        print!("{:>5}  {:<67}", "ranks", "");
        QUANTITIES.iter().for_each(|quantity| print!("  {quantity:<18}"));
        println!();
    }
    let small = CASES.map(|case| (SMALL, case));
    let [first, ..] = small;
    if control {
        compare_type::<f32>(world, &[first], true, &mut report)?;
        return Ok(report.good);
    }
    compare_type::<f32>(world, &small, false, &mut report)?;
    compare_type::<f16>(world, &small, false, &mut report)?;
    // What heads of that size are held in.
    let real = (REAL, CASES[0]);
    compare_type::<bf16>(world, &[&small[..], &[real]].concat(), false, &mut report)?;
    Ok(report.good)
}

/// The small size against the oracle, and the real one against one process.
///
/// One process has an error against the oracle, of its `f32`; ranks are granted twice that, and a rounding each where
/// their shares are added. At the real size, where two such errors are compared, it is twice the sum of both.
fn compare_type<E: Element>(
    world: &SimpleCommunicator,
    cases: &[(Size, Case)],
    control: bool,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let first = world.rank() == 0;
    let roundings = f64::from(world.size()) * f64::from(f32::EPSILON) / 2.0;
    let mut worst = [0.0f64; 5];
    for &(size, (spec, reduction)) in cases {
        let objective = Objective::parse(spec)?;
        let mut problem = Problem::<E>::new(size, columns(world, size.vocab));
        if control && world.rank() + 1 == world.size() {
            problem.hidden.iter_mut().for_each(|h| *h = E::from_f32(h.to_f32() * 1.01));
        }
        let mut got = of_shard(world, &problem, &objective, reduction)?;
        let agrees = agrees(world, &got);
        collect(world, &mut got.dweight);
        collect(world, &mut got.dbias);
        if !first {
            continue;
        }
        let problem = Problem::<E>::new(size, 0..size.vocab);
        let whole = of_whole(&problem, &objective, reduction)?;
        let Size { rows, dim, vocab } = size;
        let title = format!("{spec:<32} {:<4} {rows:>3} x {dim} x {vocab:>6}", E::DTYPE.name());
        if size.vocab == SMALL.vocab {
            let oracle = of_oracle(&problem, &objective, reduction)?;
            let granted = errors(&whole, &oracle);
            worst = std::array::from_fn(|at| worst[at].max(granted[at]));
            let limits = granted.map(|error| 2.0 * error + roundings);
            report.line(
                &format!("{title} oracle"),
                agrees,
                &got.totals,
                &oracle.totals,
                errors(&got, &oracle),
                limits,
            );
        } else {
            let limits = worst.map(|error| 4.0 * error + roundings);
            report.line(
                &format!("{title} whole"),
                agrees,
                &got.totals,
                &whole.totals,
                errors(&got, &whole),
                limits,
            );
        }
    }
    Ok(())
}
