//! The linear form where every rank holds a slice of the vocabulary (tensor parallelism of the loss).

use crate::{
    Batch, Budget, Denominator, Element, Error, Judged, Linear, LinearBackend, LinearGradients,
    LinearOptions, Link, NonFinite, Outputs, Reduction, RowObjective, RowPart, RowPartials, RowStats,
    RowSummary, Totals,
};
use alloc::{vec, vec::Vec};
use core::fmt;
use core::ops::Range;

/// What ranks do together: two operations that every collective library has. A call returns once all ranks have
/// made it, with the same lengths.
///
/// * **MPI**: `MPI_Allgather` of doubles, `MPI_Allreduce` of floats with `MPI_SUM`; `examples/mpi` is this.
/// * **NCCL**: `ncclAllGather` with `ncclFloat64`, `ncclAllReduce` with `ncclFloat32` and `ncclSum`, on device buffers that the
///   slices are copied to and from, with a synchronised stream before the return.
/// * **Gloo**: `allgather` and `allreduce` with its sum, on these slices.
/// * **Threads of one process**: a shared `Vec` for each rank between two barriers.
///
/// Where a library counts in 32 bits, its implementation here cuts longer slices.
pub trait Collective {
    /// The library's own error.
    type Error: core::error::Error;

    /// The number of ranks.
    fn ranks(&self) -> usize;

    /// `mine [n] -> all [ranks, n]`, in rank order, bit for bit, `n` at most 8,192. Some values are NaN.
    ///
    /// # Errors
    /// The library's own.
    fn all_gather(&self, mine: &[f64], all: &mut [f64]) -> Result<(), Self::Error>;

    /// `values [n]` become their sum over all ranks, in any order, but the same bits on every rank. NaN stays NaN.
    ///
    /// # Errors
    /// The library's own.
    fn all_sum(&self, values: &mut [f32]) -> Result<(), Self::Error>;
}

/// Why a rank has no result. Unless the collective library itself fails, every rank gets an error as soon as one
/// does, and none waits for another.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ShardError<B, C> {
    /// This rank's own: of its data, or of its backend. A bad row is every rank's own, and the same on all.
    Backend(B),
    /// The collective library's.
    Collective(C),
    /// Another rank failed, and has an error of its own that says why.
    Rank {
        /// The first rank that failed.
        rank: usize,
    },
    /// Something that must be the same on all ranks is not. The same on every rank.
    Disagree {
        /// The thing.
        what: &'static str,
        /// The first rank that differs from rank 0.
        rank: usize,
        /// What that rank has.
        got: f64,
        /// What rank 0 has.
        expected: f64,
    },
    /// A shard does not start where the one before it ends. The same on every rank.
    FirstColumn {
        /// The rank that holds the shard.
        rank: usize,
        /// Where it starts.
        got: usize,
        /// Where the shard of the rank before ends; 0 for rank 0.
        expected: usize,
    },
    /// The last shard does not end with the vocabulary. The same on every rank.
    LastColumn {
        /// The last rank.
        rank: usize,
        /// Where its shard ends.
        got: usize,
        /// The vocabulary.
        expected: usize,
    },
}

impl<B: fmt::Display, C: fmt::Display> fmt::Display for ShardError<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(error) => error.fmt(f),
            Self::Collective(error) => write!(f, "collective: {error}"),
            Self::Rank { rank } => write!(f, "rank {rank} failed, its own error says why"),
            Self::Disagree { what, rank, got, expected } => {
                write!(f, "{what}: rank {rank} has {got}, rank 0 has {expected}")
            }
            Self::FirstColumn { rank, got, expected } => {
                write!(f, "columns: those of rank {rank} start at {got}, expected {expected}")
            }
            Self::LastColumn { rank, got, expected } => {
                write!(f, "columns: those of rank {rank}, the last, end at {got}, expected {expected}")
            }
        }
    }
}

impl<B: core::error::Error, C: core::error::Error> core::error::Error for ShardError<B, C> {}

type Failure<B, C> = ShardError<<B as crate::Backend>::Error, <C as Collective>::Error>;

/// A backend for this rank's [`shard`](Linear::shard), and the way to the others.
///
/// Shards tile `0..vocab` in rank order; their widths are free. Every rank has all of `hidden`, which is not compared, the
/// same targets and weights, and runs the same build on the same kind of machine: parts are merged in rank order and judged by every rank
/// for itself, so that losses, outputs and totals have the same bits everywhere, which is checked.
///
/// ```text
/// agree       shapes, tiling, targets, reduction ...     two all_gathers, of 16 and 3 words
/// summarise   hidden, shard    ->  parts [rows]          all_gather of 12 words a row, 1,024 rows at a time
/// judge       merged parts     ->  verdicts              one all_gather of 2 words
/// push back   hidden, shard    ->  dweight, dbias        stay here
///                                  dhidden [rows, dim]   all_sum
/// ```
#[derive(Debug)]
pub struct Sharded<'a, B, C> {
    /// Computes this rank's columns.
    pub backend: &'a B,
    /// Reaches the other ranks.
    pub collective: &'a C,
}

impl<B: LinearBackend, C: Collective> Sharded<'_, B, C> {
    /// As [`EvaluateLinear::evaluate_linear`](crate::EvaluateLinear::evaluate_linear) of the whole vocabulary: every rank calls
    /// it with its shard, and gets the totals, the outputs and `dhidden` of the whole, `dweight` and `dbias` of its
    /// shard.
    ///
    /// `dhidden` is summed over ranks in `f32`: of each entry's terms, one a rank, the sum rounds at most `ranks - 1`
    /// times, so that it may differ from one rank's in its last digits. The tolerances of [`LinearOptions`] must be the
    /// same on all ranks; budget and chunks are each rank's own. What is held here is taken from the budget first.
    ///
    /// # Errors
    /// Before any gradient is written:
    /// * [`ShardError::Backend`] with this rank's own faults, those of `evaluate_linear` but for [`Error::Columns`];
    ///   [`ShardError::Rank`] on all other ranks.
    /// * [`ShardError::Disagree`], [`ShardError::FirstColumn`], [`ShardError::LastColumn`].
    ///
    /// After that:
    /// * [`ShardError::Backend`] and [`ShardError::Rank`] if a push back fails. Gradients are of no use then.
    /// * [`ShardError::Backend`] with [`Error::NonFinite`] or [`Error::NoMass`] as the batch asks, on all ranks, after all
    ///   other rows are done.
    ///
    /// At any time [`ShardError::Collective`], after which nothing is known of the other ranks.
    pub fn evaluate_linear<O: RowObjective, E: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        mut gradients: LinearGradients<'_, f32>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Failure<B, C>> {
        let batch = linear.batch();
        let checked = reduction
            .check()
            .and(options.check())
            .and(gradients.check(linear))
            .and(outputs.check(linear.rows()))
            .and(self.budget_left(linear.rows(), options.budget));
        self.compare(
            checked.map(|_| ()).map_err(B::Error::from),
            &terms(reduction, linear, options, &gradients),
        )?;
        self.tile(linear.columns(), batch.shape().vocab())?;
        let options = LinearOptions { budget: checked.map_err(own)?, ..*options };

        let mut fault = Ok(());
        let judged: Vec<_> = (self.parts(linear, &options)?.iter().enumerate())
            .map(|(row, part)| {
                let (judged, bad) = Judged::of_part(objective, batch, row, part);
                fault = fault.and(bad);
                judged
            })
            .collect();
        let verdicts = hash(judged.iter().flat_map(|judged| {
            let RowPartials { d_target, d_lse, d_entropy, d_mean, d_energy } = judged.partials;
            [judged.loss, d_target, d_lse, d_entropy, d_mean, d_energy, number(judged.kept)].map(f64::to_bits)
        }));
        self.compare(Ok(()), &[("verdicts of the objective (hash)", verdicts)])?;
        let mut totals = Totals::of_rows(batch, reduction, judged.iter().map(Judged::verdict));

        if gradients.any() {
            let scale = reduction.scale(totals.valid, totals.kept);
            let summaries: Vec<_> = judged.iter().map(|judged| judged.summary).collect();
            let partials: Vec<_> = judged.iter().map(|judged| judged.partials.scaled(scale)).collect();
            let mine = LinearGradients {
                dhidden: gradients.dhidden.as_deref_mut(),
                dweight: gradients.dweight.as_deref_mut(),
                dbias: gradients.dbias.as_deref_mut(),
            };
            let live = self.backend.push_back_linear(linear, &options, &summaries, &partials, mine);
            let rows = *live.as_ref().unwrap_or(&0) as f64;
            // Backends of two kinds may differ in a row at the tolerance.
            let all = self.settle(live.map(|_| ()), &[rows])?;
            totals.live = all.first().map_or(0, |rows| rows[0] as usize);
            if let Some(dhidden) = gradients.dhidden {
                self.collective.all_sum(dhidden).map_err(ShardError::Collective)?;
            }
        }
        outputs.write(&judged);
        fault.map(|()| totals).map_err(own)
    }

    /// What is left for the backend.
    fn budget_left(&self, rows: usize, budget: Budget) -> Result<Budget, Error> {
        const ROW: usize = size_of::<RowPart>()
            + size_of::<Judged>()
            + size_of::<RowSummary<f64>>()
            + size_of::<RowPartials<f64>>();
        let exchanged = (self.collective.ranks() + 1) * rows.min(EXCHANGED_ROWS) * size_of::<Words>();
        let needed = rows.saturating_mul(ROW).saturating_add(exchanged);
        budget.0.checked_sub(needed).map(Budget).ok_or(Error::Budget { needed, budget: budget.0 })
    }

    /// The parts of all rows, of the whole vocabulary.
    fn parts<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
    ) -> Result<Vec<RowPart>, Failure<B, C>> {
        let mut parts = vec![RowPart::empty(); linear.rows()];
        self.settle(self.backend.parts_linear(linear, options, &mut parts), &[])?;
        for parts in parts.chunks_mut(EXCHANGED_ROWS) {
            let mine: Vec<_> = parts.iter().flat_map(words).collect();
            parts.fill(RowPart::empty());
            for theirs in self.gather(&mine)?.chunks_exact(mine.len()) {
                for (part, words) in parts.iter_mut().zip(theirs.as_chunks().0) {
                    *part = part.merge(part_of(words));
                }
            }
        }
        Ok(parts)
    }

    /// An error on every rank unless shards tile the vocabulary.
    fn tile(&self, columns: Range<usize>, vocab: usize) -> Result<(), Failure<B, C>> {
        let mut expected = 0;
        let all = self.settle(Ok(()), &[columns.start as f64, columns.end as f64])?;
        for (rank, columns) in all.iter().enumerate() {
            let got = columns[0] as usize;
            if got != expected {
                return Err(ShardError::FirstColumn { rank, got, expected });
            }
            expected = columns[1] as usize;
        }
        if expected != vocab {
            let rank = all.len().saturating_sub(1);
            return Err(ShardError::LastColumn { rank, got: expected, expected: vocab });
        }
        Ok(())
    }

    /// An error on every rank unless all went well and all terms are the same.
    fn compare(
        &self,
        result: Result<(), B::Error>,
        terms: &[(&'static str, f64)],
    ) -> Result<(), Failure<B, C>> {
        let mine: Vec<_> = terms.iter().map(|term| term.1).collect();
        let all = self.settle(result, &mine)?;
        for (at, &(what, _)) in terms.iter().enumerate() {
            let mut values = all.iter().map(|terms| terms[at]).enumerate();
            let Some((_, expected)) = values.next() else { continue };
            if let Some((rank, got)) = values.find(|(_, got)| *got != expected) {
                return Err(ShardError::Disagree { what, rank, got, expected });
            }
        }
        Ok(())
    }

    /// Tells all ranks how it went here, along with a few words. The words of each rank, if it went well on all.
    fn settle(&self, result: Result<(), B::Error>, words: &[f64]) -> Result<Vec<Vec<f64>>, Failure<B, C>> {
        let mut mine = vec![number(result.is_err())];
        mine.extend_from_slice(words);
        let all = self.gather(&mine);
        result.map_err(ShardError::Backend)?;
        let all: Vec<_> = all?.chunks_exact(mine.len()).map(<[f64]>::to_vec).collect();
        match all.iter().position(|words| words[0] != 0.0) {
            Some(rank) => Err(ShardError::Rank { rank }),
            None => Ok(all.into_iter().map(|words| words[1..].to_vec()).collect()),
        }
    }

    fn gather(&self, mine: &[f64]) -> Result<Vec<f64>, Failure<B, C>> {
        // What a library leaves out is no number, and no rank's success.
        let mut all = vec![f64::NAN; self.collective.ranks() * mine.len()];
        self.collective.all_gather(mine, &mut all).map_err(ShardError::Collective)?;
        Ok(all)
    }
}

fn own<B: From<Error>, C>(error: Error) -> ShardError<B, C> {
    ShardError::Backend(error.into())
}

fn number(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// What must be the same on all ranks.
fn terms<E: Element>(
    reduction: Reduction,
    linear: &Linear<'_, E>,
    options: &LinearOptions,
    gradients: &LinearGradients<'_, f32>,
) -> [(&'static str, f64); 15] {
    let batch = linear.batch();
    let (kind, given) = match reduction {
        Reduction::Sum => (0.0, 0.0),
        Reduction::Mean(Denominator::Valid) => (1.0, 0.0),
        Reduction::Mean(Denominator::Kept) => (2.0, 0.0),
        Reduction::Mean(Denominator::Given(denominator)) => (3.0, denominator),
    };
    let weights = (0..linear.rows()).map(|row| batch.weight(row).to_bits().into());
    [
        ("rows", linear.rows() as f64),
        ("dim", linear.dim() as f64),
        ("vocab", batch.shape().vocab() as f64),
        ("targets (hash)", hash(batch.targets().iter().map(|&target| target as u64))),
        ("weights (hash)", hash(weights)),
        ("logit map (hash)", hash(map_words(batch))),
        ("non_finite (0 error, 1 NaN)", number(batch.non_finite() == NonFinite::NanRow)),
        ("reduction (0 sum, 1 valid, 2 kept, 3 given)", kind),
        ("denominator", given),
        ("row_tolerance", options.row_tolerance.into()),
        ("block_tolerance", options.block_tolerance.into()),
        ("bias (0 none, 1 some)", number(linear.bias().is_some())),
        ("dhidden (0 none, 1 some)", number(gradients.dhidden.is_some())),
        ("dweight (0 none, 1 some)", number(gradients.dweight.is_some())),
        ("dbias (0 none, 1 some)", number(gradients.dbias.is_some())),
    ]
}

/// All that says what logits are taken for.
fn map_words<'a>(batch: &Batch<'a>) -> impl Iterator<Item = u64> + use<'a> {
    let batch = *batch;
    batch.map().copied().into_iter().flat_map(move |map| {
        let link = match map.link() {
            Link::Identity => 0,
            Link::Softcap { cap } => u64::from(cap.to_bits()) << 8 | 1,
            Link::StableMax => 2,
        };
        let (mask, per_row) = map.mask().map_or((&[][..], false), |mask| mask.words());
        let rows = (0..batch.shape().rows()).filter_map(move |row| batch.row_map(row));
        let rows = rows.flat_map(|map| [map.scale.to_bits().into(), map.margin.to_bits().into()]);
        let mask = mask.iter().map(|word| u64::from(*word));
        [link, per_row.into(), map.mask().is_some().into()].into_iter().chain(rows).chain(mask)
    })
}

/// 53 bits, so that it is a number. One word that differs always changes the 64 bits they are taken of.
fn hash(words: impl Iterator<Item = u64>) -> f64 {
    let hash = words.fold(0u64, |hash, word| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    });
    (hash >> 11) as f64
}

/// Rows of parts that are exchanged at a time: enough that a call costs little, and no more memory than that.
const EXCHANGED_ROWS: usize = 1024;

/// A part on its way: the eight statistics, which of the rest is there, the target's logit, column and value of the
/// fault. All fit an `f64` exactly.
type Words = [f64; 12];

fn words(part: &RowPart) -> Words {
    let RowStats { max, tail, moment, collision, spread, energy, count, argmax } = part.stats;
    let (target, fault) = (part.target_logit, part.fault);
    let there = number(target.is_some()) + 2.0 * number(fault.is_some());
    let (column, value) = fault.unwrap_or_default();
    let (target, column, value) = (target.unwrap_or_default(), column.into(), value.into());
    let (count, argmax) = (count.into(), argmax.into());
    [max, tail, moment, collision, spread, energy, count, argmax, there, target, column, value]
}

fn part_of(words: &Words) -> RowPart {
    let [max, tail, moment, collision, spread, energy, count, argmax, there, target, column, value] = *words;
    let (count, argmax) = (count as u32, argmax as u32);
    RowPart {
        stats: RowStats { max, tail, moment, collision, spread, energy, count, argmax },
        target_logit: (there == 1.0 || there == 3.0).then_some(target),
        fault: (there >= 2.0).then_some((column as u32, value as f32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bits, which NaN and the sign of 0 have, too.
    fn bits(part: &RowPart) -> (Vec<u64>, Option<u64>, Option<(u32, u32)>) {
        let RowStats { max, tail, moment, collision, spread, energy, count, argmax } = part.stats;
        let stats = [max, tail, moment, collision, spread, energy, count.into(), argmax.into()];
        let stats = stats.map(f64::to_bits).to_vec();
        (
            stats,
            part.target_logit.map(f64::to_bits),
            part.fault.map(|(column, value)| (column, value.to_bits())),
        )
    }

    #[test]
    fn a_part_survives_its_journey() {
        let values = [0.0, -0.0, 1.0 / 3.0, f64::MIN_POSITIVE / 4.0, -f64::MAX, f64::INFINITY, f64::NAN];
        let targets = [None, Some(f64::NEG_INFINITY), Some(f64::NAN), Some(-0.0)];
        let faults = [None, Some((0, f32::NAN)), Some((u32::MAX, f32::INFINITY)), Some((7, -f32::NAN))];
        for value in values {
            for target_logit in targets {
                for fault in faults {
                    let (max, tail, moment, collision) = (value, -value, value, -value);
                    let (spread, energy, count, argmax) = (value, -value, u32::MAX, u32::MAX - 1);
                    let stats = RowStats { max, tail, moment, collision, spread, energy, count, argmax };
                    let part = RowPart { stats, target_logit, fault };
                    assert_eq!(bits(&part_of(&words(&part))), bits(&part), "{part:?}");
                }
            }
        }
        assert_eq!(part_of(&words(&RowPart::empty())), RowPart::empty());
    }
}
