//! Objectives of scores: what a reward, value, quantile, rejection or regression head is trained with.
//!
//! A sample has a few scores that the model computes, and a few targets that it does not; the loss is a function of
//! both, and its slopes are the derivatives by the scores. How many of each, what they are called and where they may
//! lie is part of the objective ([`ScoreObjective::inputs`]): a pinball loss has one and one, a Bradley-Terry loss has
//! the rewards `chosen` and `rejected` and the target `margin`.
//!
//! ```
//! use tokenloss_core::Reduction;
//! use tokenloss_core::score::{BradleyTerry, ScoreBatch, evaluate};
//!
//! let (chosen, rejected, margin) = ([1.0f32, 0.5], [0.0f32, 2.0], [0.0f32, 0.0]);
//! let batch = ScoreBatch { scores: [&chosen, &rejected], targets: [&margin], weights: None };
//! let (mut dchosen, mut drejected) = ([0.0f32; 2], [0.0f32; 2]);
//! let objective = BradleyTerry::new(0.0, 0.0)?;
//! let totals =
//!     evaluate(&objective, Reduction::default(), &batch, None, Some([&mut dchosen, &mut drejected]))?;
//! assert!(totals.loss() > 0.0 && dchosen[1] < dchosen[0] && drejected[1] == -dchosen[1]);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

use crate::math::{narrow, wide};
use crate::{Error, Reduction, Totals, check_length};
use num_traits::Float;

mod mixture;
pub use mixture::mixture_nll;

macro_rules! declare_scores {
    ($($line:tt)*) => { listed! { "score" $($line)* } };
}
for_each_objective!(scores, declare_scores);

/// A score objective's value and derivatives for one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreEval<T, const SCORES: usize> {
    /// The loss.
    pub loss: T,
    /// Its derivatives by the scores, in their order.
    pub slopes: [T; SCORES],
}

/// Where a score or a target may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Any finite number.
    Real,
    /// A finite number above 0.
    Positive,
    /// From 0 to 1.
    Probability,
    /// Either of -1 and 1.
    Sign,
}

impl Domain {
    /// Whether a number lies in it.
    pub fn contains<T: Float>(self, value: T) -> bool {
        match self {
            Self::Real => value.is_finite(),
            Self::Positive => value.is_finite() && value > T::zero(),
            Self::Probability => value >= T::zero() && value <= T::one(),
            Self::Sign => value.abs() == T::one(),
        }
    }

    /// In words, as errors say it.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Real => "a finite number",
            Self::Positive => "a finite number above 0",
            Self::Probability => "a number from 0 to 1",
            Self::Sign => "-1 or 1",
        }
    }
}

/// A score or a target: what it is called and where it may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// The name, as errors say it.
    pub name: &'static str,
    /// Where it may lie.
    pub domain: Domain,
}

impl Input {
    /// Any finite number of this name.
    pub const fn real(name: &'static str) -> Self {
        Self { name, domain: Domain::Real }
    }

    fn check<T: Float>(self, index: usize, value: T) -> Result<(), Error> {
        if self.domain.contains(value) {
            return Ok(());
        }
        Err(Error::Input { what: self.name, index, value: wide(value), expected: self.domain.expected() })
    }
}

/// `score - target`; a difference that overflows is the greatest that does not.
#[inline]
fn error<T: Float>(score: T, target: T) -> T {
    (score - target).max(T::min_value()).min(T::max_value())
}

/// A function of one sample's scores and targets, and its derivatives by the scores.
///
/// ```
/// use num_traits::Float;
/// use tokenloss_core::score::{ScoreEval, ScoreObjective};
///
/// /// The error's hyperbolic cosine.
/// struct Cosh;
///
/// impl ScoreObjective for Cosh {
///     fn of_scores<T: Float>(&self, [score]: [T; 1], [target]: [T; 1]) -> ScoreEval<T, 1> {
///         let error = score - target;
///         ScoreEval { loss: error.cosh(), slopes: [error.sinh()] }
///     }
/// }
/// ```
pub trait ScoreObjective<const SCORES: usize = 1, const TARGETS: usize = 1> {
    /// Loss and slopes in one call. The scores and targets lie in the domains of [`inputs`](Self::inputs).
    fn of_scores<T: Float>(&self, scores: [T; SCORES], targets: [T; TARGETS]) -> ScoreEval<T, SCORES>;

    /// What the scores and the targets are, in their order.
    fn inputs() -> ([Input; SCORES], [Input; TARGETS]) {
        ([Input::real("scores"); SCORES], [Input::real("targets"); TARGETS])
    }

    /// The values of the first score at which the loss or its slope is not smooth, given the targets.
    fn kinks(&self, targets: [f64; TARGETS]) -> [Option<f64>; 2] {
        let _ = targets;
        [None, None]
    }
}

/// The samples of a batch. All slices are of one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreBatch<'a, T, const SCORES: usize = 1, const TARGETS: usize = 1> {
    /// Each score of every sample.
    pub scores: [&'a [T]; SCORES],
    /// Each target of every sample.
    pub targets: [&'a [T]; TARGETS],
    /// What each sample counts; `None` is 1. A sample with a weight of 0 takes no part, whatever its numbers.
    pub weights: Option<&'a [f32]>,
}

impl<T: Float, const SCORES: usize, const TARGETS: usize> ScoreBatch<'_, T, SCORES, TARGETS> {
    /// How many samples.
    fn samples(&self) -> usize {
        self.scores.first().map_or(0, |scores| scores.len())
    }

    fn weight(&self, sample: usize) -> f32 {
        self.weights.map_or(1.0, |weights| weights[sample])
    }

    fn check(&self, (scores, targets): ([Input; SCORES], [Input; TARGETS])) -> Result<(), Error> {
        let samples = self.samples();
        if samples == 0 {
            return Err(Error::TooFew { what: "samples", index: 0, needed: 1, got: 0 });
        }
        let inputs = || scores.iter().zip(&self.scores).chain(targets.iter().zip(&self.targets));
        for (input, values) in inputs() {
            check_length(input.name, samples, values.len())?;
        }
        if let Some(weights) = self.weights {
            check_length("weights", samples, weights.len())?;
            let bad = weights.iter().position(|weight| !(*weight >= 0.0 && weight.is_finite()));
            if let Some(row) = bad {
                return Err(Error::Weight { row, weight: weights[row] });
            }
        }
        for (input, values) in inputs() {
            for (index, &value) in values.iter().enumerate().filter(|(index, _)| self.weight(*index) != 0.0) {
                input.check(index, value)?;
            }
        }
        Ok(())
    }
}

/// The losses of a batch, before weight and reduction, and the gradient `dscores = weight / denominator * slope` of
/// each score. Sums are in `f64`, in the order of the samples.
///
/// Every sample is valid and kept; as for rows, weights do not enter the denominator. Samples of weight 0 have loss 0
/// and gradient 0.
///
/// # Errors
/// * [`Error::TooFew`] for no samples.
/// * [`Error::Length`] for any slice, [`Error::Weight`], and [`Error::Input`] for a number outside its domain.
/// * [`Error::Denominator`].
///
/// All are found before anything is written.
pub fn evaluate<O, T, const SCORES: usize, const TARGETS: usize>(
    objective: &O,
    reduction: Reduction,
    batch: &ScoreBatch<'_, T, SCORES, TARGETS>,
    mut losses: Option<&mut [T]>,
    mut dscores: Option<[&mut [T]; SCORES]>,
) -> Result<Totals, Error>
where
    O: ScoreObjective<SCORES, TARGETS>,
    T: Float,
{
    let reduction = reduction.check()?;
    batch.check(O::inputs())?;
    let samples = batch.samples();
    if let Some(losses) = &losses {
        check_length("losses", samples, losses.len())?;
    }
    for dscores in dscores.iter().flatten() {
        check_length("dscores", samples, dscores.len())?;
    }
    let mut totals = Totals {
        valid: samples,
        kept: samples,
        denominator: reduction.denominator(samples, samples),
        ..Totals::default()
    };
    let scale = reduction.scale(samples, samples);
    for sample in 0..samples {
        let weight = batch.weight(sample);
        let eval = if weight == 0.0 {
            ScoreEval { loss: T::zero(), slopes: [T::zero(); SCORES] }
        } else {
            objective.of_scores(batch.scores.map(|s| s[sample]), batch.targets.map(|t| t[sample]))
        };
        totals.weight_sum += f64::from(weight);
        totals.loss_sum += f64::from(weight) * wide(eval.loss);
        totals.live += usize::from(eval.slopes.iter().any(|slope| *slope != T::zero()));
        if let Some(losses) = &mut losses {
            losses[sample] = eval.loss;
        }
        let factor = narrow::<T>(f64::from(weight) * scale);
        for (dscores, slope) in dscores.iter_mut().flatten().zip(eval.slopes) {
            dscores[sample] = slope * factor;
        }
    }
    Ok(totals)
}
