//! Objectives that a GPU can run.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write;
use tokenloss_core::{
    AnyRow, AnyToken, Composite, Detail, Listed, MAX_PARAMETERS, MAX_TERMS, Objective, RowObjective, Term,
    Thresholded, Unjudged, for_each_objective,
};

/// The most parameters that an objective may have with all its terms and gates: a sum of [`MAX_TERMS`] listed objectives,
/// each behind a threshold, fits.
pub const MAX_SHADER_PARAMETERS: usize =
    MAX_TERMS * (MAX_PARAMETERS + <Thresholded<AnyToken> as Listed>::PARAMETERS.len());

/// An objective with a WGSL twin.
///
/// Every listed objective has one. Your own needs its function and the values of its parameters; its Rust twin is
/// what [`TokenObjective`](tokenloss_core::TokenObjective) or [`RowObjective`] asks for.
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
/// `TargetProb` has `log_p` and `one_minus_p`; `TokenEval` is `(loss, slope, kept)`. `RowSummary` has `stats`, `prob` and
/// `goal_logit`, the target's; `RowEval` is `(loss, partials, kept)`, `RowPartials` is `(d_target, d_lse, d_entropy, d_mean,
/// d_energy)`. Use `exp_any`, `exp_m1`, `ln`, `ln_1p`, `pow_of_fraction`, `target_prob_p` and `row_stats_..` (from
/// `math.wgsl` and `row.wgsl`) in place of the built-in functions, which lose the accuracy of confident rows. `log_p` is
/// -infinity for a masked target.
pub trait ShaderObjective {
    /// The name of the WGSL function. It must differ from every name in this crate's WGSL.
    fn name(&self) -> Cow<'static, str>;

    /// The text that declares the function, whose arguments are what the [form](Self::form) says, and then
    /// `parameters: f32..`.
    fn wgsl(&self) -> Cow<'static, str>;

    /// The values of the parameters, in the order of the function's arguments.
    fn parameters(&self) -> Vec<f32>;

    /// What the function takes and returns.
    fn form(&self) -> Form<'_> {
        Form::Token
    }
}

/// What the WGSL function of an objective takes and returns, and what belongs to it.
pub enum Form<'a> {
    /// `fn name(prob: TargetProb, ..) -> TokenEval`
    Token,
    /// `fn name(summary: RowSummary, ..) -> RowEval`, which looks at these statistics. Others may be 0.
    Row(Detail),
    /// `fn name(prob: TargetProb, ..) -> bool`: whether this objective is evaluated. Elsewhere loss and partials are 0 and the
    /// row is not kept.
    Gate(&'a dyn ShaderObjective),
    /// No function: the sum of these. A row is kept where all of them keep it.
    Sum(Vec<&'a dyn ShaderObjective>),
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
    fn form(&self) -> Form<'_> {
        (**self).form()
    }
}

/// Nothing to judge: all statistics are taken, loss and partials are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoObjective;

impl ShaderObjective for NoObjective {
    fn name(&self) -> Cow<'static, str> {
        "no_objective".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        "fn no_objective(summary: RowSummary) -> RowEval {\n  return row_eval_zero();\n}\n".into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![]
    }
    fn form(&self) -> Form<'_> {
        Form::Row(Detail::Moments)
    }
}

impl ShaderObjective for Unjudged {
    fn name(&self) -> Cow<'static, str> {
        "unjudged".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        "fn unjudged(prob: TargetProb) -> TokenEval {\n  return TokenEval(0.0, 0.0, true);\n}\n".into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![]
    }
}

/// More parameters than [`MAX_SHADER_PARAMETERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyParameters {
    /// The parameters of the objective, its terms and gates.
    pub parameters: usize,
}

impl fmt::Display for TooManyParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters } = self;
        write!(
            f,
            "objective: {parameters} parameters with its terms and gates, at most {MAX_SHADER_PARAMETERS} fit"
        )
    }
}

impl std::error::Error for TooManyParameters {}

/// The values of all parameters, for [`Params::objective`](crate::Params::objective): term by term, the outermost gate's first.
///
/// # Errors
/// [`TooManyParameters`].
pub fn parameters(
    objective: &dyn ShaderObjective,
) -> Result<[f32; MAX_SHADER_PARAMETERS], TooManyParameters> {
    fn collect(objective: &dyn ShaderObjective, values: &mut Vec<f32>) {
        match objective.form() {
            Form::Sum(terms) => terms.iter().for_each(|term| collect(*term, values)),
            form => {
                values.extend(objective.parameters());
                if let Form::Gate(inner) = form {
                    collect(inner, values);
                }
            }
        }
    }
    let mut values = Vec::new();
    collect(objective, &mut values);
    let mut all = [0.0; MAX_SHADER_PARAMETERS];
    let fit = all.get_mut(..values.len()).ok_or(TooManyParameters { parameters: values.len() })?;
    fit.copy_from_slice(&values);
    Ok(all)
}

/// The statistics that an objective looks at.
pub(crate) fn detail(objective: &dyn ShaderObjective) -> Detail {
    match objective.form() {
        Form::Token => Detail::Target,
        Form::Row(detail) => detail,
        Form::Gate(inner) => detail(inner),
        Form::Sum(terms) => terms.into_iter().map(detail).max().unwrap_or_default(),
    }
}

/// The WGSL that declares `fn judge(summary: RowSummary) -> RowEval` for an objective.
pub(crate) fn judge(objective: &dyn ShaderObjective) -> String {
    let mut judge = Judge::default();
    judge.declare("judge", objective);
    judge.fragments.join("\n") + &judge.functions
}

/// The text of an objective as it grows.
#[derive(Default)]
struct Judge {
    /// The objectives' own text. The same gate twice is declared once.
    fragments: Vec<Cow<'static, str>>,
    /// Functions of a row's summary, one for each objective, term and gate.
    functions: String,
    /// Parameters so far.
    parameters: usize,
}

impl Judge {
    /// Declares `fn {function}(summary: RowSummary) -> RowEval`.
    fn declare(&mut self, function: &str, objective: &dyn ShaderObjective) {
        let body = match objective.form() {
            Form::Token => format!("  return row_eval_of_token({});\n", self.call("summary.prob", objective)),
            Form::Row(_) => format!("  return {};\n", self.call("summary", objective)),
            Form::Gate(inner) => {
                let gate = self.call("summary.prob", objective);
                let name = format!("{function}_inner");
                self.declare(&name, inner);
                format!(
                    "  if (!{gate}) {{\n    return row_eval_dropped();\n  }}\n  return {name}(summary);\n"
                )
            }
            Form::Sum(terms) => {
                let mut body = "  var sum = row_eval_zero();\n".to_owned();
                for (i, term) in terms.into_iter().enumerate() {
                    let name = format!("{function}_{i}");
                    self.declare(&name, term);
                    let _ = writeln!(body, "  sum = row_eval_plus(sum, {name}(summary));");
                }
                body + "  return sum;\n"
            }
        };
        let _ = write!(self.functions, "fn {function}(summary: RowSummary) -> RowEval {{\n{body}}}\n");
    }

    /// A call of the objective's function with its own parameters.
    fn call(&mut self, argument: &str, objective: &dyn ShaderObjective) -> String {
        let fragment = objective.wgsl();
        if !self.fragments.contains(&fragment) {
            self.fragments.push(fragment);
        }
        let mut call = format!("{}({argument}", objective.name());
        for _ in objective.parameters() {
            let _ = write!(call, ", parameter({}u)", self.parameters);
            self.parameters += 1;
        }
        call + ")"
    }
}

/// The twins of a kind of objective.
macro_rules! twins {
    ($(#[$doc:meta])* $files:ident $any:ident $form:expr;
     $($module:ident $type:ident { $($parameter:tt)* } $source:literal)*) => {
        $(#[$doc])*
        pub const $files: &[(&str, &str)] = &[
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
                fn form(&self) -> Form<'_> {
                    $form(self)
                }
            }
        )*

        impl AsShader for $any {
            fn as_shader(&self) -> &dyn ShaderObjective {
                match self { $(Self::$type(objective) => objective),* }
            }
        }
    };
}

macro_rules! token_twins {
    ($($line:tt)*) => {
        twins! {
            /// The WGSL file of every listed token objective, by name.
            TOKENS AnyToken (|_| Form::Token);
            $($line)*
        }
    };
}
for_each_objective!(tokens, token_twins);

macro_rules! row_twins {
    ($($line:tt)*) => {
        twins! {
            /// The WGSL file of every listed row objective, by name.
            ROWS AnyRow (|objective| Form::Row(RowObjective::detail(objective)));
            $($line)*
        }
    };
}
for_each_objective!(rows, row_twins);

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
    fn form(&self) -> Form<'_> {
        Form::Gate(Thresholded::<O>::inner(self))
    }
}

impl ShaderObjective for Composite {
    fn name(&self) -> Cow<'static, str> {
        "sum".into()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        "".into()
    }
    fn parameters(&self) -> Vec<f32> {
        vec![]
    }
    fn form(&self) -> Form<'_> {
        Form::Sum(self.terms().map(AsShader::as_shader).collect())
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

impl AsShader for Term {
    fn as_shader(&self) -> &dyn ShaderObjective {
        match self {
            Self::Token(objective) => objective.as_shader(),
            Self::Row(objective) => objective.as_shader(),
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
            fn form(&self) -> Form<'_> {
                self.as_shader().form()
            }
        }
    )* };
}
delegate!(AnyToken, AnyRow, Objective, Term);
