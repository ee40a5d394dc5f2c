//! Safetensors files, read by map and written whole or not at all.

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::tensor::{Dtype as StoredDtype, SafeTensorError, SafeTensors, TensorView, View};
use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tokenloss::half::slice::HalfBitsSliceExt;
use tokenloss::half::{bf16, f16};
use tokenloss::{Dtype, Element};

/// An element as it lies in a file.
pub(crate) trait Stored: Element + Default {
    /// Its type in the file's words.
    const STORED: StoredDtype;
    /// From little-endian bytes.
    fn read(bytes: &[u8]) -> Self;
    /// The bytes themselves, where this machine holds its numbers as the file does, and they are aligned.
    fn view(bytes: &[u8]) -> Option<&[Self]>;
    /// To little-endian bytes.
    fn write(self, bytes: &mut Vec<u8>);
}

macro_rules! stored {
    ($type:ty, $stored:ident, $view:expr) => {
        impl Stored for $type {
            const STORED: StoredDtype = StoredDtype::$stored;
            fn read(bytes: &[u8]) -> Self {
                bytes.try_into().map(Self::from_le_bytes).unwrap_or_default()
            }
            fn view(bytes: &[u8]) -> Option<&[Self]> {
                if cfg!(target_endian = "little") { $view(bytes) } else { None }
            }
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}
fn words<T: bytemuck::Pod>(bytes: &[u8]) -> Option<&[T]> {
    bytemuck::try_cast_slice(bytes).ok()
}

stored!(f32, F32, words);
stored!(f16, F16, |bytes| words::<u16>(bytes).map(HalfBitsSliceExt::reinterpret_cast));
stored!(bf16, BF16, |bytes| words::<u16>(bytes).map(HalfBitsSliceExt::reinterpret_cast));

/// A matrix in a file, not yet read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// Rows.
    pub(crate) rows: usize,
    /// Columns.
    pub(crate) columns: usize,
    /// The type of its elements.
    pub(crate) dtype: Dtype,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// Rows as they lie in the file, or each element converted to `E`, exactly or by one rounding.
    pub(crate) fn read<E: Stored>(&self, rows: Range<usize>) -> Cow<'a, [E]> {
        fn convert<S: Stored, E: Stored>(bytes: &[u8]) -> Vec<E> {
            let size = S::DTYPE.bytes();
            bytes.chunks_exact(size).map(|b| E::from_f32(S::read(b).to_f32())).collect()
        }
        let row = self.columns * self.dtype.bytes();
        let bytes = &self.bytes[rows.start * row..rows.end * row];
        if let Some(same) = (self.dtype == E::DTYPE).then(|| E::view(bytes)).flatten() {
            return Cow::Borrowed(same);
        }
        Cow::Owned(match self.dtype {
            Dtype::F32 => convert::<f32, E>(bytes),
            Dtype::F16 => convert::<f16, E>(bytes),
            Dtype::Bf16 => convert::<bf16, E>(bytes),
        })
    }
}

/// A safetensors file, mapped.
pub(crate) struct Input {
    path: PathBuf,
    map: Mmap,
}

impl Input {
    /// Opens a file and checks its header against its length.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let file = File::open(path).with_context(|| format!("{name}: cannot be read"))?;
        // SAFETY: the map is only read. Its bytes are those of the file for as long as no other process
        // truncates or rewrites it meanwhile, which is the condition under which any program can read a
        // file too large to copy.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("{name}: cannot be mapped"))?;
        let input = Self { path: path.to_owned(), map };
        if let Err(error) = input.tensors() {
            match input.truncation() {
                Some((expected, got)) => bail!("{name}: expected {expected} bytes, got {got}"),
                None => bail!("{name}: not a safetensors file: {error}"),
            }
        }
        Ok(input)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, SafeTensorError> {
        SafeTensors::deserialize(&self.map)
    }

    /// The length that the header asks for and the file's own, if they differ.
    fn truncation(&self) -> Option<(u64, u64)> {
        let got = self.map.len() as u64;
        let header = u64::from_le_bytes(self.map.get(..8)?.try_into().ok()?);
        let start = header.checked_add(8)?;
        let Some(text) = self.map.get(8..usize::try_from(start).ok()?) else {
            // A header of more than 100 MB is no header, but the first bytes of something else.
            return (header < 100_000_000).then_some((start, got));
        };
        let json: serde_json::Value = serde_json::from_slice(text).ok()?;
        let ends = json.as_object()?.values().filter_map(|v| v.get("data_offsets")?.get(1)?.as_u64());
        let expected = start.checked_add(ends.max()?)?;
        (expected != got).then_some((expected, got))
    }

    /// Its path, for what is said of it.
    pub(crate) fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors().is_ok_and(|tensors| tensors.tensor(name).is_ok())
    }

    fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let tensors = self.tensors()?;
        tensors.tensor(name).map_err(|_| {
            let mut names = tensors.names();
            names.sort_unstable();
            anyhow::anyhow!("{}: no tensor '{name}', only {}", self.name(), names.join(", "))
        })
    }

    /// A matrix of f32, f16 or bf16.
    pub(crate) fn matrix(&self, name: &str, shape: &str) -> Result<Matrix<'_>> {
        let view = self.tensor(name)?;
        let dtype = self.float(name, &view)?;
        let &[rows, columns] = view.shape() else {
            bail!("{}: {name} has shape {:?}, expected {shape}", self.name(), view.shape());
        };
        Ok(Matrix { rows, columns, dtype, bytes: view.data() })
    }

    fn float(&self, name: &str, view: &TensorView<'_>) -> Result<Dtype> {
        Ok(match view.dtype() {
            StoredDtype::F32 => Dtype::F32,
            StoredDtype::F16 => Dtype::F16,
            StoredDtype::BF16 => Dtype::Bf16,
            other => bail!("{}: {name} is {other}, expected F32, F16 or BF16", self.name()),
        })
    }

    /// A vector with one value for each of something.
    fn vector(&self, name: &str, length: usize, of: &str) -> Result<TensorView<'_>> {
        let view = self.tensor(name)?;
        ensure!(
            view.shape() == [length],
            "{}: {name} has shape {:?}, expected [{length}], one for each {of}",
            self.name(),
            view.shape()
        );
        Ok(view)
    }

    /// `bias [vocab]` as a matrix of one column, if the file has it.
    pub(crate) fn bias(&self, vocab: usize) -> Result<Option<Matrix<'_>>> {
        if !self.has("bias") {
            return Ok(None);
        }
        let view = self.vector("bias", vocab, "row of the head")?;
        let dtype = self.float("bias", &view)?;
        Ok(Some(Matrix { rows: vocab, columns: 1, dtype, bytes: view.data() }))
    }

    /// `targets [rows]`, i32 or i64.
    pub(crate) fn targets(&self, rows: usize) -> Result<Vec<i32>> {
        let view = self.vector("targets", rows, "row")?;
        let wide = match view.dtype() {
            StoredDtype::I32 => {
                return Ok(view.data().chunks_exact(4).map(|b| i32::from_le_bytes(array(b))).collect());
            }
            StoredDtype::I64 => view.data().chunks_exact(8).map(|b| i64::from_le_bytes(array(b))),
            other => bail!("{}: targets is {other}, expected I32 or I64", self.name()),
        };
        let narrow = wide.enumerate().map(|(row, target)| {
            i32::try_from(target)
                .with_context(|| format!("{}: targets: row {row} has target {target}", self.name()))
        });
        narrow.collect()
    }

    /// `weights [rows]`, f32, if the file has them.
    pub(crate) fn weights(&self, rows: usize) -> Result<Option<Vec<f32>>> {
        if !self.has("weights") {
            return Ok(None);
        }
        let view = self.vector("weights", rows, "row")?;
        ensure!(
            view.dtype() == StoredDtype::F32,
            "{}: weights is {}, expected F32",
            self.name(),
            view.dtype()
        );
        Ok(Some(view.data().chunks_exact(4).map(|b| f32::from_le_bytes(array(b))).collect()))
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// A tensor to be written.
pub(crate) struct Output {
    dtype: StoredDtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Output {
    /// Of floating-point numbers.
    pub(crate) fn floats<E: Stored>(values: &[E], shape: &[usize]) -> Self {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| value.write(&mut bytes));
        Self { dtype: E::STORED, shape: shape.to_vec(), bytes }
    }

    /// Of integers.
    pub(crate) fn integers(values: &[i32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: StoredDtype::I32, shape: vec![values.len()], bytes }
    }
}

impl View for Output {
    fn dtype(&self) -> StoredDtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a safetensors file: to a temporary name beside it, then renamed, so that a failure leaves nothing.
pub(crate) fn write_tensors(path: &Path, tensors: Vec<(&str, Output)>) -> Result<()> {
    let beside = |path: &Path| path.parent().is_some_and(|parent| parent.as_os_str().is_empty());
    let full = if beside(path) { Path::new(".").join(path) } else { path.to_owned() };
    safetensors::serialize_to_file(tensors, None, &full)
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// Writes a file: to a temporary name beside it, then renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .inspect_err(|_| {
            // Whatever was written is of no use; that it may not exist is no second error.
            let _ = std::fs::remove_file(&temporary);
        })
        .with_context(|| format!("{}: cannot be written", path.display()))
}
