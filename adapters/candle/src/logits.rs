//! From logits.

use crate::input::{Rows, Stored, Typed, contiguous, elements, read, typed, upstream_of};
use crate::output::{Columns, totals_of};
use crate::{Error, Options, TokenLoss};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, InplaceOp1, Layout, Tensor};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use tokenloss_core::{Backend, Judged, Logits, Reduction, RowObjective, RowPartials, RowSummary};
use tokenloss_cpu::Cpu;

/// The loss of `logits [.., vocab]` at `targets [..]`.
///
/// ```text
/// loss = sum_i weight_i L(z_i, t_i) / denominator        or weight_i L(z_i, t_i), one for each row
/// ```
///
/// Forward reads the logits once and keeps a few numbers for each row, backward reads them once more and writes their
/// gradient.
///
/// # Errors
/// * [`Error::Shape`] for logits without a dimension, and targets that are not the rows of the logits.
/// * [`Error::Dtype`] for logits that are not f32, f16 or bf16, and targets that are not integers.
/// * [`Error::Device`] for what does not lie on the CPU; [`Error::Target`] for what is no class.
/// * [`Error::Loss`] for weights, logits that are not finite, and what else the core checks.
pub fn token_loss<O: RowObjective + Sync>(
    logits: &Tensor,
    targets: &Tensor,
    objective: O,
    options: &Options,
) -> Result<TokenLoss, Error> {
    let logits = contiguous("logits", logits)?;
    let Some((&vocab, leading)) = logits.dims().split_last() else {
        let (got, expected) = (Vec::new(), "[.., vocab]".into());
        return Err(Error::Shape { what: "logits", got, expected });
    };
    check_targets(targets, leading)?;
    let rows = Rows::new(leading.iter().product(), vocab, targets, options)?;
    let reduction = options.reduction.unwrap_or(Reduction::Sum).check()?;
    let call = Forward { logits: &logits, rows: &rows, objective: &objective };
    let (summaries, judged) = typed("logits", logits.dtype(), call)?;
    let totals = totals_of(&rows, reduction, &judged)?;
    let scale = reduction.scale(totals.valid, totals.kept);
    let mut columns = Columns::new(rows.shape.rows());
    columns.outputs().write(&judged);
    let loss = Loss {
        values: columns.values(&rows, options.reduction, &totals)?,
        dims: if options.reduction.is_some() { Vec::new() } else { leading.to_vec() },
        partials: judged.iter().map(|judged| judged.partials.scaled(scale)).collect(),
        summaries,
        rows,
        overwrite: options.overwrite_logits,
        overwritten: AtomicBool::new(false),
    };
    columns.with(logits.apply_op1(loss)?, totals, targets)
}

pub(crate) fn check_targets(targets: &Tensor, leading: &[usize]) -> Result<(), Error> {
    if targets.dims() == leading {
        return Ok(());
    }
    let expected = format!("{leading:?}, a target for each row");
    Err(Error::Shape { what: "targets", got: targets.dims().to_vec(), expected })
}

/// The middle move.
pub(crate) fn judge<O: RowObjective>(
    objective: &O,
    rows: &Rows,
    summaries: &[RowSummary<f64>],
) -> Result<Vec<Judged>, Error> {
    let batch = rows.batch()?;
    let of_row = |(row, summary)| Judged::of_summary(objective, &batch, row, summary);
    Ok(summaries.iter().enumerate().map(of_row).collect())
}

struct Forward<'a, O> {
    logits: &'a Tensor,
    rows: &'a Rows,
    objective: &'a O,
}

impl<O: RowObjective> Typed for Forward<'_, O> {
    type Output = (Vec<RowSummary<f64>>, Vec<Judged>);

    fn run<E: Stored>(self) -> Result<Self::Output, Error> {
        let batch = self.rows.batch()?;
        let mut summaries = vec![RowSummary::nan(); self.rows.shape.rows()];
        read::<E, _>(self.logits, |logits| Ok(Cpu::new().summarise(&batch, logits, &mut summaries)?))?;
        let judged = judge(self.objective, self.rows, &summaries)?;
        Ok((summaries, judged))
    }
}

/// The op: its value is known before it is applied.
struct Loss {
    values: Vec<f32>,
    dims: Vec<usize>,
    rows: Rows,
    summaries: Vec<RowSummary<f64>>,
    /// Times weights and the inverse of the denominator.
    partials: Vec<RowPartials<f64>>,
    overwrite: bool,
    overwritten: AtomicBool,
}

impl CustomOp1 for Loss {
    fn name(&self) -> &'static str {
        "token-loss"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
        Ok((CpuStorage::F32(self.values.clone()), self.dims.clone().into()))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let upstream = upstream_of(gradient, self.rows.shape.rows())?;
        let partials: Vec<_> =
            self.partials.iter().zip(upstream).map(|(partials, by)| partials.scaled(by)).collect();
        typed("logits", logits.dtype(), Backward { loss: self, logits, partials })
            .map(Some)
            .map_err(Error::wrap)
    }
}

struct Backward<'a> {
    loss: &'a Loss,
    logits: &'a Tensor,
    partials: Vec<RowPartials<f64>>,
}

impl Backward<'_> {
    fn push_back<E: Stored>(&self, logits: Logits<'_, E>) -> Result<(), Error> {
        let batch = self.loss.rows.batch()?;
        Ok(Cpu::new().push_back(&batch, logits, &self.loss.summaries, &self.partials)?)
    }
}

impl Typed for Backward<'_> {
    type Output = Tensor;

    fn run<E: Stored>(self) -> Result<Tensor, Error> {
        let logits = self.logits.detach();
        if self.loss.overwritten.load(Ordering::Relaxed) {
            return Err(Error::Overwritten);
        }
        if self.loss.overwrite {
            self.loss.overwritten.store(true, Ordering::Relaxed);
            logits.inplace_op1(&InPlace::<E> { backward: &self, element: PhantomData })?;
            return Ok(logits);
        }
        let mut dlogits = vec![E::from_f32(0.0); self.loss.rows.shape.elements()];
        read::<E, _>(&logits, |logits| self.push_back(Logits::OutOfPlace { logits, dlogits: &mut dlogits }))?;
        Ok(Tensor::from_vec(dlogits, logits.shape(), logits.device())?)
    }
}

struct InPlace<'a, E> {
    backward: &'a Backward<'a>,
    element: PhantomData<E>,
}

impl<E: Stored> InplaceOp1 for InPlace<'_, E> {
    fn name(&self) -> &'static str {
        "token-loss-backward"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let start = layout.start_offset();
        let end = start + elements::<E>(storage, layout)?.len();
        let got = storage.dtype();
        let logits = E::slice_mut(storage)
            .ok_or_else(|| Error::Dtype { what: "logits", got, expected: "that of forward" }.wrap())?;
        let logits = &mut logits[start..end];
        self.backward.push_back(Logits::InPlace(logits)).map_err(Error::wrap)
    }
}
