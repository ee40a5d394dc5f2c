//! Every fault in a caller's lists, with its message word for word.

use tokenloss_core::columns::*;
use tokenloss_core::divergence::{ForwardKl, ReverseKl};
use tokenloss_core::{
    Batch, Denominator, Error, IGNORE_INDEX, Linear, LinearGradients, Reduction, Segments, Shape, Totals,
};

fn shape() -> Shape {
    Shape::new(2, 8).unwrap()
}

#[track_caller]
fn says<T: std::fmt::Debug>(result: Result<T, Error>, text: &str) {
    assert_eq!(result.expect_err(text).to_string(), text);
}

#[test]
fn lists() {
    let of = |k, ids: &'static [i32]| Columns::new(shape(), k, ids);
    says(of(0, &[]), "columns: number 0 has 0 members, expected at least 1");
    says(of(2, &[1, 2, 3]), "ids: expected 4 values, got 3");
    says(
        of(usize::MAX, &[]),
        "shape: 2 rows with a stride of 18446744073709551615 exceed what can be indexed",
    );
    let beyond = |id| format!("columns: row 1 lists column {id}, expected 0 to 7 for a vocab of 8");
    says(of(2, &[0, 7, 3, 8]), &beyond(8));
    says(of(2, &[0, 7, -1, 3]), &beyond(-1));
    says(of(2, &[0, 7, i32::MIN, 3]), &beyond(i32::MIN));
    // After padding comes nothing.
    says(of(2, &[0, 7, IGNORE_INDEX, 3]), &beyond(3));
    let twice = |id| format!("columns: row 1 lists column {id} twice, expected it once");
    says(of(3, &[0, 7, 1, 5, 2, 5]), &twice(5));
    says(of(3, &[0, 7, 1, 2, 5, 2]), &twice(2));
    says(of(3, &[0, 7, 1, 4, 4, IGNORE_INDEX]), &twice(4));
    assert!(of(3, &[0, 7, 1, 7, 0, 1]).is_ok(), "twice in two rows");

    let offsets = [0, 1, 3];
    let segments = Segments::new(&offsets, 3).unwrap();
    let of = |shape, ids: &'static [i32]| Columns::of_segments(shape, segments, ids);
    says(of(Shape::new(3, 8).unwrap(), &[0, 1, 2]), "segments: expected 3 values, got 2");
    says(of(shape(), &[0, 1]), "ids: expected 3 values, got 2");
    says(of(shape(), &[0, 1, IGNORE_INDEX]), &beyond(IGNORE_INDEX));
    says(of(shape(), &[0, 3, 3]), &twice(3));
}

fn forward() -> Topk<ForwardKl> {
    Topk(ForwardKl::new().unwrap())
}

/// A judgement of two rows with two columns each.
fn judged<O: ColumnObjective>(objective: &O, sides: Sides<'_>, rests: [f64; 2]) -> Result<Totals, Error> {
    let ids = [0, 1, 2, 3];
    let columns = Columns::new(shape(), 2, &ids).unwrap();
    let batch = Batch::new(shape(), &[0, 1]).unwrap();
    let loss = ColumnLoss { objective, reduction: Reduction::Sum, columns: &columns, sides };
    let into = Judgement { losses: &mut [0.0; 2], d_rests: &mut [0.0; 2], d_gathered: &mut [0.0; 4] };
    loss.judge(&batch, &[0.0; 4], &rests, into)
}

#[test]
fn sides() {
    const NONE: f64 = f64::NEG_INFINITY;
    let of = |columns, rows| Sides { columns, rows };
    let ok = [0.0; 2];
    says(judged(&SubsetMass, of(&[0.0; 4], &[]), ok), "sides.columns: expected 0 values, got 4");
    says(judged(&SubsetMass, of(&[], &[0.0; 2]), ok), "sides.rows: expected 0 values, got 2");
    says(judged(&SoftLabels, of(&[], &[]), ok), "sides.columns: expected 4 values, got 0");
    says(judged(&SoftLabels, of(&[0.0; 4], &[0.0]), ok), "sides.rows: expected 2 values, got 1");
    says(judged(&ExpectedValue, of(&[0.0; 4], &[]), ok), "sides.rows: expected 2 values, got 0");
    let nan = [0.0, 0.0, f64::NAN, 0.0];
    says(judged(&SoftLabels, of(&nan, &[]), ok), "sides.columns: value 2 is NaN, expected a finite number");
    let masked = [0.0, 0.0, 0.0, NONE];
    says(
        judged(&SoftLabels, of(&masked, &[]), ok),
        "sides.columns: value 3 is -inf, expected a finite number",
    );
    assert!(judged(&forward(), of(&masked, &[]), ok).is_ok());
    let infinite = [0.0, f64::INFINITY, 0.0, 0.0];
    says(
        judged(&forward(), of(&infinite, &[]), ok),
        "sides.columns: value 1 is inf, expected a finite number or -inf",
    );
    says(
        judged(&forward(), of(&[0.0; 4], &[0.0, f64::NAN]), ok),
        "sides.rows: value 1 is NaN, expected a finite number or -inf",
    );
    let empty = [0.0, 0.0, NONE, NONE];
    says(
        judged(&forward(), of(&empty, &[0.0, NONE]), ok),
        "teacher: row 1 is -inf in all 8 columns, so that no class has probability",
    );
    // A rest that only the row has.
    says(
        judged(&Topk(ReverseKl::new().unwrap()), of(&[0.0; 4], &[0.0, NONE]), ok),
        "divergence: row 1 is infinite, because column 0 is 0 in logits and -inf in teacher",
    );
    assert!(judged(&Topk(ReverseKl::new().unwrap()), of(&[0.0; 4], &[0.0, NONE]), [0.0, NONE]).is_ok());
}

#[test]
fn lengths_and_counts() {
    let ids = [0, 1, 2, IGNORE_INDEX];
    let columns = Columns::new(shape(), 2, &ids).unwrap();
    let batch = Batch::new(shape(), &[0, 1]).unwrap();
    let run = |lens: [usize; 5], denominator: f64, batch: &Batch<'_>| {
        let reduction = Reduction::Mean(Denominator::Given(denominator));
        let sides = Sides::default();
        let loss = ColumnLoss { objective: &SubsetMass, reduction, columns: &columns, sides };
        let [gathered, rests, losses, d_rests, d_gathered] = lens.map(|len| vec![0.0; len]);
        let (mut losses, mut d_rests, mut d_gathered) = (losses, d_rests, d_gathered);
        let into = Judgement { losses: &mut losses, d_rests: &mut d_rests, d_gathered: &mut d_gathered };
        loss.judge(batch, &gathered, &rests, into)
    };
    says(run([3, 2, 2, 2, 4], 1.0, &batch), "gathered: expected 4 values, got 3");
    says(run([4, 1, 2, 2, 4], 1.0, &batch), "rests: expected 2 values, got 1");
    says(run([4, 2, 0, 2, 4], 1.0, &batch), "losses: expected 2 values, got 0");
    says(run([4, 2, 2, 3, 4], 1.0, &batch), "d_rests: expected 2 values, got 3");
    says(run([4, 2, 2, 2, 5], 1.0, &batch), "d_gathered: expected 4 values, got 5");
    says(run([4, 2, 2, 2, 4], 0.0, &batch), "denominator: expected a positive finite number, got 0");
    let longer = Batch::new(Shape::new(3, 8).unwrap(), &[0, 1, 2]).unwrap();
    says(run([4, 2, 2, 2, 4], 1.0, &longer), "rows of the columns: expected 3 values, got 2");
    let wider = Batch::new(Shape::new(2, 9).unwrap(), &[0, 1]).unwrap();
    says(run([4, 2, 2, 2, 4], 1.0, &wider), "columns: 0..8 is empty, or not what a vocab of 9 asks for");
    // Fewer columns than the objective needs, of a row that takes part.
    let loss = ColumnLoss {
        objective: &SubsetSoftmax,
        reduction: Reduction::Sum,
        columns: &columns,
        sides: Sides::default(),
    };
    says(loss.check(&batch), "columns: number 1 has 1 members, expected at least 2");
    let ignored = Batch::new(shape(), &[0, IGNORE_INDEX]).unwrap();
    assert!(loss.check(&ignored).is_ok());

    let gathered = &mut [0.0; 4];
    says(gather(&batch, &columns, &[0.0f32; 15], gathered), "logits: expected 16 values, got 15");
    says(take(&batch, &columns, &mut [0.0f32; 16], &mut [0.0; 3]), "gathered: expected 4 values, got 3");
    says(put(&batch, &columns, &mut [0.0f32; 16], &[0.0; 3]), "gathered: expected 4 values, got 3");
    let linear = Linear::new(batch, 1, &[0.0f32; 2], &[0.0; 8]).unwrap();
    says(gather_linear(&linear, &columns, &mut [0.0; 3]), "gathered: expected 4 values, got 3");
    let none = LinearGradients::<f32>::default;
    says(put_linear(&linear, &columns, &[0.0; 3], none()), "d_gathered: expected 4 values, got 3");
    let shard = Linear::shard(batch, 1, &[0.0f32; 2], &[0.0; 4], 0..4).unwrap();
    let want = "columns: 0..4 is empty, or not what a vocab of 8 asks for";
    says(gather_linear(&shard, &columns, gathered), want);
    says(put_linear(&shard, &columns, gathered, none()), want);
}

#[test]
fn log_probabilities() {
    let of = |log_p: &[f64]| rest_of_log_p(log_p, -30.0);
    says(of(&[-1.0, f64::NAN]), "log_p: value 1 is NaN, expected at most 0");
    says(of(&[0.5]), "log_p: value 0 is 0.5, expected at most 0");
    says(of(&[0.0, 0.0]), "log_p, summed up: value 2 is 2, expected at most 1");
    assert_eq!(of(&[0.0]).unwrap(), -30.0);
    assert_eq!(of(&[1e-7]).unwrap(), -30.0);
    assert_eq!(of(&[]).unwrap(), 0.0);
}

#[test]
fn parameters() {
    says(Margin::new(-1.0), "margin: margin = -1 lies outside its domain 0 to 1000");
    says(Eaft::new(17.0, 3.0), "eaft: alpha = 17 lies outside its domain 0 to 16");
    says(Eaft::new(1.0, 0.0), "eaft: divisor = 0 lies outside its domain 0.01 to 100");
    says(Eaft::new(1.0, f32::NAN), "eaft: divisor = NaN lies outside its domain 0.01 to 100");
}
