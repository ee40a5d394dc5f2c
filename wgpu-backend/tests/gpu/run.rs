//! Runs one job in buffers of the test's own, which are guarded on all sides.

use crate::data::{Matrix, element, to_words};
use std::ops::Range;
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{Dtype, Guidance, LogitMap, Reduction, RowMap, Shape};
use tokenloss_wgpu::shaders::{RECORD_WORDS, TOTALS_WORDS};
use tokenloss_wgpu::{
    Data, Gpu, GpuError, Gradient, GuidanceBindings, Job, MapBindings, MaskBinding, Record, ShaderObjective,
    TeacherData, wgpu,
};
use wgpu::util::DeviceExt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    None,
    Over,
    Into,
}

pub(crate) const PLACES: [Place; 3] = [Place::None, Place::Over, Place::Into];

/// What is around and between what a shader may touch. As f32, f16 or bf16 it is a NaN.
const FILLER: u32 = 0xffd1_ffd1;

/// Words of guard behind each buffer.
const BAND: usize = 24;

#[derive(Clone)]
pub(crate) struct Setup<'a> {
    pub(crate) matrix: &'a Matrix,
    pub(crate) stride: usize,
    /// Words in front of logits, gradient, targets, records.
    pub(crate) offsets: [usize; 4],
    pub(crate) objective: &'a dyn ShaderObjective,
    pub(crate) reduction: Reduction,
    pub(crate) weights: Option<&'a [f32]>,
    pub(crate) place: Place,
    pub(crate) map: Option<LogitMap<'a>>,
    pub(crate) guide: Option<Guide<'a>>,
}

/// What guides the rows of a setup.
#[derive(Clone, Copy)]
pub(crate) struct Guide<'a> {
    pub(crate) teacher: &'a Matrix,
    pub(crate) stride: usize,
    /// Words in front of the teacher's logits; in front of the strengths as many as in front of the targets.
    pub(crate) offset: usize,
    pub(crate) guidance: Guidance<'a>,
}

impl<'a> Guide<'a> {
    pub(crate) fn new(teacher: &'a Matrix, guidance: Guidance<'a>) -> Self {
        Self { teacher, stride: teacher.vocab, offset: 0, guidance }
    }
}

impl<'a> Setup<'a> {
    pub(crate) fn new(matrix: &'a Matrix, objective: &'a dyn ShaderObjective) -> Self {
        Self {
            matrix,
            stride: matrix.vocab.next_multiple_of(2),
            offsets: [0; 4],
            objective,
            reduction: Reduction::Sum,
            weights: None,
            place: Place::Into,
            map: None,
            guide: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Done {
    pub(crate) records: Vec<Record>,
    pub(crate) record_words: Vec<u32>,
    pub(crate) totals: Vec<u32>,
    /// `[rows, vocab]`
    pub(crate) dlogits: Vec<f32>,
}

pub(crate) fn words_of(matrix: &Matrix, stride: usize) -> Vec<u32> {
    match matrix.dtype {
        Dtype::F32 => to_words::<f32>(matrix, stride, FILLER),
        Dtype::F16 => to_words::<f16>(matrix, stride, FILLER),
        Dtype::Bf16 => to_words::<bf16>(matrix, stride, FILLER),
    }
}

pub(crate) fn buffer(gpu: &Gpu, words: &[u32]) -> wgpu::Buffer {
    gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(words),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
    })
}

pub(crate) fn part(buffer: &wgpu::Buffer, word: usize, words: usize) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset: 4 * word as u64, size: wgpu::BufferSize::new(4 * words as u64) }
}

pub(crate) fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<u32> {
    let device = gpu.device();
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    gpu.queue().submit([encoder.finish()]);
    staging.slice(..).map_async(wgpu::MapMode::Read, |_| {});
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let range = staging.slice(..).get_mapped_range().unwrap();
    range.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// A buffer with `words` in it, `offset` words of filler in front and a band behind.
pub(crate) fn guarded(offset: usize, words: &[u32]) -> Vec<u32> {
    let mut all = vec![FILLER; offset];
    all.extend(words);
    all.extend([FILLER; BAND]);
    all
}

/// The elements of a matrix of this one's shape.
pub(crate) fn elements(words: &[u32], like: &Matrix, stride: usize) -> Vec<f32> {
    let at = |i: usize| i / like.vocab * stride + i % like.vocab;
    (0..like.rows() * like.vocab).map(|i| element(like.dtype, words, at(i))).collect()
}

/// What may be written of a buffer.
pub(crate) struct Written {
    buffer: usize,
    words: Range<usize>,
    /// Elements in a word, in a row, and from one row to the next; all, if `None`.
    matrix: Option<[usize; 3]>,
}

impl Written {
    pub(crate) fn words(buffer: usize, at: usize, words: usize) -> Self {
        Self { buffer, words: at..at + words, matrix: None }
    }

    pub(crate) fn matrix(buffer: usize, at: usize, matrix: &Matrix, stride: usize) -> Self {
        let per_word = 4 / matrix.dtype.bytes();
        let words = words_of(matrix, stride).len();
        Self { buffer, words: at..at + words, matrix: Some([per_word, matrix.vocab, stride]) }
    }

    /// The bits of a word that may have changed.
    fn bits(&self, word: usize) -> u32 {
        if !self.words.contains(&word) {
            return 0;
        }
        let Some([per_word, vocab, stride]) = self.matrix else { return u32::MAX };
        let element = |k: usize| ((word - self.words.start) * per_word + k) % stride;
        let inside = |k: &usize| element(*k) < vocab;
        let part = |k: usize| if per_word == 1 { u32::MAX } else { 0xffff << (16 * k) };
        (0..per_word).filter(inside).map(part).fold(0, |bits, part| bits | part)
    }
}

/// Only what may be written has changed.
pub(crate) fn check_written(before: &[Vec<u32>], after: &[Vec<u32>], written: &[Written]) {
    for (buffer, (before, after)) in before.iter().zip(after).enumerate() {
        for (word, (before, after)) in before.iter().zip(after).enumerate() {
            let of_buffer = written.iter().filter(|written| written.buffer == buffer);
            let bits = of_buffer.fold(0, |bits, written| bits | written.bits(word));
            assert!((before ^ after) & !bits == 0, "buffer {buffer}, word {word} was written");
        }
    }
}

/// A logit map in buffers of the test's own.
struct MapBuffers<'a> {
    map: LogitMap<'a>,
    first: RowMap<'a>,
    rows: wgpu::Buffer,
    mask: wgpu::Buffer,
    words: usize,
}

impl<'a> MapBuffers<'a> {
    fn new(gpu: &Gpu, map: &LogitMap<'a>, rows: usize, vocab: usize, offset: usize) -> Self {
        let of = |row| map.row(row, vocab);
        let numbers: Vec<u32> =
            (0..rows).flat_map(|row| [of(row).scale, of(row).margin].map(f32::to_bits)).collect();
        let mask = map.mask().map_or(&[][..], |mask| mask.words().0);
        Self {
            map: *map,
            first: of(0),
            rows: buffer(gpu, &guarded(offset, &numbers)),
            mask: buffer(gpu, &guarded(offset, mask)),
            words: mask.len(),
        }
    }

    fn bindings(&self, offset: usize) -> MapBindings<'_> {
        let RowMap { link, scale, margin, .. } = self.first;
        let own = self.map.scales().is_some() || self.map.margins().is_some();
        let numbers = self.rows.size() as usize / 4 - offset - BAND;
        MapBindings {
            link,
            scale,
            margin,
            rows: own.then(|| part(&self.rows, offset, numbers)),
            mask: self.map.mask().map(|mask| MaskBinding {
                words: part(&self.mask, offset, self.words),
                per_row: mask.words().1,
            }),
        }
    }
}

/// A teacher and strengths in buffers of the test's own.
struct GuideBuffers<'a> {
    guide: Guide<'a>,
    rows: usize,
    words: usize,
    teacher: wgpu::Buffer,
    strengths: wgpu::Buffer,
}

impl<'a> GuideBuffers<'a> {
    fn new(gpu: &Gpu, guide: &Guide<'a>, rows: usize, offset: usize) -> Self {
        let words = words_of(guide.teacher, guide.stride);
        let strengths: Vec<u32> = (0..rows).map(|row| guide.guidance.of_row(row).to_bits()).collect();
        Self {
            guide: *guide,
            rows,
            words: words.len(),
            teacher: buffer(gpu, &guarded(guide.offset, &words)),
            strengths: buffer(gpu, &guarded(offset, &strengths)),
        }
    }

    fn bindings(&self, offset: usize) -> GuidanceBindings<'_> {
        let Guide { teacher, stride, offset: at, guidance } = self.guide;
        let shape = Shape::new(self.rows, teacher.vocab).unwrap().with_stride(stride).unwrap();
        GuidanceBindings {
            teacher: TeacherData { shape, dtype: teacher.dtype, logits: part(&self.teacher, at, self.words) },
            strength: if let Guidance::All(strength) = guidance { strength } else { 1.0 },
            rows: matches!(guidance, Guidance::Each(_)).then(|| part(&self.strengths, offset, self.rows)),
        }
    }
}

/// Runs the job twice, demands the same bits, and that nothing outside was touched.
pub(crate) fn run(gpu: &Gpu, setup: &Setup<'_>) -> Done {
    let once = try_run(gpu, setup).unwrap();
    assert_eq!(once.0, try_run(gpu, setup).unwrap().0, "two runs differ");
    once.1
}

fn try_run(gpu: &Gpu, setup: &Setup<'_>) -> Result<(Vec<Vec<u32>>, Done), GpuError> {
    let Setup { matrix, stride, offsets, place, .. } = *setup;
    let rows = matrix.rows();
    let shape = Shape::new(rows, matrix.vocab)?.with_stride(stride)?;
    let logits_words = words_of(matrix, stride);
    let filler = vec![FILLER; logits_words.len()];
    let [at_logits, at_gradient, at_targets, at_records] = offsets;
    let targets: Vec<u32> = matrix.targets.iter().map(|t| *t as u32).collect();
    let weights: Vec<u32> = setup.weights.unwrap_or(&[]).iter().map(|w| w.to_bits()).collect();

    let before = [
        guarded(at_logits, &logits_words),
        guarded(at_gradient, &filler),
        guarded(at_targets, &targets),
        guarded(at_targets, &weights),
        guarded(at_records, &vec![FILLER; rows * RECORD_WORDS]),
        guarded(at_records, &[FILLER; TOTALS_WORDS]),
    ];
    let buffers = before.each_ref().map(|words| buffer(gpu, words));
    let [logits, dlogits, target_buffer, weight_buffer, records, totals] = &buffers;
    let map = setup.map.map(|map| MapBuffers::new(gpu, &map, rows, matrix.vocab, at_targets));
    let guide = setup.guide.map(|guide| GuideBuffers::new(gpu, &guide, rows, at_targets));
    let job = Job {
        data: Data {
            shape,
            dtype: matrix.dtype,
            logits: part(logits, at_logits, logits_words.len()),
            targets: part(target_buffer, at_targets, rows),
            map: map.as_ref().map(|map| map.bindings(at_targets)),
        },
        objective: setup.objective,
        reduction: setup.reduction,
        weights: setup.weights.map(|_| part(weight_buffer, at_targets, rows)),
        gradient: match place {
            Place::None => Gradient::None,
            Place::Over => Gradient::InPlace,
            Place::Into => Gradient::Into(part(dlogits, at_gradient, filler.len())),
        },
        records: Some(part(records, at_records, rows * RECORD_WORDS)),
        totals: Some(part(totals, at_records, TOTALS_WORDS)),
    };
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    match &guide {
        None => gpu.kernels().encode(&mut encoder, &job)?,
        Some(guide) => gpu.kernels().encode_guided(&mut encoder, &job, &guide.bindings(at_targets))?,
    }
    gpu.queue().submit([encoder.finish()]);
    let after: Vec<Vec<u32>> = buffers.iter().map(|buffer| read(gpu, buffer)).collect();

    let gradient = match place {
        Place::None => None,
        Place::Over => Some((0, at_logits)),
        Place::Into => Some((1, at_gradient)),
    };
    let mut written =
        vec![Written::words(4, at_records, rows * RECORD_WORDS), Written::words(5, at_records, TOTALS_WORDS)];
    written.extend(gradient.map(|(buffer, at)| Written::matrix(buffer, at, matrix, stride)));
    check_written(&before, &after, &written);

    let record_words = after[4][at_records..][..rows * RECORD_WORDS].to_vec();
    let records = record_words.as_chunks::<RECORD_WORDS>().0.iter().map(Record::from_words).collect();
    let dlogits = gradient.map_or(vec![], |(buffer, at)| elements(&after[buffer][at..], matrix, stride));
    let totals = after[5][at_records..][..TOTALS_WORDS].to_vec();
    Ok((after, Done { records, record_words, totals, dlogits }))
}
