//! Ranks as threads, each with a slice of the vocabulary, against the oracle of the whole.

use crate::draw::parsed;
use num_traits::Float;
use std::fmt;
use std::ops::Range;
use std::sync::{Condvar, Mutex};
use std::time::Duration;
use tokenloss_core::reference::{self, LinearResults};
use tokenloss_core::{
    AnyToken, Backend, Batch, Budget, ClassMask, Collective, Denominator, Diagnostics, Element, Error,
    IGNORE_INDEX, Linear, LinearBackend, LinearGradients, LinearOptions, LogitMap, Logits, NonFinite,
    Outputs, Reduction, RowEval, RowObjective, RowPart, RowPartials, RowStats, RowSummary, Shape, ShardError,
    Sharded, Totals,
};

/// Where ranks meet: what each brought, and how many are here for which time.
struct Meeting {
    brought: Mutex<Vec<Vec<f64>>>,
    here: Mutex<(usize, usize)>,
    changed: Condvar,
}

/// A rank waited for the others in vain.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Alone;

impl fmt::Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the others do not come")
    }
}

impl std::error::Error for Alone {}

impl Meeting {
    fn new(ranks: usize) -> Self {
        let brought = Mutex::new(vec![Vec::new(); ranks]);
        Self { brought, here: Mutex::new((0, 0)), changed: Condvar::new() }
    }

    fn ranks(&self) -> usize {
        self.brought.lock().unwrap().len()
    }

    /// Returns once all ranks are here. A minute is a deadlock's, no test's.
    fn wait(&self) -> Result<(), Alone> {
        let ranks = self.ranks();
        let mut here = self.here.lock().unwrap();
        let (time, _) = *here;
        here.1 += 1;
        if here.1 == ranks {
            *here = (time + 1, 0);
            self.changed.notify_all();
            return Ok(());
        }
        let minute = Duration::from_secs(60);
        let waited = self.changed.wait_timeout_while(here, minute, |here| here.0 == time).unwrap();
        if waited.1.timed_out() { Err(Alone) } else { Ok(()) }
    }

    fn exchange(&self, rank: usize, mine: &[f64]) -> Result<Vec<Vec<f64>>, Alone> {
        self.brought.lock().unwrap()[rank] = mine.to_vec();
        self.wait()?;
        let all = self.brought.lock().unwrap().clone();
        self.wait()?;
        assert!(all.iter().all(|theirs| theirs.len() == mine.len()), "ranks are at different calls");
        Ok(all)
    }
}

struct Member<'a> {
    meeting: &'a Meeting,
    rank: usize,
}

impl Collective for Member<'_> {
    type Error = Alone;

    fn ranks(&self) -> usize {
        self.meeting.ranks()
    }

    fn all_gather(&self, mine: &[f64], all: &mut [f64]) -> Result<(), Alone> {
        all.copy_from_slice(&self.meeting.exchange(self.rank, mine)?.concat());
        Ok(())
    }

    fn all_sum(&self, values: &mut [f32]) -> Result<(), Alone> {
        let mine: Vec<_> = values.iter().copied().map(f64::from).collect();
        let all = self.meeting.exchange(self.rank, &mine)?;
        for (at, value) in values.iter_mut().enumerate() {
            *value = all.iter().fold(0.0, |sum, theirs| sum + theirs[at] as f32);
        }
        Ok(())
    }
}

/// Which move of a rank fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Move {
    Summarise,
    PushBack,
}

const FAILURE: Error = Error::Budget { needed: 2, budget: 1 };

/// The moves in the plainest code, in `f64`, rounded once.
struct Plain {
    fails: Option<Move>,
}

impl Backend for Plain {
    type Error = Error;

    fn summarise<E: Element>(
        &self,
        _: &Batch<'_>,
        _: &[E],
        _: &mut [RowSummary<f64>],
    ) -> Result<(), Self::Error> {
        unreachable!("logits are never held")
    }

    fn push_back<E: Element>(
        &self,
        _: &Batch<'_>,
        _: Logits<'_, E>,
        _: &[RowSummary<f64>],
        _: &[RowPartials<f64>],
    ) -> Result<(), Self::Error> {
        unreachable!("logits are never held")
    }
}

fn f64s<E: Element>(values: &[E]) -> impl Iterator<Item = f64> {
    values.iter().map(|value| value.to_f32().into())
}

impl LinearBackend for Plain {
    fn parts_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        _: &LinearOptions,
        parts: &mut [RowPart],
    ) -> Result<(), Error> {
        let mut logits = vec![0.0; linear.columns().len()];
        for (row, part) in parts.iter_mut().enumerate() {
            *part = RowPart::empty();
            if linear.batch().target(row).is_none() {
                continue;
            }
            reference::logits_of_row(linear, row, &mut logits);
            for (&logit, column) in logits.iter().zip(linear.columns()) {
                let column = column as u32;
                part.stats = part.stats.merge(RowStats::of(logit, column));
                if part.fault.is_none() && (logit.is_nan() || logit == f64::INFINITY) {
                    part.fault = Some((column, logit as f32));
                }
            }
            part.target_logit = linear.target(row).map(|target| logits[target]);
        }
        if self.fails == Some(Move::Summarise) { Err(FAILURE) } else { Ok(()) }
    }

    fn push_back_linear<E: Element, G: Element>(
        &self,
        linear: &Linear<'_, E>,
        _: &LinearOptions,
        summaries: &[RowSummary<f64>],
        partials: &[RowPartials<f64>],
        mut gradients: LinearGradients<'_, G>,
    ) -> Result<usize, Error> {
        let (dim, columns, batch) = (linear.dim(), linear.columns().len(), linear.batch());
        let (mut logits, mut dlogits) = (vec![0.0; columns], vec![0.0; columns]);
        let (mut dweight, mut dbias, mut live) = (vec![0.0; columns * dim], vec![0.0; columns], 0);
        for row in 0..linear.rows() {
            let mut dhidden = vec![0.0; dim];
            let bad = batch.target(row).is_some() && !summaries[row].stats.is_valid();
            if bad && batch.non_finite() == NonFinite::Error {
                dhidden.fill(f64::NAN);
            } else if bad || (batch.target(row).is_some() && partials[row].is_live()) {
                live += 1;
                reference::logits_of_row(linear, row, &mut logits);
                let target = linear.target(row).unwrap_or(usize::MAX);
                reference::push_back(&logits, target, &summaries[row], partials[row], &mut dlogits);
                if bad {
                    dlogits.fill(f64::NAN);
                }
                for (j, &gradient) in dlogits.iter().enumerate() {
                    dbias[j] += gradient;
                    for (k, weight) in f64s(&linear.weight()[j * dim..][..dim]).enumerate() {
                        dhidden[k] += gradient * weight;
                    }
                    for (k, hidden) in f64s(&linear.hidden()[row * dim..][..dim]).enumerate() {
                        dweight[j * dim + k] += gradient * hidden;
                    }
                }
            }
            if let Some(all) = &mut gradients.dhidden {
                for (out, gradient) in all[row * dim..][..dim].iter_mut().zip(dhidden) {
                    *out = G::from_f32(gradient as f32);
                }
            }
        }
        for (sums, add) in [(gradients.dweight, dweight), (gradients.dbias, dbias)] {
            for (sum, add) in sums.into_iter().flatten().zip(add) {
                *sum = (f64::from(*sum) + add) as f32;
            }
        }
        if self.fails == Some(Move::PushBack) { Err(FAILURE) } else { Ok(live) }
    }

    fn summarise_linear<E: Element>(
        &self,
        _: &Linear<'_, E>,
        _: &LinearOptions,
        _: &mut [RowSummary<f64>],
    ) -> Result<(), Error> {
        unreachable!("a shard knows no whole row")
    }
}

/// A batch and a head.
#[derive(Debug, Clone)]
struct Problem {
    dim: usize,
    vocab: usize,
    hidden: Vec<f32>,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    targets: Vec<i32>,
    weights: Option<Vec<f32>>,
    scale: f32,
    margins: Vec<f32>,
    mask: Vec<u32>,
    non_finite: NonFinite,
}

/// Uniform between -2 and 2.
fn uniform(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..count).map(|_| next()).collect()
}

impl Problem {
    /// Of three rows one has the greatest logit's column as its target, one any, and every seventh is ignored: rows from p
    /// near 1 to p near 0.
    fn new(rows: usize, dim: usize, vocab: usize) -> Self {
        let mut problem = Self {
            dim,
            vocab,
            hidden: uniform(rows * dim, 1),
            weight: uniform(vocab * dim, 2),
            bias: Some(uniform(vocab, 3)),
            targets: vec![0; rows],
            weights: Some(uniform(rows, 4).iter().map(|weight| weight.max(0.0)).collect()),
            scale: 1.0,
            margins: vec![],
            mask: vec![],
            non_finite: NonFinite::Error,
        };
        let mut logits = vec![0.0f64; vocab];
        let targets = (0..rows).map(|row| {
            reference::logits_of_row(&problem.linear(), row, &mut logits);
            let greatest = reference::summarise(&logits, 0).unwrap().stats.argmax as i32;
            match row {
                _ if row % 7 == 6 => IGNORE_INDEX,
                _ if row % 3 == 0 => greatest,
                _ => (row * 7919 % vocab) as i32,
            }
        });
        problem.targets = targets.collect();
        problem
    }

    fn batch(&self) -> Batch<'_> {
        let shape = Shape::new(self.targets.len(), self.vocab).unwrap();
        let batch = Batch::new(shape, &self.targets).unwrap().with_non_finite(self.non_finite);
        let batch = self.weights.as_ref().map_or(batch, |weights| batch.with_weights(weights).unwrap());
        let mut map = LogitMap::default().with_scale(self.scale).unwrap();
        if !self.margins.is_empty() {
            map = map.with_margins(&self.margins).unwrap();
        }
        if !self.mask.is_empty() {
            map = map.with_mask(ClassMask::shared(&self.mask));
        }
        if map == LogitMap::default() { batch } else { batch.with_map(map).unwrap() }
    }

    fn shard(&self, columns: Range<usize>) -> Linear<'_, f32> {
        let weight = &self.weight[columns.start * self.dim..columns.end * self.dim];
        let linear = Linear::shard(self.batch(), self.dim, &self.hidden, weight, columns.clone()).unwrap();
        match &self.bias {
            Some(bias) => linear.with_bias(&bias[columns]).unwrap(),
            None => linear,
        }
    }

    fn linear(&self) -> Linear<'_, f32> {
        self.shard(0..self.vocab)
    }
}

/// What a rank brings.
#[derive(Debug, Clone)]
struct Rank<O> {
    problem: Problem,
    columns: Range<usize>,
    objective: O,
    reduction: Reduction,
    options: LinearOptions,
    /// `dhidden`, `dweight`, `dbias`.
    wanted: [bool; 3],
    /// How many values `losses` has room for, beyond the rows.
    spare: usize,
    fails: Option<Move>,
}

/// What a rank gets.
#[derive(Debug)]
struct Got {
    result: Result<Totals, ShardError<Error, Alone>>,
    /// `losses`, `log_p`, `lse`, `entropy`.
    outputs: [Vec<f32>; 4],
    argmax: Vec<i32>,
    diagnostics: Diagnostics,
    dhidden: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
}

/// What `dweight` and `dbias` hold before.
const BEFORE: f32 = 0.25;

impl<O: RowObjective> Rank<O> {
    fn run(&self, collective: &Member<'_>) -> Got {
        let (rows, dim, columns) = (self.problem.targets.len(), self.problem.dim, self.columns.len());
        let nan = |count: usize| vec![f32::NAN; count];
        let mut got = Got {
            result: Err(ShardError::Collective(Alone)),
            outputs: [nan(rows + self.spare), nan(rows), nan(rows), nan(rows)],
            argmax: vec![-7; rows],
            diagnostics: Diagnostics::default(),
            dhidden: nan(rows * dim),
            dweight: vec![BEFORE; columns * dim],
            dbias: vec![BEFORE; columns],
        };
        let [losses, log_p, lse, entropy] = &mut got.outputs;
        let [dhidden, dweight, dbias] = self.wanted;
        got.result = Sharded { backend: &Plain { fails: self.fails }, collective }.evaluate_linear(
            &self.objective,
            self.reduction,
            &self.problem.shard(self.columns.clone()),
            &self.options,
            LinearGradients {
                dhidden: Some(&mut got.dhidden[..]).filter(|_| dhidden),
                dweight: Some(&mut got.dweight[..]).filter(|_| dweight),
                dbias: Some(&mut got.dbias[..]).filter(|_| dbias),
            },
            Outputs {
                losses: Some(losses),
                log_p: Some(log_p),
                lse: Some(lse),
                entropy: Some(entropy),
                argmax: Some(&mut got.argmax),
                diagnostics: Some(&mut got.diagnostics),
            },
        );
        got
    }
}

fn run<O: RowObjective + Sync>(ranks: &[Rank<O>]) -> Vec<Got> {
    let meeting = Meeting::new(ranks.len());
    std::thread::scope(|scope| {
        let meeting = &meeting;
        let threads: Vec<_> = (ranks.iter().enumerate())
            .map(|(rank, what)| scope.spawn(move || what.run(&Member { meeting, rank })))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// One rank for each shard, all of the same mind. `ends` are where shards end.
fn ranks<O: Clone>(problem: &Problem, objective: O, reduction: Reduction, ends: &[usize]) -> Vec<Rank<O>> {
    let rank = |(at, &end): (usize, &usize)| Rank {
        problem: problem.clone(),
        columns: at.checked_sub(1).map_or(0, |before| ends[before])..end,
        objective: objective.clone(),
        reduction,
        options: LinearOptions::default(),
        wanted: [true; 3],
        spare: 0,
        fails: None,
    };
    ends.iter().enumerate().map(rank).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// All that ranks share has the same bits on all of them.
fn check_same(all: &[Got]) {
    let shared = |got: &Got| {
        let outputs: Vec<_> = got.outputs.iter().map(|output| bits(output)).collect();
        // The text of a number is its bits, but for NaN, which is no equal of itself.
        let text = format!("{:?} {:?} {:?}", got.result, got.argmax, got.diagnostics);
        (text, outputs, bits(&got.dhidden))
    };
    all.iter().for_each(|got| assert_eq!(shared(got), shared(&all[0])));
}

/// Half a unit in the last place of an `f32`, relative.
const HALF: f64 = f32::EPSILON as f64 / 2.0;

/// Equal but for the rounding of `f32` results, and a tolerance that is that of sums in `f64`.
#[track_caller]
fn near(got: f32, want: f64, roundings: f64, tolerance: f64) {
    let same = want.is_nan() && got.is_nan() || f64::from(got) == want;
    let bound = roundings * HALF * want.abs() + tolerance;
    assert!(same || (f64::from(got) - want).abs() <= bound, "got {got}, want {want} +- {bound}");
}

/// Every rank's results against the oracle of the whole.
fn check<O: RowObjective + Sync>(ranks: &[Rank<O>]) -> Vec<Got> {
    let all = run(ranks);
    check_same(&all);
    let Rank { problem, objective, reduction, .. } = &ranks[0];
    let linear = problem.linear();
    let (rows, dim, vocab) = (linear.rows(), linear.dim(), problem.vocab);
    let (mut losses, mut summaries) = (vec![0.0f64; rows], vec![RowSummary::nan(); rows]);
    let (mut dhidden, mut dweight, mut dbias) =
        (vec![0.0; rows * dim], vec![0.0; vocab * dim], vec![0.0; vocab]);
    let results = LinearResults {
        losses: &mut losses,
        summaries: &mut summaries,
        dhidden: &mut dhidden,
        dweight: &mut dweight,
        dbias: &mut dbias,
        scratch: &mut vec![0.0; 2 * vocab],
    };
    let want = reference::evaluate_linear(objective, *reduction, &linear, results);

    // A sum over the vocabulary rounds once a column; no objective here makes more than 32 times that of it.
    let relative = 32.0 * vocab as f64 * f64::EPSILON;
    let totals = match (&all[0].result, want) {
        (Ok(got), Ok(want)) => {
            let counts = |totals: &Totals| (totals.valid, totals.kept, totals.ignored, totals.live);
            assert_eq!(counts(got), counts(&want));
            assert_eq!((got.weight_sum, got.denominator), (want.weight_sum, want.denominator));
            let difference = (got.loss_sum - want.loss_sum).abs();
            let same = got.loss_sum.is_nan() && want.loss_sum.is_nan();
            assert!(same || difference <= relative * want.loss_sum.abs(), "{got:?}, {want:?}");
            want
        }
        (Err(ShardError::Backend(got)), Err(want)) => {
            assert_eq!(got.to_string(), want.to_string());
            // What the oracle divided the other rows by.
            let count = |row: usize| linear.batch().target(row).is_some();
            let kept = |row: usize| count(row) && objective.of_row(&summaries[row]).kept;
            let count = |is: &dyn Fn(usize) -> bool| (0..rows).filter(|&row| is(row)).count();
            Totals { valid: linear.batch().valid(), kept: count(&kept), ..Totals::default() }
        }
        (got, want) => panic!("got {got:?}, want {want:?}"),
    };

    let scale = reduction.scale(totals.valid, totals.kept);
    let norms: Vec<_> = (0..rows)
        .map(|row| {
            let partials = objective.of_row(&summaries[row]).partials;
            let weight = f64::from(linear.batch().weight(row)) * scale;
            partials.scaled(weight).norm_bound(&summaries[row])
        })
        .collect();
    let greatest = |values: &[f32]| values.iter().fold(0.0, |max: f64, v| max.max(f64::from(*v).abs()));
    let norm: f64 = norms.iter().filter(|norm| !norm.is_nan()).sum();
    for (rank, got) in ranks.iter().zip(&all) {
        for row in 0..rows {
            let summary = &summaries[row];
            let wants = [losses[row], summary.target.log_p, summary.stats.lse(), summary.stats.entropy()];
            for (output, want) in got.outputs.iter().zip(wants) {
                near(output[row], want, 1.0, relative * (1.0 + want.abs()));
            }
            assert_eq!(got.argmax[row], summary.stats.argmax as i32);
        }
        if rank.wanted[0] {
            for (at, (&got, &want)) in got.dhidden.iter().zip(&dhidden).enumerate() {
                // Every rank rounds its own, and the sum of ranks rounds once a rank.
                let terms = norms[at / dim] * greatest(&problem.weight);
                let roundings = 2.0 * ranks.len() as f64 * HALF;
                near(got, want, 0.0, (roundings + relative) * terms);
            }
        }
        let of_shard = |width: usize| rank.columns.start * width..rank.columns.end * width;
        for (wanted, got, want, factor) in [
            (rank.wanted[1], &got.dweight, &dweight[of_shard(dim)], greatest(&problem.hidden)),
            (rank.wanted[2], &got.dbias, &dbias[of_shard(1)], 1.0),
        ] {
            for (&got, &want) in got.iter().zip(want) {
                let want = f64::from(BEFORE) + if wanted { want } else { 0.0 };
                near(got, want, 1.0, relative * norm * factor);
            }
        }
    }
    all
}

/// `-log_p - 0.1 entropy`: a function of more than the target.
#[derive(Debug, Clone)]
struct Hopeful;

impl RowObjective for Hopeful {
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let share = T::from(0.1).unwrap();
        let partials = RowPartials { d_entropy: -share, ..RowPartials::of_slope(-T::one()) };
        RowEval { loss: -row.target.log_p - share * row.stats.entropy(), partials, kept: true }
    }
}

const VOCAB: usize = 257;

/// Where shards end: one rank, two, three and four, of all widths.
const ENDS: [&[usize]; 4] = [&[VOCAB], &[100, VOCAB], &[1, 200, VOCAB], &[64, 65, 250, VOCAB]];

const REDUCTIONS: [Reduction; 4] = [
    Reduction::Sum,
    Reduction::Mean(Denominator::Valid),
    Reduction::Mean(Denominator::Kept),
    Reduction::Mean(Denominator::Given(7.5)),
];

#[test]
fn ranks_get_what_the_whole_gives() {
    let with = Problem::new(15, 8, VOCAB);
    let without = Problem { bias: None, weights: None, ..with.clone() };
    let mut dropped = 0;
    for problem in [with, without] {
        for reduction in REDUCTIONS {
            for ends in ENDS {
                for name in AnyToken::NAMES {
                    check(&ranks(&problem, parsed(name), reduction, ends));
                    let gated = parsed(&format!("thresholded:inner={name},lo=0.001,hi=0.9"));
                    let totals = check(&ranks(&problem, gated, reduction, ends))[0].result.unwrap();
                    dropped += totals.valid - totals.kept;
                    assert!(totals.kept > 0);
                }
                check(&ranks(&problem, Hopeful, reduction, ends));
            }
        }
    }
    assert!(dropped > 0, "the thresholds drop nothing");
}

/// Parts are exchanged 1,024 rows at a time.
#[test]
fn many_rows() {
    let problem = Problem::new(2500, 4, 33);
    check(&ranks(&problem, parsed("nll"), Reduction::default(), &[5, 20, 33]));
}

#[test]
fn gradients_are_wanted_one_by_one() {
    let problem = Problem::new(15, 8, VOCAB);
    for mask in 0..8 {
        let mut ranks = ranks(&problem, parsed("power"), Reduction::default(), ENDS[2]);
        ranks.iter_mut().for_each(|rank| rank.wanted = [1, 2, 4].map(|bit| mask & bit != 0));
        for got in check(&ranks) {
            assert!(mask & 1 != 0 || got.dhidden.iter().all(|d| d.is_nan()), "written, but not wanted");
        }
    }
}

/// A +infinity that only the last rank sees, and a NaN that all see, with the row and the column that is named.
fn bad_problems() -> [(Problem, usize, usize); 2] {
    let mut last = Problem { weights: None, ..Problem::new(15, 8, VOCAB) };
    let mut everywhere = last.clone();
    last.bias.as_mut().unwrap()[256] = f32::INFINITY;
    everywhere.hidden[3 * 8 + 5] = f32::NAN;
    [(last, 0, 256), (everywhere, 3, 0)]
}

#[test]
fn a_bad_row_is_the_same_error_on_every_rank() {
    for (problem, row, column) in bad_problems() {
        for spec in ["nll", "thresholded:inner=nll,lo=0.001"] {
            for ends in ENDS {
                for got in check(&ranks(&problem, parsed(spec), Reduction::default(), ends)) {
                    let error = got.result.unwrap_err();
                    let ShardError::Backend(Error::NonFinite { row: r, column: c, .. }) = error else {
                        panic!("{error}")
                    };
                    assert_eq!((r, c), (row, column));
                }
            }
        }
    }
    let mut problem = Problem::new(15, 8, VOCAB);
    problem.bias = Some(vec![f32::NEG_INFINITY; VOCAB]);
    for ends in ENDS {
        for got in run(&ranks(&problem, parsed("nll"), Reduction::default(), ends)) {
            let want = ShardError::Backend(Error::NoMass { row: 0, vocab: VOCAB });
            assert_eq!(got.result, Err(want));
        }
    }
}

#[test]
fn a_bad_row_is_nan_on_every_rank_by_option() {
    for (mut problem, row, _) in bad_problems() {
        problem.non_finite = NonFinite::NanRow;
        for ends in ENDS {
            for got in check(&ranks(&problem, parsed("nll"), Reduction::default(), ends)) {
                assert!(got.result.unwrap().loss().is_nan());
                assert!(got.dhidden[row * 8..][..8].iter().chain(&got.dbias).all(|d| d.is_nan()));
                assert!(got.dhidden[..row * 8].iter().all(|d| d.is_finite()));
            }
        }
    }
}

/// Three ranks of which the last is changed; every rank says `text`.
#[track_caller]
fn disagree(text: &str, change: impl Fn(&mut Rank<tokenloss_core::Objective>)) {
    let problem = Problem::new(15, 8, VOCAB);
    let mut ranks = ranks(&problem, parsed("nll"), Reduction::default(), ENDS[2]);
    change(&mut ranks[2]);
    for got in run(&ranks) {
        let said = got.result.unwrap_err().to_string();
        // Hashes are numbers that no test should know.
        let said = said.split("(hash)").next().unwrap();
        assert_eq!(said.trim(), text);
        assert!(got.dbias.iter().chain(&got.dweight).all(|d| *d == BEFORE), "gradients are written");
        assert!(got.outputs.iter().flatten().all(|output| output.is_nan()), "outputs are written");
    }
}

#[test]
fn ranks_that_disagree_all_say_so() {
    disagree("rows: rank 2 has 12, rank 0 has 15", |rank| {
        rank.problem = Problem::new(12, 8, VOCAB);
    });
    disagree("dim: rank 2 has 9, rank 0 has 8", |rank| rank.problem = Problem::new(15, 9, VOCAB));
    disagree("vocab: rank 2 has 258, rank 0 has 257", |rank| rank.problem = Problem::new(15, 8, 258));
    disagree("targets", |rank| rank.problem.targets[14] ^= 1);
    disagree("targets", |rank| rank.problem.targets[6] = 0);
    disagree("targets", |rank| rank.problem.targets.swap(0, 1));
    disagree("weights", |rank| rank.problem.weights = None);
    disagree("weights", |rank| rank.problem.weights.as_mut().unwrap()[3] = 5.0);
    disagree("logit map", |rank| rank.problem.scale = 0.5);
    disagree("logit map", |rank| rank.problem.margins = vec![0.0; 15]);
    disagree("logit map", |rank| rank.problem.mask = vec![u32::MAX; VOCAB.div_ceil(32)]);
    disagree("bias (0 none, 1 some): rank 2 has 0, rank 0 has 1", |rank| rank.problem.bias = None);
    disagree("non_finite (0 error, 1 NaN): rank 2 has 1, rank 0 has 0", |rank| {
        rank.problem.non_finite = NonFinite::NanRow;
    });
    let kinds = "reduction (0 sum, 1 valid, 2 kept, 3 given): rank 2 has";
    disagree(&format!("{kinds} 0, rank 0 has 1"), |rank| rank.reduction = Reduction::Sum);
    disagree(&format!("{kinds} 2, rank 0 has 1"), |rank| rank.reduction = REDUCTIONS[2]);
    disagree(&format!("{kinds} 3, rank 0 has 1"), |rank| rank.reduction = REDUCTIONS[3]);
    disagree("row_tolerance: rank 2 has 0.5, rank 0 has 0", |rank| rank.options.row_tolerance = 0.5);
    disagree("block_tolerance: rank 2 has 0.25, rank 0 has 0", |rank| rank.options.block_tolerance = 0.25);
    for (at, what) in ["dhidden", "dweight", "dbias"].into_iter().enumerate() {
        disagree(&format!("{what} (0 none, 1 some): rank 2 has 0, rank 0 has 1"), |rank| {
            rank.wanted[at] = false;
        });
    }
    disagree("verdicts of the objective", |rank| rank.objective = parsed("power:alpha=0.0001"));
}

#[test]
fn given_denominators_are_compared() {
    let problem = Problem::new(15, 8, VOCAB);
    let mut ranks = ranks(&problem, parsed("nll"), REDUCTIONS[3], ENDS[1]);
    ranks[1].reduction = Reduction::Mean(Denominator::Given(8.0));
    for got in run(&ranks) {
        let said = got.result.unwrap_err().to_string();
        assert_eq!(said, "denominator: rank 1 has 8, rank 0 has 7.5");
    }
}

#[test]
fn shards_that_do_not_tile_the_vocabulary() {
    disagree("columns: those of rank 2 start at 201, expected 200", |rank| rank.columns = 201..VOCAB);
    disagree("columns: those of rank 2 start at 199, expected 200", |rank| rank.columns = 199..VOCAB);
    disagree("columns: those of rank 2 start at 0, expected 200", |rank| rank.columns = 0..VOCAB);
    disagree("columns: those of rank 2, the last, end at 256, expected 257", |rank| rank.columns = 200..256);
    let problem = Problem::new(15, 8, VOCAB);
    let mut ranks = ranks(&problem, parsed("nll"), Reduction::default(), ENDS[1]);
    ranks.swap(0, 1);
    for got in run(&ranks) {
        let said = got.result.unwrap_err().to_string();
        assert_eq!(said, "columns: those of rank 0 start at 100, expected 0");
    }
}

/// Rank 1 of three fails, and has its own error; the others name it.
fn fails(error: impl Fn(&Error) -> bool, change: impl Fn(&mut Rank<tokenloss_core::Objective>)) {
    let problem = Problem::new(15, 8, VOCAB);
    let mut ranks = ranks(&problem, parsed("nll"), Reduction::default(), ENDS[2]);
    change(&mut ranks[1]);
    for (rank, got) in run(&ranks).into_iter().enumerate() {
        match got.result.unwrap_err() {
            ShardError::Backend(own) if rank == 1 => assert!(error(&own), "{own}"),
            other => {
                assert_eq!(other, ShardError::Rank { rank: 1 }, "on rank {rank}");
                assert_eq!(other.to_string(), "rank 1 failed, its own error says why");
            }
        }
    }
}

#[test]
fn a_rank_that_fails_leaves_no_other_waiting() {
    let zero = Reduction::Mean(Denominator::Given(0.0));
    fails(|error| matches!(error, Error::Denominator { .. }), |rank| rank.reduction = zero);
    fails(
        |error| matches!(error, Error::Length { what: "losses", expected: 15, got: 16 }),
        |rank| rank.spare = 1,
    );
    fails(|error| matches!(error, Error::Chunk { .. }), |rank| rank.options.chunk_rows = Some(0));
    fails(|error| matches!(error, Error::Tolerance { .. }), |rank| rank.options.row_tolerance = f32::NAN);
    fails(
        |error| matches!(error, Error::Budget { needed, budget: 99 } if *needed > 99),
        |rank| rank.options.budget = Budget(99),
    );
    fails(|error| *error == FAILURE, |rank| rank.fails = Some(Move::Summarise));
    fails(|error| *error == FAILURE, |rank| rank.fails = Some(Move::PushBack));
}

/// Two ranks that fail each have their own error, and the third names the first.
#[test]
fn several_ranks_fail() {
    let problem = Problem::new(15, 8, VOCAB);
    let mut ranks = ranks(&problem, parsed("nll"), Reduction::default(), ENDS[2]);
    ranks[1].fails = Some(Move::Summarise);
    ranks[2].fails = Some(Move::Summarise);
    let results: Vec<_> = run(&ranks).into_iter().map(|got| got.result.unwrap_err()).collect();
    let own = ShardError::Backend(FAILURE);
    assert_eq!(results, [ShardError::Rank { rank: 1 }, own, own]);
}

/// A library that fails, and one that brings nothing.
struct Broken {
    result: Result<(), Alone>,
}

impl Collective for Broken {
    type Error = Alone;

    fn ranks(&self) -> usize {
        2
    }
    fn all_gather(&self, _: &[f64], _: &mut [f64]) -> Result<(), Alone> {
        self.result
    }
    fn all_sum(&self, _: &mut [f32]) -> Result<(), Alone> {
        self.result
    }
}

#[test]
fn a_broken_library_is_an_error() {
    let problem = Problem::new(3, 8, VOCAB);
    let evaluate = |collective: Broken| {
        Sharded { backend: &Plain { fails: None }, collective: &collective }.evaluate_linear(
            &parsed("nll"),
            Reduction::default(),
            &problem.shard(0..100),
            &LinearOptions::default(),
            LinearGradients::default(),
            Outputs::default(),
        )
    };
    let error = evaluate(Broken { result: Err(Alone) }).unwrap_err();
    assert_eq!(error.to_string(), "collective: the others do not come");
    assert_eq!(evaluate(Broken { result: Ok(()) }), Err(ShardError::Rank { rank: 0 }));
}
