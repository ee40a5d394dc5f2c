use super::row::share;
use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind, SubsetMass};
use num_traits::Float;

/// Cross-entropy over candidate labels, each weighted by its present share among them.
///
/// ```text
/// w_i = sg(p_i / sum_l p_l)        L = -sum_i w_i log p_i
/// d_i = -p_rest w_i        d_rest = p_rest
/// ```
///
/// Its gradient is that of [`SubsetMass`](struct@super::SubsetMass); its value is more by the entropy of the weights. Weights of
/// an earlier epoch, or a running mean of them, are the coefficients of [`SoftLabels`](struct@super::SoftLabels):
/// [`weights`](Purified::weights) gives them.
///
/// **Domain.** Any logits. Infinite where all candidates are masked and the rest is not.
///
/// **Numerics.** Those of `SubsetMass`.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, Purified, Side};
/// let row = ColumnRow { logits: &[0.0f64, 0.0], rest: 2f64.ln() };
/// let eval = Purified.of_columns(row, Side::nothing(), &mut [0.0; 2]);
/// assert!((eval.loss - 4f64.ln()).abs() < 1e-15 && eval.d_rest == 0.5);
/// ```
///
/// **Source.** Lv et al. 2020 (PRODEN, arXiv 2002.08053). Xu et al. 2023 (POP, arXiv 2206.00830) also takes candidates whose
/// share has stayed small off the list, which is the caller's to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Purified {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const Purified: Purified = Purified {};

impl Purified {
    /// Moves `weights [columns]` towards the candidates' shares: `w <- momentum w + (1 - momentum) p_i / sum_l p_l`. A momentum
    /// of 0 sets them. A row without mass among its candidates leaves them as they are.
    pub fn weights<T: Float>(&self, row: ColumnRow<'_, T>, momentum: T, weights: &mut [T]) {
        let subset = row.alone().stats();
        if subset.is_valid() {
            for (w, &z) in weights.iter_mut().zip(row.logits) {
                *w = momentum * *w + (T::one() - momentum) * share(&subset, z);
            }
        }
    }
}

impl ColumnObjective for Purified {
    const SIDE: SideKind = SideKind::Nothing;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, side: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let eval = SubsetMass.of_columns(row, side, d);
        let subset = row.alone().stats();
        let spread = if subset.is_valid() { subset.entropy() } else { T::zero() };
        ColumnEval { loss: eval.loss + spread, ..eval }
    }

    fn held<T: Float>(
        &self,
        frozen: ColumnRow<'_, T>,
        live: ColumnRow<'_, T>,
        _: Side<'_, T>,
        _: &mut [T],
    ) -> T {
        let (subset, p) = (frozen.alone().stats(), live.stats());
        (frozen.logits.iter().zip(live.logits)).fold(T::zero(), |sum, (&at, &z)| {
            let weight = share(&subset, at);
            if weight == T::zero() { sum } else { sum - weight * p.target(z).log_p }
        })
    }
}
