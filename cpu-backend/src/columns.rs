//! Rows with listed columns, and the greatest columns of a row.

use crate::Cpu;
use crate::linear::{Chunk, Live, Plan, clear, is_pushed_back, mark, parts, push_back, valid_rows};
use rayon::prelude::*;
use tokenloss_core::columns::{ColumnBackend, ColumnPartials, Columns};
use tokenloss_core::{
    Batch, Detail, Element, Error, IGNORE_INDEX, Linear, LinearGradients, LinearOptions, Logits, NonFinite,
    RowMap, RowPart, RowPartials, RowSummary, check_length, check_whole,
};

impl ColumnBackend for Cpu {
    fn rests_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        columns: &Columns<'_>,
        parts: &mut [RowPart],
    ) -> Result<(), Error> {
        columns.check(linear.batch())?;
        check_length("parts", linear.rows(), parts.len())?;
        let plan = Plan::new(linear, options)?;
        parts.fill(RowPart::empty());
        let mut chunk = Chunk::new(self.level(), linear, plan, 0.0).without(columns);
        self::parts(&mut chunk, plan, &valid_rows(linear.batch()), Detail::Target, parts);
        Ok(())
    }

    fn push_back_columns_linear<E: Element, G: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        rests: &[RowSummary<f64>],
        partials: ColumnPartials<'_>,
        mut gradients: LinearGradients<'_, G>,
    ) -> Result<usize, Error> {
        let batch = linear.batch();
        check_length("rests", linear.rows(), rests.len())?;
        partials.check(batch)?;
        gradients.check(linear)?;
        let plan = Plan::new(linear, options)?;
        let mut live = Vec::with_capacity(batch.valid());
        for row in valid_rows(batch) {
            let summary = rests[row];
            let (is_live, norm) = (partials.is_live(row), partials.norm(row));
            if is_pushed_back(options, batch.non_finite(), &summary, is_live, norm) {
                let of_rest = RowPartials { d_lse: partials.d_rests[row], ..RowPartials::default() };
                live.push(Live { position: 0, row, summary, partials: of_rest });
            }
        }
        if gradients.any() {
            let is_bad = |row: usize| batch.target(row).is_some() && !rests[row].stats.is_valid();
            clear(&mut gradients);
            mark(&mut gradients, linear.dim(), is_bad);
            let mut chunk =
                Chunk::new(self.level(), linear, plan, options.block_tolerance).with_columns(partials);
            push_back(&mut chunk, plan, &mut live, &mut gradients);
        }
        Ok(live.len())
    }

    fn top_k<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        k: usize,
        ids: &mut [i32],
        top: &mut [f32],
    ) -> Result<(), Error> {
        let shape = batch.shape();
        Logits::Read(logits).check(shape)?;
        let mut all = Tops::new(batch, k, ids, top)?;
        all.valid.par_iter_mut().for_each(|top| {
            top.offer(0, &logits[top.row * shape.stride()..][..shape.vocab()]);
        });
        all.settle()
    }

    fn top_k_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        k: usize,
        ids: &mut [i32],
        top: &mut [f32],
    ) -> Result<(), Error> {
        check_whole(linear)?;
        let plan = Plan::new(linear, options)?;
        let mut all = Tops::new(linear.batch(), k, ids, top)?;
        let mut chunk = Chunk::new(self.level(), linear, plan, 0.0);
        for (index, rows) in valid_rows(linear.batch()).chunks(plan.rows).enumerate() {
            chunk.load(rows.iter().copied());
            for columns in chunk.tiles() {
                chunk.logits(&columns);
                let tops = &mut all.valid[index * plan.rows..][..rows.len()];
                tops.par_iter_mut().enumerate().for_each(|(position, top)| {
                    chunk.row(&columns, position).for_each(|(first, z)| top.offer(first, z));
                });
            }
        }
        all.settle()
    }
}

/// The greatest of a row so far, greatest first.
struct Top<'a> {
    row: usize,
    target: usize,
    map: Option<RowMap<'a>>,
    ids: &'a mut [i32],
    top: &'a mut [f32],
    fault: Option<Error>,
}

impl Top<'_> {
    /// The next columns, from `first` on.
    fn offer<E: Element>(&mut self, first: usize, logits: &[E]) {
        /// Logits that are compared at a time, with nothing to do for most.
        const STEP: usize = 16;
        for (index, some) in logits.chunks(STEP).enumerate() {
            let least = self.top[self.top.len() - 1];
            // A map keeps no order between classes: it masks some. NaN is no less than anything.
            let is_below = |z: &E| z.to_f32() <= least;
            if self.map.is_some() || !some.iter().all(is_below) {
                for (at, z) in some.iter().enumerate() {
                    self.offer_one(first + index * STEP + at, z.to_f32());
                }
            }
        }
    }

    fn offer_one(&mut self, column: usize, logit: f32) {
        let z = self.map.map_or(logit, |map| map.of(logit, column, self.target));
        if z.is_nan() || z == f32::INFINITY {
            self.fault = self.fault.or(Some(Error::NonFinite { row: self.row, column, value: logit }));
            return;
        }
        // After all that are as great: columns come in order.
        let place = self.top.partition_point(|top| *top >= z);
        if place < self.top.len() && z > f32::NEG_INFINITY {
            self.top[place..].rotate_right(1);
            self.ids[place..].rotate_right(1);
            (self.top[place], self.ids[place]) = (z, column as i32);
        }
    }
}

/// Those of all rows that take part.
struct Tops<'a> {
    non_finite: NonFinite,
    valid: Vec<Top<'a>>,
}

impl<'a> Tops<'a> {
    fn new(batch: &Batch<'a>, k: usize, ids: &'a mut [i32], top: &'a mut [f32]) -> Result<Self, Error> {
        let rows = batch.shape().rows();
        if k == 0 {
            return Err(Error::TooFew { what: "top_k", index: 0, needed: 1, got: 0 });
        }
        let entries = rows.checked_mul(k).ok_or(Error::TooLarge { rows, stride: k })?;
        check_length("ids", entries, ids.len())?;
        check_length("top", entries, top.len())?;
        ids.fill(IGNORE_INDEX);
        top.fill(f32::NEG_INFINITY);
        let of_rows = ids.chunks_exact_mut(k).zip(top.chunks_exact_mut(k)).enumerate();
        let valid = of_rows
            .filter_map(|(row, (ids, top))| {
                let target = batch.target(row)?;
                Some(Top { row, target, map: batch.row_map(row), ids, top, fault: None })
            })
            .collect();
        Ok(Self { non_finite: batch.non_finite(), valid })
    }

    fn settle(self) -> Result<(), Error> {
        let mut fault = Ok(());
        for top in self.valid {
            if let Some(error) = top.fault {
                top.ids.fill(IGNORE_INDEX);
                top.top.fill(f32::NAN);
                if self.non_finite == NonFinite::Error {
                    fault = fault.and(Err(error));
                }
            }
        }
        fault
    }
}
