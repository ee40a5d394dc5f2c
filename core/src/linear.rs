//! The loss without logits: `logits = hidden @ weight^T + bias`, a few rows and columns at a time.

use crate::{
    Backend, Batch, Element, Error, NonFinite, Outputs, Reduction, RowPartials, RowStats, RowSummary, Totals,
    check_length,
};
use core::ops::Range;

/// Logits that are never held as a whole: `logits [rows, vocab] = hidden [rows, dim] @ weight [vocab, dim]^T + bias
/// [vocab]`. The batch's stride is not used.
///
/// ```
/// use tokenloss_core::{Batch, Linear, Shape};
///
/// let (hidden, weight, targets) = ([1.0f32, 0.5], [0.1f32; 3 * 2], [2]);
/// let batch = Batch::new(Shape::new(1, 3)?, &targets)?;
/// let linear = Linear::new(batch, 2, &hidden, &weight)?.with_bias(&[0.0, 0.1, 0.2])?;
/// assert_eq!(linear.dim(), 2);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Linear<'a, E> {
    batch: Batch<'a>,
    dim: usize,
    columns: Range<usize>,
    hidden: &'a [E],
    weight: &'a [E],
    bias: Option<&'a [E]>,
}

impl<'a, E: Element> Linear<'a, E> {
    /// `hidden [rows, dim]` and `weight [vocab, dim]`, rows one after the other.
    ///
    /// # Errors
    /// * [`Error::Dim`] if `dim` is 0 or exceeds `i32::MAX`.
    /// * [`Error::TooLarge`] if `rows * dim` or `vocab * dim` overflows.
    /// * [`Error::Length`] for `hidden` or `weight`.
    pub fn new(batch: Batch<'a>, dim: usize, hidden: &'a [E], weight: &'a [E]) -> Result<Self, Error> {
        let vocab = batch.shape().vocab();
        Self::shard(batch, dim, hidden, weight, 0..vocab)
    }

    /// A slice of the vocabulary: `weight [columns.len(), dim]` holds the rows `columns` of the whole head. Targets
    /// and vocab of the batch are those of the whole.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and [`Error::Columns`] if `columns` is empty or not inside `0..vocab`.
    pub fn shard(
        batch: Batch<'a>,
        dim: usize,
        hidden: &'a [E],
        weight: &'a [E],
        columns: Range<usize>,
    ) -> Result<Self, Error> {
        let (rows, vocab) = (batch.shape().rows(), batch.shape().vocab());
        check_dim(dim)?;
        check_columns(&columns, vocab)?;
        let elements = |rows: usize| {
            let elements = rows.checked_mul(dim).filter(|&n| n <= isize::MAX as usize / 8);
            elements.ok_or(Error::TooLarge { rows, stride: dim })
        };
        check_length("hidden", elements(rows)?, hidden.len())?;
        check_length("weight", elements(columns.len())?, weight.len())?;
        Ok(Self { batch, dim, columns, hidden, weight, bias: None })
    }

    /// `bias [columns.len()]`, added to the logits of every row.
    ///
    /// # Errors
    /// [`Error::Length`] if it is not one value for each row of the weight.
    pub fn with_bias(self, bias: &'a [E]) -> Result<Self, Error> {
        check_length("bias", self.columns.len(), bias.len())?;
        Ok(Self { bias: Some(bias), ..self })
    }

    /// Targets, weights, and the shape of the logits that are never held.
    pub fn batch(&self) -> &Batch<'a> {
        &self.batch
    }
    /// Rows.
    pub fn rows(&self) -> usize {
        self.batch.shape().rows()
    }
    /// Elements of a hidden state.
    pub fn dim(&self) -> usize {
        self.dim
    }
    /// The columns of the vocabulary that the weight holds: all of them unless it is a [`shard`](Self::shard).
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }
    /// `[rows, dim]`
    pub fn hidden(&self) -> &'a [E] {
        self.hidden
    }
    /// `[columns.len(), dim]`
    pub fn weight(&self) -> &'a [E] {
        self.weight
    }
    /// `[columns.len()]`
    pub fn bias(&self) -> Option<&'a [E]> {
        self.bias
    }
    /// A row's target as a row of the weight; `None` for an ignored row and for a target in another shard.
    pub fn target(&self, row: usize) -> Option<usize> {
        let target = self.batch.target(row)?;
        self.columns.contains(&target).then(|| target - self.columns.start)
    }
}

/// Checks the elements of a hidden state.
///
/// # Errors
/// [`Error::Dim`] unless `dim` is from 1 to `i32::MAX`.
pub fn check_dim(dim: usize) -> Result<(), Error> {
    if dim == 0 || dim > i32::MAX as usize { Err(Error::Dim { dim }) } else { Ok(()) }
}

/// Checks a slice of the vocabulary.
///
/// # Errors
/// [`Error::Columns`] if it is empty or not inside `0..vocab`.
pub fn check_columns(columns: &Range<usize>, vocab: usize) -> Result<(), Error> {
    if columns.is_empty() || columns.end > vocab {
        return Err(Error::Columns { first: columns.start, end: columns.end, vocab });
    }
    Ok(())
}

/// Which gradients are wanted, one by one: a frozen head needs no `dweight`, a frozen body no `dhidden`. With none
/// of them ([`Default`]) a call is forward only.
///
/// A row that is bad ([`NonFinite`](crate::NonFinite)) has a `dhidden` of NaN. Where it is an error it adds nothing to `dweight`
/// and `dbias`, which hold the gradient of all other rows; as [`NanRow`](crate::NonFinite::NanRow) it makes them NaN.
#[derive(Debug)]
pub struct LinearGradients<'a, G> {
    /// `[rows, dim]`, overwritten: `dlogits @ weight`. 0 for rows that are not live.
    pub dhidden: Option<&'a mut [G]>,
    /// `[columns.len(), dim]`, added to: `dlogits^T @ hidden`. Fill it with 0 before the first micro-batch.
    pub dweight: Option<&'a mut [f32]>,
    /// `[columns.len()]`, added to: the sum of `dlogits` over rows.
    pub dbias: Option<&'a mut [f32]>,
}

impl<G> Default for LinearGradients<'_, G> {
    fn default() -> Self {
        Self { dhidden: None, dweight: None, dbias: None }
    }
}

impl<G> LinearGradients<'_, G> {
    /// Checks every slice that is there.
    ///
    /// # Errors
    /// [`Error::Length`] for `dhidden`, `dweight` or `dbias`.
    pub fn check<E: Element>(&self, linear: &Linear<'_, E>) -> Result<(), Error> {
        let columns = linear.columns.len();
        if let Some(dhidden) = &self.dhidden {
            check_length("dhidden", linear.hidden.len(), dhidden.len())?;
        }
        if let Some(dweight) = &self.dweight {
            check_length("dweight", columns * linear.dim, dweight.len())?;
        }
        self.dbias.as_ref().map_or(Ok(()), |dbias| check_length("dbias", columns, dbias.len()))
    }

    /// Whether any is wanted.
    pub fn any(&self) -> bool {
        self.dhidden.is_some() || self.dweight.is_some() || self.dbias.is_some()
    }
}

/// The most bytes that a call holds beside its inputs and outputs. The default is 64 MiB. What a backend's libraries keep
/// for good on each thread is not among them; the backend says how much that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget(pub usize);

impl Default for Budget {
    fn default() -> Self {
        Self(64 << 20)
    }
}

/// How a call works through rows and vocabulary. The default is exact, within 64 MiB.
///
/// Both tolerances compare with the row's `dlogits` as they would enter the matrix products, weight and denominator
/// included.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinearOptions {
    /// The most bytes held.
    pub budget: Budget,
    /// Rows at a time; what the budget allows without. Never more than the budget allows.
    pub chunk_rows: Option<usize>,
    /// Columns of the vocabulary held at a time; what the budget allows without. With fewer than all, logits are
    /// computed twice where a gradient is wanted.
    pub chunk_vocab: Option<usize>,
    /// A row is left out of the gradients where [`RowPartials::norm_bound`] lies below this. The error of its
    /// `dhidden` is at most this times the greatest absolute entry of the weight, entry by entry; that of `dweight` at most
    /// the sum, over such rows, of this times the row's `|hidden|`; that of `dbias` at most this times their number. 0, the
    /// default, is exact.
    pub row_tolerance: f32,
    /// A block (one row, [`BLOCK_COLUMNS`](LinearOptions::BLOCK_COLUMNS) columns of the weight or fewer) is left out where no
    /// `|dlogits|` in it reaches this. An entry of `dhidden` is then off by at most this times the sum of `|weight|` over the
    /// columns left out, one of `dweight` by at most this times the sum of `|hidden|` over the rows left out, one of
    /// `dbias` by at most this times their number. 0, the default, is exact.
    pub block_tolerance: f32,
}

impl LinearOptions {
    /// The most columns of a block of [`block_tolerance`](Self::block_tolerance).
    pub const BLOCK_COLUMNS: usize = 1024;

    /// Checks what the type cannot.
    ///
    /// # Errors
    /// [`Error::Chunk`] for a chunk of 0; [`Error::Tolerance`] for one that is negative, infinite or NaN.
    pub fn check(&self) -> Result<(), Error> {
        for (what, chunk) in [("chunk_rows", self.chunk_rows), ("chunk_vocab", self.chunk_vocab)] {
            if chunk == Some(0) {
                return Err(Error::Chunk { what });
            }
        }
        let tolerances = [("row_tolerance", self.row_tolerance), ("block_tolerance", self.block_tolerance)];
        for (what, tolerance) in tolerances {
            if !(tolerance >= 0.0 && tolerance.is_finite()) {
                return Err(Error::Tolerance { what, tolerance });
            }
        }
        Ok(())
    }
}

/// What a part of the vocabulary knows of a row: a commutative monoid under [`merge`](RowPart::merge).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowPart {
    /// The statistics of the part's logits. `argmax` counts columns of the whole vocabulary.
    pub stats: RowStats<f64>,
    /// The target's logit; `None` where the target lies in another part.
    pub target_logit: Option<f64>,
    /// The first column, of the whole vocabulary, with a NaN or a +infinity, and that logit.
    pub fault: Option<(u32, f32)>,
}

impl RowPart {
    /// What is known of no columns at all.
    pub fn empty() -> Self {
        Self { stats: RowStats::empty(), target_logit: None, fault: None }
    }

    /// What both know.
    pub fn merge(self, other: Self) -> Self {
        let fault = match (self.fault, other.fault) {
            (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
            (a, b) => a.or(b),
        };
        Self {
            stats: self.stats.merge(other.stats),
            target_logit: self.target_logit.or(other.target_logit),
            fault,
        }
    }

    /// The row's statistics, once all parts are merged.
    ///
    /// # Errors
    /// [`Error::NonFinite`] or [`Error::NoMass`], naming the row.
    pub fn checked_stats(&self, row: usize, vocab: usize) -> Result<RowStats<f64>, Error> {
        match self.fault {
            Some((column, value)) => Err(Error::NonFinite { row, column: column as usize, value }),
            None if self.stats.is_valid() => Ok(self.stats),
            None => Err(Error::NoMass { row, vocab }),
        }
    }

    /// The row's summary, once all parts are merged.
    ///
    /// # Errors
    /// Those of [`checked_stats`](Self::checked_stats).
    pub fn summary(&self, row: usize, vocab: usize) -> Result<RowSummary<f64>, Error> {
        let stats = self.checked_stats(row, vocab)?;
        let target = self.target_logit.ok_or(Error::NoMass { row, vocab })?;
        Ok(RowSummary::new(stats, target))
    }
}

/// Turns the merged parts of all rows into summaries: NaN for ignored and for bad rows.
///
/// # Errors
/// The first bad row's, after all rows are done, if the batch asks for it.
pub fn summaries_of_parts(
    batch: &Batch<'_>,
    parts: &[RowPart],
    summaries: &mut [RowSummary<f64>],
) -> Result<(), Error> {
    let mut fault = Ok(());
    for (row, (part, summary)) in parts.iter().zip(summaries).enumerate() {
        *summary = RowSummary::nan();
        if batch.target(row).is_some() {
            match part.summary(row, batch.shape().vocab()) {
                Ok(known) => *summary = known,
                Err(error) if fault.is_ok() && batch.non_finite() == NonFinite::Error => fault = Err(error),
                Err(_) => {}
            }
        }
    }
    fault
}

/// The moves over the vocabulary, from hidden states and a head. They know no objective.
pub trait LinearBackend: Backend {
    /// `hidden, weight -> parts [rows]`: what the columns of this weight know of each row. Ignored rows get
    /// [`RowPart::empty`]. A bad logit is not an error here: see [`RowPart::fault`].
    ///
    /// # Errors
    /// [`Error::Length`] for `parts`; [`Error::Budget`]; those of [`LinearOptions::check`]; the backend's own.
    fn parts_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        parts: &mut [RowPart],
    ) -> Result<(), Self::Error>;

    /// `hidden, weight, summaries [rows], partials [rows] -> gradients`, by way of logits that are computed anew.
    /// Partials are used as they are: multiply them by weights and scale first. Returns the number of rows that
    /// were live: all others, ignored ones whatever their partials, cost nothing.
    ///
    /// # Errors
    /// [`Error::Length`] for any of the slices; [`Error::Budget`]; those of [`LinearOptions::check`]; the backend's own.
    fn push_back_linear<E: Element, G: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        summaries: &[RowSummary<f64>],
        partials: &[RowPartials<f64>],
        gradients: LinearGradients<'_, G>,
    ) -> Result<usize, Self::Error>;

    /// `hidden, weight -> summaries [rows]`, by way of parts (feature `alloc`; without, see [`summaries_of_parts`]). Ignored
    /// rows get [`RowSummary::nan`].
    ///
    /// # Errors
    /// [`Error::Columns`] for a shard, which cannot know a whole row; [`Error::Length`] for `summaries`;
    /// [`Error::NonFinite`] and [`Error::NoMass`] as the batch asks; those of [`parts_linear`](Self::parts_linear).
    #[cfg(feature = "alloc")]
    fn summarise_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        summaries: &mut [RowSummary<f64>],
    ) -> Result<(), Self::Error> {
        check_whole(linear)?;
        check_length("summaries", linear.rows(), summaries.len())?;
        let mut parts = alloc::vec![RowPart::empty(); linear.rows()];
        self.parts_linear(linear, options, &mut parts)?;
        Ok(summaries_of_parts(linear.batch(), &parts, summaries)?)
    }
}

/// All three moves, fused: where the budget holds whole rows of logits, they are computed once.
pub trait EvaluateLinear<O>: LinearBackend {
    /// Losses, totals and the gradients that are wanted, of `weight / denominator * loss`. A
    /// [`Kept`](crate::Denominator::Kept) denominator with a gradient computes the logits of live rows twice.
    ///
    /// # Errors
    /// [`Error::Columns`] for a shard; [`Error::Length`] for any slice; [`Error::Denominator`]; [`Error::Budget`];
    /// those of [`LinearOptions::check`]; [`Error::NonFinite`] and [`Error::NoMass`] as the batch asks, after all other rows are
    /// done; the backend's own.
    fn evaluate_linear<E: Element, G: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        gradients: LinearGradients<'_, G>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Self::Error>;
}

/// A whole vocabulary, or [`Error::Columns`].
///
/// # Errors
/// [`Error::Columns`] for a shard.
pub fn check_whole<E: Element>(linear: &Linear<'_, E>) -> Result<(), Error> {
    let vocab = linear.batch.shape().vocab();
    if linear.columns == (0..vocab) {
        return Ok(());
    }
    Err(Error::Columns { first: linear.columns.start, end: linear.columns.end, vocab })
}
