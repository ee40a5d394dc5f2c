//! Losses, summaries and gradients against the oracle.

use crate::data::Matrix;
use crate::machine::{gpus, say};
use crate::run::{Done, PLACES, Place, Setup, run};
use crate::tolerance::{Row, ULP, least};
use tokenloss_core::reference::{self, Results};
use tokenloss_core::{
    AnyRow, AnyToken, Batch, Composite, Denominator, Detail, Dtype, LogitMap, MAX_PARAMETERS, Nll, Objective,
    Parameter, Power, Reduction, RowEval, RowObjective, RowPartials, RowSummary, Shape, Thresholded,
    TokenObjective, Totals,
};
use tokenloss_wgpu::{ShaderObjective, shaders::Form};

/// The largest errors seen, as shares of what is allowed and as they are.
#[derive(Default, Clone, Copy)]
pub(crate) struct Worst {
    pub(crate) loss: f64,
    pub(crate) gradient: f64,
    pub(crate) share: f64,
}

impl Worst {
    pub(crate) fn take(&mut self, other: Self) {
        self.loss = self.loss.max(other.loss);
        self.gradient = self.gradient.max(other.gradient);
        self.share = self.share.max(other.share);
    }
}

pub(crate) struct Oracle {
    pub(crate) losses: Vec<f64>,
    pub(crate) summaries: Vec<RowSummary<f64>>,
    pub(crate) dlogits: Vec<f64>,
    pub(crate) totals: Totals,
}

pub(crate) fn oracle<O: RowObjective>(
    objective: &O,
    reduction: Reduction,
    matrix: &Matrix,
    weights: Option<&[f32]>,
    map: Option<LogitMap<'_>>,
) -> Oracle {
    let logits: Vec<f64> = matrix.logits.iter().map(|z| f64::from(*z)).collect();
    oracle_of(objective, reduction, matrix, &logits, weights, map)
}

/// Of other logits than the matrix has.
fn oracle_of<O: RowObjective>(
    objective: &O,
    reduction: Reduction,
    matrix: &Matrix,
    logits: &[f64],
    weights: Option<&[f32]>,
    map: Option<LogitMap<'_>>,
) -> Oracle {
    let rows = matrix.rows();
    let shape = Shape::new(rows, matrix.vocab).unwrap();
    let mut batch =
        Batch::new(shape, &matrix.targets).unwrap().with_non_finite(tokenloss_core::NonFinite::NanRow);
    if let Some(weights) = weights {
        batch = batch.with_weights(weights).unwrap();
    }
    if let Some(map) = map {
        batch = batch.with_map(map).unwrap();
    }
    let mut losses = vec![0.0; rows];
    let mut summaries = vec![RowSummary::nan(); rows];
    let mut dlogits = vec![0.0; logits.len()];
    let results = Results { losses: &mut losses, summaries: &mut summaries, dlogits: &mut dlogits };
    let totals = reference::evaluate(objective, reduction, &batch, logits, results).unwrap();
    Oracle { losses, summaries, dlogits, totals }
}

/// What the rows are judged as, and their strengths.
fn guided(setup: &Setup<'_>) -> (Vec<f64>, Vec<f64>) {
    let Setup { matrix, guide, .. } = *setup;
    let strengths: Vec<f64> =
        (0..matrix.rows()).map(|row| guide.map_or(1.0, |guide| guide.guidance.of_row(row).into())).collect();
    let of = |(at, z): (usize, &f32)| {
        let z = f64::from(*z);
        guide.map_or(z, |guide| {
            reference::guided(strengths[at / matrix.vocab], z, guide.teacher.logits[at].into())
        })
    };
    (matrix.logits.iter().enumerate().map(of).collect(), strengths)
}

/// Checks everything of a run, and returns the largest errors.
pub(crate) fn check<O: RowObjective>(what: &str, objective: &O, setup: &Setup<'_>, done: &Done) -> Worst {
    let Setup { matrix, reduction, weights, place, map, guide, .. } = *setup;
    let (taken, strengths) = guided(setup);
    let truth = oracle_of(objective, reduction, matrix, &taken, weights, map);
    let mut worst = Worst::default();
    let scale = if truth.totals.denominator == 0.0 { 0.0 } else { 1.0 / truth.totals.denominator };
    let (mut ambiguous, mut faint) = (false, 0);
    let (mut loss_sum, mut loss_slack) = (0.0f64, 0.0f64);
    for row in 0..matrix.rows() {
        let (record, summary) = (&done.records[row], &truth.summaries[row]);
        let target = matrix.targets[row];
        let columns = row * matrix.vocab..(row + 1) * matrix.vocab;
        let gradient = if place == Place::None { &[][..] } else { &done.dlogits[columns.clone()] };
        if target < 0 {
            assert_eq!((record.loss, record.argmax, record.status, record.kept), (0.0, -1, 0, false));
            assert!(record.log_p.is_nan() && record.lse.is_nan() && record.entropy.is_nan());
            assert!(gradient.iter().all(|g| *g == 0.0), "{what}: ignored row {row} has a gradient");
            continue;
        }
        let logits = &taken[columns.clone()];
        if !summary.stats.is_valid() {
            assert!(record.loss.is_nan() && record.log_p.is_nan() && record.lse.is_nan());
            assert!(record.status != 0 && record.argmax == -1 && record.entropy.is_nan());
            assert!(gradient.iter().all(|g| g.is_nan()), "{what}: row {row} is not all NaN");
            continue;
        }
        assert_eq!(record.status, 0, "{what}: row {row}");
        let row_map = map.map(|map| map.row(row, matrix.vocab));
        // Two products, what is left of the strength, and a sum; nothing at a strength of 1.
        let off = guide.filter(|_| strengths[row] != 1.0).map_or(0.0, |guide| {
            let size = |(z, u): (&f32, &f32)| {
                let finite = |x: f32| if x.is_finite() { f64::from(x).abs() } else { 0.0 };
                strengths[row] * finite(*z) + (1.0 - strengths[row]).abs() * finite(*u)
            };
            let pairs = matrix.row(row).iter().zip(guide.teacher.row(row));
            2.0 * ULP * pairs.map(size).fold(0.0, f64::max)
        });
        let allowed = Row::of_map(objective, row_map, logits, off, target as usize, summary);
        if allowed.either_side {
            ambiguous = true;
            continue;
        }
        let mut near = |name: &str, got: f32, expected: f64, allowed: f64| {
            // Beyond what the type holds.
            if f64::from(got) == expected || allowed.is_infinite() {
                return 0.0;
            }
            let error = (f64::from(got) - expected).abs();
            assert!(
                error <= allowed,
                "{what}: row {row} (target {target}), {name}: got {got:e}, expected {expected:e}, off by {error:e}, \
                 allowed {allowed:e}"
            );
            worst.share = worst.share.max(error / allowed);
            let least = if name.starts_with("dlogits") { least(matrix.dtype) } else { 1e-30 };
            // Where terms cancel, errors are not relative.
            let cancels = allowed > 0.01 * expected.abs();
            if cancels || expected.abs() < least { 0.0 } else { error / expected.abs() }
        };
        near("log_p", record.log_p, summary.target.log_p, allowed.log_p);
        near("lse", record.lse, summary.stats.lse(), allowed.lse);
        near("entropy", record.entropy, summary.stats.entropy(), allowed.entropy);
        let loss = near("loss", record.loss, truth.losses[row], allowed.loss);
        let argmax = record.argmax as usize;
        assert!(allowed.is_argmax(argmax), "{what}: row {row}, argmax {argmax}");
        let eval = objective.of_row(summary);
        assert_eq!(record.kept, eval.kept, "{what}: row {row}, kept");
        let weight = weights.map_or(1.0, |w| f64::from(w[row]));
        // Exponentials end at e^-87 = 1.6e-38: what is fainter than a hundred of these may be nothing on the GPU.
        let partials = eval.partials.scaled(weight);
        faint += usize::from(partials.is_live() && !partials.scaled(0.01).is_live());
        if weight != 0.0 {
            loss_sum += weight * f64::from(record.loss);
            loss_slack += weight * f64::from(record.loss).abs();
        }
        let mut largest = 0.0f64;
        for (column, got) in gradient.iter().enumerate() {
            let expected = strengths[row] * truth.dlogits[columns.start + column];
            let is_target = column == target as usize;
            let allowed = allowed.gradient(matrix.dtype, column, strengths[row] * weight * scale, expected);
            let is_masked =
                logits[column] == f64::NEG_INFINITY || row_map.is_some_and(|map| !map.allows(column));
            if is_masked && !is_target {
                assert_eq!(*got, 0.0, "{what}: row {row}, masked column {column}");
            }
            largest = largest.max(near(&format!("dlogits {column}"), *got, expected, allowed));
        }
        worst.loss = worst.loss.max(loss);
        worst.gradient = worst.gradient.max(largest);
    }
    if !ambiguous {
        let totals = &done.totals;
        let float = |at: usize| f64::from(f32::from_bits(totals[at]));
        let counts = [totals[2], totals[3], totals[4]].map(|n| n as usize);
        assert_eq!(counts, [truth.totals.valid, truth.totals.kept, truth.totals.ignored], "{what}");
        let live = totals[8] as usize;
        assert!(live <= truth.totals.live && live + faint >= truth.totals.live, "{what}: {live} live rows");
        let near =
            |got: f64, expected: f64, slack: f64| got == expected || (got - expected).abs() <= slack * 1e-5;
        assert!(near(float(1), truth.totals.weight_sum, truth.totals.weight_sum), "{what}");
        assert!(near(float(5), truth.totals.denominator, truth.totals.denominator), "{what}");
        if truth.totals.loss_sum.is_nan() {
            assert!(float(0).is_nan());
        } else {
            // Against the sum of what the GPU itself found for the rows: nested sums of f32.
            assert!(near(float(0), loss_sum, loss_slack), "{what}: loss_sum {} of {loss_sum}", float(0));
        }
    }
    worst
}

/// Parameters of a listed objective: each at both ends of its domain, at its default and in between.
pub(crate) fn spread(parameters: &[Parameter]) -> Vec<[f32; MAX_PARAMETERS]> {
    let mut values = [0.0; MAX_PARAMETERS];
    for (value, parameter) in values.iter_mut().zip(parameters) {
        *value = parameter.default;
    }
    let mut all = vec![values];
    for (i, parameter) in parameters.iter().enumerate() {
        for share in [0.0, 0.03, 0.3, 1.0] {
            let mut values = values;
            values[i] = parameter.min + share * (parameter.max - parameter.min);
            all.push(values);
        }
    }
    all
}

pub(crate) fn tokens(name: &str) -> Vec<AnyToken> {
    let all = spread(AnyToken::parameters_of(name).unwrap()).into_iter();
    all.map(|values| AnyToken::with_parameters(name, values).unwrap().unwrap()).collect()
}

pub(crate) fn rows(name: &str) -> Vec<AnyRow> {
    let all = spread(AnyRow::parameters_of(name).unwrap()).into_iter();
    all.map(|values| AnyRow::with_parameters(name, values).unwrap().unwrap()).collect()
}

fn compare<O: ShaderObjective + RowObjective>(name: &str, vocab: usize, objectives: &[O]) {
    for dtype in Dtype::ALL {
        let matrix = Matrix::mixture(dtype, vocab, 5);
        let mut worst = Worst::default();
        for gpu in gpus() {
            for objective in objectives {
                for place in PLACES {
                    let setup = Setup { place, ..Setup::new(&matrix, objective) };
                    let what = format!(
                        "{name} {:?} {dtype} {place:?} {}",
                        tokenloss_wgpu::shaders::parameters(objective).unwrap(),
                        gpu.kernels().variant()
                    );
                    worst.take(check(&what, objective, &setup, &run(gpu, &setup)));
                }
            }
        }
        if !gpus().is_empty() {
            let Worst { loss, gradient, share } = worst;
            say(&format!(
                "{name:>14} {dtype:>4}: largest relative error of the loss {loss:.1e}, of the gradient {gradient:.1e}; \
                 {:.0} % of what is allowed",
                100.0 * share
            ));
        }
    }
}

/// One test per listed objective: every type, place and variant.
macro_rules! agreement {
    ($all:ident $($module:ident $type:ident { $($parameter:tt)* } $source:literal)*) => { $(
        #[test]
        fn $module() {
            compare(stringify!($module), 259, &super::$all(stringify!($module)));
        }
    )* };
}

mod token {
    use super::compare;
    macro_rules! of_tokens { ($($line:tt)*) => { agreement! { tokens $($line)* } }; }
    tokenloss_core::for_each_objective!(tokens, of_tokens);
}

mod row {
    use super::compare;
    macro_rules! of_rows { ($($line:tt)*) => { agreement! { rows $($line)* } }; }
    tokenloss_core::for_each_objective!(rows, of_rows);
}

/// Terms of every kind, some of which look at all statistics; more than one of the same; all that fit.
#[test]
fn sums_of_objectives() {
    let specs = [
        "nll",
        "nll + z_loss:lambda=0.01",
        "focal + entropy:lambda=-0.1",
        "label_smoothing:epsilon=0.2 + z_loss:lambda=0.001 + logit_l2:lambda=0.01",
        "thresholded:inner=power,alpha=0.5,lo=0.2 + thresholded:inner=nll,hi=0.9 + reliable_entropy + target_l2:gamma=3",
        "entropy:lambda=2 + entropy:lambda=-1 + deft + idft",
    ];
    let sums: Vec<_> = specs.iter().map(|spec| Composite::parse(spec).unwrap()).collect();
    compare("sums", 259, &sums);
    compare("sums", 5, &sums);
}

#[test]
fn gates_around_objectives() {
    let gate =
        |inner: &str, lo, hi| Objective::Thresholded(Thresholded::new(tokens(inner)[0], lo, hi).unwrap());
    compare("gated nll", 5, &[gate("nll", 0.2, 1.0), gate("nll", 0.0, 0.3)]);
    compare("gated focal", 5, &[gate("focal", 0.0, 0.999)]);
    let twice = Thresholded::new(Thresholded::new(Nll, 0.1, 1.0).unwrap(), 0.0, 0.9).unwrap();
    compare("gated twice", 5, &[twice]);
}

/// 1 - p^2, as a user would write it.
struct Quadratic;

impl TokenObjective for Quadratic {
    fn of_target<T: num_traits::Float>(
        &self,
        target: tokenloss_core::TargetProb<T>,
    ) -> tokenloss_core::TokenEval<T> {
        let two = T::one() + T::one();
        let twice = two * target.log_p;
        tokenloss_core::TokenEval { loss: -twice.exp_m1(), slope: -two * twice.exp(), kept: true }
    }
}

impl ShaderObjective for Quadratic {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        "quadratic".into()
    }
    fn wgsl(&self) -> std::borrow::Cow<'static, str> {
        "fn quadratic(prob: TargetProb) -> TokenEval {
           let twice = 2.0 * prob.log_p;
           return TokenEval(-exp_m1(twice), -2.0 * exp_any(twice), true);
         }"
        .into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![]
    }
}

#[test]
fn an_objective_of_the_users_own() {
    compare("the user's own", 259, &[Quadratic]);
}

/// The squared distance of the logits' mean from a point, plus half the entropy, as a user would write it: what no listed
/// objective looks at.
struct Centred {
    at: f32,
}

impl RowObjective for Centred {
    fn of_row<T: num_traits::Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let half = T::one() / (T::one() + T::one());
        let off = row.stats.mean() - T::from(self.at).unwrap();
        RowEval {
            loss: off * off + half * row.stats.entropy(),
            partials: RowPartials { d_mean: off + off, d_entropy: half, ..RowPartials::zero() },
            kept: true,
        }
    }
}

impl ShaderObjective for Centred {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        "centred".into()
    }
    fn wgsl(&self) -> std::borrow::Cow<'static, str> {
        "fn centred(row: RowSummary, at: f32) -> RowEval {
           let off = row_stats_mean(row.stats) - at;
           let loss = off * off + 0.5 * row_stats_entropy(row.stats);
           return RowEval(loss, RowPartials(0.0, 0.0, 0.5, off + off, 0.0), true);
         }"
        .into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![self.at]
    }
    fn form(&self) -> Form<'_> {
        Form::Row(Detail::Moments)
    }
}

#[test]
fn a_row_objective_of_the_users_own() {
    compare("the user's row", 259, &[Centred { at: 0.75 }]);
}

/// Sizes with a reason: the least; odd; one group of four words and one more; 64 lanes of four words, which is
/// where the larger workgroup starts, and its neighbours; 256 lanes of four; real vocabularies, one of them odd.
const VOCABS: [usize; 13] = [2, 3, 5, 8, 9, 255, 256, 257, 1023, 1024, 1025, 50_257, 128_256];

#[test]
fn vocabularies_from_two_to_real_ones() {
    let objective = Power::new(1.0).unwrap();
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            for vocab in VOCABS {
                let matrix = if vocab > 10_000 {
                    let mut matrix = Matrix::uniform(dtype, 2, vocab, 3);
                    matrix.push(vocab as i32 - 1, |j| if j == vocab - 1 { 40.0 } else { (j % 11) as f32 });
                    matrix
                } else {
                    Matrix::mixture(dtype, vocab, 3)
                };
                for place in [Place::Over, Place::Into] {
                    let setup = Setup { place, ..Setup::new(&matrix, &objective) };
                    let what = format!("vocab {vocab} {dtype} {place:?} {}", gpu.kernels().variant());
                    check(&what, &objective, &setup, &run(gpu, &setup));
                }
            }
        }
    }
}

#[test]
fn strides_and_offsets_that_fit_nothing() {
    let objective = Power::new(1.0).unwrap();
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            let matrix = Matrix::mixture(dtype, 263, 9);
            for stride in [264, 268, 300] {
                // All four alignments of a row within a group of four words, and gradients that share it or not.
                for offsets in [[1, 1, 1, 1], [2, 6, 3, 5], [3, 0, 7, 2], [64, 128, 9, 64], [70, 71, 0, 0]] {
                    for place in [Place::Over, Place::Into] {
                        let setup = Setup { place, stride, offsets, ..Setup::new(&matrix, &objective) };
                        let what = format!("stride {stride} offsets {offsets:?} {dtype} {place:?}");
                        check(&what, &objective, &setup, &run(gpu, &setup));
                    }
                }
            }
        }
    }
}

#[test]
fn weights_and_denominators() {
    let objective = Thresholded::new(Nll, 0.05, 1.0).unwrap();
    for gpu in gpus() {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let matrix = Matrix::mixture(dtype, 37, 11);
            let weights: Vec<f32> = (0..matrix.rows()).map(|row| (row % 5) as f32 * 0.75).collect();
            let denominators = [Denominator::Valid, Denominator::Kept, Denominator::Given(12.5)];
            for reduction in denominators.map(Reduction::Mean).into_iter().chain([Reduction::Sum]) {
                for weights in [None, Some(&weights[..])] {
                    for place in PLACES {
                        let setup = Setup { place, weights, reduction, ..Setup::new(&matrix, &objective) };
                        let what = format!("{reduction:?}, weights {}, {place:?}", weights.is_some());
                        check(&what, &objective, &setup, &run(gpu, &setup));
                    }
                }
            }
        }
    }
}
