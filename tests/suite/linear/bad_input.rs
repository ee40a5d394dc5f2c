//! Every fault of a caller's data: the message names the thing and both numbers.

use super::{Case, Gradients, least, levels, objective};
use tokenloss::cpu::Cpu;
use tokenloss::half::bf16;
use tokenloss::{
    Batch, Budget, Denominator, Element, Error, EvaluateLinear, Linear, LinearBackend, LinearGradients,
    LinearOptions, NonFinite, Outputs, Reduction, RowPart, RowPartials, RowSummary, Shape, Totals,
};

const INF: f32 = f32::INFINITY;

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("a fault").to_string()
}

fn evaluate<E: Element>(
    cpu: Cpu,
    linear: &Linear<'_, E>,
    options: &LinearOptions,
    gradients: LinearGradients<'_, f32>,
) -> Result<Totals, Error> {
    cpu.evaluate_linear(&objective("nll"), Reduction::Sum, linear, options, gradients, Outputs::default())
}

#[test]
fn shapes() {
    let targets = [0, 1];
    let batch = Batch::new(Shape::new(2, 3).expect("a shape"), &targets).expect("a batch");
    let (hidden, weight) = ([0.0f32; 8], [0.0f32; 12]);
    let of = |dim, hidden: usize, weight: usize| {
        Linear::new(batch, dim, &[0.0f32; 8][..hidden], &[0.0f32; 12][..weight]).map(|_| ())
    };
    let dims = format!("dim: expected 1 to {} elements of a hidden state, got", i32::MAX);
    assert_eq!(message(of(0, 0, 0)), format!("{dims} 0"));
    let beyond = i32::MAX as usize + 1;
    assert_eq!(message(of(beyond, 0, 0)), format!("{dims} {beyond}"));
    assert_eq!(message(of(4, 7, 12)), "hidden: expected 8 values, got 7");
    assert_eq!(message(of(4, 8, 11)), "weight: expected 12 values, got 11");
    // The dim of the one is not that of the other.
    assert_eq!(message(of(3, 6, 12)), "weight: expected 9 values, got 12");
    let linear = Linear::new(batch, 4, &hidden, &weight).expect("a linear form");
    assert_eq!(message(linear.clone().with_bias(&[0.0; 2]).map(|_| ())), "bias: expected 3 values, got 2");

    for (first, end) in [(1, 1), (0, 4), (3, 4), (2, 1)] {
        let shard = Linear::shard(batch, 4, &hidden, &weight, std::ops::Range { start: first, end });
        let want = format!("columns: {first}..{end} is empty, or not what a vocab of 3 asks for");
        assert_eq!(message(shard.map(|_| ())), want);
    }
    let shard = Linear::shard(batch, 4, &hidden, &weight[..8], 1..3).expect("a shard");
    assert_eq!(message(shard.clone().with_bias(&[0.0; 3]).map(|_| ())), "bias: expected 2 values, got 3");
    // Only a whole vocabulary makes a summary and a loss.
    let want = "columns: 1..3 is empty, or not what a vocab of 3 asks for";
    let options = LinearOptions::default();
    assert_eq!(message(evaluate(Cpu::new(), &shard, &options, LinearGradients::default())), want);
    let summaries = &mut [RowSummary::nan(); 2];
    assert_eq!(message(Cpu::new().summarise_linear(&shard, &options, summaries)), want);
}

#[test]
fn lengths() {
    let case = Case::<f32>::new(5, 3, false, 1);
    let (linear, options) = (case.linear(), LinearOptions::default());
    let rows = case.rows();
    for (i, (what, expected)) in
        [("dhidden", rows * 3), ("dweight", 15), ("dbias", 5)].into_iter().enumerate()
    {
        for got in [expected - 1, expected + 1] {
            let want = format!("{what}: expected {expected} values, got {got}");
            let mut slices = [vec![0.0f32; rows * 3], vec![0.0; 15], vec![0.0; 5]];
            slices[i].resize(got, 0.0);
            let [dhidden, dweight, dbias] = &mut slices;
            let mut run = |apart: bool| {
                let gradients = LinearGradients {
                    dhidden: Some(&mut dhidden[..]),
                    dweight: Some(&mut dweight[..]),
                    dbias: Some(&mut dbias[..]),
                };
                if apart {
                    let (summaries, partials) =
                        (vec![RowSummary::nan(); rows], vec![RowPartials::default(); rows]);
                    let got =
                        Cpu::new().push_back_linear(&linear, &options, &summaries, &partials, gradients);
                    got.map(|_| ())
                } else {
                    evaluate(Cpu::new(), &linear, &options, gradients).map(|_| ())
                }
            };
            assert_eq!(message(run(false)), want);
            assert_eq!(message(run(true)), want);
        }
    }
    let short = rows - 1;
    let want = |what: &str| format!("{what}: expected {rows} values, got {short}");
    let parts = &mut vec![RowPart::empty(); short];
    assert_eq!(message(Cpu::new().parts_linear(&linear, &options, parts)), want("parts"));
    let (mut summaries, partials) = (vec![RowSummary::nan(); rows], vec![RowPartials::default(); rows]);
    assert_eq!(
        message(Cpu::new().summarise_linear(&linear, &options, &mut summaries[..short])),
        want("summaries")
    );
    let push_back = |summaries: &[_], partials: &[_]| {
        Cpu::new().push_back_linear(&linear, &options, summaries, partials, LinearGradients::<f32>::default())
    };
    assert_eq!(message(push_back(&summaries[..short], &partials)), want("summaries"));
    assert_eq!(message(push_back(&summaries, &partials[..short])), want("partials"));
    let losses = &mut vec![0.0; short];
    let outputs = Outputs { losses: Some(losses), ..Outputs::default() };
    let none = LinearGradients::<f32>::default();
    let got = Cpu::new().evaluate_linear(&objective("nll"), Reduction::Sum, &linear, &options, none, outputs);
    assert_eq!(message(got), want("losses"));
}

#[test]
fn options() {
    let case = Case::<f32>::new(5, 3, false, 1);
    let default = LinearOptions::default();
    let every_move = |options: LinearOptions| {
        let (linear, none) = (case.linear(), LinearGradients::<f32>::default);
        let (mut summaries, partials) =
            (vec![RowSummary::nan(); case.rows()], vec![RowPartials::default(); case.rows()]);
        let cpu = Cpu::new();
        let messages = [
            message(evaluate(cpu, &linear, &options, none())),
            message(cpu.parts_linear(&linear, &options, &mut vec![RowPart::empty(); case.rows()])),
            message(cpu.summarise_linear(&linear, &options, &mut summaries)),
            message(cpu.push_back_linear(&linear, &options, &summaries, &partials, none())),
        ];
        assert!(messages.iter().all(|m| *m == messages[0]), "{messages:?}");
        messages[0].clone()
    };
    let chunk_rows = LinearOptions { chunk_rows: Some(0), ..default };
    assert_eq!(every_move(chunk_rows), "chunk_rows: expected at least 1, got 0");
    let chunk_vocab = LinearOptions { chunk_vocab: Some(0), ..default };
    assert_eq!(every_move(chunk_vocab), "chunk_vocab: expected at least 1, got 0");
    for tolerance in [-1e-9, f32::NAN, INF] {
        let row = LinearOptions { row_tolerance: tolerance, ..default };
        assert_eq!(
            every_move(row),
            format!("row_tolerance: expected a finite number of at least 0, got {tolerance}")
        );
        let block = LinearOptions { block_tolerance: tolerance, ..default };
        assert_eq!(
            every_move(block),
            format!("block_tolerance: expected a finite number of at least 0, got {tolerance}")
        );
    }
    let budget = LinearOptions { budget: Budget(100), ..default };
    let needed = least(&case.linear(), &default);
    assert_eq!(
        every_move(budget),
        format!("budget: 100 bytes hold not even one row and a few columns, expected at least {needed}")
    );
    for denominator in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let reduction = Reduction::Mean(Denominator::Given(denominator));
        let none = LinearGradients::<f32>::default();
        let got = Cpu::new().evaluate_linear(
            &objective("nll"),
            reduction,
            &case.linear(),
            &default,
            none,
            Outputs::default(),
        );
        assert_eq!(
            message(got),
            format!("denominator: expected a positive finite number, got {denominator}")
        );
    }
}

/// With the bytes that the error asks for the call works, and with one less it does not.
#[test]
fn the_least_budget_is_the_least() {
    fn check<E: Element>() {
        for (vocab, dim) in [(2, 1), (17, 65), (1100, 3), (3000, 600)] {
            let case = Case::<E>::new(vocab, dim, true, 3);
            for (chunk_vocab, block_tolerance) in [(None, 0.0), (Some(5), 0.0), (None, 1e-5)] {
                let default = LinearOptions { chunk_vocab, block_tolerance, ..LinearOptions::default() };
                let needed = least(&case.linear(), &default);
                let of = |budget| {
                    let options = LinearOptions { budget: Budget(budget), ..default };
                    evaluate(Cpu::new(), &case.linear(), &options, Gradients::new(&case.linear()).all())
                };
                assert_eq!(of(needed - 1), Err(Error::Budget { needed, budget: needed - 1 }));
                assert!(of(needed).is_ok_and(|totals| totals.loss().is_finite()), "{vocab} x {dim}");
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

/// Where a NaN or an infinity is put in.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// All of the row's logits.
    Hidden(usize),
    /// One column of every row.
    Weight(usize),
    /// One column of every row.
    Bias(usize),
}

#[test]
fn nan_and_infinity_name_row_and_column() {
    let ways = [(None, None), (Some(4), None), (None, Some(100)), (Some(1), Some(7))];
    let (vocab, dim) = (1100, 3);
    let clean = || {
        let mut case = Case::<f32>::new(vocab, dim, true, 7);
        // Positive hidden states, so that an infinite weight is an infinite logit and no NaN.
        case.hidden.iter_mut().for_each(|h| *h = h.abs() + 0.1);
        case
    };
    let places = [
        Place::Hidden(0),
        Place::Hidden(6),
        Place::Weight(0),
        Place::Weight(1030),
        Place::Bias(0),
        Place::Bias(513),
        Place::Bias(1099),
    ];
    for (bad, place) in [f32::NAN, INF].into_iter().flat_map(|bad| places.map(|place| (bad, place))) {
        let mut case = clean();
        let (row, column) = match place {
            Place::Hidden(row) => {
                case.hidden[row * dim + 1] = bad;
                // The first column whose logit is bad: a product with a negative weight is -infinity, and a mask.
                let weights = case.weight.chunks_exact(dim).zip(case.bias.iter().flatten());
                let first = weights.into_iter().position(|(w, bias)| {
                    bad.is_nan() || (w[1] > 0.0 && *bias > f32::NEG_INFINITY) || (w[1] > 0.0 && *bias == -INF)
                });
                (row, first.expect("a positive weight"))
            }
            Place::Weight(column) => {
                case.weight[column * dim + 2] = bad;
                (0, column)
            }
            Place::Bias(column) => {
                case.bias.iter_mut().for_each(|bias| bias[column] = bad);
                (0, column)
            }
        };
        // +infinity plus a mask is NaN, too.
        let masked = case.bias.as_ref().is_some_and(|bias| bias[column] == -INF);
        let value = if bad.is_nan() || masked { f32::NAN } else { bad };
        let want = format!("logits: row {row}, column {column} is {value}, expected a finite number or -inf");
        for cpu in levels() {
            for (chunk_rows, chunk_vocab) in ways {
                let options = LinearOptions { chunk_rows, chunk_vocab, ..LinearOptions::default() };
                let linear = case.linear();
                let at = || format!("{bad} in {place:?}, {}, {options:?}", cpu.level());
                assert_eq!(
                    message(evaluate(cpu, &linear, &options, LinearGradients::default())),
                    want,
                    "{}",
                    at()
                );
                let all = &mut Gradients::new(&linear);
                assert_eq!(message(evaluate(cpu, &linear, &options, all.all())), want, "{}", at());
                let summaries = &mut vec![RowSummary::nan(); case.rows()];
                assert_eq!(message(cpu.summarise_linear(&linear, &options, summaries)), want, "{}", at());
                let linear = case.of_batch(case.batch().with_non_finite(NonFinite::NanRow));
                let totals = evaluate(cpu, &linear, &options, all.all()).expect("no error");
                assert!(totals.loss().is_nan());
                assert_eq!(cpu.summarise_linear(&linear, &options, summaries), Ok(()));
                assert!(summaries[row].target.log_p.is_nan(), "{}", at());
            }
        }
    }
}

#[test]
fn masks() {
    let mut case = Case::<f32>::new(1100, 3, true, 7);
    case.bias = Some(vec![-INF; 1100]);
    let want = "logits: row 0 is -inf in all 1100 columns, so that no class has probability";
    for (cpu, chunk_vocab) in levels().flat_map(|cpu| [(cpu, None), (cpu, Some(100))]) {
        let options = LinearOptions { chunk_vocab, ..LinearOptions::default() };
        let all = &mut Gradients::new(&case.linear());
        assert_eq!(message(evaluate(cpu, &case.linear(), &options, all.all())), want);
        assert!(all.dweight.iter().chain(&all.dbias).all(|d| *d == 0.0));
    }
    // A masked target has no probability: the loss of nll is infinite, its gradient is that of p = 0.
    let batch = Batch::new(Shape::new(1, 3).expect("a shape"), &[2]).expect("a batch");
    let linear = Linear::new(batch, 1, &[1.0f32], &[0.0, 0.0, 5.0]).expect("a linear form");
    let linear = linear.with_bias(&[0.0, 0.0, -INF]).expect("a bias");
    for cpu in levels() {
        let mut got = Gradients::new(&linear);
        let totals = evaluate(cpu, &linear, &LinearOptions::default(), got.all()).expect("a mask is allowed");
        assert_eq!((totals.loss(), &got.dbias[..]), (f64::INFINITY, &[0.5, 0.5, -1.0][..]));
        assert_eq!((&got.dweight[..], &got.dhidden[..]), (&[0.5, 0.5, -1.0][..], &[-5.0][..]));
    }
}
