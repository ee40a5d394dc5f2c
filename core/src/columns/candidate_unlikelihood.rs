use super::row::share;
use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind};
use crate::math::softplus;
use num_traits::Float;

/// Token-level unlikelihood: negative candidates lose probability.
///
/// ```text
/// L = -sum_i log(1 - p_i)
/// d_j = sum_{i != j} -p_j p_i / (1 - p_i)  [+ p_j where j is listed]
/// ```
///
/// To be added, with a coefficient, to the target's nll, which is a pass of its own. A row without candidates has loss 0.
///
/// **Domain.** Any logits. Infinite, with gradient 0, where one candidate alone has mass: nothing is there to take it.
///
/// **Numerics.** `1 - p` of the likeliest candidate is the others' mass, by their own maximum: at a margin of 1000 the loss is
/// 1000. Its derivative is formed from the others'.
///
/// ```
/// use tokenloss_core::columns::{CandidateUnlikelihood, ColumnObjective, ColumnRow, Side};
/// let row = ColumnRow { logits: &[0.0f64, 0.0], rest: 2f64.ln() };
/// let eval = CandidateUnlikelihood.of_columns(row, Side::nothing(), &mut [0.0; 2]);
/// assert!((eval.loss + 2.0 * 0.75f64.ln()).abs() < 1e-15);
/// ```
///
/// **Source.** Welleck et al. 2019 (arXiv 1908.04319). The official code clamps `1 - p` at 1e-5, where the gradient then
/// vanishes; it lists the tokens of the context so far but for the target, padding among them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CandidateUnlikelihood {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const CandidateUnlikelihood: CandidateUnlikelihood = CandidateUnlikelihood {};

impl ColumnObjective for CandidateUnlikelihood {
    const SIDE: SideKind = SideKind::Nothing;
    const LEAST: usize = 0;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, _: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let all = row.stats();
        let likeliest = all.argmax as usize;
        let others = row.stats_without(likeliest);
        let listed = likeliest < row.logits.len();
        if listed && !others.is_valid() {
            d.fill(T::zero());
            return ColumnEval { loss: T::infinity(), d_rest: T::zero() };
        }
        // Of all candidates but the likeliest class, whose p is at most 1/2.
        let (mut loss, mut odds) = (T::zero(), T::zero());
        for (class, &z) in row.logits.iter().enumerate() {
            if class != likeliest {
                let p = share(&all, z);
                loss = loss - (-p).ln_1p();
                odds = odds + p / (T::one() - p);
            }
        }
        let mut p_likeliest = T::zero();
        if listed {
            // Not max - lse, whose rounding is that of the maximum.
            loss = loss + softplus((all.max - others.max) - others.tail.ln_1p());
            p_likeliest = all.target(all.max).p();
        }
        let d_rest = row.balanced(&all, d, |class, z| {
            let p = share(&all, z);
            let own = if class < row.logits.len() { p / (T::one() - p) } else { T::zero() };
            let pushed = if listed { p_likeliest * share(&others, z) } else { T::zero() };
            own - p * odds - pushed
        });
        ColumnEval { loss, d_rest }
    }
}
