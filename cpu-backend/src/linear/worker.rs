//! What a thread holds, and how work is handed out.

use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

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
