//! Row objectives, sums of them and logit maps on every CPU level, against the oracle.

use crate::inputs::{self, Matrix};
use crate::oracle::{FLUSH, Grant, half_spacing};
use tokenloss::cpu::{Cpu, Level};
use tokenloss::half::{bf16, f16};
use tokenloss::{
    AnyRow, Batch, Budget, ClassMask, Composite, Denominator, Element, Evaluate, EvaluateLinear, Linear,
    LinearGradients, LinearOptions, LogitMap, Logits, Outputs, Reduction, RowEval, RowObjective, RowPartials,
    RowStats, RowSummary, Shape, TargetProb, reference,
};

/// Every row objective of the list: its defaults and each parameter at both ends; and sums with token objectives.
fn objectives() -> Vec<Composite> {
    let mut all = Vec::new();
    for name in AnyRow::NAMES {
        let of = |values| AnyRow::with_parameters(name, values).expect("listed").expect("in the domain");
        let settings = inputs::settings(AnyRow::parameters_of(name).expect("listed"), &[0.0, 1.0]);
        all.extend(settings.into_iter().map(|values| Composite::from(of(values))));
    }
    let sums = [
        "nll + z_loss:lambda=0.001",
        "power:alpha=0.5 + entropy:lambda=-0.1",
        "thresholded:inner=nll,lo=0.2 + entropy:lambda=0.5",
        "label_smoothing + z_loss + entropy:lambda=-0.01 + logit_l2:lambda=0.001",
    ];
    all.extend(sums.map(|spec| Composite::parse(spec).expect("a spec")));
    all
}

/// Every objective that has all partials, for what is tested with few.
const FEW: [&str; 3] =
    ["nll", "label_smoothing + entropy:lambda=-0.1 + logit_l2:lambda=0.01", "deft + z_loss:lambda=0.01"];

/// The summary with one statistic off by a share, and with `log p` off by so much.
fn perturbed(row: &RowSummary<f64>, share: f64, log_p: f64) -> Vec<RowSummary<f64>> {
    let mut all = Vec::new();
    let RowSummary { stats, target } = *row;
    for sign in [1.0 + share, 1.0 - share] {
        for stats in [
            RowStats { tail: stats.tail * sign, ..stats },
            RowStats { moment: stats.moment * sign, ..stats },
            RowStats { collision: stats.collision * sign * sign, ..stats },
            RowStats { spread: stats.spread * sign, ..stats },
            RowStats { energy: stats.energy * sign, ..stats },
        ] {
            all.push(RowSummary { stats, target });
        }
    }
    for log_p in [target.log_p + log_p, target.log_p - log_p] {
        all.push(RowSummary { stats, target: TargetProb::from_log_p(log_p.min(0.0)) });
    }
    all
}

struct Truth {
    summary: RowSummary<f64>,
    eval: RowEval<f64>,
    loss_tolerance: f64,
    dlogits: Vec<f64>,
    tolerances: Vec<f64>,
    /// Whether an error of what is granted decides whether the row is kept.
    undecided: bool,
}

/// What should come out, and what may be off: each statistic by what is granted, the objective by what it makes of
/// that, each term of the gradient by its own share.
fn truth(z: &[f64], target: usize, batch: &Batch<'_>, row: usize, objective: &Composite) -> Truth {
    let map = batch.row_map(row);
    let summary = reference::summarise_mapped(map, z, target).expect("a finite row");
    let eval = objective.of_row(&summary);
    let mut dlogits = vec![0.0; z.len()];
    reference::push_back_mapped(map, z, target, &summary, eval.partials, &mut dlogits);

    let mapped: Vec<f64> = (0..z.len()).map(|j| map.map_or(z[j], |map| map.of(z[j], j, target))).collect();
    // A mapped logit is off by the link's own error, of at most 5 ULP, and a few roundings.
    let size = mapped.iter().filter(|z| z.is_finite()).fold(0.0f64, |a, z| a.max(z.abs()));
    let off = if map.is_some() { 2.0 * 8.0 * f64::from(f32::EPSILON) * size.max(1.0) } else { 0.0 };
    let stats = summary.stats;
    let margin = |z: f64| (stats.max - z).clamp(0.0, 90.0);
    let grant = |margin: f64| Grant::CPU.at(margin) + off;
    let runner_up = (mapped.iter().enumerate().filter(|(j, _)| *j != stats.argmax as usize))
        .fold(f64::MIN, |a, (_, z)| a.max(*z));
    // A sum is as exact as the terms that make it.
    let share = grant(margin(mapped[target]).max(margin(runner_up)).max(1.0));
    let log_p = share * summary.target.log_p.abs().min(1.0) + off;

    let near = perturbed(&summary, share, log_p);
    let evals: Vec<_> = near.iter().map(|row| objective.of_row(row)).collect();
    let response = |of: &dyn Fn(&RowSummary<f64>, &RowEval<f64>) -> f64| {
        let here = of(&summary, &eval);
        near.iter().zip(&evals).map(|(row, eval)| (of(row, eval) - here).abs()).sum::<f64>()
    };
    let loss_tolerance = share * eval.loss.abs() + response(&|_, eval| eval.loss) + FLUSH;
    let RowPartials { d_lse, d_entropy, d_mean, d_energy, .. } = eval.partials;
    let of_lse = response(&|_, eval| eval.partials.d_lse);
    let of_entropy = response(&|_, eval| eval.partials.d_entropy);
    let of_mean = response(&|_, eval| eval.partials.d_mean);
    let of_energy = response(&|_, eval| eval.partials.d_energy);
    let of_h = response(&|row, _| row.stats.entropy());
    let of_target = response(&|row, eval| eval.partials.target_gradient(row));
    let count = stats.counted();
    let tolerances = (0..z.len())
        .map(|j| {
            let derivative = map.map_or(1.0, |map| map.derivative(z[j]));
            if mapped[j] == f64::NEG_INFINITY {
                return 0.0;
            }
            let logit = 2.0 * mapped[j].abs();
            let affine = share * (d_mean.abs() / count) + (share * logit + 2.0 * off) * d_energy.abs();
            if j == target {
                let terms = eval.partials.target_gradient(&summary).abs() + (d_energy * logit).abs();
                return derivative * (of_target + share * terms + affine) + FLUSH;
            }
            let log_p = (mapped[j] - stats.max) - stats.tail.ln_1p();
            let p = log_p.exp();
            let spread = (log_p + stats.entropy()).abs();
            let own = grant(margin(mapped[j]).max(1.0)) + share;
            let soft = p
                * (of_lse
                    + of_entropy * spread
                    + d_entropy.abs() * (of_h + own * (log_p.abs() + stats.entropy())))
                + own * p * (d_lse.abs() + d_entropy.abs() * spread);
            derivative * (soft + affine + of_mean / count + of_energy * logit)
                + own * dlogits[j].abs()
                + FLUSH * (1.0 + d_lse.abs() + 90.0 * d_entropy.abs())
        })
        .collect();
    let undecided = evals.iter().any(|near| near.kept != eval.kept);
    Truth { summary, eval, loss_tolerance, dlogits, tolerances, undecided }
}

/// One objective over one matrix on every level. The largest error as a share of what is granted.
fn check<E: Element>(
    objective: &Composite,
    matrix: &Matrix<E>,
    map: Option<LogitMap<'_>>,
    in_place: bool,
) -> f64 {
    let rows = matrix.targets.len();
    let shape =
        Shape::new(rows, matrix.vocab).and_then(|shape| shape.with_stride(matrix.stride)).expect("a shape");
    let batch = Batch::new(shape, &matrix.targets).expect("a batch");
    let batch = map.map_or(batch, |map| batch.with_map(map).expect("a map"));
    let truths: Vec<_> = (0..rows)
        .map(|row| truth(&matrix.row(row), matrix.targets[row] as usize, &batch, row, objective))
        .collect();
    let mut worst = 0.0f64;
    for level in Level::available() {
        let mut dlogits = vec![E::from_f32(f32::NAN); matrix.logits.len()];
        let (mut losses, mut argmax) = (vec![f32::NAN; rows], vec![-7; rows]);
        let outputs = Outputs { losses: Some(&mut losses), argmax: Some(&mut argmax), ..Outputs::default() };
        let logits = if in_place {
            dlogits.copy_from_slice(&matrix.logits);
            Logits::InPlace(&mut dlogits)
        } else {
            Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits }
        };
        let cpu = Cpu::with_level(level);
        let totals =
            cpu.evaluate(objective, Reduction::Sum, &batch, logits, outputs).expect("a finite batch");
        let decided = truths.iter().filter(|truth| !truth.undecided);
        assert!(totals.kept >= decided.filter(|truth| truth.eval.kept).count(), "{objective}");
        for (row, truth) in truths.iter().enumerate().filter(|(_, truth)| !truth.undecided) {
            let at = || {
                format!(
                    "{objective}, {level}, {map:?}, {}, vocab {}, {}",
                    E::DTYPE,
                    matrix.vocab,
                    matrix.what[row]
                )
            };
            let mut judge = |what: &str, got: f64, want: f64, tolerance: f64| {
                let share = if got == want { 0.0 } else { (got - want).abs() / tolerance };
                assert!(
                    share <= 1.0,
                    "{}: {what} is {got:e}, expected {want:e}, {share:.2} of the grant",
                    at()
                );
                worst = worst.max(share);
            };
            judge("loss", losses[row].into(), truth.eval.loss, truth.loss_tolerance);
            if map.is_none() {
                assert_eq!(argmax[row] as u32, truth.summary.stats.argmax, "{}: argmax", at());
            }
            for j in 0..matrix.vocab {
                let got = f64::from(dlogits[row * matrix.stride + j].to_f32());
                let want = truth.dlogits[j];
                if E::from_f32(want as f32).to_f32().is_infinite() {
                    assert_eq!(got, f64::INFINITY.copysign(want), "{}: column {j}", at());
                    continue;
                }
                judge(&format!("column {j}"), got, want, truth.tolerances[j] + half_spacing::<E>(want));
            }
            for j in matrix.vocab..matrix.stride {
                assert!(dlogits[row * matrix.stride + j].to_f32().is_nan(), "{}: padding was written", at());
            }
        }
    }
    worst
}

fn every_objective<E: Element>() {
    let mut worst = 0.0f64;
    for (seed, vocab) in [2, 3, 5, 16, 33, 257, 4097].into_iter().enumerate() {
        let matrix = Matrix::<E>::new(&inputs::rows(vocab, seed as u64), seed % 3);
        for (i, objective) in objectives().iter().enumerate() {
            worst = worst.max(check(objective, &matrix, None, i % 2 == 0));
        }
    }
    println!("{}: largest error {worst:.3} of what is granted", E::DTYPE);
}

#[test]
fn every_row_objective_f32() {
    every_objective::<f32>();
}

#[test]
fn every_row_objective_bf16() {
    every_objective::<bf16>();
}

#[test]
fn every_row_objective_f16() {
    every_objective::<f16>();
}

#[test]
fn logit_maps() {
    let mut worst = 0.0f64;
    for (seed, vocab) in [2, 17, 300, 4100].into_iter().enumerate() {
        let rows = inputs::rows(vocab, seed as u64);
        let each = vocab.div_ceil(32);
        let mut stream = inputs::Stream::new(3);
        let scales: Vec<f32> = rows.iter().map(|_| 0.25 + 2.0 * stream.uniform()).collect();
        let margins: Vec<f32> = rows.iter().map(|_| 4.0 * stream.uniform() - 2.0).collect();
        let mut masks: Vec<u32> = (0..rows.len() * each).map(|_| (stream.uniform() * 4e9) as u32).collect();
        let mut shared = vec![0x7fff_fffe; each];
        for (row, of) in rows.iter().enumerate() {
            let bit = 1 << (of.target % 32);
            masks[row * each + of.target / 32] |= bit;
            shared[of.target / 32] |= bit;
        }
        let identity = LogitMap::default();
        let maps = [
            identity.with_scale(0.5).expect("positive"),
            identity.with_margin(0.75).expect("finite"),
            identity.with_mask(ClassMask::shared(&shared)),
            LogitMap::softcap(30.0).expect("positive"),
            LogitMap::softcap(2.0).expect("positive").with_scales(&scales).expect("positive"),
            LogitMap::stable_max().with_margins(&margins).expect("finite"),
            LogitMap::stable_max().with_scale(1.5).expect("positive").with_mask(ClassMask::per_row(&masks)),
        ];
        let (wide, narrow) = (Matrix::<f32>::new(&rows, 1), Matrix::<bf16>::new(&rows, 0));
        for (i, map) in maps.into_iter().enumerate() {
            for spec in FEW {
                let objective = Composite::parse(spec).expect("a spec");
                worst = worst.max(check(&objective, &wide, Some(map), i % 2 == 0));
                worst = worst.max(check(&objective, &narrow, Some(map), i % 2 == 1));
            }
        }
    }
    println!("largest error {worst:.3} of what is granted");
}

/// The same numbers from hidden states as from the logits that they make, chunk by chunk.
#[test]
fn from_hidden_states() {
    let (rows, vocab, dim) = (23, 3000, 12);
    let mut stream = inputs::Stream::new(11);
    let mut draw = |n: usize| (0..n).map(|_| 3.0 * (2.0 * stream.uniform() - 1.0)).collect::<Vec<f32>>();
    let (hidden, weight, bias, margins) = (draw(rows * dim), draw(vocab * dim), draw(vocab), draw(rows));
    let targets: Vec<i32> =
        (0..rows).map(|row| if row % 7 == 6 { -100 } else { (row * 997 % vocab) as i32 }).collect();
    let mut mask = vec![0xffff_fffeu32; vocab.div_ceil(32)];
    targets.iter().filter(|t| **t >= 0).for_each(|t| mask[*t as usize / 32] |= 1 << (t % 32));
    let batch = Batch::new(Shape::new(rows, vocab).expect("a shape"), &targets).expect("a batch");
    let mut all = LogitMap::softcap(5.0).expect("positive").with_scale(0.7).expect("positive");
    all = all.with_margins(&margins).expect("finite").with_mask(ClassMask::shared(&mask));
    let mut worst = 0.0f64;
    for map in [None, Some(all), Some(LogitMap::stable_max())] {
        let batch = map.map_or(batch, |map| batch.with_map(map).expect("a map"));
        let linear =
            Linear::new(batch, dim, &hidden, &weight).expect("a head").with_bias(&bias).expect("a bias");
        for objective in objectives() {
            for reduction in [Reduction::Mean(Denominator::Valid), Reduction::Mean(Denominator::Kept)] {
                let zeros = |n: usize| vec![0.0f64; n];
                let (mut losses, mut scratch) = (zeros(rows), zeros(2 * vocab));
                let (mut dh, mut dw, mut db) = (zeros(rows * dim), zeros(vocab * dim), zeros(vocab));
                let mut summaries = vec![RowSummary::nan(); rows];
                let results = reference::LinearResults {
                    losses: &mut losses,
                    summaries: &mut summaries,
                    dhidden: &mut dh,
                    dweight: &mut dw,
                    dbias: &mut db,
                    scratch: &mut scratch,
                };
                let want =
                    reference::evaluate_linear(&objective, reduction, &linear, results).expect("finite");
                for chunk_vocab in [None, Some(1000)] {
                    let options =
                        LinearOptions { budget: Budget(4 << 20), chunk_vocab, ..LinearOptions::default() };
                    let (mut gh, mut gw, mut gb) =
                        (vec![0.0f32; rows * dim], vec![0.0f32; vocab * dim], vec![0.0f32; vocab]);
                    let gradients = LinearGradients {
                        dhidden: Some(&mut gh[..]),
                        dweight: Some(&mut gw),
                        dbias: Some(&mut gb),
                    };
                    let cpu = Cpu::new();
                    let got = cpu
                        .evaluate_linear(
                            &objective,
                            reduction,
                            &linear,
                            &options,
                            gradients,
                            Outputs::default(),
                        )
                        .expect("finite");
                    let mut judge = |what: &str, got: &[f32], want: &[f64]| {
                        let size = want.iter().fold(0.0f64, |a, x| a.max(x.abs()));
                        for (i, (got, want)) in got.iter().zip(want).enumerate() {
                            let off = (f64::from(*got) - want).abs() / (size + FLUSH);
                            // Measured 8e-7 to 6e-6, of the greatest entry: sums of f32 over rows or columns, from
                            // logits that are such sums themselves.
                            assert!(
                                off <= 2e-5,
                                "{objective}, {map:?}, {chunk_vocab:?}: {what}[{i}] {got} and {want}"
                            );
                            worst = worst.max(off);
                        }
                    };
                    judge("loss", &[got.loss() as f32], &[want.loss()]);
                    judge("dhidden", &gh, &dh);
                    judge("dweight", &gw, &dw);
                    judge("dbias", &gb, &db);
                }
            }
        }
    }
    println!("largest error {worst:.1e} of the greatest entry");
}
