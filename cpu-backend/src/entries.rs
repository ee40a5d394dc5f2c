//! The kernels of a pair of rows, for any divergence.
//!
//! They read `f32`: rows of 16 bits are widened once, in the second-level cache, so that no kernel is compiled for each pair of
//! storage types.

use crate::exp::{Digits, exp};
use crate::gradient::narrow;
use crate::row::{BLOCK, RUN, carried};
use crate::simd::{Kernel, Lanes, MAX_LANES, Simd};
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
        let zero = s.splat(0.0);
        let line = [s.splat(self.max), s.splat(1.0 / self.temperature)];
        // One of the equals is the implicit 1.
        let mut tail = -1.0;
        for z in self.logits.chunks(BLOCK) {
            let (mut sum, mut carry, mut ties) = (zero, zero, zero);
            let (vectors, rest) = z.split_at(z.len() - z.len() % S::LANES);
            for z in vectors.chunks(RUN * S::LANES) {
                let mut run = zero;
                for z in z.chunks_exact(S::LANES) {
                    share(s, s.load_f32(z), line, &mut run, &mut ties);
                }
                carried(s, &mut sum, &mut carry, run);
            }
            if !rest.is_empty() {
                let mut run = zero;
                share(s, f32::load_part(s, rest, f32::NEG_INFINITY), line, &mut run, &mut ties);
                carried(s, &mut sum, &mut carry, run);
            }
            tail += f64::from(s.horizontal_sum(s.add(sum, carry))) + f64::from(s.horizontal_sum(ties));
        }
        tail
    }
}

/// The share of one vector of logits, by the maximum and the inverse temperature; a function and no closure, which would not
/// be compiled for the level.
#[inline(always)]
fn share<S: Simd>(s: S, z: S::V, [max, inverse]: [S::V; 2], sum: &mut S::V, ties: &mut S::V) {
    let d = s.mul(s.sub(z, max), inverse);
    s.add_by_zero(exp(s, d, Digits::Full), d, ties, sum);
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
        let Self { divergence, frame, z, u, kept } = self;
        let sweep = Sweep { s, divergence, frame: frame.map(|x| Vector::splat(s, x)) };
        match kept {
            None => sweep.row::<false>(z, u, &mut [], &mut []),
            Some(Kept { pulls, probabilities }) => sweep.row::<true>(z, u, pulls, probabilities),
        }
    }
}

struct Sweep<'a, S: Simd, D> {
    s: S,
    divergence: &'a D,
    frame: Frame<Vector<S>>,
}

impl<S: Simd, D: Divergence> Sweep<'_, S, D> {
    #[inline(always)]
    fn row<const KEEP: bool>(
        &self,
        z: &[f32],
        u: &[f32],
        pulls: &mut [f32],
        probabilities: &mut [f32],
    ) -> EntrySums<f64> {
        let s = self.s;
        let whole = z.len() - z.len() % S::LANES;
        let mut total = EntrySums::default();
        for block in (0..whole).step_by(BLOCK) {
            let end = (block + BLOCK).min(whole);
            let mut sums = Sums::zero(s);
            for first in (block..end).step_by(RUN * S::LANES) {
                let run = first..(first + RUN * S::LANES).min(end);
                let kept = if KEEP { run.clone() } else { 0..0 };
                let (pulls, probabilities) = (&mut pulls[kept.clone()], &mut probabilities[kept]);
                sums.add(s, &self.run::<KEEP>(&z[run.clone()], &u[run], pulls, probabilities));
            }
            total = total.merge(sums.whole(s));
        }
        if whole < z.len() {
            // Masked in both rows, the lanes beyond the end add nothing. Nothing in the loops above calls a function, so that
            // what they hold stays in registers.
            let rest = z.len() - whole;
            let (mut of_z, mut of_u) = ([f32::NEG_INFINITY; MAX_LANES], [f32::NEG_INFINITY; MAX_LANES]);
            let (mut w, mut p) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
            of_z[..rest].copy_from_slice(&z[whole..]);
            of_u[..rest].copy_from_slice(&u[whole..]);
            let mut sums = Sums::zero(s);
            let lanes = ..S::LANES;
            sums.add(s, &self.run::<true>(&of_z[lanes], &of_u[lanes], &mut w[lanes], &mut p[lanes]));
            total = total.merge(sums.whole(s));
            if KEEP {
                pulls[whole..].copy_from_slice(&w[..rest]);
                probabilities[whole..].copy_from_slice(&p[..rest]);
            }
        }
        total
    }

    /// A few whole vectors.
    #[inline(always)]
    fn run<const KEEP: bool>(
        &self,
        z: &[f32],
        u: &[f32],
        pulls: &mut [f32],
        probabilities: &mut [f32],
    ) -> EntryEval<Vector<S>> {
        let s = self.s;
        let zero = Vector::splat(s, 0.0);
        let mut run = EntryEval { value: zero, pull: zero };
        let mut pulls = pulls.chunks_exact_mut(S::LANES);
        let mut probabilities = probabilities.chunks_exact_mut(S::LANES);
        for (z, u) in z.chunks_exact(S::LANES).zip(u.chunks_exact(S::LANES)) {
            let (z, u) = (Vector { s, v: s.load_f32(z) }, Vector { s, v: s.load_f32(u) });
            let entry = self.frame.entry(z, u);
            let eval = self.divergence.of_entry(&entry);
            run = EntryEval { value: run.value + eval.value, pull: run.pull + eval.pull };
            if KEEP && let (Some(pull), Some(p)) = (pulls.next(), probabilities.next()) {
                s.store_f32(eval.pull.v, pull);
                s.store_f32(entry.p().v, p);
            }
        }
        run
    }
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
        let by = [Scaled::new(s, factors.pull), Scaled::new(s, factors.probability)];
        let width = S::LANES;
        let ahead = if stream { out.as_ptr().align_offset(64).min(out.len()) } else { 0 };
        let whole = (out.len() - ahead) / width * width;
        let (head, body) = out.split_at_mut(ahead);
        let (body, rest) = body.split_at_mut(whole);
        let of_body = ahead..ahead + whole;
        let kept = pulls[of_body.clone()]
            .chunks_exact(width)
            .zip(probabilities[of_body.clone()].chunks_exact(width));
        match base {
            None => {
                for (out, (pull, p)) in body.chunks_exact_mut(width).zip(kept) {
                    put(s, sum(s, &by, s.load_f32(pull), s.load_f32(p)), out, stream);
                }
            }
            Some(base) => {
                let base = base[of_body.clone()].chunks_exact(width);
                for ((out, (pull, p)), base) in body.chunks_exact_mut(width).zip(kept).zip(base) {
                    let gradient = s.add(sum(s, &by, s.load_f32(pull), s.load_f32(p)), s.load_f32(base));
                    put(s, gradient, out, stream);
                }
            }
        }
        for (out, first) in [(head, 0), (rest, of_body.end)] {
            for (i, out) in out.chunks_mut(width).enumerate() {
                let at = first + i * width..first + i * width + out.len();
                let (pull, p) = (&pulls[at.clone()], &probabilities[at.clone()]);
                let (pull, p) = (f32::load_part(s, pull, 0.0), f32::load_part(s, p, 0.0));
                let mut gradient = sum(s, &by, pull, p);
                if let Some(base) = base {
                    gradient = s.add(gradient, f32::load_part(s, &base[at], 0.0));
                }
                L::store_part(s, gradient, out);
            }
        }
        if stream {
            s.fence();
        }
    }
}

#[inline(always)]
fn sum<S: Simd>(s: S, [of_pull, of_probability]: &[Scaled<S::V>; 2], pull: S::V, probability: S::V) -> S::V {
    s.add(of_pull.of(s, pull), of_probability.of(s, probability))
}

#[inline(always)]
fn put<S: Simd, L: Lanes>(s: S, v: S::V, out: &mut [L], stream: bool) {
    if stream { L::stream(s, v, out) } else { L::store(s, v, out) }
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
        s.mul(s.keep_unless_lt(x, s.abs(x), self.least), self.factor)
    }
}
