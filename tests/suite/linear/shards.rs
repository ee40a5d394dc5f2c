//! Parts of the vocabulary, and the three moves apart.

use super::truth::{self, Truth, entries, share};
use super::{Case, Gradients, levels, objective};
use crate::oracle::FLUSH;
use tokenloss::half::bf16;
use tokenloss::{
    Budget, Denominator, Element, LinearBackend, LinearOptions, Reduction, RowObjective, RowPart,
    RowPartials, RowSummary, summaries_of_parts,
};

/// Cuts that no block and no vector divides, of one column, and inside one block.
const CUTS: [usize; 6] = [0, 1, 700, 1100, 2900, 3001];

fn options() -> [LinearOptions; 3] {
    let default = LinearOptions::default();
    [
        default,
        LinearOptions { chunk_rows: Some(4), chunk_vocab: Some(1030), ..default },
        LinearOptions { budget: Budget(96 << 10), ..default },
    ]
}

/// Whether summaries are within their rows' grants of the truth.
fn check(case: &Case<impl Element>, truth: &Truth, got: &[RowSummary<f64>], at: impl Fn() -> String) {
    for (row, (truth, got)) in truth.rows.iter().zip(got).enumerate() {
        let at = || format!("{}, row {row} ({})", at(), case.what[row]);
        let Some(truth) = truth else {
            assert!(got.stats.tail.is_nan() && got.target.log_p.is_nan(), "{}", at());
            continue;
        };
        let (want, granted) = (truth.summary, truth.granted);
        share(got.stats.lse(), want.stats.lse(), granted, 0.0, at);
        share(got.target.log_p, want.target.log_p, granted, 0.0, at);
        let of_p = granted * want.target.one_minus_p + FLUSH;
        share(got.target.one_minus_p, want.target.one_minus_p, of_p, 0.0, at);
        let entropy = want.stats.entropy();
        share(got.stats.entropy(), entropy, granted * entropy + 90.0 * FLUSH * case.vocab as f64, 0.0, at);
    }
}

fn check_all(truth: &Truth, [dhidden, dweight, dbias]: [&[f32]; 3], at: impl Fn() -> String) {
    entries(dhidden, &truth.sums.dhidden, 1.0, |i| format!("{}: dhidden {i}", at()));
    entries(dweight, &truth.sums.dweight, 1.0, |i| format!("{}: dweight {i}", at()));
    entries(dbias, &truth.sums.dbias, 1.0, |i| format!("{}: dbias {i}", at()));
}

fn partials(case: &Case<impl Element>, summaries: &[RowSummary<f64>], scale: f64) -> Vec<RowPartials<f64>> {
    let power = objective("power:alpha=0.5");
    let of_row = |(summary, weight): (&RowSummary<f64>, &f32)| {
        power.of_row(summary).partials.scaled(f64::from(*weight) * scale)
    };
    summaries.iter().zip(&case.weights).map(of_row).collect()
}

fn shards_are_the_whole<E: Element>() {
    let case = Case::<E>::new(3001, 33, true, 4);
    let truth = truth::truth(&case, &objective("power:alpha=0.5"), Reduction::Sum);
    for (cpu, options) in levels().flat_map(|cpu| options().map(|options| (cpu, options))) {
        let at = || format!("{}, {}, {options:?}", E::DTYPE, cpu.level());
        let mut merged = vec![RowPart::empty(); case.rows()];
        // Backwards: the order of merging is left open.
        for cut in CUTS.windows(2).rev() {
            let mut parts = vec![RowPart::empty(); case.rows()];
            cpu.parts_linear(&case.shard(cut[0]..cut[1]), &options, &mut parts).expect("parts");
            merged.iter_mut().zip(&parts).for_each(|(whole, part)| *whole = whole.merge(*part));
        }
        let mut summaries = vec![RowSummary::nan(); case.rows()];
        summaries_of_parts(&case.batch(), &merged, &mut summaries).expect("finite");
        check(&case, &truth, &summaries, at);

        let partials = partials(&case, &summaries, 1.0);
        let mut dhidden = vec![0.0f32; case.hidden.len()];
        let (mut dweight, mut dbias) = (vec![], vec![]);
        for cut in CUTS.windows(2) {
            let shard = case.shard(cut[0]..cut[1]);
            let mut of_shard = Gradients::<f32>::new(&shard);
            let live = cpu
                .push_back_linear(&shard, &options, &summaries, &partials, of_shard.all())
                .expect("finite");
            assert_eq!(live, truth.totals.live, "a row is live in every shard");
            dhidden.iter_mut().zip(&of_shard.dhidden).for_each(|(sum, part)| *sum += part);
            dweight.extend(of_shard.dweight);
            dbias.extend(of_shard.dbias);
        }
        check_all(&truth, [&dhidden, &dweight, &dbias], at);
    }
}

#[test]
fn shards_are_the_whole_f32() {
    shards_are_the_whole::<f32>();
}

#[test]
fn shards_are_the_whole_bf16() {
    shards_are_the_whole::<bf16>();
}

#[test]
fn the_three_moves_apart_give_what_evaluate_gives() {
    let case = Case::<f32>::new(3001, 33, true, 8);
    let power = objective("power:alpha=0.5");
    let truth = truth::truth(&case, &power, Reduction::Mean(Denominator::Given(5.0)));
    for (cpu, options) in levels().flat_map(|cpu| options().map(|options| (cpu, options))) {
        let at = || format!("{}, {options:?}", cpu.level());
        let mut summaries = vec![RowSummary::nan(); case.rows()];
        cpu.summarise_linear(&case.linear(), &options, &mut summaries).expect("finite");
        check(&case, &truth, &summaries, at);
        let partials = partials(&case, &summaries, 0.2);
        let mut apart = Gradients::<f32>::new(&case.linear());
        let live = cpu
            .push_back_linear(&case.linear(), &options, &summaries, &partials, apart.all())
            .expect("finite");
        assert_eq!(live, truth.totals.live);
        check_all(&truth, [&apart.dhidden, &apart.dweight, &apart.dbias], at);
    }
}

/// Partials of rows that take no part, and of rows that are not bad, as a caller may hand them over.
#[test]
fn partials_of_ignored_rows_are_not_looked_at() {
    let case = Case::<f32>::new(40, 3, false, 2);
    for cpu in levels() {
        let mut summaries = vec![RowSummary::nan(); case.rows()];
        cpu.summarise_linear(&case.linear(), &LinearOptions::default(), &mut summaries).expect("finite");
        let nan = RowPartials::nan();
        let partials: Vec<_> =
            case.targets.iter().map(|t| if *t < 0 { nan } else { RowPartials::of_slope(-1.0) }).collect();
        let mut got = Gradients::<f32>::new(&case.linear());
        let options = LinearOptions::default();
        let live =
            cpu.push_back_linear(&case.linear(), &options, &summaries, &partials, got.all()).expect("finite");
        assert_eq!(live, case.batch().valid());
        assert!(got.dhidden.iter().chain(&got.dweight).chain(&got.dbias).all(|d| d.is_finite()));
        for (row, dhidden) in got.dhidden.chunks_exact(3).enumerate() {
            assert_eq!(dhidden.iter().all(|d| *d == 0.0), case.targets[row] < 0, "row {row}");
        }
    }
}
