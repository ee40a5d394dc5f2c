//! Rows guided by a teacher's on every backend, against the oracle of the guided row.

use crate::inputs::Stream;
use crate::runner::Runner;
use tokenloss::half::{bf16, f16};
use tokenloss::{
    Batch, Denominator, Element, Error, Guidance, IGNORE_INDEX, Logits, NonFinite, Objective, Outputs,
    Reduction, RowObjective, Shape, Teacher, Totals, reference,
};

const INF: f32 = f32::INFINITY;

fn noise<E: Element>(len: usize, seed: u64) -> Vec<E> {
    let mut s = Stream::new(seed);
    (0..len).map(|_| E::from_f32(8.0 * s.uniform() - 4.0)).collect()
}

struct Got<E> {
    totals: Totals,
    losses: Vec<f32>,
    dlogits: Vec<E>,
}

#[allow(clippy::too_many_arguments)]
fn evaluate<E: Element, U: Element>(
    runner: &Runner,
    objective: &Objective,
    guidance: Guidance<'_>,
    reduction: Reduction,
    batch: &Batch<'_>,
    logits: &[E],
    teacher: Teacher<'_, U>,
    in_place: bool,
) -> Result<Got<E>, Error> {
    let mut dlogits = if in_place { logits.to_vec() } else { vec![E::from_f32(f32::NAN); logits.len()] };
    let mut losses = vec![f32::NAN; batch.shape().rows()];
    let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
    let io = if in_place {
        Logits::InPlace(&mut dlogits)
    } else {
        Logits::OutOfPlace { logits, dlogits: &mut dlogits }
    };
    let totals = runner.evaluate_guided(objective, guidance, reduction, batch, io, teacher, outputs)?;
    Ok(Got { totals, losses, dlogits })
}

fn agree<E: Element, U: Element>(spec: &str) {
    let objective = Objective::parse(spec).expect("a spec");
    // Half a unit in the last place of storage, relative and at the least normal number.
    let (storage, least) = if E::DTYPE.bytes() == 4 { (6e-8, 0.0) } else { (4e-3, 3e-8) };
    for (seed, vocab) in [2, 3, 17, 33, 1001, 4097].into_iter().enumerate() {
        let rows = 5;
        let shape = Shape::new(rows, vocab).and_then(|shape| shape.with_stride(vocab + 1)).expect("a shape");
        let (mut z, mut u) =
            (noise::<E>(shape.elements(), seed as u64), noise::<U>(shape.elements(), 50 + seed as u64));
        // One class that the student masks, one that both do, one that the teacher does.
        if vocab > 4 {
            z[1] = E::from_f32(-INF);
            (z[vocab + 2], u[vocab + 2]) = (E::from_f32(-INF), U::from_f32(-INF));
            u[3] = U::from_f32(-INF);
        }
        let strengths = [0.25, 1.0, 3.0, 0.0, 0.5];
        let targets = [0, IGNORE_INDEX, 1, 0, 1];
        let batch = Batch::new(shape, &targets).expect("a batch");
        let teacher = Teacher::new(shape, &u).expect("a teacher");
        for runner in Runner::all() {
            let guidance = Guidance::Each(&strengths);
            let in_place = seed % 2 == 1;
            let got = evaluate(runner, &objective, guidance, Reduction::Sum, &batch, &z, teacher, in_place)
                .expect("finite");
            for row in (0..rows).filter(|row| targets[*row] != IGNORE_INDEX) {
                let strength = f64::from(strengths[row]);
                let columns = row * (vocab + 1)..row * (vocab + 1) + vocab;
                let pairs = z[columns.clone()].iter().zip(&u[columns.clone()]);
                let pairs: Vec<_> =
                    pairs.map(|(z, u)| (f64::from(z.to_f32()), f64::from(u.to_f32()))).collect();
                let guided: Vec<_> = pairs.iter().map(|(z, u)| reference::guided(strength, *z, *u)).collect();
                let target = targets[row] as usize;
                let summary = reference::summarise(&guided, target).expect("finite");
                let eval = objective.of_row(&summary);
                let mut want = vec![0.0; vocab];
                reference::push_back(&guided, target, &summary, eval.partials.scaled(strength), &mut want);
                // Guided logits of up to 20 are off by two roundings, and so, relatively, are all probabilities; the objective has
                // slopes of up to 2.
                let size = 4.0 * strength + 4.0 * (1.0 - strength).abs();
                let unit = 1e-6 + 6.0 * 6e-8 * size;
                let off = (f64::from(got.losses[row]) - eval.loss).abs();
                assert!(off <= 4.0 * unit * (1.0 + eval.loss), "{spec}, {runner}, row {row}: off by {off:e}");
                for (j, want) in want.iter().enumerate() {
                    let got = f64::from(got.dlogits[columns.start + j].to_f32());
                    let granted = 4.0 * unit * (want.abs() + 1e-3 * strength) + storage * want.abs() + least;
                    assert!(
                        (got - want).abs() <= granted,
                        "{spec}, {runner}, vocab {vocab}, row {row}, column {j}: {got:e}, expected {want:e}"
                    );
                }
            }
            let ignored = &got.dlogits[vocab + 1..2 * vocab + 1];
            assert!(ignored.iter().all(|d| d.to_f32() == 0.0) && got.losses[1] == 0.0);
        }
    }
}

#[test]
fn guided_rows_agree_with_the_oracle() {
    agree::<f32, f32>("nll");
    agree::<f32, bf16>("power:alpha=2");
    agree::<bf16, f32>("nll");
    agree::<f16, bf16>("dft");
}

#[test]
fn a_strength_of_1_is_the_row_itself_and_of_0_the_teacher() {
    let shape = Shape::new(3, 1001).expect("a shape");
    let (z, u) = (noise::<f32>(shape.elements(), 1), noise::<f32>(shape.elements(), 2));
    let batch = Batch::new(shape, &[5, 1000, 0]).expect("a batch");
    let (objective, mean) = (Objective::parse("power:alpha=0.5").expect("a spec"), Reduction::default());
    let teacher = Teacher::new(shape, &u).expect("a teacher");
    for runner in Runner::all() {
        let plain = |logits: &[f32]| {
            let (mut losses, mut dlogits) = (vec![0.0; 3], logits.to_vec());
            let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
            let totals = runner.evaluate(&objective, mean, &batch, Logits::InPlace(&mut dlogits), outputs);
            (totals, losses, dlogits)
        };
        let run = |strength| {
            let guidance = Guidance::All(strength);
            let got =
                evaluate(runner, &objective, guidance, mean, &batch, &z, teacher, false).expect("finite");
            (got.totals, got.losses, got.dlogits)
        };
        assert_eq!(run(1.0), plain(&z), "{runner}");
        let (of_teacher, losses, dlogits) = run(0.0);
        let (want, wanted, _) = plain(&u);
        assert_eq!((of_teacher.loss_sum, losses), (want.loss_sum, wanted), "{runner}");
        assert!(dlogits.iter().all(|d| *d == 0.0), "{runner}");
    }
}

#[test]
fn dropped_rows_are_not_counted() {
    let shape = Shape::new(4, 50).expect("a shape");
    let (z, u) = (noise::<f32>(200, 3), noise::<f32>(200, 4));
    let batch = Batch::new(shape, &[1, 2, 3, 4]).expect("a batch");
    let objective = Objective::parse("thresholded:inner=nll,lo=0.01").expect("a spec");
    let teacher = Teacher::new(shape, &u).expect("a teacher");
    for runner in Runner::all() {
        let run = |reduction| {
            evaluate(runner, &objective, Guidance::All(0.5), reduction, &batch, &z, teacher, false)
                .expect("finite")
        };
        let (sum, mean) = (run(Reduction::Sum), run(Reduction::Mean(Denominator::Kept)));
        let kept = sum.totals.kept;
        assert!(kept > 0 && kept < 4, "{runner}: {kept} rows are kept");
        assert_eq!(mean.totals.denominator, kept as f64);
        for (mean, sum) in mean.dlogits.iter().zip(&sum.dlogits) {
            assert!((mean * kept as f32 - sum).abs() <= 1e-6 * sum.abs());
        }
    }
}

#[test]
fn faults_say_which_row_and_which_side() {
    let shape = Shape::new(2, 3).expect("a shape");
    let batch = Batch::new(shape, &[0, 1]).expect("a batch");
    let objective = Objective::parse("nll").expect("a spec");
    let good = [0.5, 1.0, 0.25];
    let says = |strength: f32, z: [f32; 3], u: [f32; 3], text: &str| {
        let (z, u) = ([good, z].concat(), [good, u].concat());
        let teacher = Teacher::new(shape, &u).expect("a teacher");
        for runner in Runner::all() {
            let run = |batch: &Batch<'_>, guidance| {
                evaluate(runner, &objective, guidance, Reduction::Sum, batch, &z, teacher, false)
            };
            let error = run(&batch, Guidance::All(strength)).err().expect(text);
            assert_eq!(error.to_string(), text, "{runner}");
            let got =
                run(&batch.with_non_finite(NonFinite::NanRow), Guidance::All(strength)).expect("no error");
            assert!(got.losses[0].is_finite() && got.losses[1].is_nan());
            assert!(
                got.dlogits[..3].iter().all(|d| d.is_finite()) && got.dlogits[3..].iter().all(|d| d.is_nan())
            );
        }
    };
    let finite = "expected a finite number or -inf";
    let with = |bad: f32| [0.0, bad, 1.0];
    says(0.5, with(f32::NAN), good, &format!("logits: row 1, column 1 is NaN, {finite}"));
    says(0.5, with(INF), good, &format!("logits: row 1, column 1 is inf, {finite}"));
    says(0.5, good, with(f32::NAN), &format!("teacher: row 1, column 1 is NaN, {finite}"));
    says(0.5, with(-INF), with(f32::NAN), &format!("teacher: row 1, column 1 is NaN, {finite}"));
    says(0.5, with(-INF), with(INF), &format!("teacher: row 1, column 1 is inf, {finite}"));
    says(2.0, good, with(-INF), &format!("logits: row 1, column 1 is inf, {finite}"));
    says(0.5, [-INF; 3], good, "logits: row 1 is -inf in all 3 columns, so that no class has probability");
}

#[test]
fn strengths_are_checked() {
    let says = |guidance: Guidance<'_>, text: &str| {
        assert_eq!(guidance.check(2).expect_err(text).to_string(), text);
    };
    says(Guidance::All(-0.5), "guidance: strength = -0.5 lies outside its domain 0 to 100");
    says(Guidance::All(f32::NAN), "guidance: strength = NaN lies outside its domain 0 to 100");
    says(Guidance::Each(&[1.0]), "strengths: expected 2 values, got 1");
    says(Guidance::Each(&[1.0, 101.0]), "strengths: value 1 is 101, expected 0 to 100");
    assert_eq!(Guidance::Each(&[0.0, 100.0]).check(2), Ok(()));
}
