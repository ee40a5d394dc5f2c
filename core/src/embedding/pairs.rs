use crate::math::wide;
use crate::{Error, IGNORE_INDEX, check_length};
use num_traits::Float;

/// How a row and a column belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They belong together.
    Positive,
    /// They do not.
    Negative,
    /// The cell takes no part.
    Excluded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relations<'a> {
    Diagonal,
    Targets(&'a [i32]),
    Labels { rows: &'a [u32], columns: &'a [u32] },
    Within { labels: &'a [u32] },
    Across { domains: &'a [u32], labels: Option<&'a [u32]> },
}

/// Which cells of a matrix belong together, and how similarities become logits:
/// `scale * similarity + bias - log_q[column]`.
///
/// ```
/// use tokenloss_core::embedding::{Pairs, Relation};
///
/// let pairs = Pairs::<f32>::within(&[7, 7, 3])?.with_scale(10.0)?;
/// let row = [0, 1, 2].map(|column| pairs.relation(0, column));
/// assert_eq!(row, [Relation::Excluded, Relation::Positive, Relation::Negative]);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pairs<'a, T> {
    rows: usize,
    columns: usize,
    relations: Relations<'a>,
    scale: T,
    bias: T,
    log_q: Option<&'a [T]>,
}

impl<'a, T: Float> Pairs<'a, T> {
    fn new(rows: usize, columns: usize, relations: Relations<'a>) -> Result<Self, Error> {
        for (what, got) in [("rows", rows), ("columns", columns)] {
            if got == 0 {
                return Err(Error::TooFew { what, index: 0, needed: 1, got });
            }
        }
        if rows.checked_mul(columns).is_none() {
            return Err(Error::TooLarge { rows, stride: columns });
        }
        Ok(Self { rows, columns, relations, scale: T::one(), bias: T::zero(), log_q: None })
    }

    /// Row `i` belongs to column `i`: two views of the same things, two modalities, or a matrix of features.
    ///
    /// # Errors
    /// [`Error::TooFew`] for none; [`Error::TooLarge`].
    pub fn diagonal(rows: usize) -> Result<Self, Error> {
        Self::new(rows, rows, Relations::Diagonal)
    }

    /// Row `i` belongs to column `targets[i]`, as in a classification; [`IGNORE_INDEX`] leaves the row out.
    ///
    /// # Errors
    /// [`Error::TooFew`] for no rows or columns; [`Error::TooLarge`]; [`Error::Target`].
    pub fn targets(targets: &'a [i32], columns: usize) -> Result<Self, Error> {
        let pairs = Self::new(targets.len(), columns, Relations::Targets(targets))?;
        let fits = |target: i32| usize::try_from(target).is_ok_and(|target| target < columns);
        match targets.iter().position(|&target| target != IGNORE_INDEX && !fits(target)) {
            Some(row) => Err(Error::Target { row, target: targets[row], vocab: columns }),
            None => Ok(pairs),
        }
    }

    /// A row belongs to all columns of its label.
    ///
    /// # Errors
    /// [`Error::TooFew`] for no rows or columns; [`Error::TooLarge`].
    pub fn labels(rows: &'a [u32], columns: &'a [u32]) -> Result<Self, Error> {
        Self::new(rows.len(), columns.len(), Relations::Labels { rows, columns })
    }

    /// One set beside itself: what has the same label belongs together, and the diagonal takes no part.
    ///
    /// # Errors
    /// [`Error::TooFew`] for fewer than two; [`Error::TooLarge`].
    pub fn within(labels: &'a [u32]) -> Result<Self, Error> {
        Self::two(labels.len())?;
        Self::new(labels.len(), labels.len(), Relations::Within { labels })
    }

    /// One set beside itself: what comes from *another* domain belongs together, and the diagonal takes no part. With
    /// `labels`, cells of two different labels take no part either.
    ///
    /// # Errors
    /// [`Error::TooFew`] for fewer than two; [`Error::Length`] for `labels`; [`Error::TooLarge`].
    pub fn across(domains: &'a [u32], labels: Option<&'a [u32]>) -> Result<Self, Error> {
        Self::two(domains.len())?;
        if let Some(labels) = labels {
            check_length("labels", domains.len(), labels.len())?;
        }
        Self::new(domains.len(), domains.len(), Relations::Across { domains, labels })
    }

    fn two(got: usize) -> Result<(), Error> {
        if got < 2 { Err(Error::TooFew { what: "rows", index: 0, needed: 2, got }) } else { Ok(()) }
    }

    /// The inverse temperature, also known as logit scale; 1 unless given.
    ///
    /// # Errors
    /// [`Error::Input`] if it is not a finite number above 0.
    pub fn with_scale(self, scale: T) -> Result<Self, Error> {
        if scale.is_finite() && scale > T::zero() {
            return Ok(Self { scale, ..self });
        }
        let (value, expected) = (wide(scale), "a finite number above 0");
        Err(Error::Input { what: "scale", index: 0, value, expected })
    }

    /// What is added to every logit; 0 unless given.
    ///
    /// # Errors
    /// [`Error::Input`] if it is not finite.
    pub fn with_bias(self, bias: T) -> Result<Self, Error> {
        if bias.is_finite() {
            return Ok(Self { bias, ..self });
        }
        Err(Error::Input { what: "bias", index: 0, value: wide(bias), expected: "a finite number" })
    }

    /// The logarithm of the probability with which each column was sampled, taken off its logits.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Input`] for one that is not finite.
    pub fn with_log_q(self, log_q: &'a [T]) -> Result<Self, Error> {
        check_length("log_q", self.columns, log_q.len())?;
        match log_q.iter().position(|log_q| !log_q.is_finite()) {
            None => Ok(Self { log_q: Some(log_q), ..self }),
            Some(index) => {
                let (value, expected) = (wide(log_q[index]), "a finite number");
                Err(Error::Input { what: "log_q", index, value, expected })
            }
        }
    }

    /// How many rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// The inverse temperature.
    pub fn scale(&self) -> T {
        self.scale
    }

    /// How a row and a column belong together.
    ///
    /// # Panics
    /// May do so where there is no such row or column.
    pub fn relation(&self, row: usize, column: usize) -> Relation {
        let belongs = match self.relations {
            Relations::Diagonal => row == column,
            Relations::Targets(targets) if targets[row] == IGNORE_INDEX => return Relation::Excluded,
            Relations::Targets(targets) => usize::try_from(targets[row]) == Ok(column),
            Relations::Labels { rows, columns } => rows[row] == columns[column],
            Relations::Within { .. } | Relations::Across { .. } if row == column => {
                return Relation::Excluded;
            }
            Relations::Within { labels } => labels[row] == labels[column],
            Relations::Across { labels: Some(labels), .. } if labels[row] != labels[column] => {
                return Relation::Excluded;
            }
            Relations::Across { domains, .. } => domains[row] != domains[column],
        };
        if belongs { Relation::Positive } else { Relation::Negative }
    }

    pub(super) fn logit(&self, similarity: T, column: usize) -> T {
        let logit = self.scale * similarity + self.bias;
        self.log_q.map_or(logit, |log_q| logit - log_q[column])
    }
}
