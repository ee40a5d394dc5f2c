use crate::RowStats;
use num_traits::Float;

/// A row as its listed columns and the rest: k + 1 classes, of which the last is the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnRow<'a, T> {
    /// The logits of the listed columns; -infinity where masked.
    pub logits: &'a [T],
    /// The log-sum-exp of all other columns; -infinity where there are none.
    pub rest: T,
}

impl<'a, T: Float> ColumnRow<'a, T> {
    /// The listed columns among themselves.
    pub fn alone(self) -> Self {
        Self { rest: T::neg_infinity(), ..self }
    }

    /// The logit of each class, the rest last.
    pub fn classes(&self) -> impl Iterator<Item = T> + use<'a, T> {
        self.logits.iter().copied().chain([self.rest])
    }

    /// The logit of one class; that of the rest beyond the last listed column.
    pub(crate) fn class(&self, class: usize) -> T {
        self.logits.get(class).copied().unwrap_or(self.rest)
    }

    /// The statistics of all classes. The rest is the column after the last.
    pub fn stats(&self) -> RowStats<T> {
        stats(self.classes().enumerate())
    }

    /// The statistics of all classes but one.
    pub(crate) fn stats_without(&self, class: usize) -> RowStats<T> {
        stats(self.classes().enumerate().filter(|(at, _)| *at != class))
    }

    /// The derivatives of a loss that a shift of all logits leaves as it is, whose sum is therefore 0: those of all classes
    /// but the likeliest by `of(class, logit)`, that one's from theirs. It is the one that would be a difference of numbers
    /// near 1. Returns the rest's.
    pub(crate) fn balanced(&self, stats: &RowStats<T>, d: &mut [T], of: impl Fn(usize, T) -> T) -> T {
        let likeliest = stats.argmax as usize;
        let (mut sum, mut d_rest) = (T::zero(), T::zero());
        for (class, logit) in self.classes().enumerate() {
            if class != likeliest {
                let own = of(class, logit);
                sum = sum + own;
                *d.get_mut(class).unwrap_or(&mut d_rest) = own;
            }
        }
        *d.get_mut(likeliest).unwrap_or(&mut d_rest) = -sum;
        d_rest
    }
}

fn stats<T: Float>(classes: impl Iterator<Item = (usize, T)>) -> RowStats<T> {
    classes.fold(RowStats::empty(), |stats, (class, logit)| stats.merge(RowStats::of(logit, class as u32)))
}

/// `p`, without the rounding of `log_p` where it is large.
pub(crate) fn share<T: Float>(stats: &RowStats<T>, logit: T) -> T {
    (logit - stats.max).exp() / (T::one() + stats.tail)
}

/// What an objective is told beside a row's logits; each says what it looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side<'a, T> {
    /// Of the listed columns.
    pub columns: &'a [T],
    /// Of the row, which for coefficients and teachers is that of the rest.
    pub row: T,
}

impl<T: Float> Side<'_, T> {
    /// For objectives that look at nothing.
    pub fn nothing() -> Self {
        Self { columns: &[], row: T::nan() }
    }

    /// In the shape of a row.
    pub(crate) fn as_row(&self) -> ColumnRow<'_, T> {
        ColumnRow { logits: self.columns, rest: self.row }
    }
}

/// The value and the derivative by the rest; those by the listed logits lie in a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnEval<T> {
    /// The loss.
    pub loss: T,
    /// By the log-sum-exp of all columns that are not listed.
    pub d_rest: T,
}
