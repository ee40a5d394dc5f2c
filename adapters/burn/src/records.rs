//! What the CPU keeps of a row between forward and backward, as numbers of a tensor.

use tokenloss_core::{RowPartials, RowStats, RowSummary, TargetProb, Totals};

pub(crate) const RECORD: usize = 15;

pub(crate) fn record_of(summary: &RowSummary<f64>, partials: &RowPartials<f64>) -> [f64; RECORD] {
    let RowSummary { stats, target } = summary;
    [
        stats.max,
        stats.tail,
        stats.moment,
        stats.collision,
        stats.spread,
        stats.energy,
        f64::from(stats.count),
        f64::from(stats.argmax),
        target.log_p,
        target.one_minus_p,
        partials.d_target,
        partials.d_lse,
        partials.d_entropy,
        partials.d_mean,
        partials.d_energy,
    ]
}

pub(crate) fn of_record(record: &[f64; RECORD]) -> (RowSummary<f64>, RowPartials<f64>) {
    let &[
        max,
        tail,
        moment,
        collision,
        spread,
        energy,
        count,
        argmax,
        log_p,
        one_minus_p,
        d_target,
        d_lse,
        d_entropy,
        d_mean,
        d_energy,
    ] = record;
    let (count, argmax) = (count as u32, argmax as u32);
    let stats = RowStats { max, tail, moment, collision, spread, energy, count, argmax };
    let summary = RowSummary { stats, target: TargetProb { log_p, one_minus_p } };
    (summary, RowPartials { d_target, d_lse, d_entropy, d_mean, d_energy })
}

pub(crate) const TOTALS: usize = 7;

pub(crate) fn words_of(totals: &Totals) -> [i64; TOTALS] {
    let bits = |x: f64| x.to_bits() as i64;
    let Totals { loss_sum, weight_sum, valid, kept, ignored, live, denominator } = *totals;
    [
        bits(loss_sum),
        bits(weight_sum),
        valid as i64,
        kept as i64,
        ignored as i64,
        live as i64,
        bits(denominator),
    ]
}

pub(crate) fn of_words(words: &[i64; TOTALS]) -> Totals {
    let float = |word: i64| f64::from_bits(word as u64);
    let &[loss_sum, weight_sum, valid, kept, ignored, live, denominator] = words;
    Totals {
        loss_sum: float(loss_sum),
        weight_sum: float(weight_sum),
        valid: valid as usize,
        kept: kept as usize,
        ignored: ignored as usize,
        live: live as usize,
        denominator: float(denominator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_totals_come_back_as_they_were() {
        let stats = RowStats::of(3.5, 7).merge(RowStats::of(-1.25, u32::MAX - 1));
        let summary = RowSummary::new(stats, -1.25);
        let partials =
            RowPartials { d_target: 1.0, d_lse: -2.0, d_entropy: 3.0, d_mean: -4.0, d_energy: 5.0 };
        assert_eq!(of_record(&record_of(&summary, &partials)), (summary, partials));
        let totals = Totals {
            loss_sum: -0.1,
            weight_sum: 2.5,
            valid: 3,
            kept: 2,
            ignored: 1,
            live: 4,
            denominator: 0.3,
        };
        assert_eq!(of_words(&words_of(&totals)), totals);
    }
}
