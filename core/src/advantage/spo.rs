use super::{AdvantageEstimator, Group};
use crate::error::{check_finite, check_inputs};
use crate::math::narrow;
use crate::objective::cast;
use crate::{Error, check_length};
use num_traits::Float;

/// Single-stream policy optimisation: one rollout per prompt, compared with a tracker of the prompt's past.
///
/// ```text
/// v   = wins / (wins + losses)                     the prompt's baseline, before this step
/// A   = r - v, whitened over the batch: (A - mean A) / (std A + eps)
/// rho = clip(2^(-D / half_life), rho_min, rho_max)          D: how far the policy moved since
/// wins <- rho wins + r        losses <- rho losses + 1 - r          after use
/// ```
///
/// The tracker is a Beta distribution for each prompt, whose two counts are slices of the caller's, indexed by prompt:
/// [`init`](Spo::init), [`baselines`](Spo::baselines), [`update`](Spo::update). A constant reward makes the baseline that reward,
/// out of `1 / (1 - rho)` rollouts.
///
/// **Domain.** `rho_min` and `rho_max` from 0 to 1, `half_life` from 0.001 to 10, `eps` from 0 to 1; rewards of the tracker from
/// 0 to 1. Where `rho_min` is above `rho_max`, `rho_max` holds. Needs baselines, and at least two rollouts in a batch.
///
/// ```
/// use tokenloss_core::Segments;
/// use tokenloss_core::advantage::{AdvantageEstimator, Outcomes, Spo};
///
/// let spo = Spo::new(0.875, 0.96, 0.06, 1e-8)?;
/// let (mut wins, mut losses) = ([0.0f64; 2], [0.0; 2]);
/// spo.init(&[0.5, 0.25], &mut wins, &mut losses)?;
///
/// let (prompts, rewards) = ([0, 1], [1.0, 0.0]);
/// let (mut baselines, mut advantages) = ([0.0; 2], [0.0; 2]);
/// spo.baselines(&prompts, &wins, &losses, &mut baselines)?;
/// assert_eq!(baselines, [0.5, 0.25]);
/// let outcomes = Outcomes::new(&rewards, Segments::new(&[0, 2], 2)?)?.with_baselines(&baselines)?;
/// spo.estimate(&outcomes, &mut advantages)?;
/// spo.update(&prompts, &rewards, &[0.0, 1.0], &mut wins, &mut losses)?;
/// assert!((wins[0] - (f64::from(0.96f32) * 4.0 + 1.0)).abs() < 1e-14);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Xu and Ding 2025 (arXiv 2509.13232). The text says that `D` is a KL divergence; the code takes the mean over
/// tokens of `|log p_then - log p_now|` of the prompt's last rollout, which is [`drift`](Spo::drift), with a half-life of .06. The code
/// judges all rollouts of a prompt in one batch by the counts before it and keeps the last update; here updates follow one
/// another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spo {
    pub(crate) rho_min: f32,
    pub(crate) rho_max: f32,
    pub(crate) half_life: f32,
    pub(crate) eps: f32,
}

impl AdvantageEstimator for Spo {
    const LEAST: usize = 1;
    const NEEDS_BASELINES: bool = true;

    fn of_group<T: Float>(&self, group: &Group<'_, T>, advantages: &mut [T]) {
        let pairs = group.rewards.iter().zip(group.baselines);
        advantages
            .iter_mut()
            .zip(pairs)
            .for_each(|(advantage, (reward, value))| *advantage = *reward - *value);
    }

    fn whitens(&self) -> Option<f32> {
        Some(self.eps)
    }
}

impl Spo {
    /// Counts of prompts whose share of right rollouts is known, `rates [prompts]`: as many in all as the least memory,
    /// `1 / (1 - rho_min)`, holds. The code takes `(right + 1/2) / (rollouts + 1)` for the rate.
    ///
    /// # Errors
    /// [`Error::Length`] for `wins` or `losses`; [`Error::Input`] for a rate outside 0 to 1, and for a `rho_min` of 1, whose memory
    /// has no end.
    pub fn init<T: Float>(&self, rates: &[T], wins: &mut [T], losses: &mut [T]) -> Result<(), Error> {
        check_length("wins", rates.len(), wins.len())?;
        check_length("losses", rates.len(), losses.len())?;
        check_shares("rates", rates)?;
        check_inputs("rho_min", "a number below 1", [(0, self.rho_min)], |rho| rho < 1.0)?;
        let memory = T::one() / (T::one() - cast::<T>(self.rho_min));
        for ((win, loss), rate) in wins.iter_mut().zip(losses).zip(rates) {
            *win = memory * *rate;
            *loss = memory * (T::one() - *rate);
        }
        Ok(())
    }

    /// What is expected of a rollout of each of `prompts [rollouts]`; 1/2 where nothing is known.
    ///
    /// # Errors
    /// [`Error::Length`] for `losses` or `baselines`; [`Error::Input`] for a prompt or a count that is none.
    pub fn baselines<T: Float>(
        &self,
        prompts: &[usize],
        wins: &[T],
        losses: &[T],
        baselines: &mut [T],
    ) -> Result<(), Error> {
        check_counts(prompts, wins, losses)?;
        check_length("baselines", prompts.len(), baselines.len())?;
        for (baseline, &prompt) in baselines.iter_mut().zip(prompts) {
            let all = wins[prompt] + losses[prompt];
            *baseline = if all == T::zero() { cast(0.5) } else { wins[prompt] / all };
        }
        Ok(())
    }

    /// Forgets and counts `rewards [rollouts]`, after the advantages of the step are taken. `drifts [rollouts]` are the `D` of
    /// each rollout's prompt.
    ///
    /// # Errors
    /// [`Error::Length`] for `rewards`, `drifts` or `losses`; [`Error::Input`] for a prompt or a count that is none, a reward
    /// outside 0 to 1 and a drift that is negative or not finite. Nothing is counted then.
    pub fn update<T: Float>(
        &self,
        prompts: &[usize],
        rewards: &[T],
        drifts: &[T],
        wins: &mut [T],
        losses: &mut [T],
    ) -> Result<(), Error> {
        check_counts(prompts, wins, losses)?;
        check_length("rewards", prompts.len(), rewards.len())?;
        check_shares("rewards", rewards)?;
        check_length("drifts", prompts.len(), drifts.len())?;
        check_amounts("drifts", drifts)?;
        for ((&prompt, &reward), &drift) in prompts.iter().zip(rewards).zip(drifts) {
            let rho = self.rho(drift);
            wins[prompt] = rho * wins[prompt] + reward;
            losses[prompt] = rho * losses[prompt] + (T::one() - reward);
        }
        Ok(())
    }

    /// How much of the past is kept after a drift.
    fn rho<T: Float>(&self, drift: T) -> T {
        let rho = (-drift / cast::<T>(self.half_life)).exp2();
        rho.max(cast(self.rho_min)).min(cast(self.rho_max))
    }

    /// How far a policy moved, seen on one sequence: the mean of `|then - now|` over its tokens.
    ///
    /// # Errors
    /// [`Error::TooFew`] for no tokens; [`Error::Length`] for `now`; [`Error::Input`] for a value that is not finite.
    pub fn drift<T: Float>(then: &[T], now: &[T]) -> Result<T, Error> {
        if then.is_empty() {
            return Err(Error::TooFew { what: "tokens", index: 0, needed: 1, got: 0 });
        }
        check_length("now", then.len(), now.len())?;
        check_finite("then", then.iter().copied().enumerate())?;
        check_finite("now", now.iter().copied().enumerate())?;
        let sum = then.iter().zip(now).fold(T::zero(), |sum, (then, now)| sum + (*then - *now).abs());
        Ok(sum / narrow(then.len() as f64))
    }
}

fn check_shares<T: Float>(what: &'static str, values: &[T]) -> Result<(), Error> {
    let inside = |value: T| value >= T::zero() && value <= T::one();
    check_inputs(what, "a number from 0 to 1", values.iter().copied().enumerate(), inside)
}

fn check_amounts<T: Float>(what: &'static str, values: &[T]) -> Result<(), Error> {
    let inside = |value: T| value >= T::zero() && value.is_finite();
    check_inputs(what, "a finite number of at least 0", values.iter().copied().enumerate(), inside)
}

fn check_counts<T: Float>(prompts: &[usize], wins: &[T], losses: &[T]) -> Result<(), Error> {
    check_length("losses", wins.len(), losses.len())?;
    check_amounts("wins", wins)?;
    check_amounts("losses", losses)?;
    match prompts.iter().position(|&prompt| prompt >= wins.len()) {
        None => Ok(()),
        Some(index) => {
            let (value, expected) = (prompts[index] as f64, "a prompt that there are counts of");
            Err(Error::Input { what: "prompts", index, value, expected })
        }
    }
}
