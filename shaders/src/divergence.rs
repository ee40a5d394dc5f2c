//! Divergences that a GPU can run.

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
    let mut all = [0.0; MAX_PARAMETERS];
    all.iter_mut().zip(divergence.parameters()).for_each(|(into, value)| *into = value);
    all
}

/// The WGSL that declares `fn divergence_of(entry: Entry) -> EntryEval` for a divergence.
pub(crate) fn compare(divergence: &dyn ShaderDivergence) -> String {
    let name = divergence.name();
    let mut text = divergence.wgsl().into_owned();
    let mut missing: Vec<_> = DIVERGENCES.iter().filter(|(listed, _)| *listed != name).collect();
    // What is called may call others.
    while let Some(at) = missing.iter().position(|(listed, _)| calls(&text, listed)) {
        text += missing.remove(at).1;
    }
    let mut call = format!("{name}(entry");
    for at in 0..divergence.parameters().len().min(MAX_PARAMETERS) {
        let _ = write!(call, ", params.divergence[{at}]");
    }
    let _ = write!(text, "\nfn divergence_of(entry: Entry) -> EntryEval {{\n  return {call});\n}}\n");
    text
}

/// Whether a text calls a function.
fn calls(text: &str, name: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(&format!("{name}(")).any(|(at, _)| !text[..at].ends_with(in_name))
}

macro_rules! twins {
    ($($module:ident $type:ident { $($parameter:tt)* } $source:literal)*) => {
        /// The WGSL file of every listed divergence, by name.
        pub const DIVERGENCES: &[(&str, &str)] = &[
            $((stringify!($module), include_str!(concat!("../divergence/", stringify!($module), ".wgsl"))),)*
        ];

        $(
            impl ShaderDivergence for divergence::$type {
                fn name(&self) -> Cow<'static, str> {
                    Self::NAME.into()
                }
                fn wgsl(&self) -> Cow<'static, str> {
                    include_str!(concat!("../divergence/", stringify!($module), ".wgsl")).into()
                }
                fn parameters(&self) -> Vec<f32> {
                    Listed::parameters(self)[..Self::PARAMETERS.len()].to_vec()
                }
            }
        )*

        impl AnyShader for AnyDivergence {
            fn as_shader(&self) -> &dyn ShaderDivergence {
                match self { $(Self::$type(divergence) => divergence),* }
            }
        }
    };
}
for_each_objective!(divergences, twins);

/// An enum of divergences is the one that it holds.
trait AnyShader {
    fn as_shader(&self) -> &dyn ShaderDivergence;
}

impl ShaderDivergence for AnyDivergence {
    fn name(&self) -> Cow<'static, str> {
        self.as_shader().name()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        self.as_shader().wgsl()
    }
    fn parameters(&self) -> Vec<f32> {
        self.as_shader().parameters()
    }
}
