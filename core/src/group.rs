//! Objectives of groups: of several sequences for the same prompt, it is known how good each is.
//!
//! Sequences are summarised as for [`sequence`](crate::sequence); [`judge`] takes them in groups, which are
//! segments of the batch's sequences.
//!
//! ```
//! use tokenloss_core::group::{judge, Rwr};
//! use tokenloss_core::sequence::{Response, Sequences};
//! use tokenloss_core::{Reduction, Segments};
//!
//! // One group of two sequences, of two tokens and of one.
//! let sequences = Sequences::new(Segments::new(&[0, 2, 3], 3)?);
//! let mut responses = [Response::new(0.0, 1.0); 2];
//! sequences.responses(&[-0.5, -1.5, -2.0], &mut responses)?;
//! responses[0].reward = 1.0;
//! responses[1].reward = 1.0;
//!
//! let (mut losses, mut slopes, mut rows) = ([0.0; 1], [0.0; 2], [0.0; 3]);
//! let groups = Segments::new(&[0, 2], 2)?;
//! let objective = Rwr::new(1.0, 0.0)?;
//! judge(&objective, Reduction::default(), &responses, groups, None, &mut losses, &mut slopes)?;
//! sequences.spread(&slopes, &mut rows)?;
//! assert_eq!((losses, rows), ([2.0], [-0.5; 3]));
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

use crate::sequence::{Needs, Response};
use crate::{Error, Listed, MAX_PARAMETERS, Parameter};
use num_traits::Float;

mod groups;
mod softmax;

pub use groups::judge;

/// A function of what is known of the sequences of a group, and its derivatives by their `log_p`.
pub trait GroupObjective {
    /// What must be known of each beside `log_p` and `length`.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// Checks what else a group must be, of which the first sequence has the place `first` in the batch.
    ///
    /// # Errors
    /// As the objective's documentation says.
    fn check(&self, group: &[Response<f64>], first: usize) -> Result<(), Error> {
        let _ = (group, first);
        Ok(())
    }

    /// The fewest sequences of a group.
    fn least(&self) -> usize {
        1
    }

    /// The loss, and the slope of each sequence, which is overwritten. What is not needed may be NaN.
    fn of_group<T: Float>(&self, group: &[Response<T>], slopes: &mut [T]) -> T;

    /// The loss of `live` with every stop-gradient factor held at `frozen`. The slopes at a group are the
    /// derivatives of this by `live` there, which for most objectives are those of the loss. `scratch` holds
    /// as many numbers as the group.
    fn held<T: Float>(&self, frozen: &[Response<T>], live: &[Response<T>], scratch: &mut [T]) -> T {
        let _ = frozen;
        self.of_group(live, scratch)
    }

    /// How far the group is from the nearest point at which the loss or a slope is not smooth, if there is
    /// one: 0 there, and of different signs on its two sides.
    fn kink<T: Float>(&self, group: &[Response<T>]) -> Option<T> {
        let _ = group;
        None
    }
}

/// Checks that a group is in descending order of its rewards.
fn check_descending(group: &[Response<f64>], first: usize) -> Result<(), Error> {
    for (i, pair) in group.windows(2).enumerate() {
        if pair[1].reward > pair[0].reward {
            let expected = "at most the reward before it, since a group is given best first";
            return Err(Error::Input {
                what: "reward",
                index: first + i + 1,
                value: pair[1].reward,
                expected,
            });
        }
    }
    Ok(())
}

macro_rules! declare_groups {
    ($($module:ident $type:ident $parameters:tt $source:literal)*) => {
        listed! { "group" $($module $type $parameters $source)* }
        any! {
            /// Any listed objective of a group, chosen at run time.
            AnyGroup $($module $type $parameters $source)*
        }

        impl GroupObjective for AnyGroup {
            fn needs(&self) -> Needs {
                match self { $(Self::$type(objective) => objective.needs()),* }
            }
            fn check(&self, group: &[Response<f64>], first: usize) -> Result<(), Error> {
                match self { $(Self::$type(objective) => objective.check(group, first)),* }
            }
            fn least(&self) -> usize {
                match self { $(Self::$type(objective) => objective.least()),* }
            }
            fn of_group<T: Float>(&self, group: &[Response<T>], slopes: &mut [T]) -> T {
                match self { $(Self::$type(objective) => objective.of_group(group, slopes)),* }
            }
            fn held<T: Float>(&self, frozen: &[Response<T>], live: &[Response<T>], scratch: &mut [T]) -> T {
                match self { $(Self::$type(objective) => objective.held(frozen, live, scratch)),* }
            }
            fn kink<T: Float>(&self, group: &[Response<T>]) -> Option<T> {
                match self { $(Self::$type(objective) => objective.kink(group)),* }
            }
        }
    };
}
for_each_objective!(groups, declare_groups);
