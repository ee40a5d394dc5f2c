//! Logits that are held.

use super::{Lists, Visit, each, off_by_map, share, truth};
use crate::inputs::{self, Matrix};
use crate::oracle::{FLUSH, half_spacing};
use crate::runner::Runner;
use tokenloss::columns::{ColumnLoss, ColumnObjective};
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, ClassMask, Denominator, Element, IGNORE_INDEX, LogitMap, Logits, Reduction, Shape};

#[derive(Clone, Copy, Debug)]
enum Way {
    Read,
    OutOfPlace,
    InPlace,
}

struct Dense<'a> {
    on: &'static Runner,
    vocab: usize,
    k: usize,
    map: Option<LogitMap<'a>>,
    alone: bool,
    worst: f64,
}

impl Dense<'_> {
    fn check<E: Element, O: ColumnObjective>(&mut self, name: &str, objective: &O, way: Way) {
        let Self { on, vocab, k, map, alone, .. } = *self;
        let mut matrix = Matrix::<E>::new(&inputs::rows(vocab, 7), 2);
        let rows = matrix.targets.len();
        matrix.targets[3] = IGNORE_INDEX;
        let shape =
            Shape::new(rows, vocab).and_then(|shape| shape.with_stride(matrix.stride)).expect("a shape");
        let weights: Vec<_> = (0..rows).map(|row| [1.0, 0.5, 3.0, 0.0, 2.0][row % 5]).collect();
        let targets = matrix.targets.clone();
        let batch =
            Batch::new(shape, &targets).and_then(|batch| batch.with_weights(&weights)).expect("a batch");
        let batch = map.map_or(Ok(batch), |map| batch.with_map(map)).expect("a map");
        let mapped: Vec<Vec<f64>> = (0..rows)
            .map(|row| {
                let of = |(j, z): (usize, f64)| match (batch.row_map(row), batch.target(row)) {
                    (Some(map), Some(target)) => map.of(z, j, target),
                    _ => z,
                };
                matrix.row(row).into_iter().enumerate().map(of).collect()
            })
            .collect();
        let lists = Lists::new(&mapped, &targets, k, O::SIDE, 11);
        let columns = lists.columns(&batch);
        let columns = if alone { columns.alone() } else { columns };
        let reduction = Reduction::Mean(Denominator::Given(7.5));
        let loss = ColumnLoss { objective, reduction, columns: &columns, sides: lists.sides() };

        let before = matrix.logits.clone();
        let mut dlogits = vec![E::from_f32(f32::NAN); before.len()];
        let mut losses = vec![f32::NAN; rows];
        let io = match way {
            Way::Read => Logits::Read(&matrix.logits),
            Way::OutOfPlace => Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut dlogits },
            Way::InPlace => Logits::InPlace(&mut matrix.logits),
        };
        let totals = on.evaluate_columns(&loss, &batch, io, Some(&mut losses)).expect("finite logits");
        assert_eq!((totals.valid, totals.ignored, totals.denominator), (rows - 1, 1, 7.5));
        let got = match way {
            Way::Read => None,
            Way::OutOfPlace => Some(&dlogits),
            Way::InPlace => Some(&matrix.logits),
        };
        let (mut sum, mut off_by) = (0.0, 0.0);
        for row in 0..rows {
            let at = |what: &str| {
                let dtype = E::DTYPE;
                format!("{name}, {dtype}, {way:?}, {on}, {} of {k}, {what}", matrix.what[row])
            };
            let gradient = got.map(|got| &got[row * matrix.stride..][..matrix.stride]);
            if let Some(gradient) = gradient {
                assert!(gradient[vocab..].iter().all(|d| d.to_f32().is_nan()), "{}", at("padding"));
            }
            if batch.target(row).is_none() {
                assert!(losses[row] == 0.0, "{}", at("ignored"));
                assert!(
                    gradient.is_none_or(|d| d[..vocab].iter().all(|d| d.to_f32() == 0.0)),
                    "{}",
                    at("ignored")
                );
                continue;
            }
            let of_map = off_by_map(&batch, row);
            let want = truth(objective, &mapped[row], &columns, lists.sides(), row, on.grant(), of_map);
            let granted =
                share(losses[row].into(), want.loss, want.loss_tolerance + FLUSH, 0.0, || at("loss"));
            self.worst = self.worst.max(granted);
            let weight = f64::from(weights[row]);
            if weight != 0.0 {
                sum += weight * want.loss;
                off_by += weight * want.loss_tolerance;
            }
            let Some(gradient) = gradient else { continue };
            for (j, d) in gradient[..vocab].iter().enumerate() {
                let by_logit = batch.row_map(row).map_or(1.0, |map| {
                    let z = f64::from(before[row * matrix.stride + j].to_f32());
                    if map.allows(j) { map.derivative(z) } else { 0.0 }
                });
                let factor = if weight == 0.0 { 0.0 } else { weight / 7.5 * by_logit };
                let want_d = if factor == 0.0 { 0.0 } else { want.d[j] * factor };
                // The derivative of a link is one of its roundings more.
                let own = want.tolerances[j] * factor + of_map * want_d.abs() + 4.0 * FLUSH;
                let rounding = half_spacing::<E>(want_d);
                let granted = share(d.to_f32().into(), want_d, own, rounding, || at(&format!("column {j}")));
                self.worst = self.worst.max(granted);
            }
        }
        if sum.is_finite() {
            share(totals.loss_sum, sum, off_by + 1e-12 * sum.abs() + FLUSH, 0.0, || {
                format!("{name}: the sum")
            });
        }
    }
}

impl Visit for Dense<'_> {
    fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O) {
        if self.k < O::LEAST + 1 {
            return;
        }
        self.check::<f32, O>(name, objective, Way::Read);
        self.check::<f32, O>(name, objective, Way::InPlace);
        self.check::<f32, O>(name, objective, Way::OutOfPlace);
        self.check::<bf16, O>(name, objective, Way::OutOfPlace);
        self.check::<bf16, O>(name, objective, Way::InPlace);
        self.check::<f16, O>(name, objective, Way::InPlace);
    }
}

fn run(vocab: usize, k: usize, map: Option<LogitMap<'_>>, alone: bool) -> f64 {
    let mut worst = 0.0f64;
    for on in Runner::all() {
        let mut dense = Dense { on, vocab, k, map, alone, worst: 0.0 };
        each(&mut dense);
        worst = worst.max(dense.worst);
    }
    worst
}

#[test]
fn rows_agree_with_the_oracle() {
    // More than a block of the kernels, and an odd one.
    let worst = [(37, 5), (37, 2), (4099, 20)].map(|(vocab, k)| run(vocab, k, None, false));
    println!("logits: largest errors {worst:.3?} of what is granted");
}

#[test]
fn all_columns_and_all_but_one() {
    let worst = [(5, 5), (6, 5)].map(|(vocab, k)| run(vocab, k, None, false));
    println!("all listed: largest errors {worst:.3?} of what is granted");
}

#[test]
fn the_listed_alone() {
    let worst = [(37, 5), (1001, 20)].map(|(vocab, k)| run(vocab, k, None, true));
    println!("alone: largest errors {worst:.3?} of what is granted");
}

#[test]
fn mapped_logits() {
    // Temperature 2 after a cap.
    let map = LogitMap::softcap(30.0).and_then(|map| map.with_scale(0.5)).expect("a map");
    let margin = LogitMap::default().with_margin(0.7).expect("a map");
    let all = [u32::MAX; 2];
    let masked = map.with_mask(ClassMask::shared(&all));
    // Each row its own.
    let rows = inputs::rows(37, 7).len();
    let scales: Vec<_> = (0..rows).map(|row| 0.25 + 0.1 * row as f32).collect();
    let margins: Vec<_> = (0..rows).map(|row| 0.05 * row as f32).collect();
    let words = vec![u32::MAX; 2 * rows];
    let own = map.with_scales(&scales).and_then(|map| map.with_margins(&margins)).expect("a map");
    let own = own.with_mask(ClassMask::per_row(&words));
    let worst = [map, margin, masked, own].map(|map| run(37, 5, Some(map), false));
    println!("mapped: largest errors {worst:.3?} of what is granted");
}
