//! Label objectives that a GPU can run.

use crate::of_class;
use std::borrow::Cow;
use std::fmt::Write;
use tokenloss_core::label::{self, AnyLabel, ClassLink, LabelObjective};
use tokenloss_core::{Listed, MAX_PARAMETERS, for_each_objective};

/// A label objective with a WGSL twin.
///
/// Every listed one has one. Your own needs its function and the values of its parameters; its Rust twin is what
/// [`LabelObjective`] asks for.
///
/// ```
/// use std::borrow::Cow;
/// use tokenloss_core::label::ClassLink;
/// use tokenloss_shaders::ShaderLabel;
///
/// /// sum_j t_j (1 - p_j) over the softmax.
/// struct SoftDft;
///
/// impl ShaderLabel for SoftDft {
///     fn name(&self) -> Cow<'static, str> {
///         "soft_dft".into()
///     }
///     fn wgsl(&self) -> Cow<'static, str> {
///         "fn soft_dft(c: Class, label: vec4<f32>) -> EntryEval {
///            return EntryEval(label * c.rest, -(label * c.p));
///          }"
///         .into()
///     }
///     fn parameters(&self) -> Vec<f32> {
///         vec![]
///     }
///     fn class_link(&self) -> ClassLink {
///         ClassLink::Softmax
///     }
/// }
/// ```
///
/// A `Class` is four classes at once: `p`, `log_p`, `rest` and `log_rest` are of type `vec4<f32>`, as `value` and `pull` of `EntryEval`
/// are. Use `gate`, `where_not_0`, `damp`, `either`, `times` and `class_turned` (from `label.wgsl`), `pick`, `exp_and_gaps` and
/// `ln_gap` (from `number.wgsl`), and no branch on values. A masked class has a log-probability of -1e30: a value beyond 1e18 is
/// infinite there.
pub trait ShaderLabel {
    /// The WGSL function's name.
    fn name(&self) -> Cow<'static, str>;

    /// Its text: `fn name(c: Class, label: vec4<f32>, parameters: f32..) -> EntryEval`. It may call those of listed objectives.
    fn wgsl(&self) -> Cow<'static, str>;

    /// The values of the parameters, in the order of the function's arguments; at most [`MAX_PARAMETERS`], others are not looked
    /// at.
    fn parameters(&self) -> Vec<f32>;

    /// What makes probabilities of logits, as [`LabelObjective::link`].
    fn class_link(&self) -> ClassLink;

    /// The least and the greatest label, as [`LabelObjective::domain`].
    fn label_domain(&self) -> [f32; 2] {
        [f32::MIN, f32::MAX]
    }
}

impl<O: ShaderLabel + ?Sized> ShaderLabel for &O {
    fn name(&self) -> Cow<'static, str> {
        (**self).name()
    }
    fn wgsl(&self) -> Cow<'static, str> {
        (**self).wgsl()
    }
    fn parameters(&self) -> Vec<f32> {
        (**self).parameters()
    }
    fn class_link(&self) -> ClassLink {
        (**self).class_link()
    }
    fn label_domain(&self) -> [f32; 2] {
        (**self).label_domain()
    }
}

/// The values of the parameters, for [`Params::divergence`](crate::Params::divergence).
pub fn label_parameters(objective: &dyn ShaderLabel) -> [f32; MAX_PARAMETERS] {
    of_class::parameters(objective.parameters())
}

/// The WGSL that declares `fn label_of(c: Class, label: vec4<f32>) -> EntryEval` for an objective, its link and its domain.
pub(crate) fn judge_labels(objective: &dyn ShaderLabel) -> String {
    let (name, parameters) = (objective.name(), objective.parameters().len());
    let mut text = of_class::with_called(&name, objective.wgsl().into_owned(), LABELS);
    let call = of_class::call(&name, "c, label", parameters);
    let _ = write!(text, "\nfn label_of(c: Class, label: vec4<f32>) -> EntryEval {{\n  return {call};\n}}\n");
    let is_softmax = objective.class_link() == ClassLink::Softmax;
    let [min, max] = objective.label_domain();
    let _ = write!(
        text,
        "const IS_SOFTMAX = {is_softmax};\nconst LABEL_MIN = f32({min:e});\nconst LABEL_MAX = f32({max:e});\n"
    );
    text
}

macro_rules! twins {
    ($($line:tt)*) => {
        of_class::twins! {
            /// The WGSL file of every listed label objective, by name.
            LABELS "../label/" ShaderLabel AnyLabel label {
                fn class_link(&self) -> ClassLink {
                    LabelObjective::link(self)
                }
                fn label_domain(&self) -> [f32; 2] {
                    LabelObjective::domain(self)
                }
            } $($line)*
        }
    };
}
for_each_objective!(labels, twins);
