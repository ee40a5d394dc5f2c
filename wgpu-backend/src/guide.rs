//! Rows guided by a teacher's.

#[cfg(feature = "device")]
pub(crate) mod host;

use crate::beside::Beside;
use crate::dispatch::{Bound, Dispatch};
use crate::job::{Part, RECORD_BYTES};
use crate::kernels::{Parts, Scale};
use crate::plan::Cut;
use crate::second::{SecondPart, TeacherData};
use crate::{GpuError, Job, Kernels};
use std::ops::Range;
use tokenloss_core::{Guidance, Shape};
use tokenloss_shaders::{GATHERED_WORDS, Params, Program, binding, flag};
use wgpu::BufferBinding;

/// How far rows are led away from a teacher's: a [`Guidance`] whose rows have what is their own on the GPU.
#[derive(Debug, Clone)]
pub struct GuidanceBindings<'a> {
    /// The teacher's logits.
    pub teacher: TeacherData<'a>,
    /// The strength, from 0 to 100.
    pub strength: f32,
    /// `[rows]`, f32: each row's own strength instead, from 0 to 100.
    pub rows: Option<BufferBinding<'a>>,
}

pub(crate) const GATHERED_BYTES: u64 = 4 * GATHERED_WORDS as u64;

/// The checked parts of a guidance.
pub(crate) struct GuideParts<'a> {
    pub(crate) teacher: SecondPart<'a>,
    strength: f32,
    pub(crate) strengths: Option<Part<'a>>,
    /// The numbers of the rows' maps, before they are gathered with all others.
    pub(crate) row_maps: Option<Part<'a>>,
    pub(crate) gathered: Part<'a>,
}

impl<'a> GuideParts<'a> {
    pub(crate) fn new(
        student: Shape,
        guidance: &GuidanceBindings<'a>,
        gathered: &'a wgpu::Buffer,
    ) -> Result<Self, GpuError> {
        let GuidanceBindings { teacher, strength, rows } = guidance;
        Guidance::All(*strength).check(student.rows())?;
        let strengths = |part| Part::new("strengths", part, 4 * student.rows() as u64);
        Ok(Self {
            teacher: SecondPart::of_teacher(student, teacher)?,
            strength: *strength,
            strengths: rows.as_ref().map(strengths).transpose()?,
            row_maps: None,
            gathered: Part::whole("gathered", gathered),
        })
    }

    /// What some rows are gathered from and to.
    pub(crate) fn bind_gather<'b>(
        &'b self,
        cut: &Cut,
        nothing: &'b wgpu::Buffer,
        rows: &Range<usize>,
        params: &mut Params,
        bound: &mut Vec<Bound<'b>>,
    ) {
        let mut bind = |binding, part: Option<&Part<'b>>, words: usize| {
            let Some(part) = part else {
                bound.push(Bound { binding, buffer: nothing, offset: 0, size: nothing.size() });
                return 0;
            };
            let [at, bytes] = [rows.start, rows.len()].map(|row| 4 * (row * words) as u64);
            let (part, into) = part.bound(cut, binding, at, bytes);
            bound.push(part);
            (into / 4) as u32
        };
        params.row_maps_first = bind(binding::ROW_MAPS, self.row_maps.as_ref(), 2);
        params.rows_first = bind(binding::STRENGTHS, self.strengths.as_ref(), 1);
        params.lists_first = bind(binding::GATHERED, Some(&self.gathered), GATHERED_WORDS);
        params.strength = self.strength;
        let has = |part: &Option<Part<'_>>, flag| if part.is_some() { flag } else { 0 };
        params.flags &= !flag::ROW_MAPS;
        params.flags |= has(&self.row_maps, flag::ROW_MAPS) | has(&self.strengths, flag::STRENGTHS);
    }
}

impl Kernels {
    /// Records what [`encode`](Self::encode) does, of rows that are guided by a teacher's: with `s` a row's strength,
    ///
    /// ```text
    /// guided_j = s z_j + (1 - s) u_j        dL/dz_j = s dL/dguided_j
    /// ```
    ///
    /// A map acts on the guided logits, and records are of the guided row. A class that the student masks is masked; one that the
    /// teacher alone masks is masked below a strength of 1, and above 1 its guided logit is +infinity. At 1 the row is the student's
    /// own, and the teacher's is not looked at. Beside what `encode` does, one dispatch gathers what each row has of its own, 16 bytes.
    ///
    /// A row with a NaN or a +infinity in it is NaN throughout; its record's status names the column, and with
    /// [`STATUS_TEACHER`](tokenloss_shaders::STATUS_TEACHER) the side.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode), also for the teacher's logits and the strengths; [`GpuError::Core`] for a teacher of
    /// other rows or another vocabulary, and for a strength outside of 0 to 100. Nothing is recorded then.
    pub fn encode_guided(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &Job<'_>,
        guidance: &GuidanceBindings<'_>,
    ) -> Result<(), GpuError> {
        job.reduction.check()?;
        self.encode_scaled(encoder, job, Some(guidance), Scale::of(job.reduction))
    }

    /// What guided rows have of their own to one buffer.
    pub(crate) fn plan_gather<'a>(
        &'a self,
        parts: &'a Parts<'a>,
        base: Params,
        dispatches: &mut Vec<Dispatch<'a>>,
    ) {
        let Beside::Guide(guide) = &parts.beside else { return };
        for slice in self.cut.totals(parts.data.shape.rows(), RECORD_BYTES) {
            let groups = self.cut.fold((slice.rows as u64).div_ceil(self.lanes.into()));
            let mut params = Params { rows: slice.rows as u32, grid_x: groups.0, ..parts.map.params(base) };
            let mut bound = Vec::new();
            self.bind_rows(parts, slice, &mut params, &mut bound);
            let rows = slice.row..slice.row + slice.rows;
            guide.bind_gather(&self.cut, &self.nothing, &rows, &mut params, &mut bound);
            let program = Program::Gather;
            let bindings = program.bindings();
            bound.retain(|bound| bindings.contains(&bound.binding));
            let (lanes, uniform) = (self.lanes, params.to_bytes());
            dispatches.push(Dispatch { program, judge: "", lanes, uniform, bound, groups });
        }
    }
}
