//! The loss from hidden states and a head, a tile of logits at a time.
//!
//! Rows are worked through in chunks. A chunk's logits are computed block by block of columns, each summarised by the
//! thread that computed it; the row is then judged, and the same tile becomes its own gradient, of live rows only.
//! What one thread computes does not depend on how many there are.

mod bare;
mod chunk;
mod matmul;
mod pair;
mod plan;
mod teacher;
mod worker;

pub use bare::bare_products;

use crate::Cpu;
pub(crate) use chunk::{Chunk, Live};
pub(crate) use plan::Plan;
use tokenloss_core::{
    Batch, Detail, Element, Error, EvaluateLinear, Judged, Linear, LinearBackend, LinearGradients,
    LinearOptions, NonFinite, Outputs, Reduction, RowObjective, RowPart, RowPartials, RowSummary, Totals,
    check_length, check_whole,
};

/// How the elements of a hidden state are cut for `dhidden`: the width of a slice, and their number. Slices are for
/// threads, and even numbers of threads are usual.
pub(crate) fn slices(dim: usize) -> (usize, usize) {
    /// Elements that make a slice worth a thread.
    const WIDTH: usize = 256;
    let count = ((dim + WIDTH / 2) / WIDTH).max(1);
    let width = dim.div_ceil(if count > 1 { count.next_multiple_of(2) } else { 1 });
    (width, dim.div_ceil(width))
}

pub(crate) fn valid_rows(batch: &Batch<'_>) -> Vec<usize> {
    (0..batch.shape().rows()).filter(|&row| batch.target(row).is_some()).collect()
}

/// Whether a row that is not ignored is pushed back: it is live by its own partials, and the norm of those that enter the
/// gradient reaches the tolerance.
pub(crate) fn is_pushed_back(
    options: &LinearOptions,
    non_finite: NonFinite,
    summary: &RowSummary<f64>,
    is_live: bool,
    norm: f64,
) -> bool {
    if !summary.stats.is_valid() {
        return non_finite == NonFinite::NanRow;
    }
    // NaN is above every tolerance.
    is_live && (norm >= f64::from(options.row_tolerance) || norm.is_nan())
}

/// Parts of all rows: no gradient.
pub(crate) fn parts<E: Element>(
    chunk: &mut Chunk<'_, E>,
    plan: Plan,
    rows: &[usize],
    detail: Detail,
    parts: &mut [RowPart],
) {
    let mut of_chunk = vec![RowPart::empty(); plan.rows];
    for rows in rows.chunks(plan.rows) {
        of_chunk.fill(RowPart::empty());
        chunk.load(rows.iter().copied());
        for columns in chunk.tiles() {
            chunk.summarise(&columns, detail, &mut of_chunk);
        }
        rows.iter().zip(&of_chunk).for_each(|(&row, part)| parts[row] = *part);
    }
}

/// The gradients of live rows, from logits that are computed anew. The positions of `live` are not used.
pub(crate) fn push_back<E: Element, G: Element>(
    chunk: &mut Chunk<'_, E>,
    plan: Plan,
    live: &mut [Live],
    gradients: &mut LinearGradients<'_, G>,
) {
    for live in live.chunks_mut(plan.rows) {
        live.iter_mut().enumerate().for_each(|(position, live)| live.position = position);
        chunk.load(live.iter().map(|live| live.row));
        chunk.keep(live, gradients.dhidden.is_some());
        for columns in chunk.tiles() {
            chunk.logits(&columns);
            chunk.push_back(live, &columns, gradients);
        }
        if let Some(dhidden) = &mut gradients.dhidden {
            chunk.store(live, dhidden);
        }
    }
}

/// `dhidden` before any row is pushed back.
pub(crate) fn clear<G: Element>(gradients: &mut LinearGradients<'_, G>) {
    if let Some(dhidden) = &mut gradients.dhidden {
        dhidden.fill(G::from_f32(0.0));
    }
}

/// NaN for the `dhidden` of rows that are bad.
pub(crate) fn mark<G: Element>(
    gradients: &mut LinearGradients<'_, G>,
    dim: usize,
    is_bad: impl Fn(usize) -> bool,
) {
    if let Some(dhidden) = &mut gradients.dhidden {
        let rows = dhidden.chunks_exact_mut(dim).enumerate();
        rows.filter(|(row, _)| is_bad(*row)).for_each(|(_, dhidden)| dhidden.fill(G::from_f32(f32::NAN)));
    }
}

impl LinearBackend for Cpu {
    fn parts_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        parts: &mut [RowPart],
    ) -> Result<(), Error> {
        check_length("parts", linear.rows(), parts.len())?;
        let plan = Plan::new(linear, options)?;
        parts.fill(RowPart::empty());
        let mut chunk = Chunk::new(self.level(), linear, plan, 0.0);
        self::parts(&mut chunk, plan, &valid_rows(linear.batch()), Detail::Moments, parts);
        Ok(())
    }

    fn push_back_linear<E: Element, G: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        summaries: &[RowSummary<f64>],
        partials: &[RowPartials<f64>],
        mut gradients: LinearGradients<'_, G>,
    ) -> Result<usize, Error> {
        check_length("summaries", linear.rows(), summaries.len())?;
        check_length("partials", linear.rows(), partials.len())?;
        gradients.check(linear)?;
        let plan = Plan::new(linear, options)?;
        let batch = linear.batch();
        let mut live = Vec::with_capacity(batch.valid());
        let is_bad = |row: usize| batch.target(row).is_some() && !summaries[row].stats.is_valid();
        for row in valid_rows(batch) {
            let (summary, partials) = (summaries[row], partials[row]);
            let (is_live, norm) = (partials.is_live(), partials.norm_bound(&summary));
            if is_pushed_back(options, batch.non_finite(), &summary, is_live, norm) {
                live.push(Live { position: 0, row, summary, partials });
            }
        }
        if gradients.any() {
            clear(&mut gradients);
            mark(&mut gradients, linear.dim(), is_bad);
            let mut chunk = Chunk::new(self.level(), linear, plan, options.block_tolerance);
            push_back(&mut chunk, plan, &mut live, &mut gradients);
        }
        Ok(live.len())
    }
}

impl<O: RowObjective + Sync> EvaluateLinear<O> for Cpu {
    fn evaluate_linear<E: Element, G: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        mut gradients: LinearGradients<'_, G>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Error> {
        check_whole(linear)?;
        reduction.check()?;
        gradients.check(linear)?;
        outputs.check(linear.rows())?;
        let plan = Plan::new(linear, options)?;
        let detail = objective.detail().max(outputs.detail());
        let (batch, rows) = (linear.batch(), valid_rows(linear.batch()));
        let mut call = Call {
            objective,
            options,
            batch,
            judged: vec![Judged::ignored(); linear.rows()],
            fault: Ok(()),
            live: 0,
        };
        let mut chunk = Chunk::new(self.level(), linear, plan, options.block_tolerance);
        clear(&mut gradients);

        // Logits that are held become their own gradient, unless that needs what all rows have in common.
        let fused = gradients.any() && plan.holds_rows(linear) && !reduction.needs_kept();
        if fused {
            let scale = reduction.scale(batch.valid(), 0);
            let mut of_chunk = vec![RowPart::empty(); plan.rows];
            for rows in rows.chunks(plan.rows) {
                of_chunk.fill(RowPart::empty());
                chunk.load(rows.iter().copied());
                chunk.summarise(&linear.columns(), detail, &mut of_chunk);
                call.judge(rows.iter().copied().zip(&of_chunk));
                let live = call.live(rows, scale);
                chunk.keep(&live, gradients.dhidden.is_some());
                chunk.push_back(&live, &linear.columns(), &mut gradients);
                if let Some(dhidden) = &mut gradients.dhidden {
                    chunk.store(&live, dhidden);
                }
            }
        } else {
            let mut parts = vec![RowPart::empty(); linear.rows()];
            self::parts(&mut chunk, plan, &rows, detail, &mut parts);
            call.judge(rows.iter().map(|&row| (row, &parts[row])));
        }
        let mut totals = Totals::of_rows(batch, reduction, call.judged.iter().map(Judged::verdict));
        if gradients.any() {
            if !fused {
                let mut live = call.live(&rows, reduction.scale(totals.valid, totals.kept));
                push_back(&mut chunk, plan, &mut live, &mut gradients);
            }
            totals.live = call.live;
            mark(&mut gradients, linear.dim(), |row| call.is_bad(row));
        }
        outputs.write(&call.judged);
        call.fault.map(|()| totals)
    }
}

/// What a call knows of its rows.
struct Call<'a, O> {
    objective: &'a O,
    options: &'a LinearOptions,
    batch: &'a Batch<'a>,
    judged: Vec<Judged>,
    fault: Result<(), Error>,
    live: usize,
}

impl<O: RowObjective> Call<'_, O> {
    fn judge<'p>(&mut self, rows: impl Iterator<Item = (usize, &'p RowPart)>) {
        for (row, part) in rows {
            let (judged, fault) = Judged::of_part(self.objective, self.batch, row, part);
            self.judged[row] = judged;
            self.fault = self.fault.and(fault);
        }
    }

    fn is_bad(&self, row: usize) -> bool {
        self.batch.target(row).is_some() && !self.judged[row].summary.stats.is_valid()
    }

    /// The rows, of these, that are pushed back.
    fn live(&mut self, rows: &[usize], scale: f64) -> Vec<Live> {
        let mut live = Vec::with_capacity(rows.len());
        for (position, &row) in rows.iter().enumerate() {
            let Judged { summary, partials, .. } = self.judged[row];
            let scaled = partials.scaled(scale);
            let (is_live, norm) = (partials.is_live(), scaled.norm_bound(&summary));
            if is_pushed_back(self.options, self.batch.non_finite(), &summary, is_live, norm) {
                live.push(Live { position, row, summary, partials: scaled });
            }
        }
        self.live += live.len();
        live
    }
}
