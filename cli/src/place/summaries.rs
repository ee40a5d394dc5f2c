//! One forward pass over a file.

use crate::backend::Engine;
use crate::files::{Input, Matrix, Stored};
use crate::linear::StoredLinear;
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use std::ops::Range;
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Budget, Dtype, Error, LinearOptions, RowSummary, Shape};

/// The vocab, and a summary of each row; NaN where ignored.
type Summaries = (usize, Vec<RowSummary<f64>>);

/// Of `logits [rows, vocab]`, as many rows at a time as fit the budget.
pub(super) fn of_logits(
    engine: &Engine,
    input: &Input,
    Budget(budget): Budget,
    progress: &Progress,
) -> Result<Summaries> {
    fn pass<E: Stored>(engine: &Engine, matrix: Matrix<'_>, pass: &Pass<'_>) -> Result<Vec<RowSummary<f64>>> {
        pass.run(|rows, batch, summaries| engine.summarise(batch, &matrix.read::<E>(rows), summaries))
    }
    let matrix = input.matrix("logits", "[rows, vocab]")?;
    let row = matrix.columns * matrix.dtype.bytes();
    let targets = input.targets(matrix.rows)?;
    let summaries = || {
        let shape = Shape::new(matrix.rows, matrix.columns)?;
        ensure!(budget >= row, "memory: {budget} bytes hold not even one row, the least that works is {row}");
        let work = Pass { shape, targets: &targets, at_a_time: budget / row, progress };
        match matrix.dtype {
            Dtype::F32 => pass::<f32>(engine, matrix, &work),
            Dtype::F16 => pass::<f16>(engine, matrix, &work),
            Dtype::Bf16 => pass::<bf16>(engine, matrix, &work),
        }
    };
    Ok((matrix.columns, summaries().with_context(|| input.name().to_string())?))
}

/// Rows of hidden states at a time: enough for the head to be worth a sweep, few enough to see progress.
const HIDDEN_ROWS: usize = 1024;

/// Of `hidden [rows, dim]` and a head. The backend keeps within the budget.
pub(super) fn of_linear(
    engine: &Engine,
    input: &Input,
    head: &Input,
    budget: Budget,
    progress: &Progress,
) -> Result<Summaries> {
    fn pass<E: Stored>(
        engine: &Engine,
        stored: &StoredLinear<'_>,
        budget: Budget,
        pass: &Pass<'_>,
    ) -> Result<Vec<RowSummary<f64>>> {
        let tensors = stored.read::<E>();
        let options = LinearOptions { budget, ..LinearOptions::default() };
        pass.run(|rows, batch, summaries| {
            engine.summarise_linear(&tensors.linear(*batch, rows)?, &options, summaries)
        })
    }
    let stored = StoredLinear::of(input, head)?;
    let targets = input.targets(stored.rows())?;
    let summaries = || {
        let shape = Shape::new(stored.rows(), stored.vocab())?;
        let work = Pass { shape, targets: &targets, at_a_time: HIDDEN_ROWS, progress };
        match stored.dtype() {
            Dtype::F32 => pass::<f32>(engine, &stored, budget, &work),
            Dtype::F16 => pass::<f16>(engine, &stored, budget, &work),
            Dtype::Bf16 => pass::<bf16>(engine, &stored, budget, &work),
        }
    };
    Ok((stored.vocab(), summaries().with_context(|| stored.name())?))
}

/// All rows of a file, a few at a time.
struct Pass<'a> {
    shape: Shape,
    targets: &'a [i32],
    at_a_time: usize,
    progress: &'a Progress,
}

impl Pass<'_> {
    fn run(
        &self,
        summarise: impl Fn(Range<usize>, &Batch<'_>, &mut [RowSummary<f64>]) -> Result<()>,
    ) -> Result<Vec<RowSummary<f64>>> {
        let (rows, vocab) = (self.shape.rows(), self.shape.vocab());
        // A bad target is named before anything is computed.
        Batch::new(self.shape, self.targets)?;
        let mut summaries = vec![RowSummary::nan(); rows];
        self.progress.stage("rows", rows as u64);
        for from in (0..rows).step_by(self.at_a_time) {
            let range = from..(from + self.at_a_time).min(rows);
            let batch = Batch::new(Shape::new(range.len(), vocab)?, &self.targets[range.clone()])?;
            summarise(range.clone(), &batch, &mut summaries[range.clone()])
                .map_err(|error| in_file(error, from))?;
            self.progress.advance(range.len() as u64);
        }
        self.progress.done();
        Ok(summaries)
    }
}

/// The fault of a few rows, with the row's number in the file.
fn in_file(error: anyhow::Error, first: usize) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(&fault @ (Error::NonFinite { row, .. } | Error::NoMass { row, .. })) => {
            fault.in_row(row + first).into()
        }
        _ => error,
    }
}
