//! What logits are taken for, and into which bindings that goes.

use crate::GpuError;
use crate::dispatch::Bound;
use crate::job::Part;
use crate::plan::Cut;
use std::ops::Range;
use tokenloss_core::Link;
use tokenloss_shaders::{GATHERED_WORDS, Map, Params, binding, flag};
use wgpu::BufferBinding;

/// What logits are taken for: a [`LogitMap`](tokenloss_core::LogitMap) whose rows have what is their own on the GPU.
#[derive(Debug, Clone)]
pub struct MapBindings<'a> {
    /// First, the link.
    pub link: Link,
    /// Last, a factor: a positive normal number.
    pub scale: f32,
    /// Between them, off the target's logit.
    pub margin: f32,
    /// `[rows, 2]`, f32: each row's own scale and margin, instead of these.
    pub rows: Option<BufferBinding<'a>>,
    /// Which classes are allowed.
    pub mask: Option<MaskBinding<'a>>,
}

/// Which classes a row may choose from, see [`ClassMask`](tokenloss_core::ClassMask). No target may be masked: its loss would
/// be that of a logit of -infinity.
#[derive(Debug, Clone)]
pub struct MaskBinding<'a> {
    /// `[ceil(vocab / 32)]`, u32, or `[rows, ceil(vocab / 32)]`.
    pub words: BufferBinding<'a>,
    /// Whether each row has its own.
    pub per_row: bool,
}

/// The checked parts of a map.
#[derive(Default)]
pub(crate) struct MapParts<'a> {
    link: Option<(Link, f32, f32)>,
    rows: Option<Part<'a>>,
    /// Words from one row's numbers to the next row's.
    row_words: usize,
    mask: Option<Part<'a>>,
    /// Words of a mask, and from one row's to the next.
    words: usize,
    stride: usize,
}

impl<'a> MapParts<'a> {
    pub(crate) fn new(map: Option<&MapBindings<'a>>, rows: usize, vocab: usize) -> Result<Self, GpuError> {
        let Some(map) = map else { return Ok(Self::default()) };
        let words = vocab.div_ceil(32);
        let per_row = map.mask.as_ref().is_some_and(|mask| mask.per_row);
        let mask = |mask: &MaskBinding<'a>| {
            Part::new("mask", &mask.words, 4 * (words * if mask.per_row { rows } else { 1 }) as u64)
        };
        Ok(Self {
            link: Some((map.link, map.scale, map.margin)),
            rows: map.rows.as_ref().map(|part| Part::new("row maps", part, 8 * rows as u64)).transpose()?,
            row_words: 2,
            mask: map.mask.as_ref().map(mask).transpose()?,
            words,
            stride: if per_row { words } else { 0 },
        })
    }

    /// The rows' own numbers among what is gathered of them; those that there were before are returned.
    pub(crate) fn gather(&mut self, gathered: Part<'a>) -> Option<Part<'a>> {
        self.row_words = GATHERED_WORDS;
        self.rows.replace(gathered)
    }

    /// All that is read.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part<'a>> {
        self.rows.iter().chain(&self.mask)
    }

    /// The files of the program.
    pub(crate) fn program(&self) -> Result<Map, GpuError> {
        Ok(match self.link {
            None => Map::None,
            Some((Link::Identity, ..)) => Map::Identity,
            Some((Link::Softcap { .. }, ..)) => Map::Softcap,
            Some((Link::StableMax, ..)) => Map::StableMax,
            Some(_) => return Err(GpuError::Unsupported { what: "link" }),
        })
    }

    pub(crate) fn params(&self, params: Params) -> Params {
        let Some((link, link_scale, link_margin)) = self.link else { return params };
        let rows = if self.rows.is_some() { flag::ROW_MAPS } else { 0 };
        let mask = if self.mask.is_some() { flag::MASK } else { 0 };
        Params {
            link_scale,
            link_margin,
            link_cap: if let Link::Softcap { cap } = link { cap } else { 0.0 },
            mask_stride: self.stride as u32,
            flags: params.flags | rows | mask,
            ..params
        }
    }

    /// The bindings of some rows.
    pub(crate) fn bind<'b>(
        &'b self,
        cut: &Cut,
        nothing: &'b wgpu::Buffer,
        rows: &Range<usize>,
        params: &mut Params,
        bound: &mut Vec<Bound<'b>>,
    ) {
        let mut bind = |binding, part: Option<&Part<'b>>, at: usize, words: usize| {
            let Some(part) = part else {
                bound.push(Bound { binding, buffer: nothing, offset: 0, size: nothing.size() });
                return 0;
            };
            let (part, into) = part.bound(cut, binding, 4 * at as u64, 4 * words as u64);
            bound.push(part);
            (into / 4) as u32
        };
        let (at, words) = (rows.start * self.row_words, rows.len() * self.row_words);
        params.row_maps_first = bind(binding::ROW_MAPS, self.rows.as_ref(), at, words);
        let last = rows.len() - 1;
        params.mask_first = bind(
            binding::MASK,
            self.mask.as_ref(),
            rows.start * self.stride,
            last * self.stride + self.words,
        );
    }
}
