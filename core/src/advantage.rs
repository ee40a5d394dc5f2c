//! Advantages from rewards: by how much a rollout did better than expected.
//!
//! They are constants for the gradient. What is expected comes from the other rollouts of a prompt (a group), from a
//! tracker of the prompt's past, or from values.
//!
//! ```
//! use tokenloss_core::Segments;
//! use tokenloss_core::advantage::{AdvantageEstimator, Outcomes, Rloo};
//!
//! // Two prompts: three rollouts of the first, two of the second.
//! let outcomes = Outcomes::new(&[1.0f64, 0.0, 0.0, 1.0, 1.0], Segments::new(&[0, 3, 5], 5)?)?;
//! let mut advantages = [0.0; 5];
//! Rloo.estimate(&outcomes, &mut advantages)?;
//! assert_eq!(advantages, [1.0, -0.5, -0.5, 0.0, 0.0]);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

use crate::error::{check_finite, check_inputs};
use crate::objective::cast;
use crate::{Error, Segments, check_length};
use num_traits::Float;

/// What advantages are estimated from, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcomes<'a, T> {
    rewards: &'a [T],
    groups: Segments<'a>,
    strata: Option<&'a [u32]>,
    baselines: Option<&'a [T]>,
}

impl<'a, T: Float> Outcomes<'a, T> {
    /// `rewards [rollouts]` and where the groups lie in them: the rollouts of one prompt one after the other. For
    /// [`Gae`], rewards of tokens and the sequences that these make up.
    ///
    /// # Errors
    /// [`Error::Length`] for `rewards`; [`Error::Input`] for the first that is not finite.
    pub fn new(rewards: &'a [T], groups: Segments<'a>) -> Result<Self, Error> {
        check_length("rewards", groups.elements(), rewards.len())?;
        check_finite("rewards", rewards.iter().copied().enumerate())?;
        Ok(Self { rewards, groups, strata: None, baselines: None })
    }

    /// With the stratum `strata [rollouts]` of each rollout within its group.
    ///
    /// # Errors
    /// [`Error::Length`] for `strata`.
    pub fn with_strata(self, strata: &'a [u32]) -> Result<Self, Error> {
        check_length("strata", self.rewards.len(), strata.len())?;
        Ok(Self { strata: Some(strata), ..self })
    }

    /// With what was expected of each: `baselines`, as many as rewards.
    ///
    /// # Errors
    /// [`Error::Length`] for `baselines`; [`Error::Input`] for the first that is not finite.
    pub fn with_baselines(self, baselines: &'a [T]) -> Result<Self, Error> {
        check_length("baselines", self.rewards.len(), baselines.len())?;
        check_finite("baselines", baselines.iter().copied().enumerate())?;
        Ok(Self { baselines: Some(baselines), ..self })
    }
}

/// The outcomes of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group<'a, T> {
    /// The rewards.
    pub rewards: &'a [T],
    /// The stratum of each; empty unless the estimator needs it.
    pub strata: &'a [u32],
    /// What was expected of each; empty unless the estimator needs it.
    pub baselines: &'a [T],
}

/// Advantages from the outcomes of a batch.
pub trait AdvantageEstimator {
    /// The least members of a group.
    const LEAST: usize;
    /// Whether strata are looked at.
    const NEEDS_STRATA: bool = false;
    /// Whether baselines are looked at.
    const NEEDS_BASELINES: bool = false;

    /// Advantages of one group, as many as its rewards.
    fn of_group<T: Float>(&self, group: &Group<'_, T>, advantages: &mut [T]);

    /// The `eps` of a [`whiten`] over the whole batch at the end, if there is one.
    fn whitens(&self) -> Option<f32> {
        None
    }

    /// Writes the advantages of all outcomes.
    ///
    /// # Errors
    /// [`Error::Length`] for `advantages`, and for `strata` or `baselines` that are needed and not there;
    /// [`Error::TooFew`] for the first group that is too small, or for a single reward that is to be whitened.
    fn estimate<T: Float>(&self, outcomes: &Outcomes<'_, T>, advantages: &mut [T]) -> Result<(), Error> {
        let rollouts = outcomes.rewards.len();
        check_length("advantages", rollouts, advantages.len())?;
        if Self::NEEDS_STRATA {
            check_length("strata", rollouts, outcomes.strata.map_or(0, <[_]>::len))?;
        }
        if Self::NEEDS_BASELINES {
            check_length("baselines", rollouts, outcomes.baselines.map_or(0, <[_]>::len))?;
        }
        for (index, range) in outcomes.groups.iter().enumerate() {
            if range.len() < Self::LEAST {
                return Err(Error::TooFew { what: "groups", index, needed: Self::LEAST, got: range.len() });
            }
        }
        for range in outcomes.groups.iter() {
            let group = Group {
                rewards: &outcomes.rewards[range.clone()],
                strata: outcomes.strata.map_or(&[], |strata| &strata[range.clone()]),
                baselines: outcomes.baselines.map_or(&[], |baselines| &baselines[range.clone()]),
            };
            self.of_group(&group, &mut advantages[range]);
        }
        self.whitens().map_or(Ok(()), |eps| whiten(advantages, eps))
    }
}

macro_rules! declare_advantages {
    ($($lines:tt)*) => {
        listed! { "advantage" $($lines)* }
    };
}
for_each_objective!(advantages, declare_advantages);

/// Subtracts the mean of all values and divides by their standard deviation plus `eps`.
///
/// The deviation is the sample's, with `n - 1`. Values that are all the same become 0. To whiten over tokens, as
/// REINFORCE++ does, write each sequence's advantage once for each of its tokens first.
///
/// # Errors
/// [`Error::TooFew`] for fewer than two values; [`Error::Input`] for one that is not finite, and for an `eps` that is
/// negative or not finite.
pub fn whiten<T: Float>(values: &mut [T], eps: f32) -> Result<(), Error> {
    if values.len() < 2 {
        return Err(Error::TooFew { what: "values to whiten", index: 0, needed: 2, got: values.len() });
    }
    check_finite("values to whiten", values.iter().copied().enumerate())?;
    check_inputs("eps", "a finite number of at least 0", [(0, eps)], |eps| eps >= 0.0 && eps.is_finite())?;
    let moments = Moments::of(values.iter().copied());
    values.iter_mut().for_each(|value| *value = moments.standardise(*value, eps));
    Ok(())
}

/// Replaces negative advantages by 0, so that no rollout is pushed down.
///
/// # Errors
/// [`Error::Input`] for one that is not finite.
pub fn clamp_negative<T: Float>(advantages: &mut [T]) -> Result<(), Error> {
    check_finite("advantages", advantages.iter().copied().enumerate())?;
    advantages.iter_mut().for_each(|advantage| *advantage = advantage.max(T::zero()));
    Ok(())
}

/// The mean and the standard deviation of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments<T> {
    pub(crate) mean: T,
    pub(crate) deviation: T,
}

impl<T: Float> Moments<T> {
    /// Both are exact where all values are the same; the deviation of a single one is 0.
    pub(crate) fn of(values: impl Iterator<Item = T> + Clone) -> Self {
        let (mut mean, mut count) = (T::zero(), T::zero());
        for value in values.clone() {
            count = count + T::one();
            mean = mean + (value - mean) / count;
        }
        // Squares of numbers of at most 1, so that no reward is too large.
        let greatest = values.clone().fold(T::zero(), |greatest, value| greatest.max((value - mean).abs()));
        if greatest == T::zero() {
            return Self { mean, deviation: T::zero() };
        }
        let squares = values.fold(T::zero(), |sum, value| {
            let share = (value - mean) / greatest;
            sum + share * share
        });
        Self { mean, deviation: greatest * (squares / (count - T::one())).sqrt() }
    }

    /// How many deviations a value lies above the mean; 0 where there are none to divide by.
    pub(crate) fn standardise(&self, value: T, eps: f32) -> T {
        if self.deviation == T::zero() {
            return T::zero();
        }
        (value - self.mean) / (self.deviation + cast(eps))
    }
}
