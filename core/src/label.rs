//! A row and a label for each of its classes: soft targets, costs, and classes that are each on or off.
//!
//! ```text
//! L = sum_j c_j value(class_j, label_j)
//!
//! softmax:   dL/dz_j = pull_j - p_j sum_k pull_k        pull_j = dL/dlog p_j
//! sigmoid:   dL/dz_j = pull_j                           pull_j = dL/dz_j
//! ```
//!
//! with a weight `c_j` for each class, 1 without. So an objective is a function of one class and its label, and the link from
//! logits to probabilities is a word: over the softmax the classes of a row share its mass, over the sigmoid each is a
//! question of its own. It is written once in [`Number`], which `f64` is and a backend's vector, too.
//!
//! Where only a few classes have a label that is not 0, list them: see [`columns`](crate::columns).

use crate::{Error, Listed, MAX_PARAMETERS, Number, Parameter};
use num_traits::Float;

pub use crate::divergence::{EntryEval, EntrySums};

macro_rules! declare_labels {
    ($($module:ident $type:ident $parameters:tt $source:literal)*) => {
        listed! { "label" $($module $type $parameters $source)* }
        any! {
            /// Any listed label objective, chosen at run time.
            AnyLabel $($module $type $parameters $source)*
        }

        impl LabelObjective for AnyLabel {
            fn link(&self) -> ClassLink {
                match self { $(Self::$type(objective) => objective.link()),* }
            }
            fn domain(&self) -> [f32; 2] {
                match self { $(Self::$type(objective) => objective.domain()),* }
            }
            #[inline(always)]
            fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
                match self { $(Self::$type(objective) => objective.of_class(class, label)),* }
            }
            fn held<N: Number>(&self, frozen: &Class<N>, live: &Class<N>, label: N) -> N {
                match self { $(Self::$type(objective) => objective.held(frozen, live, label)),* }
            }
            fn to_kink<T: Float>(&self, class: &Class<T>, label: T) -> T {
                match self { $(Self::$type(objective) => objective.to_kink(class, label)),* }
            }
            fn visit<V: LabelVisitor>(&self, visitor: V) -> V::Output {
                match self { $(Self::$type(objective) => objective.visit(visitor)),* }
            }
        }
    };
}
for_each_objective!(labels, declare_labels);

/// From a row's logits to the probabilities of its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassLink {
    /// `p_j = exp z_j / sum_k exp z_k`
    Softmax,
    /// `p_j = 1 / (1 + exp -z_j)`
    Sigmoid,
}

/// A sum over classes of a function of the class's probability and its label.
///
/// ```
/// use tokenloss_core::Number;
/// use tokenloss_core::label::{Class, ClassLink, EntryEval, LabelObjective};
///
/// /// sum_j t_j (1 - p_j) over the softmax.
/// struct SoftDft;
///
/// impl LabelObjective for SoftDft {
///     fn link(&self) -> ClassLink {
///         ClassLink::Softmax
///     }
///     #[inline(always)]
///     fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N> {
///         EntryEval { value: label * class.rest, pull: -(label * class.p) }
///     }
/// }
/// ```
pub trait LabelObjective {
    /// What makes probabilities of logits.
    fn link(&self) -> ClassLink;

    /// The least and the greatest label; all finite numbers without.
    fn domain(&self) -> [f32; 2] {
        [f32::MIN, f32::MAX]
    }

    /// The value and the pull of one class. `#[inline(always)]`, so that a backend's vectors stay in registers.
    ///
    /// A masked class (`p` = 0, `log_p` = -infinity) with a label of 0 has neither.
    fn of_class<N: Number>(&self, class: &Class<N>, label: N) -> EntryEval<N>;

    /// The value at `live` with every stop-gradient factor held at `frozen`. The pull at a class is the derivative of this by
    /// `live` there, which for most objectives is that of the value.
    fn held<N: Number>(&self, frozen: &Class<N>, live: &Class<N>, label: N) -> N {
        let _ = frozen;
        self.of_class(live, label).value
    }

    /// The distance, in logits, to the nearest point where the value is not smooth.
    fn to_kink<T: Float>(&self, class: &Class<T>, label: T) -> T {
        let _ = (class, label);
        T::infinity()
    }

    /// Calls the visitor with what this is: a choice made at run time is so made once, and not once for each class.
    fn visit<V: LabelVisitor>(&self, visitor: V) -> V::Output
    where
        Self: Sized,
    {
        visitor.visit(self)
    }
}

/// What [`LabelObjective::visit`] calls.
pub trait LabelVisitor {
    /// What comes out.
    type Output;
    /// With the objective itself.
    fn visit<O: LabelObjective>(self, objective: &O) -> Self::Output;
}

/// A class: its probability and what that leaves, each also as a logarithm. All four keep their relative accuracy, the
/// logarithms down to the least normal number that they are the logarithm of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Class<N> {
    /// `p`
    pub p: N,
    /// `log p`; -infinity for a masked class.
    pub log_p: N,
    /// `1 - p`
    pub rest: N,
    /// `log(1 - p)`
    pub log_rest: N,
}

impl<N: Number> Class<N> {
    /// One of a softmax, by its log-probability.
    #[inline(always)]
    pub fn softmax(log_p: N) -> Self {
        let exp = log_p.exp_and_gaps();
        let rest = -exp.exp_m1;
        Self { p: exp.exp, log_p, rest, log_rest: ln(rest, exp.exp) }
    }

    /// `1 / (1 + exp -z)`
    #[inline(always)]
    pub fn sigmoid(z: N) -> Self {
        let one = z.like(1.0);
        let size = z.larger(-z);
        let exp = (-size).exp_of();
        let greater = one / (one + exp);
        let less = exp * greater;
        // ln(1 - less), two terms of one sign.
        let log_greater = -(less + (-less).ln_gap(greater));
        let log_less = log_greater - size;
        Self {
            p: z.pick(less, greater),
            log_p: z.pick(log_less, log_greater),
            rest: z.pick(greater, less),
            log_rest: z.pick(log_greater, log_less),
        }
    }

    /// The other answer to the same question.
    #[inline(always)]
    pub(crate) fn turned(&self) -> Self {
        Self { p: self.rest, log_p: self.log_rest, rest: self.p, log_rest: self.log_p }
    }

    /// The logit of a sigmoid.
    pub(crate) fn logit(&self) -> N {
        self.log_p - self.log_rest
    }
}

/// `value` where `factor` is not 0, and 0 elsewhere, whatever the value is there.
#[inline(always)]
fn where_not_0<N: Number>(factor: N, value: N) -> N {
    factor.larger(-factor).gate(value)
}

/// `ln x` for `x` from 0 to 1, by what it is less than 1.
#[inline(always)]
fn ln<N: Number>(x: N, rest: N) -> N {
    -(rest + (-rest).ln_gap(x))
}

/// `x^exponent` for `x` from 0 to 1, by its logarithm; 0 where `x` is below the least normal number.
#[inline(always)]
fn damp<N: Number>(x: N, ln: N, exponent: f32) -> N {
    if exponent == 0.0 { x.like(1.0) } else { x.gate((ln.like(exponent) * ln).exp_of()) }
}

/// `t value + (1 - t) other`, where a weight of 0 takes its side out.
#[inline(always)]
fn either<N: Number>(label: N, on: EntryEval<N>, off: EntryEval<N>) -> EntryEval<N> {
    let left = label.like(1.0) - label;
    EntryEval {
        value: where_not_0(label, label * on.value) + where_not_0(left, left * off.value),
        pull: label * on.pull + left * off.pull,
    }
}
