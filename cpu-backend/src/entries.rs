//! The kernels of a pair of rows, for any divergence.
//!
//! They read `f32`: rows of 16 bits are widened once, in the second-level cache, so that no kernel is compiled for each pair of
//! storage types.

use crate::exp::{Digits, exp};
use crate::gradient::{factor, narrow};
use crate::level::Level;
use crate::row::{BLOCK, RUN, carried};
use crate::simd::{Kernel, Lanes, MAX_LANES, Simd};
use crate::vector::Vector;
use core::slice::from_ref;
use tokenloss_core::Number;
use tokenloss_core::divergence::{Divergence, Entry, EntryEval, EntrySums};

/// `sum_j exp((z_j - max) / T) - 1`, the maximum's own 1 kept apart; NaN for a row with a NaN or +infinity in it and for one
/// without any mass.
pub(crate) struct TemperedTail<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) max: f32,
    pub(crate) temperature: f32,
    /// Where the exponentials are kept: as many as there are logits, or none.
    pub(crate) shares: &'a mut [f32],
}

impl Kernel for TemperedTail<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let Self { logits, max, temperature, shares } = self;
        let zero = s.splat(0.0);
        let line = [s.splat(max), s.splat(1.0 / temperature)];
        // One of the equals is the implicit 1.
        let mut tail = -1.0;
        let mut kept = shares.chunks_mut(BLOCK);
        for z in logits.chunks(BLOCK) {
            let (mut sum, mut carry, mut ties) = (zero, zero, zero);
            let (vectors, rest) = z.split_at(z.len() - z.len() % S::LANES);
            let (kept, kept_rest) = match kept.next() {
                Some(kept) => kept.split_at_mut(vectors.len()),
                None => Default::default(),
            };
            let mut kept = kept.chunks_exact_mut(S::LANES);
            for z in vectors.chunks(RUN * S::LANES) {
                let mut run = zero;
                for z in z.chunks_exact(S::LANES) {
                    let share = share(s, s.load_f32(z), line, &mut run, &mut ties);
                    if let Some(kept) = kept.next() {
                        s.store_f32(share, kept);
                    }
                }
                carried(s, &mut sum, &mut carry, run);
            }
            if !rest.is_empty() {
                let mut run = zero;
                let z = f32::load_part(s, rest, f32::NEG_INFINITY);
                let share = share(s, z, line, &mut run, &mut ties);
                if !kept_rest.is_empty() {
                    f32::store_part(s, share, kept_rest);
                }
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
fn share<S: Simd>(s: S, z: S::V, [max, inverse]: [S::V; 2], sum: &mut S::V, ties: &mut S::V) -> S::V {
    let d = s.mul(s.sub(z, max), inverse);
    let share = exp(s, d, Digits::Full);
    s.add_by_zero(share, d, ties, sum);
    share
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
pub(crate) struct Frame {
    sides: [Normaliser; 2],
    temperature: f32,
    log_ratio: LogRatio<f32>,
}

impl Frame {
    pub(crate) fn new(temperature: f32, student: Normaliser, teacher: Normaliser) -> Self {
        /// From here on, rounding the difference of the logits costs more than rounding each one's to its maximum.
        const FAR: f64 = 16.0;
        let apart = student.max - teacher.max;
        let far = apart.abs() > FAR;
        let masses = f64::from(temperature) * (student.ln_mass - teacher.ln_mass);
        let shift = if far { masses } else { masses + apart };
        let sides = [student, teacher];
        let log_ratio = LogRatio {
            origin: sides.map(|side| if far { side.max as f32 } else { 0.0 }),
            shift: shift as f32,
            inverse: 1.0 / temperature,
            rest: ((shift - f64::from(shift as f32)) / f64::from(temperature)) as f32,
        };
        Self { sides, temperature, log_ratio }
    }

    /// One class by itself.
    pub(crate) fn entry(&self, z: f32, u: f32) -> Entry<f64> {
        let [log_p, log_q] = [(z, self.sides[0]), (u, self.sides[1])]
            .map(|(logit, side)| (f64::from(logit) - side.max) / f64::from(self.temperature) - side.ln_mass);
        Entry::new(log_p.max(log_q), self.log_ratio.map(f64::from).of(z.into(), u.into()))
    }

    /// Both rows' shares of some classes, computed anew.
    pub(crate) fn shares<'a>(
        &'a self,
        level: Level,
        [z, u]: [&[f32]; 2],
        [of_z, of_u]: [&'a mut [f32]; 2],
    ) -> [Shares<'a>; 2] {
        let of = |logits, Normaliser { max, .. }: &'a Normaliser, shares: &'a mut [f32]| {
            let temperature = self.temperature;
            level.run(TemperedTail { logits, max: *max as f32, temperature, shares: &mut *shares });
            Shares { shares, maxima: from_ref(max) }
        };
        let [student, teacher] = &self.sides;
        [of(z, student, of_z), of(u, teacher, of_u)]
    }

    /// What makes probabilities of exponentials of the distances to `max`, the student's and the teacher's.
    fn factors(&self, max: [f64; 2]) -> [f32; 2] {
        let of = |i: usize| {
            let Normaliser { max: most, ln_mass } = self.sides[i];
            factor(((max[i] - most) / f64::from(self.temperature) - ln_mass).exp())
        };
        [of(0), of(1)]
    }
}

/// `log p - log q` of two logits.
#[derive(Clone, Copy)]
struct LogRatio<N> {
    origin: [N; 2],
    /// What the difference is less, rounded.
    shift: N,
    inverse: N,
    /// What rounding the shift has lost, over the temperature.
    rest: N,
}

impl<N: Number> LogRatio<N> {
    #[inline(always)]
    fn of(&self, z: N, u: N) -> N {
        let apart = (z - self.origin[0]) - (u - self.origin[1]);
        (apart - self.shift) * self.inverse - self.rest
    }
}

impl<S: Simd> LogRatio<Vector<S>> {
    /// The same, fused.
    #[inline(always)]
    fn of_vectors(&self, z: Vector<S>, u: Vector<S>) -> Vector<S> {
        let apart = (z - self.origin[0]) - (u - self.origin[1]);
        (apart - self.shift).mul_add(self.inverse, -self.rest)
    }
}

impl<N: Copy> LogRatio<N> {
    #[inline(always)]
    fn map<M>(self, f: impl Fn(N) -> M) -> LogRatio<M> {
        let Self { origin, shift, inverse, rest } = self;
        LogRatio { origin: origin.map(&f), shift: f(shift), inverse: f(inverse), rest: f(rest) }
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
    pub(crate) frame: &'a Frame,
    pub(crate) z: &'a [f32],
    pub(crate) u: &'a [f32],
    /// The student's and the teacher's.
    pub(crate) shares: [Shares<'a>; 2],
    /// Whether the student's shares become probabilities, and the teacher's pulls.
    pub(crate) keep: bool,
}

/// What a summary has computed of each class: `exp((z_j - max) / T)`.
pub(crate) struct Shares<'a> {
    pub(crate) shares: &'a mut [f32],
    /// The maximum of each [`BLOCK`] of classes.
    pub(crate) maxima: &'a [f64],
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
        let Self { divergence, frame, z, u, shares: [student, teacher], keep } = self;
        let log_ratio = frame.log_ratio.map(|x| Vector::splat(s, x));
        let mut total = EntrySums::default();
        let shares = student.shares.chunks_mut(BLOCK).zip(teacher.shares.chunks_mut(BLOCK));
        let maxima = student.maxima.iter().zip(teacher.maxima);
        let logits = z.chunks(BLOCK).zip(u.chunks(BLOCK));
        for (((z, u), (p, q)), (of_z, of_u)) in logits.zip(shares).zip(maxima) {
            let [of_p, of_q] = frame.factors([*of_z, *of_u]).map(|factor| Probability::new(s, factor));
            let sweep = Sweep { s, divergence, log_ratio, of_p, of_q };
            let sums = if keep { sweep.block::<true>(z, u, p, q) } else { sweep.block::<false>(z, u, p, q) };
            total = total.merge(sums);
        }
        total
    }
}

/// What makes a probability of a share.
#[derive(Clone, Copy)]
struct Probability<V> {
    factor: V,
    /// The least share of which it is a normal number.
    least: V,
}

impl<V: Copy> Probability<V> {
    #[inline(always)]
    fn new<S: Simd<V = V>>(s: S, factor: f32) -> Self {
        Self { factor: s.splat(factor), least: s.splat(f32::MIN_POSITIVE / factor) }
    }
}

struct Sweep<'a, S: Simd, D> {
    s: S,
    divergence: &'a D,
    log_ratio: LogRatio<Vector<S>>,
    of_p: Probability<S::V>,
    of_q: Probability<S::V>,
}

impl<S: Simd, D: Divergence> Sweep<'_, S, D> {
    #[inline(always)]
    fn block<const KEEP: bool>(&self, z: &[f32], u: &[f32], p: &mut [f32], q: &mut [f32]) -> EntrySums<f64> {
        let s = self.s;
        let whole = z.len() - z.len() % S::LANES;
        let mut sums = Sums::zero(s);
        for first in (0..whole).step_by(RUN * S::LANES) {
            let run = first..(first + RUN * S::LANES).min(whole);
            let (p, q) = (&mut p[run.clone()], &mut q[run.clone()]);
            sums.add(s, &self.run::<KEEP>(&z[run.clone()], &u[run], p, q));
        }
        let mut total = sums.whole(s);
        if whole < z.len() {
            // Masked in both rows, the lanes beyond the end add nothing. Nothing in the loops above calls a function, so that
            // what they hold stays in registers.
            let rest = z.len() - whole;
            let (mut of_z, mut of_u) = ([f32::NEG_INFINITY; MAX_LANES], [f32::NEG_INFINITY; MAX_LANES]);
            let (mut of_p, mut of_q) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
            of_z[..rest].copy_from_slice(&z[whole..]);
            of_u[..rest].copy_from_slice(&u[whole..]);
            of_p[..rest].copy_from_slice(&p[whole..]);
            of_q[..rest].copy_from_slice(&q[whole..]);
            let mut sums = Sums::zero(s);
            let lanes = ..S::LANES;
            sums.add(s, &self.run::<true>(&of_z[lanes], &of_u[lanes], &mut of_p[lanes], &mut of_q[lanes]));
            total = total.merge(sums.whole(s));
            if KEEP {
                p[whole..].copy_from_slice(&of_p[..rest]);
                q[whole..].copy_from_slice(&of_q[..rest]);
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
        p: &mut [f32],
        q: &mut [f32],
    ) -> EntryEval<Vector<S>> {
        let s = self.s;
        let zero = Vector::splat(s, 0.0);
        let mut run = EntryEval { value: zero, pull: zero };
        let shares = p.chunks_exact_mut(S::LANES).zip(q.chunks_exact_mut(S::LANES));
        for ((z, u), (p, q)) in z.chunks_exact(S::LANES).zip(u.chunks_exact(S::LANES)).zip(shares) {
            let (z, u) = (Vector { s, v: s.load_f32(z) }, Vector { s, v: s.load_f32(u) });
            let of_p = Vector { s, v: s.mul_unless_lt(s.load_f32(p), self.of_p.factor, self.of_p.least) };
            let of_q = Vector { s, v: s.mul_unless_lt(s.load_f32(q), self.of_q.factor, self.of_q.least) };
            let entry = Entry::of_known(of_p, of_q, self.log_ratio.of_vectors(z, u));
            let eval = self.divergence.of_entry(&entry);
            run = EntryEval { value: run.value + eval.value, pull: run.pull + eval.pull };
            if KEEP {
                s.store_f32(of_p.v, p);
                s.store_f32(eval.pull.v, q);
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
