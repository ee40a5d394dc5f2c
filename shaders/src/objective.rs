//! Objectives that a GPU can run.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write;
use tokenloss_core::{AnyToken, Listed, Objective, Thresholded, for_each_objective};

/// The most parameters that an objective and the gates around it may have together.
pub const MAX_SHADER_PARAMETERS: usize = 8;

/// An objective with a WGSL twin.
///
/// Every listed objective has one. Your own needs its function and the values of its parameters; its Rust twin is
/// what [`TokenObjective`](tokenloss_core::TokenObjective) asks for.
///
/// ```
/// use std::borrow::Cow;
/// use tokenloss_shaders::ShaderObjective;
///
/// /// 1 - p^2.
/// struct Quadratic;
///
/// impl ShaderObjective for Quadratic {
///     fn name(&self) -> Cow<'static, str> {
///         "quadratic".into()
///     }
///     fn wgsl(&self) -> Cow<'static, str> {
///         "fn quadratic(prob: TargetProb) -> TokenEval {
///            let twice = 2.0 * prob.log_p;
///            return TokenEval(-exp_m1(twice), -2.0 * exp_any(twice), true);
///          }"
///         .into()
///     }
///     fn parameters(&self) -> Vec<f32> {
///         vec![]
///     }
/// }
/// ```
///
/// `TargetProb` has `log_p` and `one_minus_p`; `TokenEval` is `(loss, slope, kept)`. Use `exp_any`, `exp_m1`,
/// `ln`, `ln_1p`, `pow_of_fraction` and `target_prob_p` (from `math.wgsl` and `row.wgsl`) in place of the built-in
/// functions, which lose the accuracy of confident rows. `log_p` is -infinity for a masked target.
pub trait ShaderObjective {
    /// The name of the WGSL function. It must differ from every name in this crate's WGSL.
    fn name(&self) -> Cow<'static, str>;

    /// The text that declares `fn name(prob: TargetProb, parameters: f32..) -> TokenEval`, or `-> bool` for a gate.
    fn wgsl(&self) -> Cow<'static, str>;

    /// The values of the parameters, in the order of the function's arguments.
    fn parameters(&self) -> Vec<f32>;

    /// For a gate, the objective that is evaluated where the function returns true; elsewhere loss and slope
    /// are 0 and the row is not kept.
    fn inner(&self) -> Option<&dyn ShaderObjective> {
        None
    }
}

impl<O: ShaderObjective + ?Sized> ShaderObjective for &O {
    fn name(&self) -> Cow<'static, str> {
        (**self).name()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        (**self).wgsl()
    }
    fn parameters(&self) -> Vec<f32> {
        (**self).parameters()
    }
    fn inner(&self) -> Option<&dyn ShaderObjective> {
        (**self).inner()
    }
}

/// More parameters than [`MAX_SHADER_PARAMETERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyParameters {
    /// The parameters of the objective and its gates.
    pub parameters: usize,
}

impl fmt::Display for TooManyParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters } = self;
        write!(f, "objective: {parameters} parameters with its gates, at most {MAX_SHADER_PARAMETERS} fit")
    }
}

impl std::error::Error for TooManyParameters {}

/// The values of all parameters, the outermost gate's first, for [`Params::objective`](crate::Params::objective).
///
/// # Errors
/// [`TooManyParameters`].
pub fn parameters(
    objective: &dyn ShaderObjective,
) -> Result<[f32; MAX_SHADER_PARAMETERS], TooManyParameters> {
    let mut values = objective.parameters();
    let mut inner = objective.inner();
    while let Some(objective) = inner {
        values.extend(objective.parameters());
        inner = objective.inner();
    }
    let mut all = [0.0; MAX_SHADER_PARAMETERS];
    let fit = all.get_mut(..values.len()).ok_or(TooManyParameters { parameters: values.len() })?;
    fit.copy_from_slice(&values);
    Ok(all)
}

/// The WGSL that declares `fn judge(summary: RowSummary) -> RowEval` for an objective.
pub(crate) fn judge(objective: &dyn ShaderObjective) -> String {
    let mut fragments = Vec::new();
    let mut glue = String::new();
    call(objective, "objective", 0, &mut fragments, &mut glue);
    let mut text = fragments.join("\n");
    text.push_str(&glue);
    text.push_str(
        "fn judge(summary: RowSummary) -> RowEval {\n  return row_eval_of_token(objective(summary.prob));\n}\n",
    );
    text
}

/// The WGSL of `judge` where there is no objective.
pub(crate) const NO_OBJECTIVE: &str = "fn judge(summary: RowSummary) -> RowEval {\n  return RowEval(0.0, RowPartials(0.0, 0.0, 0.0), true);\n}\n";

fn call(
    objective: &dyn ShaderObjective,
    function: &str,
    first: usize,
    fragments: &mut Vec<Cow<'static, str>>,
    glue: &mut String,
) {
    let fragment = objective.wgsl();
    // The same gate twice is declared once.
    if !fragments.contains(&fragment) {
        fragments.push(fragment);
    }
    let count = objective.parameters().len();
    let mut call = format!("{}(prob", objective.name());
    for i in first..first + count {
        let _ = write!(call, ", parameter({i}u)");
    }
    call.push(')');
    let body = if let Some(inner) = objective.inner() {
        let inner_function = format!("{function}_inner");
        self::call(inner, &inner_function, first + count, fragments, glue);
        format!(
            "  if (!{call}) {{\n    return token_eval_dropped();\n  }}\n  return {inner_function}(prob);\n"
        )
    } else {
        format!("  return {call};\n")
    };
    let _ = write!(glue, "fn {function}(prob: TargetProb) -> TokenEval {{\n{body}}}\n");
}

macro_rules! twins {
    ($($module:ident $type:ident { $($parameter:tt)* } $source:literal)*) => {
        /// The WGSL file of every listed token objective, by name.
        pub const TOKENS: &[(&str, &str)] = &[
            $((stringify!($module), include_str!(concat!("../objective/", stringify!($module), ".wgsl"))),)*
        ];

        $(
            impl ShaderObjective for tokenloss_core::$type {
                fn name(&self) -> Cow<'static, str> {
                    Self::NAME.into()
                }
                fn wgsl(&self) -> Cow<'static, str> {
                    include_str!(concat!("../objective/", stringify!($module), ".wgsl")).into()
                }
                fn parameters(&self) -> Vec<f32> {
                    Listed::parameters(self)[..Self::PARAMETERS.len()].to_vec()
                }
            }
        )*

        impl AsShader for AnyToken {
            fn as_shader(&self) -> &dyn ShaderObjective {
                match self { $(Self::$type(objective) => objective),* }
            }
        }
    };
}
for_each_objective!(tokens, twins);

// Gates are not in the macro, because each knows where its inner objective is.
impl<O: ShaderObjective> ShaderObjective for Thresholded<O> {
    fn name(&self) -> Cow<'static, str> {
        Self::NAME.into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        include_str!("../objective/thresholded.wgsl").into()
    }
    fn parameters(&self) -> Vec<f32> {
        Listed::parameters(self)[..Self::PARAMETERS.len()].to_vec()
    }
    fn inner(&self) -> Option<&dyn ShaderObjective> {
        Some(Thresholded::<O>::inner(self))
    }
}

/// An enum of objectives is the one that it holds.
trait AsShader {
    fn as_shader(&self) -> &dyn ShaderObjective;
}

impl AsShader for Objective {
    fn as_shader(&self) -> &dyn ShaderObjective {
        match self {
            Self::Token(objective) => objective.as_shader(),
            Self::Thresholded(objective) => objective,
        }
    }
}

macro_rules! delegate {
    ($($type:ty),*) => { $(
        impl ShaderObjective for $type {
            fn name(&self) -> Cow<'static, str> {
                self.as_shader().name()
            }
            fn wgsl(&self) -> Cow<'static, str> {
                self.as_shader().wgsl()
            }
            fn parameters(&self) -> Vec<f32> {
                self.as_shader().parameters()
            }
            fn inner(&self) -> Option<&dyn ShaderObjective> {
                self.as_shader().inner()
            }
        }
    )* };
}
delegate!(AnyToken, Objective);
