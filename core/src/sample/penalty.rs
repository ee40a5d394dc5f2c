//! Spectral risks with a penalty on the distance from the uniform weights: pooled adjacent violators.
//!
//! ```text
//! loss = max_q <q, losses> - penalty(q)        q a convex combination of the permutations of the spectrum
//! ```
//!
//! In order, worst first, the optimal weights are those of blocks of adjacent samples. A block has the spectrum's mass of
//! its places and spreads it among its members by their losses, in the way that the penalty has it. Starting from single
//! samples, two adjacent blocks become one as long as the weights of the worse one would not be the greater ones.

use super::{
    Samples, Spectrum, count,
    spectrum::{run_end, worst_first},
};
use crate::Error;
use num_traits::Float;

/// How a block spreads its mass. Gaps are differences of losses from the block's worst, in the penalty's unit, so that
/// nothing depends on the size of the losses.
pub(super) trait Spread<T> {
    /// What of a block is kept while it grows, for `members` equal losses.
    fn of_equal(members: T) -> T;
    /// Of two blocks, a worse one and one of so many members whose worst lies a gap below.
    fn join(worse: T, better: T, members: T, gap: T) -> T;
    /// The block's level over its worst loss, at which it spreads the mass exactly.
    fn level(kept: T, members: T, mass: T) -> T;
}

/// The blocks of samples in order: fills `starts` with the place at which each begins, and returns how many there are.
pub(super) fn pool<T: Float, P: Spread<T>>(
    spectrum: &impl Spectrum,
    samples: &Samples<'_, T>,
    unit: T,
    order: &[usize],
    starts: &mut [usize],
    kept: &mut [T],
) -> usize {
    let (mut blocks, mut end) = (0, 0);
    while end < order.len() {
        starts[blocks] = end;
        end = run_end(samples, order, starts[blocks]);
        kept[blocks] = P::of_equal(count(end - starts[blocks]));
        blocks += 1;
        while blocks > 1 {
            let (worse, better) = (blocks - 2, blocks - 1);
            let gap = (samples.loss(order[starts[worse]]) - samples.loss(order[starts[better]])) / unit;
            let level = |block: usize, end: usize| {
                let mass = spectrum.mass(count(starts[block]), count(end), count(order.len()));
                P::level(kept[block], count(end - starts[block]), mass)
            };
            if level(worse, starts[better]) + gap > level(better, end) {
                break;
            }
            kept[worse] = P::join(kept[worse], kept[better], count(end - starts[better]), gap);
            blocks -= 1;
        }
    }
    blocks
}

/// The order and the blocks of a penalised risk; calls `each` with the places and the mass of every block.
pub(super) fn for_each_block<T: Float, P: Spread<T>>(
    spectrum: &impl Spectrum,
    samples: &Samples<'_, T>,
    unit: T,
    weights: &mut [T],
    scratch: &mut [usize],
    mut each: impl FnMut(&[usize], T, &mut [T]),
) -> Result<(), Error> {
    spectrum.check(samples.count())?;
    let (order, starts) = scratch.split_at_mut(samples.count());
    worst_first(samples, order);
    let blocks = pool::<T, P>(spectrum, samples, unit, order, starts, weights);
    for block in 0..blocks {
        let start = starts[block];
        let end = if block + 1 < blocks { starts[block + 1] } else { order.len() };
        each(&order[start..end], spectrum.mass(count(start), count(end), count(order.len())), weights);
    }
    Ok(())
}
