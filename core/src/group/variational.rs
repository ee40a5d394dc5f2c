use super::GroupObjective;
use super::softmax::softmax;
use crate::Error;
use crate::sequence::{Needs, Response};
use num_traits::Float;

/// Variational reasoning: nll, weighted by how well each sequence explains the answer.
///
/// ```text
/// rho_k = reward_k exp((log_p_k - reference_k) / |y_k|^alpha), divided by their sum
/// L = -sum_k sg(rho_k) log_p_k        slope_k = -rho_k
/// ```
///
/// Its value is therefore not what its slopes are derivatives of: [`held`](GroupObjective::held) gives that
/// function.
///
/// **Domain.** `alpha` from 0, where the weights are those of [`Iwae`](struct@super::Iwae), to 1, a geometric
/// mean over the tokens. Needs `reference`, of the model that drew the sequences, and `reward`, the share of
/// right answers that follow each: not negative ([`Error::Input`]), and not 0 for all of a group
/// ([`Error::NoWeight`]).
///
/// **Numerics.** The greatest exponent is subtracted before the exponentials, the logarithm of the reward in
/// it.
///
/// ```
/// use tokenloss_core::group::{GroupObjective, Variational};
/// use tokenloss_core::sequence::Response;
/// let of = |reward: f64| Response { reference: -3.0, reward, ..Response::new(-3.0, 2.0) };
/// let mut slopes = [0.0; 2];
/// let loss = Variational::new(1.0)?.of_group(&[of(0.75), of(0.25)], &mut slopes);
/// assert!((loss - 3.0).abs() < 1e-15 && (slopes[0] + 0.75).abs() < 1e-15);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Zhou et al. 2025 (arXiv 2509.22637). The scripts that made the authors' data keep the sequence
/// with the greatest weight alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variational {
    pub(crate) alpha: f32,
}

impl Variational {
    /// The weights, as what the slopes are the negatives of.
    fn weights<T: Float>(&self, group: &[Response<T>], weights: &mut [T]) {
        for (weight, response) in weights.iter_mut().zip(group) {
            *weight = response.reward.ln() + response.log_ratio() / response.length_power(self.alpha);
        }
        softmax(weights);
    }
}

impl GroupObjective for Variational {
    fn needs(&self) -> Needs {
        Needs { reference: true, reward: true, ..Needs::NOTHING }
    }

    fn check(&self, group: &[Response<f64>], first: usize) -> Result<(), Error> {
        if let Some(i) = group.iter().position(|response| response.reward < 0.0) {
            let expected = "a finite number of at least 0";
            return Err(Error::Input { what: "reward", index: first + i, value: group[i].reward, expected });
        }
        if group.iter().all(|response| response.reward == 0.0) {
            return Err(Error::NoWeight { what: "reward" });
        }
        Ok(())
    }

    fn of_group<T: Float>(&self, group: &[Response<T>], slopes: &mut [T]) -> T {
        let loss = self.held(group, group, slopes);
        slopes.iter_mut().for_each(|slope| *slope = -*slope);
        loss
    }

    fn held<T: Float>(&self, frozen: &[Response<T>], live: &[Response<T>], scratch: &mut [T]) -> T {
        self.weights(frozen, scratch);
        scratch.iter().zip(live).fold(T::zero(), |loss, (weight, response)| loss - *weight * response.log_p)
    }
}
