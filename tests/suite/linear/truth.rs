//! What should come out of the linear form, and how far from it a backend may be.

use super::inputs::Case;
use crate::oracle::{self, FLUSH, Grant, half_spacing};
use tokenloss::reference::{self, LinearResults};
use tokenloss::{Element, Objective, Reduction, RowSummary, Totals};

/// A sum of `n` products in f32, in whatever order, is off by at most this times `sqrt(n)` roundings of the sum of their
/// absolute values: Higham and Mary's bound for rounding errors that are independent, with their constant at 1. (The
/// bound for the worst of all orders and all errors, `n` roundings, would let a lost column of 5,000 pass.)
const LAMBDA: f64 = 1.0;

pub(crate) fn of_sum(terms: usize, sum_of_absolutes: f64) -> f64 {
    LAMBDA * (terms as f64).sqrt() * 2f64.powi(-24) * sum_of_absolutes
}

/// A number, and how far off it may be before it is rounded to storage.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Entry {
    pub(crate) want: f64,
    pub(crate) tolerance: f64,
}

impl Entry {
    fn add(&mut self, want: f64, tolerance: f64) {
        self.want += want;
        self.tolerance += tolerance;
    }
}

pub(crate) struct Truth {
    pub(crate) totals: Totals,
    /// `None` for ignored rows.
    pub(crate) rows: Vec<Option<oracle::Truth>>,
    /// How far off a row's logits may be.
    pub(crate) of_logits: Vec<f64>,
    pub(crate) sums: Sums,
}

/// How far off the logits of a row may be: each is a sum of products and a bias.
pub(crate) fn of_logits<E: Element>(case: &Case<E>, row: usize) -> f64 {
    let hidden = &case.hidden[row * case.dim..][..case.dim];
    let absolutes = case.weight.chunks_exact(case.dim).enumerate().map(|(j, weight)| {
        let bias = case.bias.as_ref().map_or(0.0, |bias| f64::from(bias[j].to_f32()));
        let products = hidden.iter().zip(weight).map(|(h, w)| f64::from(h.to_f32() * w.to_f32()).abs());
        products.sum::<f64>() + if bias.is_finite() { bias.abs() } else { 0.0 }
    });
    of_sum(case.dim + 1, absolutes.fold(0.0, f64::max))
}

pub(crate) fn truth<E: Element>(case: &Case<E>, objective: &Objective, reduction: Reduction) -> Truth {
    let (rows, vocab, dim) = (case.rows(), case.vocab, case.dim);
    let linear = case.linear();
    let (mut dhidden, mut dweight, mut dbias) =
        (vec![0.0; rows * dim], vec![0.0; vocab * dim], vec![0.0; vocab]);
    let (mut losses, mut summaries) = (vec![0.0; rows], vec![RowSummary::nan(); rows]);
    let results = LinearResults {
        losses: &mut losses,
        summaries: &mut summaries,
        dhidden: &mut dhidden,
        dweight: &mut dweight,
        dbias: &mut dbias,
        scratch: &mut vec![0.0; 2 * vocab],
    };
    let totals = reference::evaluate_linear::<f64, E, _>(objective, reduction, &linear, results)
        .expect("finite logits");
    let scale = reduction.scale(totals.valid, totals.kept);

    let mut truth = Truth { totals, rows: vec![], of_logits: vec![0.0; rows], sums: Sums::new(case) };
    let mut z = vec![0.0; vocab];
    for row in 0..rows {
        let Some(target) = linear.batch().target(row) else {
            truth.rows.push(None);
            continue;
        };
        reference::logits_of_row(&linear, row, &mut z);
        // An error of the logits is, twice, a relative error of every share.
        truth.of_logits[row] = of_logits(case, row);
        let grant = Grant { base: Grant::CPU.base + 2.0 * truth.of_logits[row], ..Grant::CPU };
        let scaled = f64::from(case.weights[row]) * scale;
        let of_row = oracle::truth_of(&z, target, objective, scaled, grant);
        truth.sums.add(case, row, &of_row.dlogits, &of_row.tolerances);
        truth.rows.push(Some(of_row));
    }
    // What should come out is the whole oracle's to say.
    let Sums { dhidden: of_hidden, dweight: of_weight, dbias: of_bias } = &mut truth.sums;
    for (entries, wants) in [(of_hidden, dhidden), (of_weight, dweight), (of_bias, dbias)] {
        entries.iter_mut().zip(wants).for_each(|(entry, want)| entry.want = want);
    }
    truth
}

/// The gradients of a linear form.
pub(crate) struct Sums {
    pub(crate) dhidden: Vec<Entry>,
    pub(crate) dweight: Vec<Entry>,
    pub(crate) dbias: Vec<Entry>,
}

impl Sums {
    pub(crate) fn new<E: Element>(case: &Case<E>) -> Self {
        let (rows, vocab, dim) = (case.rows(), case.vocab, case.dim);
        let none = |count: usize| vec![Entry::default(); count];
        Self { dhidden: none(rows * dim), dweight: none(vocab * dim), dbias: none(vocab) }
    }

    /// Adds what a row's logits have for gradient, and how far off that may be.
    pub(crate) fn add<E: Element>(
        &mut self,
        case: &Case<E>,
        row: usize,
        dlogits: &[f64],
        tolerances: &[f64],
    ) {
        if dlogits.iter().all(|d| *d == 0.0) {
            return;
        }
        let (rows, vocab, dim) = (case.rows(), case.vocab, case.dim);
        let wide = |e: E| f64::from(e.to_f32());
        let hidden = &case.hidden[row * dim..][..dim];
        let of_hidden = &mut self.dhidden[row * dim..][..dim];
        for (j, (d, off)) in dlogits.iter().zip(tolerances).enumerate() {
            let (own, above) = (off + of_sum(vocab, d.abs()), off + of_sum(rows, d.abs()));
            let weight = &case.weight[j * dim..][..dim];
            let of_weight = &mut self.dweight[j * dim..][..dim];
            self.dbias[j].add(*d, above);
            for k in 0..dim {
                let (weight, hidden) = (wide(weight[k]), wide(hidden[k]));
                of_hidden[k].add(d * weight, own * weight.abs() + FLUSH);
                of_weight[k].add(d * hidden, above * hidden.abs() + FLUSH);
            }
        }
    }
}

/// An error beyond one rounding, as a share of what is granted.
pub(crate) fn share(got: f64, want: f64, tolerance: f64, rounding: f64, at: impl Fn() -> String) -> f64 {
    let off = (got - want).abs() - rounding;
    if off <= 0.0 {
        return 0.0;
    }
    let share = off / tolerance;
    assert!(share <= 1.0, "{}: {got:e}, expected {want:e}, off by {share:.2} of what is granted", at());
    share
}

/// The largest error of gradients that were added up so many times.
pub(crate) fn entries<G: Element>(
    got: &[G],
    truth: &[Entry],
    times: f64,
    at: impl Fn(usize) -> String,
) -> f64 {
    let mut worst = 0.0f64;
    for (i, (got, Entry { want, tolerance })) in got.iter().zip(truth).enumerate() {
        let (got, want) = (f64::from(got.to_f32()), times * want);
        if G::from_f32(want as f32).to_f32().is_infinite() {
            assert_eq!(got, f64::INFINITY.copysign(want), "{}", at(i));
            continue;
        }
        // Storage rounds once, and so does each addition to what is there.
        let rounding = half_spacing::<G>(want).max(want.abs() * times * 2f64.powi(-24));
        worst = worst.max(share(got, want, times * tolerance, rounding, || at(i)));
    }
    worst
}
