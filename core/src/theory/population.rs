use super::{TheoryError, distribution, exp, ln};

/// The distribution that the power family converges to on data from `r`: the minimiser over `p` of
/// `sum_j r_j f(p_j)` with `f(p) = (1 - p^alpha) / alpha`.
///
/// ```text
/// alpha < 1:     p_j = r_j^(1/(1 - alpha)) / sum_k r_k^(1/(1 - alpha))
/// alpha >= 1:    p_j = 1 for the likeliest class, 0 for the others
/// ```
///
/// So `1 - alpha` is a temperature of the target distribution: only `alpha = 0`, nll, gives `r` itself; between
/// 0 and 1 it is sharpened, below 0 it is flattened. From 1 on nothing but the mode survives. If several
/// classes share the greatest probability, the first of them is returned: for `alpha > 1` each such point mass
/// is a minimiser and no mixture is, at `alpha = 1` every mixture is one, too.
///
/// **Domain.** Any finite `alpha`; `r [classes]` a distribution over at least two classes, `out [classes]`.
/// Classes of probability 0 stay at 0.
///
/// **Numerics.** Formed from `(ln r_j - ln max r) / (1 - alpha)`, so that an exponent of any size neither
/// overflows nor loses the mode. Relative error of an entry: a few roundings, times `1 + |log p_j|`.
///
/// # Errors
/// [`TheoryError`] if `alpha` is not finite, `r` is not a distribution or the lengths differ.
///
/// ```
/// use tokenloss_core::theory::population_minimiser;
/// let mut p = [0.0; 3];
/// population_minimiser(0.5, &[0.5, 0.3, 0.2], &mut p)?;
/// assert!((p[0] - 25.0 / 38.0).abs() < 1e-15);
/// population_minimiser(1.0, &[0.5, 0.3, 0.2], &mut p)?;
/// assert_eq!(p, [1.0, 0.0, 0.0]);
/// # Ok::<(), tokenloss_core::theory::TheoryError>(())
/// ```
///
/// **Source.** by Lagrange multipliers; theorem 3.1 of arXiv 2604.25907 states it with `q = 1 - alpha`.
pub fn population_minimiser(alpha: f64, r: &[f64], out: &mut [f64]) -> Result<(), TheoryError> {
    if !alpha.is_finite() {
        return Err(TheoryError::Alpha { alpha });
    }
    distribution("r", r.len(), r)?;
    if out.len() != r.len() {
        return Err(TheoryError::Length { what: "out", expected: r.len(), got: out.len() });
    }
    let mut mode = 0;
    for (class, &share) in r.iter().enumerate() {
        if share > r[mode] {
            mode = class;
        }
    }
    if alpha >= 1.0 {
        out.fill(0.0);
        out[mode] = 1.0;
        return Ok(());
    }
    let mut sum = 0.0;
    for (p, &share) in out.iter_mut().zip(r) {
        *p = exp(ln(share / r[mode]) / (1.0 - alpha));
        sum += *p;
    }
    for p in out {
        *p /= sum;
    }
    Ok(())
}
