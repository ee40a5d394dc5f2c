//! Divergences that a GPU can run.

use crate::of_class;
use std::borrow::Cow;
use std::fmt::Write;
use tokenloss_core::divergence::{self, AnyDivergence};
use tokenloss_core::{Listed, MAX_PARAMETERS, for_each_objective};

/// A divergence with a WGSL twin.
///
/// Every listed divergence has one. Your own needs its function and the values of its parameters; its Rust twin is what
/// [`Divergence`](divergence::Divergence) asks for.
///
/// ```
/// use std::borrow::Cow;
/// use tokenloss_shaders::ShaderDivergence;
///
/// /// sum_j (p_j - q_j)^2, the Brier score of a soft target.
/// struct Brier;
///
/// impl ShaderDivergence for Brier {
///     fn name(&self) -> Cow<'static, str> {
///         "brier".into()
///     }
///     fn wgsl(&self) -> Cow<'static, str> {
///         "fn brier(entry: Entry) -> EntryEval {
///            let difference = entry_difference(entry);
///            return EntryEval(difference * difference, 2.0 * entry_p(entry) * difference);
///          }"
///         .into()
///     }
///     fn parameters(&self) -> Vec<f32> {
///         vec![]
///     }
/// }
/// ```
///
/// An `Entry` is four classes at once: `greater` and `log_ratio` are of type `vec4<f32>`, as `value` and `pull` of
/// `EntryEval` are, and so are the fields of `ratio`, which is as `Exp` is in Rust. Use `pick`, `exp_and_gaps`, `ln_gap` and the
/// methods of Rust's `Entry` as functions whose names begin with `entry_` (all from `entry.wgsl`), and no branch on values. A class that
/// one row masks has a log-ratio of 1e38 or -1e38; a value of more than 1e18 times the greater probability is infinite there.
pub trait ShaderDivergence {
    /// The WGSL function's name.
    fn name(&self) -> Cow<'static, str>;

    /// Its text: `fn name(entry: Entry, parameters: f32..) -> EntryEval`. It may call those of listed divergences.
    fn wgsl(&self) -> Cow<'static, str>;

    /// The values of the parameters, in the order of the function's arguments; at most [`MAX_PARAMETERS`], others are not looked
    /// at.
    fn parameters(&self) -> Vec<f32>;
}

impl<D: ShaderDivergence + ?Sized> ShaderDivergence for &D {
    fn name(&self) -> Cow<'static, str> {
        (**self).name()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        (**self).wgsl()
    }
    fn parameters(&self) -> Vec<f32> {
        (**self).parameters()
    }
}

/// The values of the parameters, for [`Params::divergence`](crate::Params::divergence).
pub fn divergence_parameters(divergence: &dyn ShaderDivergence) -> [f32; MAX_PARAMETERS] {
    of_class::parameters(divergence.parameters())
}

/// The WGSL that declares `fn divergence_of(entry: Entry) -> EntryEval` for a divergence.
pub(crate) fn compare(divergence: &dyn ShaderDivergence) -> String {
    let (name, parameters) = (divergence.name(), divergence.parameters().len());
    let mut text = of_class::with_called(&name, divergence.wgsl().into_owned(), DIVERGENCES);
    let call = of_class::call(&name, "entry", parameters);
    let _ = write!(text, "\nfn divergence_of(entry: Entry) -> EntryEval {{\n  return {call};\n}}\n");
    text
}

macro_rules! twins {
    ($($line:tt)*) => {
        of_class::twins! {
            /// The WGSL file of every listed divergence, by name.
            DIVERGENCES "../divergence/" ShaderDivergence AnyDivergence divergence {} $($line)*
        }
    };
}
for_each_objective!(divergences, twins);
