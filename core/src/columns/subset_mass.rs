use super::row::share;
use super::{ColumnEval, ColumnObjective, ColumnRow, Side, SideKind};
use crate::math::{sigmoid, softplus};
use num_traits::Float;

/// The log-probability that the token is one of the listed ones, whichever.
///
/// ```text
/// L = -log sum_i p_i = softplus(r - lse(z_1 .. z_k))
/// d_i = -p_rest p_i / sum_l p_l        d_rest = p_rest
/// ```
///
/// The marginal likelihood of a set of candidate labels. Spread within the set is left as it is: d_i / p_i is the same for
/// all. One column is nll, all columns are 0. To push mass off a set, list the others.
///
/// **Domain.** Any logits. Infinite where all listed columns are masked and the rest is not.
///
/// **Numerics.** Of the rest's log-sum-exp itself, so that loss and gradient are exact where the set holds nearly all the
/// mass.
///
/// ```
/// use tokenloss_core::columns::{ColumnObjective, ColumnRow, Side, SubsetMass};
/// let row = ColumnRow { logits: &[0.0f64, 0.0], rest: -80.0 };
/// let eval = SubsetMass.of_columns(row, Side::nothing(), &mut [0.0; 2]);
/// assert!((eval.loss / ((-80f64).exp() / 2.0) - 1.0).abs() < 1e-14);
/// ```
///
/// **Source.** Partial labels: Feng et al. 2020 (arXiv 2007.08929), the classifier-consistent loss. Contrastive adversarial
/// domain bottleneck: Ruan et al. 2022 (arXiv 2201.00057), over the columns of another domain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubsetMass {}

/// The objective itself: it has no parameters.
#[allow(non_upper_case_globals)]
pub const SubsetMass: SubsetMass = SubsetMass {};

impl ColumnObjective for SubsetMass {
    const SIDE: SideKind = SideKind::Nothing;

    fn of_columns<T: Float>(&self, row: ColumnRow<'_, T>, _: Side<'_, T>, d: &mut [T]) -> ColumnEval<T> {
        let subset = row.alone().stats();
        if !subset.is_valid() {
            d.fill(T::zero());
            return ColumnEval { loss: T::infinity(), d_rest: T::one() };
        }
        // Not rest - lse, whose rounding is that of the maximum.
        let odds = (row.rest - subset.max) - subset.tail.ln_1p();
        let d_rest = sigmoid(odds);
        for (d, &z) in d.iter_mut().zip(row.logits) {
            *d = -d_rest * share(&subset, z);
        }
        ColumnEval { loss: softplus(odds), d_rest }
    }
}
