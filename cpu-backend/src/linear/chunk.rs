//! A chunk of rows, and a tile of their logits that becomes its own gradient.

use super::matmul::{View, product};
use super::plan::Plan;
use super::slices;
use super::worker::{Worker, for_each};
use crate::gradient::{Fill, PushBack, Row};
use crate::level::Level;
use crate::link::Mapped;
use crate::row::{SCRATCH, Summarise, Wanted};
use crate::widen::{as_f32, widen};
use core::ops::Range;
use tokenloss_core::columns::{ColumnPartials, Columns};
use tokenloss_core::{Detail, Element, Linear, LinearGradients, RowPart, RowPartials, RowStats, RowSummary};

/// A row that is pushed back.
#[derive(Clone, Copy)]
pub(crate) struct Live {
    /// Its place among the rows of the chunk.
    pub(crate) position: usize,
    /// Its place in the batch.
    pub(crate) row: usize,
    pub(crate) summary: RowSummary<f64>,
    /// As they enter the gradient.
    pub(crate) partials: RowPartials<f64>,
}

/// The memory of a call. The tile lies block by block, each `[rows, block]`; the gradient of the hidden states slice by
/// slice, each `[rows, slice]`: so every thread writes a slice of its own.
pub(crate) struct Chunk<'a, E> {
    level: Level,
    linear: &'a Linear<'a, E>,
    plan: Plan,
    block_tolerance: f32,
    /// Columns that rows list, and their gradient.
    listed: Option<Listed<'a>>,
    rows: usize,
    /// The rows' places in the batch.
    batch_rows: Vec<usize>,
    hidden: Vec<f32>,
    tile: Vec<f32>,
    parts: Vec<RowPart>,
    dhidden: Vec<f32>,
    /// Of each block, the live rows that the filter leaves, where there is one.
    left: Vec<Vec<usize>>,
    workers: Vec<Worker>,
}

impl<'a, E: Element> Chunk<'a, E> {
    pub(crate) fn new(level: Level, linear: &'a Linear<'a, E>, plan: Plan, block_tolerance: f32) -> Self {
        let (rows, blocks) = (plan.rows, plan.columns.div_ceil(plan.block));
        let threads = rayon::current_num_threads().min(plan.workers);
        Self {
            level,
            linear,
            plan,
            block_tolerance,
            listed: None,
            rows: 0,
            batch_rows: Vec::with_capacity(rows),
            hidden: vec![0.0; rows * linear.dim()],
            tile: vec![0.0; rows * plan.columns],
            parts: vec![],
            dhidden: vec![],
            left: if block_tolerance > 0.0 { vec![vec![]; blocks] } else { vec![] },
            workers: (0..threads).map(|_| Worker::new()).collect(),
        }
    }

    /// Listed columns are masked in every tile.
    pub(crate) fn without(self, columns: &'a Columns<'a>) -> Self {
        Self { listed: Some(Listed { columns, d: &[] }), ..self }
    }

    /// The same, and what is pushed back for them is their own.
    pub(crate) fn with_columns(self, partials: ColumnPartials<'a>) -> Self {
        Self { listed: Some(Listed { columns: partials.columns, d: partials.d_gathered }), ..self }
    }

    /// The rows to work on, at most `plan.rows`.
    pub(crate) fn load(&mut self, rows: impl Iterator<Item = usize>) {
        let dim = self.linear.dim();
        self.batch_rows.clear();
        self.batch_rows.extend(rows);
        self.rows = self.batch_rows.len();
        for (into, &row) in self.hidden.chunks_exact_mut(dim).zip(&self.batch_rows) {
            widen(self.level, &self.linear.hidden()[row * dim..][..dim], into);
        }
    }

    /// The tiles of the vocabulary, as rows of the weight.
    pub(crate) fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<E> {
        let (vocab, step) = (self.linear.columns().len(), self.plan.columns);
        (0..vocab).step_by(step).map(move |first| first..vocab.min(first + step))
    }

    /// `tile = hidden @ weight^T + bias` for the tile's columns.
    pub(crate) fn logits(&mut self, columns: &Range<usize>) {
        let Self { level, linear, plan, rows, listed, .. } = *self;
        let (hidden, batch_rows) = (&self.hidden, &self.batch_rows);
        let tiles = self.tile[..rows * columns.len()].chunks_mut(rows * plan.block);
        for_each(&mut self.workers, tiles.zip(blocks(columns, plan.block)), |worker, (tile, block)| {
            logits(level, linear, plan, worker, &hidden[..rows * linear.dim()], block.clone(), tile);
            mask(linear, listed, batch_rows, &block, tile);
        });
    }

    /// The tile's logits of one row, with the column that they start at.
    pub(crate) fn row(
        &self,
        columns: &Range<usize>,
        position: usize,
    ) -> impl Iterator<Item = (usize, &[f32])> {
        let tiles = self.tile[..self.rows * columns.len()].chunks(self.rows * self.plan.block);
        tiles.zip(blocks(columns, self.plan.block)).map(move |(tile, block)| {
            (self.linear.columns().start + block.start, &tile[position * block.len()..][..block.len()])
        })
    }

    /// The tile in these columns.
    pub(crate) fn tile(&self, columns: &Range<usize>) -> &[f32] {
        &self.tile[..self.rows * columns.len()]
    }

    /// Does `work` with every block of the tile, its columns and logits, and with what there is beside it.
    pub(crate) fn for_each_block<T: Send>(
        &mut self,
        columns: &Range<usize>,
        beside: impl Iterator<Item = T> + Send,
        work: impl Fn(Range<usize>, &[f32], T) + Sync,
    ) {
        let Self { plan, rows, .. } = *self;
        let tiles = self.tile[..rows * columns.len()].chunks(rows * plan.block);
        let items = tiles.zip(blocks(columns, plan.block)).zip(beside);
        for_each(&mut self.workers, items, |_, ((tile, block), beside)| work(block, tile, beside));
    }

    /// The same, and what the columns know of each row is merged into `parts [rows]`.
    pub(crate) fn summarise(&mut self, columns: &Range<usize>, detail: Detail, parts: &mut [RowPart]) {
        let Self { level, linear, plan, rows, listed, .. } = *self;
        self.parts.resize(plan.rows * plan.columns.div_ceil(plan.block), RowPart::empty());
        let (hidden, batch_rows) = (&self.hidden, &self.batch_rows);
        let tiles = self.tile[..rows * columns.len()].chunks_mut(rows * plan.block);
        let items = tiles.zip(self.parts.chunks_mut(rows)).zip(blocks(columns, plan.block));
        for_each(&mut self.workers, items, |worker, ((tile, parts), block)| {
            logits(level, linear, plan, worker, &hidden[..rows * linear.dim()], block.clone(), tile);
            mask(linear, listed, batch_rows, &block, tile);
            let tile_rows = tile.chunks_exact(block.len());
            for ((part, z), &row) in parts.iter_mut().zip(tile_rows).zip(batch_rows) {
                *part = part_of(level, linear, row, &block, z, detail);
            }
        });
        for block in self.parts.chunks(rows).take(columns.len().div_ceil(plan.block)) {
            for (part, more) in parts.iter_mut().zip(block) {
                *part = part.merge(*more);
            }
        }
    }

    /// Before the first tile is pushed back: only the live rows stay.
    pub(crate) fn keep(&mut self, live: &[Live], dhidden: bool) {
        let dim = self.linear.dim();
        for (into, live) in live.iter().enumerate() {
            self.hidden.copy_within(live.position * dim..(live.position + 1) * dim, into * dim);
        }
        if dhidden {
            self.dhidden.resize(self.plan.rows * dim, 0.0);
            self.dhidden.fill(0.0);
        }
    }

    /// Turns the tile of logits into its gradient and multiplies it into the gradients that are wanted.
    pub(crate) fn push_back<G: Element>(
        &mut self,
        live: &[Live],
        columns: &Range<usize>,
        gradients: &mut LinearGradients<'_, G>,
    ) {
        let (level, linear) = (self.level, self.linear);
        self.push_back_by(live, columns, gradients, |live, block, row| {
            if !live.summary.stats.is_valid() {
                return level.run(Fill { row, value: f32::NAN, stream: false });
            }
            let target = target_in(linear, live.row, block);
            let map = mapped(linear, live.row, block, target);
            let (summary, partials) = (&live.summary, live.partials);
            level.run(PushBack { row, target, summary, partials, map, kept: None, stream: false });
        });
    }

    /// The same, where `turn` turns a row's logits in a block of columns into their gradient.
    pub(crate) fn push_back_by<G: Element>(
        &mut self,
        live: &[Live],
        columns: &Range<usize>,
        gradients: &mut LinearGradients<'_, G>,
        turn: impl Fn(&Live, &Range<usize>, Row<'_, f32>) + Sync,
    ) {
        let Self { linear, rows, plan, .. } = *self;
        let dim = linear.dim();
        let mut dweight = gradients
            .dweight
            .as_mut()
            .map(|d| d[columns.start * dim..columns.end * dim].chunks_mut(plan.block * dim));
        let mut dbias = gradients.dbias.as_mut().map(|d| d[columns.clone()].chunks_mut(plan.block));
        let mut left = self.left.iter_mut();
        let tiles = self.tile[..rows * columns.len()].chunks_mut(rows * plan.block);
        let listed = self.listed;
        let items = tiles.zip(blocks(columns, plan.block)).map(|(tile, columns)| Block {
            tile,
            columns,
            listed,
            left: left.next(),
            dweight: dweight.as_mut().and_then(Iterator::next),
            dbias: dbias.as_mut().and_then(Iterator::next),
        });
        let (hidden, tolerance) = (&self.hidden, self.block_tolerance);
        for_each(&mut self.workers, items, |worker, block| {
            block.push_back(linear, live, hidden, tolerance, worker, &turn);
        });
        if gradients.dhidden.is_some() {
            self.push_back_hidden(live.len(), columns);
        }
    }

    /// `dhidden += dlogits @ weight`, a slice of the elements for each thread.
    fn push_back_hidden(&mut self, live: usize, columns: &Range<usize>) {
        let Self { level, linear, rows, plan, .. } = *self;
        let (dim, (width, _)) = (linear.dim(), slices(linear.dim()));
        let (tile, left) = (&self.tile[..rows * columns.len()], &self.left);
        let outputs = self.dhidden.chunks_mut(plan.rows * width).zip((0..dim).step_by(width));
        for_each(&mut self.workers, outputs, |worker, (out, first)| {
            let elements = first..dim.min(first + width);
            let width = elements.len();
            let tiles = tile.chunks(rows * plan.block).zip(blocks(columns, plan.block));
            for (index, (tile, block)) in tiles.enumerate() {
                let some = left.get(index).filter(|left| left.len() < live);
                let count = some.map_or(live, Vec::len);
                let Worker { panel, product: some_product, .. } = worker;
                let into = match some {
                    None => &mut *out,
                    Some(_) => {
                        some_product.clear();
                        some_product.resize(count * width, 0.0);
                        some_product
                    }
                };
                let step = match as_f32(linear.weight()) {
                    Some(_) => block.len(),
                    None => (plan.panel / width).clamp(1, block.len()),
                };
                for part in blocks(&block, step) {
                    let weight = match as_f32(linear.weight()) {
                        Some(weight) => View::rows(
                            &weight[part.start * dim + first..(part.end - 1) * dim + elements.end],
                            dim,
                        ),
                        None => {
                            panel.resize(plan.panel, 0.0);
                            for (into, j) in panel.chunks_exact_mut(width).zip(part.clone()) {
                                widen(level, &linear.weight()[j * dim + first..][..width], into);
                            }
                            View::rows(panel, width)
                        }
                    };
                    let dlogits = View::rows(&tile[part.start - block.start..], block.len());
                    product(into, width, true, [count, part.len(), width], dlogits, weight);
                }
                if let Some(rows) = some {
                    for (more, &row) in worker.product.chunks_exact(width).zip(rows) {
                        for (sum, more) in out[row * width..][..width].iter_mut().zip(more) {
                            *sum += more;
                        }
                    }
                }
            }
        });
    }

    /// Writes the gradient of the chunk's hidden states.
    pub(crate) fn store<G: Element>(&self, live: &[Live], dhidden: &mut [G]) {
        let (dim, (width, _)) = (self.linear.dim(), slices(self.linear.dim()));
        let outputs = self.dhidden.chunks(self.plan.rows * width).zip((0..dim).step_by(width));
        for (slice, first) in outputs {
            let width = width.min(dim - first);
            for (from, live) in slice.chunks_exact(width).zip(live) {
                let into = &mut dhidden[live.row * dim + first..][..width];
                into.iter_mut().zip(from).for_each(|(into, from)| *into = G::from_f32(*from));
            }
        }
    }
}

/// A range in steps.
fn blocks(range: &Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + Send + use<> {
    let end = range.end;
    range.clone().step_by(step).map(move |first| first..end.min(first + step))
}

/// `tile [rows, block] = hidden [rows, dim] @ weight [block, dim]^T + bias [block]`
fn logits<E: Element>(
    level: Level,
    linear: &Linear<'_, E>,
    plan: Plan,
    worker: &mut Worker,
    hidden: &[f32],
    block: Range<usize>,
    tile: &mut [f32],
) {
    let dim = linear.dim();
    let shape = |part: &Range<usize>| [hidden.len() / dim, dim, part.len()];
    for part in blocks(&block, (plan.panel / dim).max(1)) {
        let weight = &linear.weight()[part.start * dim..part.end * dim];
        let weight = match as_f32(weight) {
            Some(weight) => weight,
            None => {
                worker.panel.resize(plan.panel, 0.0);
                let panel = &mut worker.panel[..weight.len()];
                widen(level, weight, panel);
                panel
            }
        };
        let weight = View::rows(weight, dim).transposed();
        let into = &mut tile[part.start - block.start..];
        product(into, block.len(), false, shape(&part), View::rows(hidden, dim), weight);
    }
    if let Some(bias) = linear.bias() {
        worker.bias.resize(block.len(), 0.0);
        widen(level, &bias[block.clone()], &mut worker.bias);
        for z in tile.chunks_exact_mut(block.len()) {
            z.iter_mut().zip(&worker.bias).for_each(|(z, bias)| *z += bias);
        }
    }
}

/// Columns that rows list, and what is pushed back for them: nothing yet, or `d [entries]`.
#[derive(Clone, Copy)]
struct Listed<'a> {
    columns: &'a Columns<'a>,
    d: &'a [f64],
}

impl Listed<'_> {
    /// The listed columns of a row that lie in a block of this weight: their places in the block and among all entries.
    fn inside<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        row: usize,
        block: &Range<usize>,
    ) -> impl Iterator<Item = (usize, usize)> {
        let first = linear.columns().start + block.start;
        let end = linear.columns().start + block.end;
        let listed = self.columns.of_row(row).iter().map(|&id| id as usize).zip(self.columns.range(row));
        listed.filter(move |(id, _)| (first..end).contains(id)).map(move |(id, entry)| (id - first, entry))
    }
}

/// Takes the listed columns out of a tile of logits.
fn mask<E: Element>(
    linear: &Linear<'_, E>,
    listed: Option<Listed<'_>>,
    batch_rows: &[usize],
    block: &Range<usize>,
    tile: &mut [f32],
) {
    let Some(listed) = listed else { return };
    for (z, &row) in tile.chunks_exact_mut(block.len()).zip(batch_rows) {
        listed.inside(linear, row, block).for_each(|(at, _)| z[at] = f32::NEG_INFINITY);
    }
}

/// What a row's logits are taken for in a block of columns of this weight.
fn mapped<'a, E: Element>(
    linear: &Linear<'a, E>,
    row: usize,
    block: &Range<usize>,
    target: Option<usize>,
) -> Option<Mapped<'a>> {
    Mapped::new(linear.batch(), row, linear.columns().start + block.start, target)
}

/// A row's target in a block of columns of this weight, if it is there.
pub(crate) fn target_in<E: Element>(
    linear: &Linear<'_, E>,
    row: usize,
    block: &Range<usize>,
) -> Option<usize> {
    linear.target(row).filter(|target| block.contains(target)).map(|target| target - block.start)
}

/// What a block of columns of this weight knows of a row.
pub(crate) fn part_of<E: Element>(
    level: Level,
    linear: &Linear<'_, E>,
    row: usize,
    block: &Range<usize>,
    z: &[f32],
    detail: Detail,
) -> RowPart {
    let target = target_in(linear, row, block);
    let map = mapped(linear, row, block, target);
    let wanted = Wanted { detail, shares: false };
    let (mut stats, mapped_target) = SCRATCH.with_borrow_mut(|scratch| {
        (level.run(Summarise { logits: z, scratch, wanted, map }), scratch.mapped_target)
    });
    let first = linear.columns().start + block.start;
    if stats.argmax != u32::MAX {
        stats.argmax += first as u32;
    }
    let target_logit = target.map(|target| f64::from(if map.is_some() { mapped_target } else { z[target] }));
    RowPart { stats, target_logit, fault: fault_of(&stats, z, first) }
}

/// What is wrong with logits that have these statistics, of which the first is in column `first`.
pub(crate) fn fault_of(stats: &RowStats<f64>, z: &[f32], first: usize) -> Option<(u32, f32)> {
    // NaN marks a bad row; -1 is a row without mass, which other blocks may have.
    if !stats.tail.is_nan() {
        return None;
    }
    let column = z.iter().position(|z| z.is_nan() || *z == f32::INFINITY);
    column.map(|column| ((first + column) as u32, z[column]))
}

/// A block of the tile and what is made of its columns alone.
struct Block<'a> {
    tile: &'a mut [f32],
    columns: Range<usize>,
    listed: Option<Listed<'a>>,
    left: Option<&'a mut Vec<usize>>,
    dweight: Option<&'a mut [f32]>,
    dbias: Option<&'a mut [f32]>,
}

impl Block<'_> {
    fn push_back<E: Element>(
        self,
        linear: &Linear<'_, E>,
        live: &[Live],
        hidden: &[f32],
        tolerance: f32,
        worker: &mut Worker,
        turn: impl Fn(&Live, &Range<usize>, Row<'_, f32>),
    ) {
        let (dim, width) = (linear.dim(), self.columns.len());
        for (into, live) in live.iter().enumerate() {
            let row = if live.position == into {
                Row::InPlace(&mut self.tile[into * width..][..width])
            } else {
                let (before, from) = self.tile.split_at_mut(live.position * width);
                Row::Into(&from[..width], &mut before[into * width..][..width])
            };
            turn(live, &self.columns, row);
            if let Some(listed) = self.listed {
                for (at, entry) in listed.inside(linear, live.row, &self.columns) {
                    self.tile[into * width + at] = listed.d[entry] as f32;
                }
            }
        }
        let mut count = live.len();
        let mut hidden = hidden;
        if let Some(left) = self.left {
            left.clear();
            left.extend((0..count).filter(|row| {
                // NaN is above every tolerance.
                !self.tile[row * width..][..width].iter().all(|d| d.abs() < tolerance)
            }));
            if left.len() < count {
                count = left.len();
                worker.gathered.clear();
                for (into, &row) in left.iter().enumerate() {
                    self.tile.copy_within(row * width..(row + 1) * width, into * width);
                    worker.gathered.extend_from_slice(&hidden[row * dim..][..dim]);
                }
                hidden = &worker.gathered;
            }
        }
        if let Some(dbias) = self.dbias {
            for dlogits in self.tile.chunks_exact(width).take(count) {
                dbias.iter_mut().zip(dlogits).for_each(|(sum, d)| *sum += d);
            }
        }
        if let Some(dweight) = self.dweight {
            let dlogits = View::rows(self.tile, width).transposed();
            product(dweight, dim, true, [width, count, dim], dlogits, View::rows(hidden, dim));
        }
    }
}
