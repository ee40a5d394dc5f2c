//! Objectives of whole sequences: functions of the sum of a sequence's log-probabilities.
//!
//! What the backends call rows are the tokens of sequences here. Between
//! [`summarise`](crate::Backend::summarise) and [`push_back`](crate::Backend::push_back) stand three steps on
//! the host, and only the middle one knows the objective:
//!
//! ```text
//! responses   log_p [rows]             ->  Response per sequence       Sequences::responses
//! judge       Response per sequence    ->  losses, slopes              judge, preference::judge, group::judge
//! spread      slopes [sequences]       ->  slopes [rows]               Sequences::spread
//! ```
//!
//! ```
//! use tokenloss_core::sequence::{judge, Poft, Response, Sequences};
//! use tokenloss_core::{Reduction, RowPartials, Segments};
//!
//! // Two sequences, of two tokens and of one.
//! let sequences = Sequences::new(Segments::new(&[0, 2, 3], 3)?);
//! let mut responses = [Response::new(0.0, 1.0); 2];
//! sequences.responses(&[-0.5, -1.5, -2.0], &mut responses)?;
//! responses[0].reference = -2.5;
//! responses[1].reference = -1.0;
//!
//! let (mut losses, mut slopes, mut rows) = ([0.0; 2], [0.0; 2], [0.0; 3]);
//! let totals = judge(&Poft::new(1.0, 0.0)?, Reduction::default(), &responses, None, &mut losses, &mut slopes)?;
//! sequences.spread(&slopes, &mut rows)?;
//! let partials = rows.map(RowPartials::of_slope);
//! assert_eq!(totals.valid, 2);
//! assert_eq!(partials[0], partials[1]);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

use crate::{Error, Listed, MAX_PARAMETERS, Parameter};
use num_traits::Float;

mod divergence;
mod judge;
mod reduction;
mod response;
mod rows;
mod transition;

pub use judge::judge;
pub(crate) use judge::{check_some, check_weight, check_weights, is_live, scaled, weighted};
pub use reduction::{Counts, SequenceReduction};
pub(crate) use response::needed_value;
pub use response::{Needs, Response};
pub use rows::Sequences;
pub use transition::{Transition, TransitionEval};

/// A sequence objective's value and derivative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceEval<T> {
    /// The loss.
    pub loss: T,
    /// `d loss / d log_p`, which is the slope of each of its tokens, too.
    pub slope: T,
    /// `false` if a threshold dropped the sequence; loss and slope are 0 then.
    pub kept: bool,
}

/// A function of what is known of one sequence, and its derivative by `log_p`.
pub trait SequenceObjective {
    /// What must be known beside `log_p` and `length`.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// Loss and slope in one call. What is not needed may be NaN.
    fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T>;

    /// How far the sequence is from the point at which the loss or its slope is not smooth, if there is one:
    /// 0 there, and of different signs on its two sides.
    fn kink<T: Float>(&self, response: &Response<T>) -> Option<T> {
        let _ = response;
        None
    }
}

macro_rules! declare_sequences {
    ($($module:ident $type:ident $parameters:tt $source:literal)*) => {
        listed! { "sequence" $($module $type $parameters $source)* }
        any! {
            /// Any listed objective of a sequence, chosen at run time.
            AnySequence $($module $type $parameters $source)*
        }

        impl SequenceObjective for AnySequence {
            fn needs(&self) -> Needs {
                match self { $(Self::$type(objective) => objective.needs()),* }
            }
            fn of_sequence<T: Float>(&self, response: &Response<T>) -> SequenceEval<T> {
                match self { $(Self::$type(objective) => objective.of_sequence(response)),* }
            }
            fn kink<T: Float>(&self, response: &Response<T>) -> Option<T> {
                match self { $(Self::$type(objective) => objective.kink(response)),* }
            }
        }
    };
}
for_each_objective!(sequences, declare_sequences);

macro_rules! declare_transitions {
    ($($lines:tt)*) => { listed! { "transition" $($lines)* } };
}
for_each_objective!(transitions, declare_transitions);
