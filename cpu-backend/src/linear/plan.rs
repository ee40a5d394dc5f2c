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
    /// A quarter of the budget is the threads', three quarters are the tile's and what goes with its rows. Chunks do
    /// not depend on the number of threads, so that results do not, either.
    pub(crate) fn new<E: Element>(linear: &Linear<'_, E>, options: &LinearOptions) -> Result<Self, Error> {
        options.check()?;
        let costs = Costs { rows: linear.rows(), dim: linear.dim(), filter: options.block_tolerance > 0.0 };
        let most_rows = options.chunk_rows.unwrap_or(usize::MAX).min(linear.rows());
        let most_columns = options.chunk_vocab.unwrap_or(usize::MAX).min(linear.columns().len());
        let budget = options.budget.0;
        let least = most_columns.min(STEP);
        let needed =
            (costs.fixed() + costs.row(least, least)).div_ceil(3).max(costs.worker::<E>(1, least, costs.dim))
                * 4;
        if budget < needed {
            return Err(Error::Budget { needed, budget });
        }

        let for_workers = budget / 4;
        let for_tile = budget - for_workers - costs.fixed();
        let mut block = most_columns.min(BLOCK);
        let mut rows = (for_tile / costs.row(most_columns, block)).min(most_rows);
        let whole = rows >= most_rows.min(LEAST_ROWS);
        if !whole {
            rows = (for_tile / costs.row(block, block)).clamp(1, most_rows.min(MOST_ROWS));
        }
        // A thread's matrices shrink by the longer side.
        while costs.worker::<E>(rows, block, costs.dim) > for_workers && (rows > 1 || block > least) {
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
        let rows = linear.rows().div_ceil(linear.rows().div_ceil(rows));
        let block = columns.min(block);
        let mut panel = Worker::PANEL.max(costs.dim);
        while panel > costs.dim && costs.worker::<E>(rows, block, panel) > for_workers {
            panel = (panel / 2).max(costs.dim);
        }
        let workers = (for_workers / costs.worker::<E>(rows, block, panel)).max(1);
        Ok(Self { rows, columns, block, panel, workers })
    }

    /// Whether the whole vocabulary is held, so that logits are computed once.
    pub(crate) fn holds_rows<E: Element>(&self, linear: &Linear<'_, E>) -> bool {
        self.columns == linear.columns().len()
    }
}

/// What things take, in bytes.
struct Costs {
    rows: usize,
    dim: usize,
    filter: bool,
}

impl Costs {
    /// What is known of every row of the batch, until the end, and its part until it is judged, or what is left to do
    /// from then on.
    fn fixed(&self) -> usize {
        let before_or_after = size_of::<RowPart>().max(size_of::<Live>());
        self.rows * (size_of::<Judged>() + before_or_after + size_of::<usize>())
    }

    /// A row of a chunk: its place, its logits, the part of each block, its hidden state and that one's gradient.
    fn row(&self, columns: usize, block: usize) -> usize {
        let logits = columns * size_of::<f32>() + columns.div_ceil(block) * size_of::<RowPart>();
        size_of::<usize>() + logits + 2 * self.dim * size_of::<f32>()
    }

    /// The columns of a row that takes so many bytes, or a few fewer.
    fn columns(&self, row: usize, block: usize) -> usize {
        let logits = row.saturating_sub(self.row(0, block) + size_of::<RowPart>());
        logits * block / (block * size_of::<f32>() + size_of::<RowPart>())
    }

    /// A thread: the panel of a weight in 16 bits, a block's bias, what the filter gathers, and what the GEMM crate packs.
    fn worker<E: Element>(&self, rows: usize, block: usize, panel: usize) -> usize {
        /// The GEMM crate packs at most this depth at a time.
        const DEPTH: usize = 512;
        let converted = if E::DTYPE.bytes() == 4 { 0 } else { panel };
        let gathered = if self.filter { 2 * rows * self.dim } else { 0 };
        let wide = panel.div_ceil(self.dim).min(block);
        let slice = super::slices(self.dim).0;
        let packed = ((wide + rows) * self.dim.min(DEPTH))
            .max((block + self.dim) * rows.min(DEPTH))
            .max((slice + rows) * block.min(DEPTH));
        (converted + gathered + block + packed) * size_of::<f32>()
    }
}
