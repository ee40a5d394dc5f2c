use super::count;
use crate::{Error, Segments, check_length};
use core::ops::Range;
use num_traits::Float;

/// The samples of a batch: their losses, and what else an objective may need of them. Checked once, here.
///
/// ```
/// use tokenloss_core::sample::Samples;
///
/// // The excess over a reference model's losses takes the place of the losses.
/// let samples = Samples::new(&[2.0, 1.0])?.with_reference(&[0.5, 1.5])?;
/// assert_eq!((samples.loss(0), samples.loss(1)), (1.5, -0.5));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a, T> {
    losses: &'a [T],
    reference: Option<&'a [T]>,
    weights: Option<&'a [T]>,
    propensities: Option<&'a [T]>,
    duals: Option<&'a [T]>,
    difficulties: Option<&'a [T]>,
    groups: Option<Segments<'a>>,
    group_weights: Option<&'a [T]>,
    proportions: Option<&'a [T]>,
    log_u: Option<T>,
}

const FINITE: &str = "a finite number";
const NOT_NEGATIVE: &str = "a finite number of at least 0";

fn check<T: Float>(
    what: &'static str,
    values: &[T],
    expected: &'static str,
    allowed: impl Fn(T) -> bool,
) -> Result<(), Error> {
    match values.iter().position(|&value| !allowed(value)) {
        Some(index) => Err(input(what, index, values[index], expected)),
        None => Ok(()),
    }
}

pub(super) fn input<T: Float>(what: &'static str, index: usize, value: T, expected: &'static str) -> Error {
    Error::Input { what, index, value: value.to_f64().unwrap_or(f64::NAN), expected }
}

fn not_negative<T: Float>(value: T) -> bool {
    value >= T::zero() && value.is_finite()
}

impl<'a, T: Float> Samples<'a, T> {
    /// `losses [samples]`.
    ///
    /// # Errors
    /// [`Error::TooFew`] for no losses at all, [`Error::Input`] for the first that is not finite.
    pub fn new(losses: &'a [T]) -> Result<Self, Error> {
        if losses.is_empty() {
            return Err(Error::TooFew { what: "losses", index: 0, needed: 1, got: 0 });
        }
        check("losses", losses, FINITE, T::is_finite)?;
        Ok(Self {
            losses,
            reference: None,
            weights: None,
            propensities: None,
            duals: None,
            difficulties: None,
            groups: None,
            group_weights: None,
            proportions: None,
            log_u: None,
        })
    }

    /// The losses `[samples]` of a reference model. They are subtracted from the losses, whatever the objective: with
    /// them KL-DRO and CVaR are DRRho (arXiv 2505.06699), and the top-k average is RHO-loss (arXiv 2206.07137).
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for the first that is not finite, or whose difference is not.
    pub fn with_reference(mut self, reference: &'a [T]) -> Result<Self, Error> {
        check_length("reference", self.losses.len(), reference.len())?;
        check("reference", reference, FINITE, T::is_finite)?;
        self.reference = Some(reference);
        match (0..self.count()).find(|&index| !self.loss(index).is_finite()) {
            Some(index) => Err(input(
                "reference",
                index,
                reference[index],
                "a number whose difference from the loss is finite",
            )),
            None => Ok(self),
        }
    }

    /// The weights `[samples]` of a weighted mean.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for the first that is negative or not finite.
    pub fn with_weights(mut self, weights: &'a [T]) -> Result<Self, Error> {
        check_length("weights", self.losses.len(), weights.len())?;
        check("weights", weights, NOT_NEGATIVE, not_negative)?;
        self.weights = Some(weights);
        Ok(self)
    }

    /// The probabilities `[samples]` with which each sample was chosen to be seen.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for the first that is no probability, or 0.
    pub fn with_propensities(mut self, propensities: &'a [T]) -> Result<Self, Error> {
        check_length("propensities", self.losses.len(), propensities.len())?;
        check("propensities", propensities, "above 0 and at most 1", |p| p > T::zero() && p <= T::one())?;
        self.propensities = Some(propensities);
        Ok(self)
    }

    /// The dual variables `[samples]` of the samples' constraints.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for the first that is negative or not finite.
    pub fn with_duals(mut self, duals: &'a [T]) -> Result<Self, Error> {
        check_length("duals", self.losses.len(), duals.len())?;
        check("duals", duals, NOT_NEGATIVE, not_negative)?;
        self.duals = Some(duals);
        Ok(self)
    }

    /// How hard `[samples]` each sample is, in any unit.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for the first that is not finite.
    pub fn with_difficulties(mut self, difficulties: &'a [T]) -> Result<Self, Error> {
        check_length("difficulties", self.losses.len(), difficulties.len())?;
        check("difficulties", difficulties, FINITE, T::is_finite)?;
        self.difficulties = Some(difficulties);
        Ok(self)
    }

    /// The groups, environments or bags that the samples come in.
    ///
    /// # Errors
    /// [`Error::Length`] if they are not of these samples.
    pub fn with_groups(mut self, groups: Segments<'a>) -> Result<Self, Error> {
        check_length("groups", self.losses.len(), groups.elements())?;
        self.groups = Some(groups);
        Ok(self)
    }

    /// The weights `[groups]` of the groups.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for the first that is negative or not finite.
    pub fn with_group_weights(mut self, group_weights: &'a [T]) -> Result<Self, Error> {
        check_length("group_weights", self.groups()?.count(), group_weights.len())?;
        check("group_weights", group_weights, NOT_NEGATIVE, not_negative)?;
        self.group_weights = Some(group_weights);
        Ok(self)
    }

    /// The share `[groups]` of label 1 in each bag.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for the first that lies outside 0 to 1.
    pub fn with_proportions(mut self, proportions: &'a [T]) -> Result<Self, Error> {
        check_length("proportions", self.groups()?.count(), proportions.len())?;
        check("proportions", proportions, "from 0 to 1", |p| p >= T::zero() && p <= T::one())?;
        self.proportions = Some(proportions);
        Ok(self)
    }

    /// The logarithm of a running average; -infinity for one that nothing has gone into.
    ///
    /// # Errors
    /// [`Error::Input`] for NaN and +infinity.
    pub fn with_log_u(mut self, log_u: T) -> Result<Self, Error> {
        check("log_u", &[log_u], "a finite number or -inf", |u| u < T::infinity())?;
        self.log_u = Some(log_u);
        Ok(self)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.losses.len()
    }

    /// The loss of one, less the reference's where there is one.
    ///
    /// # Panics
    /// If `sample` is not below [`count`](Self::count).
    pub fn loss(&self, sample: usize) -> T {
        match self.reference {
            Some(reference) => self.losses[sample] - reference[sample],
            None => self.losses[sample],
        }
    }

    /// The [`loss`](Self::loss) of each.
    pub fn losses(&self) -> impl Iterator<Item = T> {
        (0..self.count()).map(|sample| self.loss(sample))
    }

    fn given<U>(&self, what: &'static str, expected: usize, input: Option<U>) -> Result<U, Error> {
        input.ok_or(Error::Length { what, expected, got: 0 })
    }

    /// What [`with_weights`](Self::with_weights) gave.
    ///
    /// # Errors
    /// [`Error::Length`] if it was not called.
    pub fn weights(&self) -> Result<&'a [T], Error> {
        self.given("weights", self.count(), self.weights)
    }

    /// What [`with_propensities`](Self::with_propensities) gave.
    ///
    /// # Errors
    /// [`Error::Length`] if it was not called.
    pub fn propensities(&self) -> Result<&'a [T], Error> {
        self.given("propensities", self.count(), self.propensities)
    }

    /// What [`with_duals`](Self::with_duals) gave.
    ///
    /// # Errors
    /// [`Error::Length`] if it was not called.
    pub fn duals(&self) -> Result<&'a [T], Error> {
        self.given("duals", self.count(), self.duals)
    }

    /// What [`with_difficulties`](Self::with_difficulties) gave.
    ///
    /// # Errors
    /// [`Error::Length`] if it was not called.
    pub fn difficulties(&self) -> Result<&'a [T], Error> {
        self.given("difficulties", self.count(), self.difficulties)
    }

    /// What [`with_groups`](Self::with_groups) gave.
    ///
    /// # Errors
    /// [`Error::Length`] if it was not called.
    pub fn groups(&self) -> Result<Segments<'a>, Error> {
        self.given("groups", self.count(), self.groups)
    }

    /// What [`with_group_weights`](Self::with_group_weights) gave.
    ///
    /// # Errors
    /// [`Error::Length`] if it was not called.
    pub fn group_weights(&self) -> Result<&'a [T], Error> {
        self.given("group_weights", self.groups()?.count(), self.group_weights)
    }

    /// What [`with_proportions`](Self::with_proportions) gave.
    ///
    /// # Errors
    /// [`Error::Length`] if it was not called.
    pub fn proportions(&self) -> Result<&'a [T], Error> {
        self.given("proportions", self.groups()?.count(), self.proportions)
    }

    /// What [`with_log_u`](Self::with_log_u) gave.
    ///
    /// # Errors
    /// [`Error::Length`] if it was not called.
    pub fn log_u(&self) -> Result<T, Error> {
        self.given("log_u", 1, self.log_u)
    }

    /// The mean loss of some.
    pub(super) fn mean(&self, samples: Range<usize>) -> T {
        let share = T::one() / count(samples.len());
        samples.fold(T::zero(), |sum, sample| sum + share * self.loss(sample))
    }

    /// The loss whose derivatives the weights are, for an objective that is linear in the losses.
    pub(super) fn dot(&self, weights: &[T]) -> T {
        self.losses().zip(weights).fold(T::zero(), |sum, (loss, &weight)| sum + weight * loss)
    }

    /// The same in this order, so that the sum does not depend on that of the samples.
    pub(super) fn dot_in(&self, order: &[usize], weights: &[T]) -> T {
        order.iter().fold(T::zero(), |sum, &sample| sum + weights[sample] * self.loss(sample))
    }
}
