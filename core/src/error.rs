//! What can be wrong with a caller's data.

use core::fmt;
use num_traits::Float;

/// A fault in the caller's data. Every variant names the thing, and both numbers where there are two.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A slice does not have the length that the shape asks for.
    Length {
        /// The slice, by its name in the documentation.
        what: &'static str,
        /// The length that the shape asks for.
        expected: usize,
        /// The length of the slice.
        got: usize,
    },
    /// The batch has no rows.
    NoRows,
    /// Fewer than two classes: a softmax over one class has nothing to learn.
    Vocab {
        /// The vocabulary given.
        vocab: usize,
    },
    /// The distance between rows is shorter than a row.
    Stride {
        /// The stride given.
        stride: usize,
        /// The vocabulary given.
        vocab: usize,
    },
    /// `rows * stride` or the vocabulary does not fit the index types.
    TooLarge {
        /// The rows given.
        rows: usize,
        /// The stride given.
        stride: usize,
    },
    /// A hidden state has no elements, or more than can be indexed.
    Dim {
        /// The dim given.
        dim: usize,
    },
    /// A slice of the vocabulary is empty, lies outside it, or is not all of it where all is needed.
    Columns {
        /// Its first column.
        first: usize,
        /// The column after its last.
        end: usize,
        /// The vocabulary.
        vocab: usize,
    },
    /// The budget does not hold the least that works: one row and a few columns.
    Budget {
        /// The bytes that the least takes.
        needed: usize,
        /// The bytes given.
        budget: usize,
    },
    /// A chunk of no rows or of no columns.
    Chunk {
        /// `chunk_rows` or `chunk_vocab`.
        what: &'static str,
    },
    /// A tolerance is negative, infinite or NaN.
    Tolerance {
        /// `row_tolerance` or `block_tolerance`.
        what: &'static str,
        /// The tolerance given.
        tolerance: f32,
    },
    /// A target is neither [`IGNORE_INDEX`](crate::IGNORE_INDEX) nor in `0..vocab`.
    Target {
        /// The row of the target.
        row: usize,
        /// The target given.
        target: i32,
        /// The vocabulary.
        vocab: usize,
    },
    /// A listed column is not in `0..vocab`.
    Column {
        /// The row of the list.
        row: usize,
        /// The column given.
        column: i32,
        /// The vocabulary.
        vocab: usize,
    },
    /// A row lists a column twice.
    Repeated {
        /// The row of the list.
        row: usize,
        /// The column.
        column: i32,
    },
    /// A weight is negative, infinite or NaN.
    Weight {
        /// The row of the weight.
        row: usize,
        /// The weight given.
        weight: f32,
    },
    /// A given denominator is not a positive finite number.
    Denominator {
        /// The denominator given.
        denominator: f64,
    },
    /// A parameter of an objective lies outside its domain.
    Parameter {
        /// The objective.
        objective: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The value given.
        value: f32,
        /// The least value allowed.
        min: f32,
        /// The greatest value allowed.
        max: f32,
    },
    /// A row's target is a class that its mask leaves out.
    MaskedTarget {
        /// The row.
        row: usize,
        /// Its target.
        target: i32,
    },
    /// More terms in a sum of objectives than it holds.
    Terms {
        /// The most terms.
        max: usize,
    },
    /// A threshold keeps nothing, because its lower end lies above its upper end.
    Interval {
        /// The lower end given.
        lo: f32,
        /// The upper end given.
        hi: f32,
    },
    /// Segments are not one after the other, or one is empty.
    Offsets {
        /// The place of the offset.
        index: usize,
        /// The offset before it.
        previous: usize,
        /// The offset, which must be greater.
        offset: usize,
    },
    /// An input lies outside what its objective is defined for.
    Input {
        /// The input, by its name in the documentation.
        what: &'static str,
        /// Its place.
        index: usize,
        /// The value given.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
    /// A group, stratum or batch has fewer members than its objective is defined for.
    TooFew {
        /// What there are too few of.
        what: &'static str,
        /// The place of the group.
        index: usize,
        /// The least number that works.
        needed: usize,
        /// The number given.
        got: usize,
    },
    /// Weights that are to be divided by their sum have a sum of 0.
    NoWeight {
        /// The weights, by their name in the documentation.
        what: &'static str,
    },
    /// A logit is NaN or +infinity. (-infinity is a mask and is allowed.)
    NonFinite {
        /// The row of the logit.
        row: usize,
        /// The column of the first such logit in that row.
        column: usize,
        /// The logit.
        value: f32,
    },
    /// Every logit of a row is -infinity, so that no class has any probability.
    NoMass {
        /// The row.
        row: usize,
        /// The vocabulary, all of it masked.
        vocab: usize,
    },
    /// Logits are taken for something else where divergences and labels take them as they are.
    Map,
    /// A teacher's logit is NaN or +infinity. (-infinity is a mask and is allowed.)
    TeacherNonFinite {
        /// The row of the logit.
        row: usize,
        /// The column of the first such logit in that row.
        column: usize,
        /// The logit.
        value: f32,
    },
    /// Every logit of a teacher's row is -infinity.
    TeacherNoMass {
        /// The row.
        row: usize,
        /// The vocabulary, all of it masked.
        vocab: usize,
    },
    /// A label is NaN, outside of the objective's domain, or other than 0 at a masked class.
    Label {
        /// The row of the label.
        row: usize,
        /// The first column with such a label.
        column: usize,
        /// The label given.
        label: f32,
        /// The least label allowed there.
        min: f32,
        /// The greatest label allowed there.
        max: f32,
    },
    /// A divergence is infinite: one row masks a class that the other does not.
    Support {
        /// The row.
        row: usize,
        /// The first column at which the divergence is infinite.
        column: usize,
        /// The student's logit.
        student: f32,
        /// The teacher's logit.
        teacher: f32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Length { what, expected, got } => {
                write!(f, "{what}: expected {expected} values, got {got}")
            }
            Error::NoRows => write!(f, "rows: expected at least 1, got 0"),
            Error::Vocab { vocab } => write!(f, "vocab: expected at least 2 classes, got {vocab}"),
            Error::Stride { stride, vocab } => {
                write!(f, "stride: expected at least the vocab of {vocab}, got {stride}")
            }
            Error::TooLarge { rows, stride } => {
                write!(f, "shape: {rows} rows with a stride of {stride} exceed what can be indexed")
            }
            Error::Dim { dim } => {
                write!(f, "dim: expected 1 to {} elements of a hidden state, got {dim}", i32::MAX)
            }
            Error::Columns { first, end, vocab } => {
                write!(f, "columns: {first}..{end} is empty, or not what a vocab of {vocab} asks for")
            }
            Error::Budget { needed, budget } => {
                write!(
                    f,
                    "budget: {budget} bytes hold not even one row and a few columns, expected at least {needed}"
                )
            }
            Error::Chunk { what } => write!(f, "{what}: expected at least 1, got 0"),
            Error::Tolerance { what, tolerance } => {
                write!(f, "{what}: expected a finite number of at least 0, got {tolerance}")
            }
            Error::Target { row, target, vocab } => write!(
                f,
                "targets: row {row} has target {target}, expected {} (ignored) or 0 to {} for a vocab of {vocab}",
                crate::IGNORE_INDEX,
                vocab - 1
            ),
            Error::Column { row, column, vocab } => {
                write!(
                    f,
                    "columns: row {row} lists column {column}, expected 0 to {} for a vocab of {vocab}",
                    vocab - 1
                )
            }
            Error::Repeated { row, column } => {
                write!(f, "columns: row {row} lists column {column} twice, expected it once")
            }
            Error::Weight { row, weight } => {
                write!(f, "weights: row {row} has weight {weight}, expected a finite number of at least 0")
            }
            Error::Denominator { denominator } => {
                write!(f, "denominator: expected a positive finite number, got {denominator}")
            }
            Error::Parameter { objective, parameter, value, min, max } => {
                write!(f, "{objective}: {parameter} = {value} lies outside its domain {min} to {max}")
            }
            Error::MaskedTarget { row, target } => {
                write!(f, "mask: row {row} has target {target}, a class that the mask leaves out")
            }
            Error::Terms { max } => write!(f, "objective: more than the {max} terms that a sum holds"),
            Error::Interval { lo, hi } => {
                write!(f, "thresholded: lo = {lo} lies above hi = {hi}, so that no row would be kept")
            }
            Error::Offsets { index, previous, offset } => {
                write!(f, "offsets: offset {index} is {offset}, expected more than the {previous} before it")
            }
            Error::Input { what, index, value, expected } => {
                write!(f, "{what}: value {index} is {value}, expected {expected}")
            }
            Error::TooFew { what, index, needed, got } => {
                write!(f, "{what}: number {index} has {got} members, expected at least {needed}")
            }
            Error::NoWeight { what } => write!(f, "{what}: the sum is 0, which nothing can be divided by"),
            Error::NonFinite { row, column, value } => {
                write!(f, "logits: row {row}, column {column} is {value}, expected a finite number or -inf")
            }
            Error::NoMass { row, vocab } => {
                write!(
                    f,
                    "logits: row {row} is -inf in all {vocab} columns, so that no class has probability"
                )
            }
            Error::Map => {
                write!(
                    f,
                    "map: divergences and labels take logits as they are, expected a batch without a map"
                )
            }
            Error::TeacherNonFinite { row, column, value } => {
                write!(f, "teacher: row {row}, column {column} is {value}, expected a finite number or -inf")
            }
            Error::TeacherNoMass { row, vocab } => {
                write!(
                    f,
                    "teacher: row {row} is -inf in all {vocab} columns, so that no class has probability"
                )
            }
            Error::Label { row, column, label, min, max } => {
                write!(f, "labels: row {row}, column {column} is {label}, expected {min} to {max} there")
            }
            Error::Support { row, column, student, teacher } => write!(
                f,
                "divergence: row {row} is infinite, because column {column} is {student} in logits and {teacher} in teacher"
            ),
        }
    }
}

impl core::error::Error for Error {}

/// Checks the length of a slice that the documentation calls `what`.
///
/// # Errors
/// [`Error::Length`] if `got` is not `expected`.
pub fn check_length(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got { Ok(()) } else { Err(Error::Length { what, expected, got }) }
}

/// Checks inputs, each with its place, that the documentation calls `what`.
///
/// # Errors
/// [`Error::Input`] for the first that is not `inside`, which is put into words as `expected`.
pub(crate) fn check_inputs<T: Float>(
    what: &'static str,
    expected: &'static str,
    inputs: impl IntoIterator<Item = (usize, T)>,
    inside: impl Fn(T) -> bool,
) -> Result<(), Error> {
    match inputs.into_iter().find(|(_, value)| !inside(*value)) {
        None => Ok(()),
        Some((index, value)) => {
            Err(Error::Input { what, index, value: value.to_f64().unwrap_or(f64::NAN), expected })
        }
    }
}

/// [`check_inputs`] for finite ones.
pub(crate) fn check_finite<T: Float>(
    what: &'static str,
    inputs: impl IntoIterator<Item = (usize, T)>,
) -> Result<(), Error> {
    check_inputs(what, "a finite number", inputs, T::is_finite)
}
