//! From a budget of bytes to chunks.

use super::chunk::Live;
use super::worker::Worker;
use tokenloss_core::{Element, Error, Judged, Linear, LinearOptions, RowPart};

/// Columns that are computed, summarised and pushed back by one thread at a time.
pub(crate) const BLOCK: usize = LinearOptions::BLOCK_COLUMNS;

/// Whole rows of logits are held where this many of them fit: with fewer, streaming the weight through the caches three
/// times for each few rows costs more than computing logits twice.
const LEAST_ROWS: usize = 16;

/// Rows at a time where the tile is narrower than the vocabulary.
const MOST_ROWS: usize = 64;

/// The fewest columns that are worth a block.
const STEP: usize = 16;

/// How a call is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows at a time.
    pub(crate) rows: usize,
    /// Columns of logits held at a time.
    pub(crate) columns: usize,
    /// Columns of a block.
    pub(crate) block: usize,
    /// `f32`s that a thread converts at a time.
    pub(crate) panel: usize,
    /// Threads that the budget allows.
    pub(crate) workers: usize,
}

impl Plan {
    /// For one row of logits at a time and row.
    pub(crate) fn new<E: Element>(linear: &Linear<'_, E>, options: &LinearOptions) -> Result<Self, Error> {
        // A row's part until it is judged, or what is left to do from then on.
        let before_or_after = size_of::<RowPart>().max(size_of::<Live>());
        let costs = Costs {
            sides: &[Side::of(linear)],
            filter: options.block_tolerance > 0.0,
            of_row: size_of::<Judged>() + before_or_after + size_of::<usize>(),
            of_chunk_row: 0,
            of_part: size_of::<RowPart>(),
        };
        Self::of(&costs, linear.rows(), linear.columns().len(), options)
    }

    /// A quarter of the budget is the threads', three quarters are the tiles' and what goes with their rows. Chunks do
    /// not depend on the number of threads, so that results do not, either.
    pub(crate) fn of(
        costs: &Costs<'_>,
        all_rows: usize,
        vocab: usize,
        options: &LinearOptions,
    ) -> Result<Self, Error> {
        options.check()?;
        let most_rows = options.chunk_rows.unwrap_or(usize::MAX).min(all_rows);
        let most_columns = options.chunk_vocab.unwrap_or(usize::MAX).min(vocab);
        let budget = options.budget.0;
        let least = most_columns.min(STEP);
        let (fixed, dim) = (all_rows * costs.of_row, costs.dim());
        let needed = (fixed + costs.row(least, least)).div_ceil(3).max(costs.worker(1, least, dim)) * 4;
        if budget < needed {
            return Err(Error::Budget { needed, budget });
        }

        let for_workers = budget / 4;
        let for_tile = budget - for_workers - fixed;
        let mut block = most_columns.min(BLOCK);
        let mut rows = (for_tile / costs.row(most_columns, block)).min(most_rows);
        let whole = rows >= most_rows.min(LEAST_ROWS);
        if !whole {
            rows = (for_tile / costs.row(block, block)).clamp(1, most_rows.min(MOST_ROWS));
        }
        // A thread's matrices shrink by the longer side.
        while costs.worker(rows, block, dim) > for_workers && (rows > 1 || block > least) {
            if rows >= block || block <= least {
                rows = rows.div_ceil(2);
            } else {
                block = (block / 2).next_multiple_of(STEP);
            }
        }
        let columns = if whole {
            rows = rows.min(for_tile / costs.row(most_columns, block)).max(1);
            most_columns
        } else {
            costs.columns(for_tile / rows, block).clamp(least, most_columns)
        };
        // Whole blocks, while there is more than one.
        let columns =
            if columns < most_columns && columns > block { columns / block * block } else { columns };
        // Chunks of the same size, as far as they can be.
        let rows = all_rows.div_ceil(all_rows.div_ceil(rows));
        let block = columns.min(block);
        let mut panel = Worker::PANEL.max(dim);
        while panel > dim && costs.worker(rows, block, panel) > for_workers {
            panel = (panel / 2).max(dim);
        }
        let workers = (for_workers / costs.worker(rows, block, panel)).max(1);
        Ok(Self { rows, columns, block, panel, workers })
    }

    /// Whether the whole vocabulary is held, so that logits are computed once.
    pub(crate) fn holds_rows<E: Element>(&self, linear: &Linear<'_, E>) -> bool {
        self.columns == linear.columns().len()
    }
}

/// Logits that are held a tile at a time.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    /// Elements of a hidden state; `None` where the logits are given.
    dim: Option<usize>,
    /// Whether the weight is converted.
    converts: bool,
}

impl Side {
    pub(crate) fn of<E: Element>(linear: &Linear<'_, E>) -> Self {
        Self { dim: Some(linear.dim()), converts: E::DTYPE.bytes() != 4 }
    }

    pub(crate) fn given() -> Self {
        Self { dim: None, converts: false }
    }
}

/// What things take, in bytes. The first side is the one that has a gradient.
pub(crate) struct Costs<'a> {
    pub(crate) sides: &'a [Side],
    pub(crate) filter: bool,
    /// What is known of a row of the batch, until the end.
    pub(crate) of_row: usize,
    /// What is known of a row while its chunk is worked on.
    pub(crate) of_chunk_row: usize,
    /// What is known of a row in a block of columns.
    pub(crate) of_part: usize,
}

impl Costs<'_> {
    /// The widest hidden state.
    fn dim(&self) -> usize {
        self.sides.iter().filter_map(|side| side.dim).max().unwrap_or(1)
    }

    /// A row of a chunk: its place, its logits, the part of each block, its hidden state and that one's gradient.
    fn row(&self, columns: usize, block: usize) -> usize {
        let tile = size_of::<usize>() + columns * size_of::<f32>();
        let states = |(index, side): (usize, &Side)| side.dim.unwrap_or(0) * if index == 0 { 2 } else { 1 };
        let states = self.sides.iter().enumerate().map(states).sum::<usize>() * size_of::<f32>();
        self.of_chunk_row + self.sides.len() * tile + columns.div_ceil(block) * self.of_part + states
    }

    /// The columns of a row that takes so many bytes, or a few fewer.
    fn columns(&self, row: usize, block: usize) -> usize {
        let logits = row.saturating_sub(self.row(0, block) + self.of_part);
        logits * block / (block * self.sides.len() * size_of::<f32>() + self.of_part)
    }

    /// A thread: of each side the panel of a weight in 16 bits and a block's bias, what the filter gathers, and what the GEMM
    /// crate packs for the side at hand.
    fn worker(&self, rows: usize, block: usize, panel: usize) -> usize {
        /// The GEMM crate packs at most this depth at a time.
        const DEPTH: usize = 512;
        let (mut held, mut packed) = (0, 0);
        for (index, side) in self.sides.iter().enumerate() {
            let Some(dim) = side.dim else { continue };
            held += block + if side.converts { panel } else { 0 };
            held += if index == 0 && self.filter { 2 * rows * dim } else { 0 };
            let wide = panel.div_ceil(dim).min(block);
            let slice = super::slices(dim).0;
            let of_side = ((wide + rows) * dim.min(DEPTH))
                .max((block + dim) * rows.min(DEPTH))
                .max((slice + rows) * block.min(DEPTH));
            packed = packed.max(of_side);
        }
        (held + packed) * size_of::<f32>()
    }
}
