//! Divergences of two rows of the same vocabulary: distillation, anchors to a reference, guidance from a teacher.
//!
//! With the student's `p = softmax(z / T)` and the teacher's `q = softmax(u / T)`, of which only the student has a gradient:
//!
//! ```text
//! D       = sum_j value(log p_j, log q_j)
//! pull_j  = p_j g_j,   g_j = dD/dp_j up to a constant that all classes share
//! dD/dz_j = (pull_j - p_j sum_k pull_k) / T
//! ```
//!
//! So a divergence is a function of one class's two probabilities, and all sweeps over the vocabulary know none. It is written
//! once in [`Number`], which `f64` is and a backend's vector, too.
//!
//! Terms whose sum over classes is 0, such as `p_j - q_j`, are added to the values where that makes every value a number of
//! at least 0 without cancellation: so divergences of rows that are nearly the same keep their relative accuracy.

use crate::{Error, Listed, MAX_PARAMETERS, Number, Parameter};

macro_rules! declare_divergences {
    ($($module:ident $type:ident $parameters:tt $source:literal)*) => {
        listed! { "divergence" $($module $type $parameters $source)* }
        any! {
            /// Any listed divergence, chosen at run time.
            AnyDivergence $($module $type $parameters $source)*
        }

        impl Divergence for AnyDivergence {
            #[inline(always)]
            fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
                match self { $(Self::$type(divergence) => divergence.of_entry(entry)),* }
            }
            fn visit<V: Visitor>(&self, visitor: V) -> V::Output {
                match self { $(Self::$type(divergence) => divergence.visit(visitor)),* }
            }
        }
    };
}
crate::for_each_objective!(divergences, declare_divergences);

/// A sum over classes of a function of both probabilities.
///
/// ```
/// use tokenloss_core::Number;
/// use tokenloss_core::divergence::{Divergence, Entry, EntryEval};
///
/// /// sum_j (p_j - q_j)^2, the Brier score of a soft target.
/// struct Brier;
///
/// impl Divergence for Brier {
///     #[inline(always)]
///     fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N> {
///         let difference = entry.difference();
///         let twice = difference + difference;
///         EntryEval { value: difference * difference, pull: entry.p() * twice }
///     }
/// }
/// ```
pub trait Divergence {
    /// The value and the pull of one class. `#[inline(always)]`, so that a backend's vectors stay in registers.
    fn of_entry<N: Number>(&self, entry: &Entry<N>) -> EntryEval<N>;

    /// Calls the visitor with what this is: a choice made at run time is so made once, and not once for each class.
    fn visit<V: Visitor>(&self, visitor: V) -> V::Output
    where
        Self: Sized,
    {
        visitor.visit(self)
    }
}

/// What [`Divergence::visit`] calls.
pub trait Visitor {
    /// What comes out.
    type Output;
    /// With the divergence itself.
    fn visit<D: Divergence>(self, divergence: &D) -> Self::Output;
}

/// One class, seen from both rows.
///
/// The two probabilities are the greater of them and the ratio of the lesser to it, which is the exponential of a number of at
/// most 0: nothing overflows, and their difference has no cancellation. What is not used is not computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry<N> {
    /// `max(p, q)`
    pub greater: N,
    /// `log p - log q`. Where both are 0 this is anything.
    pub log_ratio: N,
    /// `min(p, q) / max(p, q)` as the exponential of `-|log p - log q|`; where both are 0 this is anything.
    pub ratio: Exp<N>,
    p: N,
    q: N,
    difference: N,
    p_log_ratio: N,
    student_gap: N,
    teacher_gap: N,
}

pub use crate::number::Exp;

impl<N: Number> Entry<N> {
    /// From `max(log p, log q)` and `log p - log q`, of which the second is more exact than the difference of rounded
    /// logarithms if the caller takes it from the logits.
    #[inline(always)]
    pub fn new(log_greater: N, log_ratio: N) -> Self {
        let greater = log_greater.exp_of();
        // Where no row has any mass, -infinity less -infinity is NaN.
        let log_less = greater.gate(-log_ratio.larger(-log_ratio));
        let ratio = log_less.exp_and_gaps();
        let pick = |p_is_less, otherwise| greater * log_ratio.pick(p_is_less, otherwise);
        let one = greater.like(1.0);
        Self {
            greater,
            log_ratio,
            p: pick(ratio.exp, one),
            q: pick(one, ratio.exp),
            difference: pick(ratio.exp_m1, -ratio.exp_m1),
            p_log_ratio: pick(ratio.x_exp, -ratio.x),
            student_gap: pick(ratio.gap_at_x, ratio.gap_at_0),
            teacher_gap: pick(ratio.gap_at_0, ratio.gap_at_x),
            ratio,
        }
    }

    /// From both probabilities and `log p - log q`, for who has computed them anyway: no exponential
    /// is taken for the numbers that this has a method for.
    ///
    /// ```
    /// use tokenloss_core::divergence::Entry;
    /// let (p, q) = (0.2f64, 0.5f64);
    /// let (known, new) = (Entry::of_known(p, q, (p / q).ln()), Entry::new(q.ln(), (p / q).ln()));
    /// assert!((known.difference() - new.difference()).abs() < 1e-15 && (known.q() - new.q()).abs() < 1e-15);
    /// ```
    #[inline(always)]
    pub fn of_known(p: N, q: N, log_ratio: N) -> Self {
        let greater = log_ratio.pick(q, p);
        let log_less = greater.gate(-log_ratio.larger(-log_ratio));
        // Up to a factor of e between them by what the exponential is apart from its tangent; beyond, little cancels.
        let square = log_ratio * log_ratio;
        let near = |near, far| (square - p.like(1.0)).pick(near, far);
        let gap = log_ratio.exp_gap();
        let exp_m1 = log_ratio + gap;
        let difference = near(q * exp_m1, p - q);
        // 0 where the log-ratio may be infinite.
        let (p_log_ratio, q_log_ratio) = (p * p.gate(log_ratio), q * q.gate(log_ratio));
        Self {
            greater,
            log_ratio,
            ratio: log_less.exp_and_gaps(),
            p,
            q,
            difference,
            p_log_ratio,
            student_gap: near(q * (log_ratio * exp_m1 - gap), p_log_ratio - difference),
            teacher_gap: near(q * gap, difference - q_log_ratio),
        }
    }

    /// One of two numbers, by which of the rows gives the class less.
    #[inline(always)]
    pub fn pick(&self, p_is_less: N, otherwise: N) -> N {
        self.log_ratio.pick(p_is_less, otherwise)
    }

    /// `student p + teacher q`, of two weights that add up to 1.
    #[inline(always)]
    pub fn mixture(&self, student: N, teacher: N) -> Mixture<N> {
        let (less, greater) = (self.pick(student, teacher), self.pick(teacher, student));
        let (less_one, share) = (less * self.ratio.exp_m1, greater + less * self.ratio.exp);
        Mixture { less, less_one, share, ln_gap: less_one.ln_gap(share) }
    }

    /// The student's probability.
    #[inline(always)]
    pub fn p(&self) -> N {
        self.p
    }

    /// The teacher's probability.
    #[inline(always)]
    pub fn q(&self) -> N {
        self.q
    }

    /// `p - q`
    #[inline(always)]
    pub fn difference(&self) -> N {
        self.difference
    }

    /// `p (log p - log q)`, 0 where the student masks the class and infinite where the teacher alone does.
    #[inline(always)]
    pub fn p_log_ratio(&self) -> N {
        self.p_log_ratio
    }

    /// `p (log p - log q) + q - p`, at least 0.
    #[inline(always)]
    pub fn student_gap(&self) -> N {
        self.student_gap
    }

    /// `q (log q - log p) + p - q`, at least 0.
    #[inline(always)]
    pub fn teacher_gap(&self) -> N {
        self.teacher_gap
    }

    /// 1
    #[inline(always)]
    pub fn one(&self) -> N {
        self.greater.like(1.0)
    }
}

/// What a mixture of both rows gives one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixture<N> {
    /// The weight of the row that gives the class less.
    pub less: N,
    /// `m / greater`, from 0 to 1.
    pub share: N,
    /// `m / greater - 1`
    pub less_one: N,
    /// `m / greater - 1 - ln(m / greater)`
    pub ln_gap: N,
}

impl<N: Number> Mixture<N> {
    /// `ln(m / greater)`
    #[inline(always)]
    pub fn ln(&self) -> N {
        self.less_one - self.ln_gap
    }
}

/// A divergence of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EntryEval<N> {
    /// What the class adds to the divergence, up to terms that add up to 0.
    pub value: N,
    /// `p_j g_j`
    pub pull: N,
}

/// What the classes of a row amount to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct EntrySums<T> {
    /// The divergence.
    pub value: T,
    /// The sum of the pulls.
    pub pull: T,
}

impl<T: core::ops::Add<Output = T>> EntrySums<T> {
    /// The sums over both parts.
    pub fn merge(self, other: Self) -> Self {
        Self { value: self.value + other.value, pull: self.pull + other.pull }
    }
}

/// How a divergence enters the loss of a row, beside an objective of the row itself:
///
/// ```text
/// loss = objective_weight * objective(row) + lambda * T^2 * D(softmax(z / T), softmax(u / T))
/// ```
///
/// with `T^2` only where [`with_square`](Self::with_square) asks for it: the factor that keeps the gradient's size while the
/// temperature changes (Hinton et al. 2015, arXiv 1503.02531). The objective sees the row at temperature 1. Without one, it
/// is [`Unjudged`](crate::Unjudged).
///
/// ```
/// use tokenloss_core::Dft;
/// use tokenloss_core::divergence::{ForwardKl, Distillation};
///
/// // Anchored supervised fine-tuning (arXiv 2509.23753), together with `Dft` as the objective: dft + 0.1 KL(ref || theta).
/// let anchor = Distillation::new(ForwardKl::new()?, 0.1)?;
/// // Distillation as 0.3 CE + 0.7 T^2 KL, together with `Nll`.
/// let distillation =
///     Distillation::new(ForwardKl::new()?, 0.7)?.with_objective_weight(0.3)?.with_temperature(2.0)?.with_square();
/// assert_eq!((anchor.factor(), distillation.factor()), (f64::from(0.1f32), 4.0 * f64::from(0.7f32)));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distillation<D> {
    divergence: D,
    lambda: f32,
    temperature: f32,
    objective_weight: f32,
    square: bool,
}

const fn parameter(name: &'static str, default: f32, min: f32, max: f32) -> Parameter {
    Parameter { name, default, min, max }
}
const LAMBDA: Parameter = parameter("lambda", 1.0, -1e6, 1e6);
const TEMPERATURE: Parameter = parameter("temperature", 1.0, 0.01, 100.0);
const OBJECTIVE_WEIGHT: Parameter = parameter("objective_weight", 1.0, 0.0, 1e6);

impl<D> Distillation<D> {
    /// `objective + lambda * divergence` at temperature 1. A negative `lambda`, from -1e6 to 1e6, drives the rows apart.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a `lambda` outside its domain.
    pub fn new(divergence: D, lambda: f32) -> Result<Self, Error> {
        let lambda = LAMBDA.check("distillation", lambda)?;
        Ok(Self { divergence, lambda, temperature: 1.0, objective_weight: 1.0, square: false })
    }

    /// Both rows at this temperature, from 0.01 to 100, for the divergence alone.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a temperature outside its domain.
    pub fn with_temperature(self, temperature: f32) -> Result<Self, Error> {
        Ok(Self { temperature: TEMPERATURE.check("distillation", temperature)?, ..self })
    }

    /// The objective's loss and gradient times this, from 0 to 1e6.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a weight outside its domain.
    pub fn with_objective_weight(self, objective_weight: f32) -> Result<Self, Error> {
        Ok(Self { objective_weight: OBJECTIVE_WEIGHT.check("distillation", objective_weight)?, ..self })
    }

    /// The divergence times the square of the temperature.
    pub fn with_square(self) -> Self {
        Self { square: true, ..self }
    }

    /// The same of another divergence, such as a reference to this one.
    pub fn with_divergence<E>(&self, divergence: E) -> Distillation<E> {
        let Self { lambda, temperature, objective_weight, square, .. } = *self;
        Distillation { divergence, lambda, temperature, objective_weight, square }
    }

    /// The divergence.
    pub fn divergence(&self) -> &D {
        &self.divergence
    }
    /// The temperature of both rows.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }
    /// What the objective is multiplied by.
    pub fn objective_weight(&self) -> f32 {
        self.objective_weight
    }
    /// What the divergence is multiplied by: `lambda`, or `lambda T^2`.
    pub fn factor(&self) -> f64 {
        let square =
            if self.square { f64::from(self.temperature) * f64::from(self.temperature) } else { 1.0 };
        f64::from(self.lambda) * square
    }
    /// What `pull_j - p_j sum_k pull_k` is multiplied by in a logit's gradient.
    pub fn gradient_factor(&self) -> f64 {
        self.factor() / f64::from(self.temperature)
    }
}
