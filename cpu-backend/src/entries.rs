//! The kernels of a pair of rows, for any divergence.
//!
//! They read `f32`: rows of 16 bits are widened once, in the second-level cache, so that no kernel is compiled for each pair of
//! storage types.

use crate::exp::{Digits, exp};
use crate::row::{BLOCK, RUN, carried, narrow};
use crate::simd::{Kernel, Lanes, Simd};
use crate::vector::Vector;
use tokenloss_core::Number;
use tokenloss_core::divergence::{Divergence, Entry, EntryEval, EntrySums};

/// `sum_j exp((z_j - max) / T) - 1`, the maximum's own 1 kept apart; NaN for a row with a NaN or +infinity in it and for one
/// without any mass.
pub(crate) struct TemperedTail<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) max: f32,
    pub(crate) temperature: f32,
}

impl Kernel for TemperedTail<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let (zero, max, inverse) = (s.splat(0.0), s.splat(self.max), s.splat(1.0 / self.temperature));
        // One of the equals is the implicit 1.
        let mut tail = -1.0;
        for z in self.logits.chunks(BLOCK) {
            let (mut sum, mut carry, mut ties) = (zero, zero, zero);
            for z in z.chunks(RUN * S::LANES) {
                let mut run = zero;
                for z in z.chunks(S::LANES) {
                    let z = load(s, z);
                    let d = s.mul(s.sub(z, max), inverse);
                    s.add_by_zero(exp(s, d, Digits::Full), d, &mut ties, &mut run);
                }
                carried(s, &mut sum, &mut carry, run);
            }
            tail += f64::from(s.horizontal_sum(s.add(sum, carry))) + f64::from(s.horizontal_sum(ties));
        }
        tail
    }
}

/// The greatest logit; unspecified if one is NaN.
pub(crate) struct Greatest<'a>(pub(crate) &'a [f32]);

impl Kernel for Greatest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        f32::greatest(s, self.0)
    }
}

/// A vector, or fewer than its elements with masked logits after them.
#[inline(always)]
fn load<S: Simd>(s: S, z: &[f32]) -> S::V {
    if z.len() == S::LANES { s.load_f32(z) } else { f32::load_part(s, z, f32::NEG_INFINITY) }
}

/// A row's normaliser: `log p_j = (z_j - max) / T - ln_mass`.
#[derive(Clone, Copy)]
pub(crate) struct Normaliser {
    pub(crate) max: f64,
    pub(crate) ln_mass: f64,
}

/// What turns two logits into an [`Entry`].
///
/// The log-ratio comes from the difference of the logits, which is exact where they are close, and not from two rounded
/// logarithms. Where the rows lie far apart as a whole, each is taken off its own maximum first.
#[derive(Clone, Copy)]
pub(crate) struct Frame<N> {
    max: [N; 2],
    ln_mass: [N; 2],
    origin: [N; 2],
    /// What the difference is less, in two parts: rounded to `f32`, and the rest.
    shift: [N; 2],
    inverse: N,
}

impl Frame<f32> {
    pub(crate) fn new(temperature: f32, student: Normaliser, teacher: Normaliser) -> Self {
        /// From here on, rounding the difference of the logits costs more than rounding each one's to its maximum.
        const FAR: f64 = 16.0;
        let apart = student.max - teacher.max;
        let far = apart.abs() > FAR;
        let masses = f64::from(temperature) * (student.ln_mass - teacher.ln_mass);
        let shift = if far { masses } else { masses + apart };
        let sides = [student, teacher];
        Self {
            max: sides.map(|side| side.max as f32),
            ln_mass: sides.map(|side| side.ln_mass as f32),
            origin: sides.map(|side| if far { side.max as f32 } else { 0.0 }),
            shift: [shift as f32, (shift - f64::from(shift as f32)) as f32],
            inverse: 1.0 / temperature,
        }
    }
}

impl<N: Number> Frame<N> {
    #[inline(always)]
    fn map<M>(self, f: impl Fn(N) -> M) -> Frame<M> {
        Frame {
            max: self.max.map(&f),
            ln_mass: self.ln_mass.map(&f),
            origin: self.origin.map(&f),
            shift: self.shift.map(&f),
            inverse: f(self.inverse),
        }
    }

    #[inline(always)]
    pub(crate) fn entry(&self, z: N, u: N) -> Entry<N> {
        let log_p = (z - self.max[0]) * self.inverse - self.ln_mass[0];
        let log_q = (u - self.max[1]) * self.inverse - self.ln_mass[1];
        let apart = (z - self.origin[0]) - (u - self.origin[1]);
        let log_ratio = (apart - self.shift[0] - self.shift[1]) * self.inverse;
        Entry::new(log_p.larger(log_q), log_ratio)
    }
}

/// Sums of vectors, and what they have rounded away.
struct Sums<V> {
    value: V,
    value_carry: V,
    pull: V,
    pull_carry: V,
}

impl<V: Copy> Sums<V> {
    #[inline(always)]
    fn zero<S: Simd<V = V>>(s: S) -> Self {
        let zero = s.splat(0.0);
        Self { value: zero, value_carry: zero, pull: zero, pull_carry: zero }
    }

    #[inline(always)]
    fn add<S: Simd<V = V>>(&mut self, s: S, run: &EntryEval<Vector<S>>) {
        carried(s, &mut self.value, &mut self.value_carry, run.value.v);
        carried(s, &mut self.pull, &mut self.pull_carry, run.pull.v);
    }

    #[inline(always)]
    fn whole<S: Simd<V = V>>(&self, s: S) -> EntrySums<f64> {
        let sum = |x: V, carry: V| f64::from(s.horizontal_sum(x)) + f64::from(s.horizontal_sum(carry));
        EntrySums { value: sum(self.value, self.value_carry), pull: sum(self.pull, self.pull_carry) }
    }
}

/// The sums over the classes of a row or of a part of it, and, if a gradient is wanted, what that is made of.
///
/// One kernel for both, since there is one for each divergence and level.
pub(crate) struct Entries<'a, D> {
    pub(crate) divergence: &'a D,
    pub(crate) frame: &'a Frame<f32>,
    pub(crate) z: &'a [f32],
    pub(crate) u: &'a [f32],
    pub(crate) kept: Option<Kept<'a>>,
}

/// Where each class's pull and probability are kept until the sum of all pulls is known.
pub(crate) struct Kept<'a> {
    pub(crate) pulls: &'a mut [f32],
    pub(crate) probabilities: &'a mut [f32],
}

impl<D: Divergence> Kernel for Entries<'_, D> {
    type Output = EntrySums<f64>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> EntrySums<f64> {
        let Self { divergence, frame, z, u, mut kept } = self;
        let frame = frame.map(|x| Vector::splat(s, x));
        let zero = Vector::splat(s, 0.0);
        let mut total = EntrySums::default();
        for block in (0..z.len()).step_by(BLOCK) {
            let end = (block + BLOCK).min(z.len());
            let mut sums = Sums::zero(s);
            for first in (block..end).step_by(RUN * S::LANES) {
                let mut run = EntryEval { value: zero, pull: zero };
                let last = (first + RUN * S::LANES).min(end);
                for i in (first..last).step_by(S::LANES) {
                    let at = i..(i + S::LANES).min(last);
                    let (z, u) = (load(s, &z[at.clone()]), load(s, &u[at.clone()]));
                    let entry = frame.entry(Vector { s, v: z }, Vector { s, v: u });
                    let eval = divergence.of_entry(&entry);
                    run = EntryEval { value: run.value + eval.value, pull: run.pull + eval.pull };
                    if let Some(Kept { pulls, probabilities }) = &mut kept {
                        store(s, eval.pull.v, &mut pulls[at.clone()]);
                        store(s, entry.p().v, &mut probabilities[at]);
                    }
                }
                sums.add(s, &run);
            }
            total = total.merge(sums.whole(s));
        }
        total
    }
}

/// A vector, or its first elements.
#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, out: &mut [f32]) {
    if out.len() == S::LANES { s.store_f32(v, out) } else { f32::store_part(s, v, out) }
}

/// What pulls and probabilities are multiplied by.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    pub(crate) pull: f64,
    pub(crate) probability: f64,
}

/// `out = factors.pull pulls + factors.probability probabilities + base`, rounded to storage.
pub(crate) struct Combine<'a, L> {
    pub(crate) factors: Factors,
    pub(crate) pulls: &'a [f32],
    pub(crate) probabilities: &'a [f32],
    pub(crate) base: Option<&'a [f32]>,
    pub(crate) out: &'a mut [L],
    /// Go round the caches.
    pub(crate) stream: bool,
}

impl<L: Lanes> Kernel for Combine<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { factors, pulls, probabilities, base, out, stream } = self;
        let (of_pull, of_probability) = (Scaled::new(s, factors.pull), Scaled::new(s, factors.probability));
        let ahead = if stream { out.as_ptr().align_offset(64).min(out.len()) } else { 0 };
        let vectors = (0..ahead).step_by(S::LANES).map(|i| i..(i + S::LANES).min(ahead));
        let len = out.len();
        let rest = (ahead..len).step_by(S::LANES).map(|i| i..(i + S::LANES).min(len));
        for at in vectors.chain(rest) {
            let mut gradient = s.add(
                of_pull.of(s, load(s, &pulls[at.clone()])),
                of_probability.of(s, load(s, &probabilities[at.clone()])),
            );
            if let Some(base) = base {
                gradient = s.add(gradient, load(s, &base[at.clone()]));
            }
            let aligned = at.start >= ahead;
            let out = &mut out[at];
            if out.len() < S::LANES {
                L::store_part(s, gradient, out);
            } else if stream && aligned {
                L::stream(s, gradient, out);
            } else {
                L::store(s, gradient, out);
            }
        }
        if stream {
            s.fence();
        }
    }
}

/// A factor, and the least number that it makes a normal one of: see [`LOWEST`](crate::exp::LOWEST).
struct Scaled<V> {
    factor: V,
    least: V,
}

impl<V: Copy> Scaled<V> {
    #[inline(always)]
    fn new<S: Simd<V = V>>(s: S, factor: f64) -> Self {
        let factor = narrow(factor);
        let least = (f32::MIN_POSITIVE / factor.abs()).clamp(f32::MIN_POSITIVE, f32::MAX);
        Self { factor: s.splat(factor), least: s.splat(least) }
    }

    /// `x` times the factor, and 0 where that would not be normal.
    #[inline(always)]
    fn of<S: Simd<V = V>>(&self, s: S, x: V) -> V {
        let absolute = s.max(x, s.sub(s.splat(0.0), x));
        s.mul(s.keep_unless_lt(x, absolute, self.least), self.factor)
    }
}
