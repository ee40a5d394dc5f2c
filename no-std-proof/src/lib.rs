//! Every part of tokenloss-core that must work without std, reachable from an exported function: what LTO can
//! drop is not proved, and generic code is proved only for the types it is used with.
//!
//! Only a release build links. A dev build fails for another reason: the shipped `core` was compiled for
//! unwinding and refers to `rust_eh_personality` until LTO drops it.
#![no_std]

use core::fmt::{self, Write};
use tokenloss_core::{
    AnyToken, Batch, Element, NonFinite, Objective, Reduction, RowObjective, RowPartials, RowStats,
    RowSummary, Shape, TargetProb, TokenObjective, check_objective, half, reference, theory,
};

// If anything in the graph links std, this is a duplicate lang item and the build fails.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// What `core` itself asks of every platform; the host's `compiler_builtins` leaves them to the C library. By
/// volatile accesses, because the compiler would turn a plain loop into a call of the very function.
mod memory {
    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        for i in 0..len {
            // SAFETY: the caller's contract.
            unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) }
        }
        to
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        let backwards = (from as usize) < to as usize;
        for i in 0..len {
            let i = if backwards { len - 1 - i } else { i };
            // SAFETY: the caller's contract.
            unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) }
        }
        to
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
        for i in 0..len {
            // SAFETY: the caller's contract.
            unsafe { to.add(i).write_volatile(byte as u8) }
        }
        to
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
        for i in 0..len {
            // SAFETY: the caller's contract.
            let (a, b) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
        // SAFETY: the caller's contract.
        unsafe { memcmp(a, b, len) }
    }
}

/// # Safety
/// `pointer` is null or points to `len` values that nobody else writes to.
unsafe fn slice<'a, T>(pointer: *const T, len: usize) -> &'a [T] {
    // SAFETY: the caller's contract.
    if pointer.is_null() { &[] } else { unsafe { core::slice::from_raw_parts(pointer, len) } }
}

/// # Safety
/// `pointer` is null or points to `len` values that nobody else uses.
unsafe fn slice_mut<'a, T>(pointer: *mut T, len: usize) -> &'a mut [T] {
    // SAFETY: the caller's contract.
    if pointer.is_null() { &mut [] } else { unsafe { core::slice::from_raw_parts_mut(pointer, len) } }
}

fn spec(bytes: &[u8]) -> Option<Objective> {
    Objective::parse(core::str::from_utf8(bytes).ok()?).ok()
}

/// Summarise, judge and push back one row in `f32`.
///
/// # Safety
/// `text [text_len]` and `logits [vocab]` can be read, `dlogits [vocab]` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn row_f32(
    text: *const u8,
    text_len: usize,
    logits: *const f32,
    dlogits: *mut f32,
    vocab: usize,
    target: usize,
) -> f32 {
    // SAFETY: the caller's contract.
    let (text, logits, dlogits) =
        unsafe { (slice(text, text_len), slice(logits, vocab), slice_mut(dlogits, vocab)) };
    let (Some(objective), Ok(row)) = (spec(text), reference::summarise(logits, target)) else {
        return f32::NAN;
    };
    let eval = objective.of_row(&row);
    reference::push_back(logits, target, &row, eval.partials, dlogits);
    eval.loss
}

/// The oracle on a whole batch in `f64`, with every option that a batch has.
///
/// # Safety
/// All pointers can be read or written for the length in their comment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn batch_f64(
    text: *const u8,
    text_len: usize,
    targets: *const i32,             // [rows]
    weights: *const f32,             // [rows]
    logits: *const f64,              // [rows, stride]
    dlogits: *mut f64,               // [rows, stride]
    losses: *mut f64,                // [rows]
    summaries: *mut RowSummary<f64>, // [rows]
    rows: usize,
    vocab: usize,
    stride: usize,
) -> f64 {
    // SAFETY: the caller's contract.
    let (text, targets, weights) =
        unsafe { (slice(text, text_len), slice(targets, rows), slice(weights, rows)) };
    let run = || {
        let shape = Shape::new(rows, vocab)?.with_stride(stride)?;
        let batch = Batch::new(shape, targets)?.with_weights(weights)?.with_non_finite(NonFinite::NanRow);
        // SAFETY: the caller's contract.
        let (logits, results) = unsafe {
            let results = reference::Results {
                losses: slice_mut(losses, rows),
                summaries: slice_mut(summaries, rows),
                dlogits: slice_mut(dlogits, shape.elements()),
            };
            (slice(logits, shape.elements()), results)
        };
        match spec(text) {
            Some(objective) => reference::evaluate(&objective, Reduction::default(), &batch, logits, results)
                .map(|t| t.loss()),
            None => Ok(f64::NAN),
        }
    };
    run().unwrap_or(f64::NAN)
}

/// Merge two halves of a row, and all storage types.
///
/// # Safety
/// `half` and `brain` can be read for `vocab` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn merged(half: *const half::f16, brain: *const half::bf16, vocab: usize) -> f32 {
    fn stats<E: Element>(logits: &[E]) -> RowStats<f32> {
        logits
            .iter()
            .enumerate()
            .fold(RowStats::empty(), |s, (j, z)| s.merge(RowStats::of(z.to_f32(), j as u32)))
    }
    // SAFETY: the caller's contract.
    let (half, brain) = unsafe { (slice(half, vocab), slice(brain, vocab)) };
    let all = stats(half).merge(stats(brain));
    let partials = RowPartials { d_entropy: 0.5, ..RowPartials::of_slope(-1.0) };
    all.lse()
        + all.entropy()
        + partials.target_gradient(&RowSummary::new(all, half::f16::from_f32(1.0).to_f32()))
}

/// Every listed objective, by its place in the list, in both float types.
#[unsafe(no_mangle)]
pub extern "C" fn judged(at: usize, a: f32, b: f32, log_p: f64) -> f64 {
    let name = AnyToken::NAMES.get(at).copied().unwrap_or_default();
    let Some(Ok(objective)) = AnyToken::with_parameters(name, [a, b, 0.0, 0.0]) else { return f64::NAN };
    let (double, single) = (objective.of_log_p(log_p), objective.of_log_p(log_p as f32));
    let target = TargetProb::from_log_p(log_p);
    double.loss + double.slope + objective.held(target, target) + f64::from(single.loss + single.slope)
}

/// All of the theory.
///
/// # Safety
/// `text [text_len]` and `r [classes]` can be read, `out [classes]` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn theorised(
    text: *const u8,
    text_len: usize,
    r: *const f64,
    out: *mut f64,
    classes: usize,
    alpha: f64,
) -> f64 {
    // SAFETY: the caller's contract.
    let (text, r, out) = unsafe { (slice(text, text_len), slice(r, classes), slice_mut(out, classes)) };
    let Some(f) = spec(text) else { return f64::NAN };
    let peak = theory::peak(&f);
    let sides = theory::side_condition(&f, &tokenloss_core::Nll);
    let risk = theory::population_minimiser(alpha, r, out)
        .and_then(|()| theory::risk_rate(&f, out, r, r))
        .and_then(|rate| Ok(rate + theory::risk_rate_difference(&f, &tokenloss_core::Nll, out, r, r)?))
        .and_then(|rate| Ok(rate + theory::noise_threshold(&f, &tokenloss_core::Nll, out, 0)?.noisy))
        .and_then(|rate| Ok(rate + theory::noisy_product(out, 0, 1)?))
        .unwrap_or(f64::NAN);
    let leans = theory::leaning(&f) == theory::Leaning::PriorLeaning;
    let bends = theory::convexity(&f) == theory::Convexity::Convex;
    let checked = check_objective(&f).is_ok();
    peak.p
        + peak.weight
        + theory::integral(&f, 0.0, alpha)
        + theory::weight(&f, alpha)
        + theory::two_class_time(&f, 0.1, 0.2)
        + theory::power_peak(alpha).weight
        + theory::power_integral(alpha)
        + theory::power_share_above(alpha, 0.5)
        + theory::power_mean(alpha)
        + theory::mix_peak(alpha).weight
        + sides.ratio
        + risk
        + f64::from(u8::from(leans) + u8::from(bends) + u8::from(checked))
}

/// A buffer of the caller's to format into.
struct Text<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len.checked_add(s.len()).ok_or(fmt::Error)?;
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The spec parser, its messages and the canonical form of an objective, as text.
///
/// # Safety
/// `text [text_len]` can be read, `out [out_len]` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spelled(text: *const u8, text_len: usize, out: *mut u8, out_len: usize) -> usize {
    // SAFETY: the caller's contract.
    let (text, bytes) = unsafe { (slice(text, text_len), slice_mut(out, out_len)) };
    let mut out = Text { bytes, len: 0 };
    let _ = match core::str::from_utf8(text).map(Objective::parse) {
        Ok(Ok(objective)) => write!(out, "{objective}"),
        Ok(Err(error)) => write!(out, "{error}"),
        Err(error) => write!(out, "{error}"),
    };
    out.len
}
