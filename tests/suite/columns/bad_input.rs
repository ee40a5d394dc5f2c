//! Rows with a NaN, a +infinity or no mass, and slices of the wrong length.

use crate::linear::inputs::Case;
use crate::runner::Runner;
use tokenloss::columns::{
    ColumnLoss, ColumnObjective, ColumnPartials, Columns, Sides, SubsetMass, SubsetSoftmax, Topk,
};
use tokenloss::divergence::ForwardKl;
use tokenloss::{
    Batch, Error, IGNORE_INDEX, LinearGradients, LinearOptions, Logits, NonFinite, Reduction, RowPart,
    RowSummary, Shape, Totals,
};

const INF: f32 = f32::INFINITY;
const IDS: [i32; 8] = [0, 1, 2, 3, 0, 1, 4, 0];

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("a fault").to_string()
}

/// Four rows of five columns, of which two are listed; the third is ignored.
fn shape() -> Shape {
    Shape::new(4, 5).expect("a shape")
}

const TARGETS: [i32; 4] = [0, 4, IGNORE_INDEX, 4];

fn run<O: ColumnObjective>(
    on: &Runner,
    objective: &O,
    batch: &Batch<'_>,
    alone: bool,
    logits: &mut [f32],
    losses: &mut [f32],
) -> Result<Totals, Error> {
    let columns = Columns::new(shape(), 2, &IDS).expect("columns");
    let columns = if alone { columns.alone() } else { columns };
    let loss =
        ColumnLoss { objective, reduction: Reduction::Sum, columns: &columns, sides: Sides::default() };
    on.evaluate_columns(&loss, batch, Logits::InPlace(logits), Some(losses))
}

#[test]
fn nan_and_infinity_name_row_and_column() {
    Runner::all().iter().for_each(faults);
}

fn faults(on: &Runner) {
    let batch = Batch::new(shape(), &TARGETS).expect("a batch");
    let clean: Vec<_> = (0..20).map(|i| (i * 7 % 5) as f32 * 0.3).collect();
    let mut want = clean.clone();
    run(on, &SubsetMass, &batch, false, &mut want, &mut [0.0; 4]).expect("finite");
    // Listed, not listed, both; the first in the row is named.
    for (bad, columns) in
        [f32::NAN, INF].into_iter().flat_map(|bad| [[1, 1], [3, 3], [2, 3], [0, 4]].map(|c| (bad, c)))
    {
        let mut logits = clean.clone();
        // Row 1 lists 2 and 3. That of the ignored row is not read.
        columns.into_iter().for_each(|column| logits[5 + column] = bad);
        logits[12] = f32::NAN;
        let text = format!("logits: row 1, column {} is {bad}, expected a finite number or -inf", columns[0]);
        let (mut got, mut losses) = (logits.clone(), [0.0f32; 4]);
        assert_eq!(message(run(on, &SubsetMass, &batch, false, &mut got, &mut losses)), text);
        let mut nan_rows = (logits.clone(), [0.0f32; 4]);
        let batch = batch.with_non_finite(NonFinite::NanRow);
        let totals = run(on, &SubsetMass, &batch, false, &mut nan_rows.0, &mut nan_rows.1).expect("no error");
        assert!(totals.loss().is_nan());
        for (got, losses) in [(got, losses), nan_rows] {
            assert!(losses[1].is_nan() && losses[2] == 0.0 && losses[0].is_finite() && losses[3].is_finite());
            assert!(got[5..10].iter().all(|d| d.is_nan()), "{got:?}");
            assert!(got[..5] == want[..5] && got[10..] == want[10..]);
        }
        // Forward only, the same.
        let columns = Columns::new(shape(), 2, &IDS).expect("columns");
        let (objective, reduction, sides) = (&SubsetMass, Reduction::Sum, Sides::default());
        let loss = ColumnLoss { objective, reduction, columns: &columns, sides };
        let batch = batch.with_non_finite(NonFinite::Error);
        let read = on.evaluate_columns(&loss, &batch, Logits::Read(&logits), None);
        assert_eq!(message(read), text);
    }
    // What is not listed is not read where the listed are alone.
    let mut logits = clean.clone();
    logits[5] = f32::NAN;
    let mut losses = [0.0; 4];
    run(on, &SubsetMass, &batch, true, &mut logits.clone(), &mut losses).expect("not read");
    run(on, &SubsetSoftmax, &batch, false, &mut logits, &mut losses).expect("not read");
    assert!(logits.iter().all(|d| d.is_finite()));
    logits[7] = f32::NAN;
    assert_eq!(
        message(run(on, &SubsetSoftmax, &batch, false, &mut logits, &mut losses)),
        "logits: row 1, column 2 is NaN, expected a finite number or -inf"
    );
    assert!(logits[5..10].iter().all(|d| d.is_nan()));
}

#[test]
fn masks() {
    Runner::all().iter().for_each(masked);
}

fn masked(on: &Runner) {
    let batch = Batch::new(shape(), &TARGETS).expect("a batch");
    let of = |masked: &[usize], alone| {
        let (mut logits, mut losses) = (vec![0.0f32; 20], [0.0f32; 4]);
        masked.iter().for_each(|column| logits[5 + column] = -INF);
        let result = run(on, &SubsetMass, &batch, alone, &mut logits, &mut losses);
        (result.map_err(|error| error.to_string()), logits, losses)
    };
    let no_mass = "logits: row 1 is -inf in all 5 columns, so that no class has probability".to_owned();
    assert_eq!(of(&[0, 1, 2, 3, 4], false).0, Err(no_mass.clone()));
    assert_eq!(of(&[2, 3], true).0, Err(no_mass));
    // Nothing but the listed columns has mass: no fault, and nothing to gain.
    let (result, logits, losses) = of(&[0, 1, 4], false);
    assert!(result.is_ok() && losses[1] == 0.0 && logits[5..10] == [0.0; 5]);
    // The listed columns have none: infinitely far, and the others are pushed.
    let (result, logits, losses) = of(&[2, 3], false);
    let third = 1.0 / 3.0;
    let off = on.grant().at(0.0) as f32 * third;
    assert!(result.is_ok() && losses[1] == INF);
    for (d, want) in logits[5..10].iter().zip([third, third, 0.0, 0.0, third]) {
        assert!((d - want).abs() <= off, "{on}: {d}, {want}");
    }
}

#[test]
fn teachers_that_a_row_cannot_reach() {
    Runner::all().iter().for_each(unreachable);
}

fn unreachable(on: &Runner) {
    let batch = Batch::new(shape(), &TARGETS).expect("a batch");
    let columns = Columns::new(shape(), 2, &IDS).expect("columns");
    let objective = Topk(ForwardKl::new().expect("no parameters"));
    let sides = Sides { columns: &[0.0; 8], rows: &[0.0; 4] };
    let loss = ColumnLoss { objective: &objective, reduction: Reduction::Sum, columns: &columns, sides };
    let mut logits = [0.5f32; 20];
    logits[5 + 3] = -INF;
    let mut losses = [0.0; 4];
    let got = on.evaluate_columns(&loss, &batch, Logits::InPlace(&mut logits), Some(&mut losses));
    assert_eq!(
        message(got),
        "divergence: row 1 is infinite, because column 3 is -inf in logits and 0 in teacher"
    );
    // All other rows are done.
    assert!(losses[1].is_nan() && losses[0] > 0.0 && losses[3] > 0.0);
    assert!(logits[5..10].iter().all(|d| d.is_nan()) && logits[..5].iter().all(|d| d.is_finite()));
}

fn loss<'a>(columns: &'a Columns<'a>) -> ColumnLoss<'a, SubsetMass> {
    ColumnLoss { objective: &SubsetMass, reduction: Reduction::Sum, columns, sides: Sides::default() }
}

#[test]
fn the_linear_form() {
    Runner::all().iter().for_each(linear_form);
}

fn linear_form(on: &Runner) {
    let case = Case::<f32>::new(50, 3, false, 7);
    let rows = case.rows();
    let ids: Vec<i32> = (0..rows as i32).flat_map(|row| [row % 50, (row + 7) % 50]).collect();
    let columns = Columns::new(case.batch().shape(), 2, &ids).expect("columns");
    let (linear, options) = (case.linear(), LinearOptions::default());
    // A hidden state of NaN: the row's gradient is NaN, and nobody else's.
    let mut bad = Case::<f32>::new(50, 3, false, 7);
    bad.hidden[3 * 3 + 1] = f32::NAN;
    for (alone, columns) in [(false, columns), (true, columns.alone())] {
        let (mut dhidden, mut dweight) = (vec![0.0f32; rows * 3], vec![0.0; 150]);
        let gradients =
            LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: Some(&mut dweight[..]), dbias: None };
        let got = on.evaluate_columns_linear(&loss(&columns), &bad.linear(), &options, gradients, None);
        let first = if alone { ids[6].min(ids[7]) } else { 0 };
        assert_eq!(
            message(got),
            format!("logits: row 3, column {first} is NaN, expected a finite number or -inf")
        );
        assert!(dweight.iter().all(|d| d.is_finite()));
        for (row, d) in dhidden.chunks(3).enumerate() {
            assert!(d.iter().all(|d| d.is_nan() == (row == 3)), "{row}: {d:?}");
        }
    }
    // Lengths.
    let wrong = |columns: &Columns<'_>, parts: usize| {
        on.rests_linear(&linear, &options, columns, &mut vec![RowPart::empty(); parts])
    };
    assert_eq!(
        message(wrong(&columns, rows - 1)),
        format!("parts: expected {rows} values, got {}", rows - 1)
    );
    let shape = Shape::new(rows, 51).expect("a shape");
    let wider = Columns::new(shape, 2, &ids).expect("columns");
    assert_eq!(message(wrong(&wider, rows)), "columns: 0..51 is empty, or not what a vocab of 50 asks for");
    let push = |rests: usize, d_rests: usize, d_gathered: usize| {
        let (d_rests, d_gathered) = (vec![0.0; d_rests], vec![0.0; d_gathered]);
        let partials = ColumnPartials { columns: &columns, d_rests: &d_rests, d_gathered: &d_gathered };
        let rests = vec![RowSummary::nan(); rests];
        on.push_back_columns_linear(&linear, &options, &rests, partials, LinearGradients::<f32>::default())
    };
    let says = |what: &str, expected: usize| format!("{what}: expected {expected} values, got 1");
    assert_eq!(message(push(1, rows, 2 * rows)), says("rests", rows));
    assert_eq!(message(push(rows, 1, 2 * rows)), says("d_rests", rows));
    assert_eq!(message(push(rows, rows, 1)), says("d_gathered", 2 * rows));
    let none = LinearGradients::<f32>::default();
    let shard = case.shard(0..20);
    let got = on.evaluate_columns_linear(&loss(&columns), &shard, &options, none, None);
    assert_eq!(message(got), "columns: 0..20 is empty, or not what a vocab of 50 asks for");
    let losses = &mut [0.0f32; 1][..];
    let none = LinearGradients::<f32>::default();
    let got = on.evaluate_columns_linear(&loss(&columns), &linear, &options, none, Some(losses));
    assert_eq!(message(got), says("losses", rows));
}
