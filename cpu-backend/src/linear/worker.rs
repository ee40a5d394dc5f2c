//! What a thread holds, and how work is handed out.

use crate::level::Level;
use crate::simd::{Kernel, Lanes, Simd};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};
use tokenloss_core::{AnyLogits, Element, Logits};

/// A thread's own memory.
pub(crate) struct Worker {
    /// Converted rows of a 16-bit weight.
    pub(crate) panel: Vec<f32>,
    /// A block's bias.
    pub(crate) bias: Vec<f32>,
    /// Rows that the filter gathers.
    pub(crate) gathered: Vec<f32>,
    /// Their product.
    pub(crate) product: Vec<f32>,
}

impl Worker {
    /// `f32`s that are converted at a time: a quarter of a second-level cache.
    pub(crate) const PANEL: usize = 128 << 10;

    pub(crate) fn new() -> Self {
        Self { panel: vec![], bias: vec![], gathered: vec![], product: vec![] }
    }
}

/// Does `work` on every item, on as many threads as there are workers. Who does which item is left open; what comes
/// out must not depend on it.
pub(crate) fn for_each<T: Send>(
    workers: &mut [Worker],
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(&mut Worker, T) + Sync,
) {
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    workers.par_iter_mut().with_max_len(1).for_each(|worker| {
        while let Some(item) = next() {
            work(worker, item);
        }
    });
}

/// The slice itself, if it holds `f32`s.
pub(crate) fn as_f32<E: Element>(slice: &[E]) -> Option<&[f32]> {
    match E::any(Logits::Read(slice)) {
        AnyLogits::F32(Logits::Read(slice)) => Some(slice),
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

struct Widen<'a, L> {
    from: &'a [L],
    into: &'a mut [f32],
}

impl<L: Lanes> Kernel for Widen<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (into, from) in self.into.chunks_mut(S::LANES).zip(self.from.chunks(S::LANES)) {
            if from.len() == S::LANES {
                s.store_f32(L::load(s, from), into);
            } else {
                f32::store_part(s, L::load_part(s, from, 0.0), into);
            }
        }
    }
}
