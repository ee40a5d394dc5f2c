//! Logits that are not held.

use super::{Lists, Visit, each, off_by_map, share, truth};
use crate::linear::Gradients;
use crate::linear::inputs::Case;
use crate::linear::truth::{of_logits, of_sum};
use crate::oracle::{FLUSH, half_spacing};
use crate::runner::Runner;
use tokenloss::columns::{ColumnLoss, ColumnObjective, SubsetMass};
use tokenloss::half::bf16;
use tokenloss::{Denominator, Element, LinearOptions, LogitMap, Reduction, reference};

struct Form<'a> {
    on: &'static Runner,
    vocab: usize,
    dim: usize,
    k: usize,
    map: Option<LogitMap<'a>>,
    alone: bool,
    options: LinearOptions,
    worst: f64,
}

impl Form<'_> {
    fn check<E: Element, G: Element, O: ColumnObjective>(&mut self, name: &str, objective: &O) {
        let Self { on, vocab, dim, k, map, alone, options, .. } = *self;
        let case = Case::<E>::new(vocab, dim, true, 3);
        let rows = case.rows();
        let batch = map.map_or(Ok(case.batch()), |map| case.batch().with_map(map)).expect("a map");
        let linear = case.of_batch(batch);
        let mut raw = vec![vec![0.0; vocab]; rows];
        let mut mapped = raw.clone();
        for row in 0..rows {
            reference::logits_of_row(&linear, row, &mut raw[row]);
            for j in 0..vocab {
                mapped[row][j] = match (batch.row_map(row), batch.target(row)) {
                    (Some(map), Some(target)) => map.of(raw[row][j], j, target),
                    _ => raw[row][j],
                };
            }
        }
        let lists = Lists::new(&mapped, &case.targets, k, O::SIDE, 11);
        let columns = lists.columns(&batch);
        let columns = if alone { columns.alone() } else { columns };
        let reduction = Reduction::Mean(Denominator::Given(7.5));
        let loss = ColumnLoss { objective, reduction, columns: &columns, sides: lists.sides() };
        let mut gradients = Gradients::<G>::new(&linear);
        let mut losses = vec![f32::NAN; rows];
        on.evaluate_columns_linear(&loss, &linear, &options, gradients.all(), Some(&mut losses))
            .expect("finite logits");

        let (mut dhidden, mut dweight, mut dbias) =
            (vec![(0.0, 0.0); rows * dim], vec![(0.0, 0.0); vocab * dim], vec![(0.0, 0.0); vocab]);
        let wide = |e: &E| f64::from(e.to_f32());
        for row in 0..rows {
            let at = |what: &str| format!("{name}, {on}, {}, {options:?}, {what}", case.what[row]);
            if batch.target(row).is_none() {
                assert!(losses[row] == 0.0, "{}", at("ignored"));
                continue;
            }
            // An error of the logits is, twice, a relative error of every share.
            let of_map = off_by_map(&batch, row);
            let off = 2.0 * of_logits(&case, row) + of_map;
            let want = truth(objective, &mapped[row], &columns, lists.sides(), row, on.grant(), off);
            let granted =
                share(losses[row].into(), want.loss, want.loss_tolerance + FLUSH, 0.0, || at("loss"));
            self.worst = self.worst.max(granted);
            let weight = f64::from(case.weights[row]) / 7.5;
            if weight == 0.0 {
                continue;
            }
            for j in 0..vocab {
                let by_logit = batch.row_map(row).map_or(1.0, |map| map.derivative(raw[row][j]));
                let (d, own) = (want.d[j] * weight * by_logit, want.tolerances[j] * weight);
                if d == 0.0 && own == 0.0 {
                    continue;
                }
                let own = own + if map.is_some() { (of_map + off) * d.abs() } else { 0.0 };
                let (to_hidden, to_weight) = (own + of_sum(vocab, d.abs()), own + of_sum(rows, d.abs()));
                dbias[j].0 += d;
                dbias[j].1 += to_weight + FLUSH;
                for e in 0..dim {
                    let (w, h) = (wide(&case.weight[j * dim + e]), wide(&case.hidden[row * dim + e]));
                    let (of_hidden, of_weight) = (&mut dhidden[row * dim + e], &mut dweight[j * dim + e]);
                    *of_hidden = (of_hidden.0 + d * w, of_hidden.1 + to_hidden * w.abs() + FLUSH);
                    *of_weight = (of_weight.0 + d * h, of_weight.1 + to_weight * h.abs() + FLUSH);
                }
            }
        }
        let mut worst = self.worst;
        let mut check = |what: &str, got: &[f64], want: &[(f64, f64)], rounding: fn(f64) -> f64| {
            for (i, (&got, &(want, tolerance))) in got.iter().zip(want).enumerate() {
                let at = || format!("{name}, {on}, {options:?}, {what} {i}");
                let rounding = rounding(want) + 2f64.powi(-24) * want.abs();
                worst = worst.max(share(got, want, tolerance, rounding, at));
            }
        };
        let of = |all: &[f32]| all.iter().map(|d| f64::from(*d)).collect::<Vec<_>>();
        let got: Vec<_> = gradients.dhidden.iter().map(|d| f64::from(d.to_f32())).collect();
        check("dhidden", &got, &dhidden, half_spacing::<G>);
        check("dweight", &of(&gradients.dweight), &dweight, |_| 0.0);
        check("dbias", &of(&gradients.dbias), &dbias, |_| 0.0);
        self.worst = worst;
    }
}

impl Visit for Form<'_> {
    fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O) {
        if self.k < O::LEAST + 1 {
            return;
        }
        self.check::<f32, f32, O>(name, objective);
        self.check::<bf16, bf16, O>(name, objective);
    }
}

fn run(vocab: usize, k: usize, map: Option<LogitMap<'_>>, alone: bool) -> f64 {
    let of = |chunk_rows, chunk_vocab| LinearOptions { chunk_rows, chunk_vocab, ..LinearOptions::default() };
    let mut worst = 0.0f64;
    let ways = [of(None, None), of(Some(3), Some(100)), of(Some(1), Some(1030))];
    for (on, options) in Runner::all().iter().flat_map(|on| ways.map(|options| (on, options))) {
        let mut form = Form { on, vocab, dim: 17, k, map, alone, options, worst: 0.0 };
        each(&mut form);
        worst = worst.max(form.worst);
    }
    worst
}

#[test]
fn rows_agree_with_the_oracle() {
    let worst = [(17, 5), (1100, 20)].map(|(vocab, k)| run(vocab, k, None, false));
    println!("linear: largest errors {worst:.3?} of what is granted");
}

#[test]
fn all_columns() {
    let worst = run(5, 5, None, false);
    println!("linear, all listed: largest error {worst:.3} of what is granted");
}

#[test]
fn the_listed_alone() {
    let worst = run(1100, 20, None, true);
    println!("linear, alone: largest error {worst:.3} of what is granted");
}

#[test]
fn mapped_logits() {
    let map = LogitMap::softcap(30.0).and_then(|map| map.with_scale(0.5)).expect("a map");
    let worst = run(300, 5, Some(map), false);
    println!("linear, mapped: largest error {worst:.3} of what is granted");
}

/// The same rows on every backend, within the stated error.
#[test]
fn rows_below_the_tolerance_are_left_out() {
    let (vocab, dim, k) = (300, 17, 5);
    let case = Case::<f32>::new(vocab, dim, true, 3);
    let (linear, rows) = (case.linear(), case.rows());
    let z: Vec<_> = (0..rows)
        .map(|row| {
            let mut z = vec![0.0; vocab];
            reference::logits_of_row(&linear, row, &mut z);
            z
        })
        .collect();
    let objective = &SubsetMass;
    let lists = Lists::new(&z, &case.targets, k, SubsetMass::SIDE, 11);
    let columns = lists.columns(linear.batch());
    let loss = ColumnLoss { objective, reduction: Reduction::Sum, columns: &columns, sides: lists.sides() };
    let greatest = case.weight.iter().fold(0.0f32, |most, w| most.max(w.abs()));
    let mut counts = vec![];
    for on in Runner::all() {
        let of = |row_tolerance, chunk_rows| {
            let mut gradients = Gradients::<f32>::new(&linear);
            let options = LinearOptions { row_tolerance, chunk_rows, ..LinearOptions::default() };
            let got = on.evaluate_columns_linear(&loss, &linear, &options, gradients.all(), None);
            (got.expect("finite logits").live, gradients)
        };
        let (all, exact) = of(0.0, None);
        for chunk_rows in [None, Some(4)] {
            let (live, left) = of(0.5, chunk_rows);
            assert!(0 < live && live < all, "{on}: {live} of {all}");
            counts.push((all, live));
            let mut zeros = 0;
            for (d, exact) in left.dhidden.chunks(dim).zip(exact.dhidden.chunks(dim)) {
                zeros += usize::from(d.iter().all(|d| *d == 0.0));
                let off = d.iter().zip(exact).map(|(d, exact)| (d - exact).abs()).fold(0.0, f32::max);
                assert!(off <= 0.5 * greatest, "{on}: {off}");
            }
            assert_eq!(zeros, rows - live, "{on}");
        }
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}
