//! Objectives of pairs: of two sequences for the same prompt, one was preferred.
//!
//! Sequences are summarised as for [`sequence`](crate::sequence); [`judge`] takes them in pairs.
//!
//! ```
//! use tokenloss_core::preference::{judge, Dpo, Pair};
//! use tokenloss_core::sequence::{Response, Sequences};
//! use tokenloss_core::{Reduction, Segments};
//!
//! // Two sequences, of two tokens and of one; the second is preferred.
//! let sequences = Sequences::new(Segments::new(&[0, 2, 3], 3)?);
//! let mut responses = [Response::new(0.0, 1.0); 2];
//! sequences.responses(&[-0.5, -1.5, -2.0], &mut responses)?;
//! responses[0].reference = -2.0;
//! responses[1].reference = -2.0;
//!
//! let (mut losses, mut slopes, mut rows) = ([0.0; 1], [0.0; 2], [0.0; 3]);
//! let pairs = [Pair::new(1, 0)];
//! judge(&Dpo::new(0.5, 0.0, 0.0)?, Reduction::default(), &responses, &pairs, &mut losses, &mut slopes)?;
//! sequences.spread(&slopes, &mut rows)?;
//! assert_eq!((losses, rows), ([2f64.ln()], [0.25, 0.25, -0.25]));
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

use crate::math::{sigmoid, softplus};
use crate::sequence::{Needs, Response};
use crate::{Error, Listed, MAX_PARAMETERS, Parameter};
use num_traits::Float;

mod pairs;

pub use pairs::{Pair, judge};

/// A preference objective's value and derivatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairEval<T> {
    /// The loss.
    pub loss: T,
    /// `d loss / d log_p` of the preferred sequence.
    pub slope_chosen: T,
    /// `d loss / d log_p` of the other one.
    pub slope_rejected: T,
}

impl<T: Float> PairEval<T> {
    /// Of a function of one number, the derivatives of which by the two `log_p` are `chosen` and `-rejected`.
    #[inline]
    fn of_margin(loss: T, slope: T, chosen: T, rejected: T) -> Self {
        Self { loss, slope_chosen: slope * chosen, slope_rejected: -slope * rejected }
    }

    /// With `lambda` times the nll of the preferred sequence, the mean over its tokens, added.
    #[inline]
    fn with_nll(self, lambda: T, chosen: &Response<T>) -> Self {
        // Without it the loss is what it was, to the last bit.
        if lambda == T::zero() {
            return self;
        }
        Self {
            loss: self.loss - lambda * chosen.mean_log_p(),
            slope_chosen: self.slope_chosen - lambda / chosen.length,
            ..self
        }
    }
}

/// A function of what is known of a preferred and of a rejected sequence, and its derivatives by their
/// `log_p`.
pub trait PreferenceObjective {
    /// What must be known beside `log_p` and `length`.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// Loss and slopes in one call. `gap` is by how much the preferred one is better. What is not needed may
    /// be NaN.
    fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, gap: T) -> PairEval<T>;

    /// How far the pair is from the point at which the loss or its slopes are not smooth, if there is one: 0
    /// there, and of different signs on its two sides.
    fn kink<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>) -> Option<T> {
        let _ = (chosen, rejected);
        None
    }
}

/// `(log_p - reference)` of the one less that of the other.
#[inline]
fn log_ratio_margin<T: Float>(chosen: &Response<T>, rejected: &Response<T>) -> T {
    chosen.log_ratio() - rejected.log_ratio()
}

/// `-p log sigmoid(h) - q log sigmoid(-h)` and its derivative by `h`, with `q = 1 - p`.
#[inline]
fn cross_entropy<T: Float>(p: T, q: T, h: T) -> (T, T) {
    (p * softplus(-h) + q * softplus(h), q * sigmoid(h) - p * sigmoid(-h))
}

macro_rules! declare_preferences {
    ($($module:ident $type:ident $parameters:tt $source:literal)*) => {
        listed! { "preference" $($module $type $parameters $source)* }
        any! {
            /// Any listed objective of a pair, chosen at run time.
            AnyPreference $($module $type $parameters $source)*
        }

        impl PreferenceObjective for AnyPreference {
            fn needs(&self) -> Needs {
                match self { $(Self::$type(objective) => objective.needs()),* }
            }
            fn of_pair<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>, gap: T) -> PairEval<T> {
                match self { $(Self::$type(objective) => objective.of_pair(chosen, rejected, gap)),* }
            }
            fn kink<T: Float>(&self, chosen: &Response<T>, rejected: &Response<T>) -> Option<T> {
                match self { $(Self::$type(objective) => objective.kink(chosen, rejected)),* }
            }
        }
    };
}
for_each_objective!(preferences, declare_preferences);
