//! Functions of the losses of a batch's samples.
//!
//! A sample is what the caller says it is, a token, a sequence or a preference pair, and its loss any objective's. A
//! [`SampleObjective`] turns `losses [samples]` into one loss and `weights [samples]`, `d loss / d losses_i`. What the
//! weights are for:
//!
//! * Where the losses come from slopes or partials, each sample's are multiplied by its weight, and pushed back.
//! * Where a second pass over the logits is cheaper, the weights are the batch's
//!   ([`Batch::with_weights`](crate::Batch::with_weights)) under [`Reduction::Sum`](crate::Reduction::Sum). Those take no
//!   negative weights: see [`SampleObjective::NON_NEGATIVE`].
//!
//! State that outlives a step (duals, weights of groups, running averages) is the caller's; objectives that have some
//! have a method `step` that moves it on.
//!
//! ```
//! use tokenloss_core::sample::{Cvar, SampleObjective, Samples};
//!
//! // The mean of the worst half.
//! let losses = [0.5, 3.0, 1.0, 0.25];
//! let worst = Cvar::new(0.5)?;
//! let (mut weights, mut scratch) = ([0.0; 4], [0; 4]);
//! let loss = worst.of_losses(&Samples::new(&losses)?, &mut weights, &mut scratch)?;
//! assert_eq!((loss, weights), (2.0, [0.0, 0.5, 0.5, 0.0]));
//! # Ok::<(), tokenloss_core::Error>(())
//! ```

mod class_weights;
mod penalty;
mod samples;
mod spectrum;

use crate::{Error, check_length};
use num_traits::Float;

pub use class_weights::class_weights;
pub use irm::scale_derivative;
pub use samples::Samples;
pub use spectrum::Spectrum;

/// A function of the losses of a batch's samples, and its derivatives.
pub trait SampleObjective {
    /// Whether no weight is ever negative, so that they may be the weights of a batch, and the loss never falls where
    /// one of the losses rises. Others go through slopes.
    const NON_NEGATIVE: bool = true;

    /// Whether the weights sum to 1, so that losses that are all higher by a constant give a loss higher by the same.
    const SUMS_TO_ONE: bool = true;

    /// The length of the scratch for so many samples.
    fn scratch(&self, samples: usize) -> usize {
        let _ = samples;
        0
    }

    /// `losses [samples] -> loss, weights [samples]`, with the lengths of all slices checked.
    ///
    /// # Errors
    /// As [`of_losses`](Self::of_losses).
    fn judge<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        scratch: &mut [usize],
    ) -> Result<T, Error>;

    /// `losses [samples] -> loss, weights [samples]`, with `scratch [self.scratch(samples)]`, which need not be clean.
    ///
    /// Where samples are put in order, equal losses share equally what their places have, so that no weight depends on
    /// the order in which samples are given.
    ///
    /// # Errors
    /// [`Error::Length`] for `weights` or `scratch`, or for an input of the samples that the objective needs and that
    /// was not given; those that the objective's documentation names.
    fn of_losses<T: Float>(
        &self,
        samples: &Samples<'_, T>,
        weights: &mut [T],
        scratch: &mut [usize],
    ) -> Result<T, Error> {
        check_length("weights", samples.count(), weights.len())?;
        check_length("scratch", self.scratch(samples.count()), scratch.len())?;
        self.judge(samples, weights, scratch)
    }

    /// The loss at `live` with every stop-gradient factor held at `frozen`. The weights are the derivatives of this by
    /// `live`, which for most objectives are those of the loss.
    ///
    /// # Errors
    /// As [`of_losses`](Self::of_losses).
    fn held<T: Float>(
        &self,
        frozen: &Samples<'_, T>,
        live: &Samples<'_, T>,
        weights: &mut [T],
        scratch: &mut [usize],
    ) -> Result<T, Error> {
        let _ = frozen;
        self.of_losses(live, weights, scratch)
    }
}

macro_rules! declare_samples {
    ($($lines:tt)*) => { listed! { "sample" $($lines)* } };
}
for_each_objective!(samples, declare_samples);

macro_rules! declare_spectra {
    ($($lines:tt)*) => { listed! { "spectrum" $($lines)* } };
}
for_each_objective!(spectra, declare_spectra);

macro_rules! declare_penalties {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => { $(
        mod $module;
        pub use $module::$type;

        impl<S> $type<S> {
            /// Around a spectral risk.
            ///
            /// # Errors
            /// [`Error::Parameter`], which names the parameter, its value and its domain.
            pub fn new(inner: S, $($param: f32),*) -> Result<Self, Error> {
                let [$($param),*] = crate::objective::check(
                    <Self as crate::Listed>::NAME,
                    <Self as crate::Listed>::PARAMETERS,
                    [$($param),*],
                )?;
                Ok(Self { inner, $($param),* })
            }

            /// The risk that is penalised.
            pub fn inner(&self) -> &S {
                &self.inner
            }
        }

        listed_as! { "penalty" $module [$type<S>, S] { $($param: $default, $min..=$max);* } $source }
    )* };
}
for_each_objective!(penalties, declare_penalties);

/// A number of samples in the float type of the evaluation.
fn count<T: Float>(samples: usize) -> T {
    T::from(samples).unwrap_or_else(T::nan)
}
