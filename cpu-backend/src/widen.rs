//! Any storage type as `f32`.

use crate::gradient::Row;
use crate::level::Level;
use crate::simd::{Kernel, Lanes, Simd};
use tokenloss_core::{AnyLogits, Element, Logits};

/// The slice itself, if it holds `f32`s.
pub(crate) fn as_f32<E: Element>(slice: &[E]) -> Option<&[f32]> {
    match E::any(Logits::Read(slice)) {
        AnyLogits::F32(Logits::Read(slice)) => Some(slice),
        _ => None,
    }
}

/// The slice itself, to write to, if it holds `f32`s.
pub(crate) fn as_f32_mut<E: Element>(slice: &mut [E]) -> Option<&mut [f32]> {
    match E::any(Logits::InPlace(slice)) {
        AnyLogits::F32(Logits::InPlace(slice)) => Some(slice),
        _ => None,
    }
}

/// `into = from`.
pub(crate) fn widen<E: Element>(level: Level, from: &[E], into: &mut [f32]) {
    match E::any(Logits::Read(from)) {
        AnyLogits::F32(from) => into.copy_from_slice(from.logits()),
        AnyLogits::F16(from) => level.run(Widen { from: from.logits(), into }),
        AnyLogits::Bf16(from) => level.run(Widen { from: from.logits(), into }),
    }
}

/// Room for a row.
pub(crate) fn room(scratch: &mut Vec<f32>, vocab: usize) -> &mut [f32] {
    if scratch.len() < vocab {
        scratch.resize(vocab, 0.0);
    }
    &mut scratch[..vocab]
}

/// A row as `f32`: itself, or a copy in the scratch row.
pub(crate) fn wide<'a, E: Element>(level: Level, row: &'a [E], scratch: &'a mut Vec<f32>) -> &'a [f32] {
    as_f32(row).unwrap_or_else(|| {
        let scratch = room(scratch, row.len());
        widen(level, row, scratch);
        scratch
    })
}

struct Widen<'a, L> {
    from: &'a [L],
    into: &'a mut [f32],
}

impl<L: Lanes> Kernel for Widen<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        widen_lanes(s, self.from, self.into);
    }
}

/// `into = from`, in a kernel.
#[inline(always)]
pub(crate) fn widen_lanes<S: Simd, L: Lanes>(s: S, from: &[L], into: &mut [f32]) {
    for (into, from) in into.chunks_mut(S::LANES).zip(from.chunks(S::LANES)) {
        f32::store_up_to(s, L::load_up_to(s, from, 0.0), into);
    }
}

/// A row as `f32`, and where its gradient goes; in place, a copy in the scratch row.
pub(crate) fn apart<'a, L: Lanes>(
    level: Level,
    row: Row<'a, L>,
    scratch: &'a mut Vec<f32>,
) -> (&'a [f32], &'a mut [L]) {
    match row {
        Row::Into(z, out) => (wide(level, z, scratch), out),
        Row::InPlace(out) => {
            let z = room(scratch, out.len());
            widen(level, out, z);
            (z, out)
        }
    }
}

/// `into = from`, rounded to storage.
pub(crate) fn to_storage<L: Lanes>(level: Level, from: &[f32], into: &mut [L]) {
    level.run(Narrow { from, into });
}

struct Narrow<'a, L> {
    from: &'a [f32],
    into: &'a mut [L],
}

impl<L: Lanes> Kernel for Narrow<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (into, from) in self.into.chunks_mut(S::LANES).zip(self.from.chunks(S::LANES)) {
            if from.len() == S::LANES {
                L::store(s, s.load_f32(from), into);
            } else {
                L::store_part(s, f32::load_part(s, from, 0.0), into);
            }
        }
    }
}
