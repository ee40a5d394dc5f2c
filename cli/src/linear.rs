//! Hidden states in one file and their head in another.

use crate::files::{Input, Matrix, Stored};
use anyhow::{Result, bail, ensure};
use clap::Args;
use std::borrow::Cow;
use std::ops::Range;
use tokenloss::{Batch, Budget, Dtype, Linear, LinearOptions};

/// How the linear form works through rows and vocabulary.
#[derive(Debug, Clone, Args)]
#[group(id = Tiling::GROUP)]
pub(crate) struct Tiling {
    /// Budget: the most bytes held beside inputs and outputs, such as 64MiB
    #[arg(long, default_value = DEFAULT_BUDGET, value_parser = budget, value_name = "SIZE")]
    memory: Budget,
    /// Leave a row out of the gradients where the sum of its |dlogits| lies below this; 0 is exact
    #[arg(long, default_value_t = 0.0, value_name = "X", allow_negative_numbers = true)]
    row_tolerance: f32,
    /// Leave 1,024 columns of a row out of the gradients where no |dlogits| in them reaches this; 0 is exact
    #[arg(long, default_value_t = 0.0, value_name = "X", allow_negative_numbers = true)]
    block_tolerance: f32,
}

impl Tiling {
    /// All its options, of which a command can say that they need another.
    pub(crate) const GROUP: &str = "tiling";

    /// The same for a backend.
    pub(crate) fn options(&self) -> LinearOptions {
        let &Self { memory, row_tolerance, block_tolerance } = self;
        LinearOptions { budget: memory, row_tolerance, block_tolerance, ..LinearOptions::default() }
    }
}

/// [`Budget::default`], as it is written.
pub(crate) const DEFAULT_BUDGET: &str = "64MiB";

/// `256MiB`, `1GB`, `4096`: bytes.
pub(crate) fn budget(text: &str) -> Result<Budget> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1024f64.powi(2),
        "gib" | "g" => 1024f64.powi(3),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => bail!("expected a number of bytes, KiB, MiB or GiB"),
    };
    match digits.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(Budget((number * unit) as usize)),
        _ => bail!("expected a number of bytes, KiB, MiB or GiB"),
    }
}

/// What a [`Linear`] is made of, not yet read.
pub(crate) struct StoredLinear<'a> {
    name: String,
    hidden: Matrix<'a>,
    head: Matrix<'a>,
    bias: Option<Matrix<'a>>,
}

/// What a head is called: by us, in checkpoints as they are shared, as a layer by itself, and where it is tied to the
/// embedding.
const HEADS: [&str; 4] = ["lm_head", "lm_head.weight", "weight", "model.embed_tokens.weight"];

impl<'a> StoredLinear<'a> {
    /// `hidden [rows, dim]` of one file; `lm_head [vocab, dim]`, or another of [`HEADS`], and `bias [vocab]` of the other.
    pub(crate) fn of(rows: &'a Input, head: &'a Input) -> Result<Self> {
        let name = HEADS.into_iter().find(|name| head.has(name)).unwrap_or(HEADS[0]);
        let (hidden, matrix) = (rows.matrix("hidden", "[rows, dim]")?, head.matrix(name, "[vocab, dim]")?);
        ensure!(
            hidden.columns == matrix.columns,
            "{}: hidden has dim {}, but {name} of {} has dim {}",
            rows.name(),
            hidden.columns,
            head.name(),
            matrix.columns
        );
        let bias = head.bias(matrix.rows)?;
        Ok(Self { name: format!("{} with {}", rows.name(), head.name()), hidden, head: matrix, bias })
    }

    /// Both files, for what is said of them together.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    /// Rows.
    pub(crate) fn rows(&self) -> usize {
        self.hidden.rows
    }

    /// Elements of a hidden state.
    pub(crate) fn dim(&self) -> usize {
        self.hidden.columns
    }

    /// Rows of the head.
    pub(crate) fn vocab(&self) -> usize {
        self.head.rows
    }

    /// The type that all of it has, or else f32, which holds every other exactly.
    pub(crate) fn dtype(&self) -> Dtype {
        let others = [Some(self.head), self.bias];
        let same = others.iter().flatten().all(|other| other.dtype == self.hidden.dtype);
        if same { self.hidden.dtype } else { Dtype::F32 }
    }

    /// Reads all of it.
    pub(crate) fn read<E: Stored>(&self) -> LinearTensors<'a, E> {
        let all = |matrix: &Matrix<'a>| matrix.read::<E>(0..matrix.rows);
        LinearTensors {
            dim: self.dim(),
            hidden: all(&self.hidden),
            head: all(&self.head),
            bias: self.bias.as_ref().map(all),
        }
    }
}

/// What a [`Linear`] is made of, in one type.
pub(crate) struct LinearTensors<'a, E: Stored> {
    dim: usize,
    hidden: Cow<'a, [E]>,
    head: Cow<'a, [E]>,
    bias: Option<Cow<'a, [E]>>,
}

impl<E: Stored> LinearTensors<'_, E> {
    /// Those rows of it that the batch is about.
    pub(crate) fn linear<'b>(
        &'b self,
        batch: Batch<'b>,
        rows: Range<usize>,
    ) -> Result<Linear<'b, E>, tokenloss::Error> {
        let hidden = &self.hidden[rows.start * self.dim..rows.end * self.dim];
        let linear = Linear::new(batch, self.dim, hidden, &self.head)?;
        match &self.bias {
            Some(bias) => linear.with_bias(bias),
            None => Ok(linear),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(budget(DEFAULT_BUDGET).unwrap(), Budget::default());
        for (text, bytes) in [("4096", 4096), ("1.5 KiB", 1536), ("2GB", 2_000_000_000), ("1g", 1 << 30)] {
            assert_eq!(budget(text).unwrap(), Budget(bytes), "{text}");
        }
        for text in ["", "0", "-1", "MiB", "1PB", "inf", "1e999"] {
            assert!(budget(text).is_err(), "{text}");
        }
    }
}
