//! Pairs of rows of which the student's, or neither's, logits are given. The tiles of both are cut alike.

#[cfg(feature = "device")]
mod host;

use super::encode::{Call, Scratch, request_of};
use super::job::{LinearBuffers, LinearData, Parts, pieces};
use super::plan::TeacherCost;
use crate::dispatch::{Bound, Dispatch};
use crate::job::{Part, check_overlap};
use crate::kernels::Scale;
use crate::map::MapParts;
use crate::plan::Matrix;
use crate::{GpuError, Kernels, ShaderDivergence, ShaderObjective, TeacherData};
use std::ops::Range;
use tokenloss_core::divergence::Distillation;
use tokenloss_core::{Dtype, Error, LinearOptions, NonFinite, Reduction, check_dim, check_length};
use tokenloss_shaders::{
    Live, Map, Params, Program, STATE_WORDS, binding, divergence_parameters, flag, parameters,
};
use wgpu::BufferBinding;

const STATE_BYTES: u64 = 4 * STATE_WORDS as u64;

/// A teacher's hidden states and its head. They are read only.
#[derive(Debug, Clone)]
pub struct TeacherHead<'a> {
    /// Elements of a hidden state.
    pub dim: usize,
    /// The storage type of hidden states, weight and bias, which may differ from the student's.
    pub dtype: Dtype,
    /// `[rows, dim]`.
    pub hidden: BufferBinding<'a>,
    /// `[vocab, dim]`, in pieces as the student's is.
    pub weight: Vec<BufferBinding<'a>>,
    /// `[vocab]`.
    pub bias: Option<BufferBinding<'a>>,
}

/// Where the teacher's logits come from.
#[derive(Debug, Clone)]
pub enum LinearTeacher<'a> {
    /// They are given.
    Logits(TeacherData<'a>),
    /// They are `hidden @ weight^T + bias`, a tile at a time.
    Head(TeacherHead<'a>),
}

/// Summarise two rows, judge and compare them, push the student's back: [`Kernels::encode_linear_pair`].
#[derive(Clone)]
pub struct LinearPairJob<'a> {
    /// The student's hidden states, head and targets: of the whole vocabulary, without a map.
    pub data: LinearData<'a>,
    /// The teacher's logits.
    pub teacher: LinearTeacher<'a>,
    /// What to compute of the student's row; [`Unjudged`](tokenloss_core::Unjudged) for the divergence alone.
    pub objective: &'a dyn ShaderObjective,
    /// The divergence, and how it enters the loss.
    pub distillation: Distillation<&'a dyn ShaderDivergence>,
    /// What gradients are divided by.
    pub reduction: Reduction,
    /// `[rows]`, f32: multiplies each row's loss and gradient; at least 0.
    pub weights: Option<BufferBinding<'a>>,
    /// Which of the student's gradients are wanted.
    pub gradients: LinearBuffers<'a>,
    /// Where the rows' [records](crate::Record) go, as those of a [`PairJob`](crate::PairJob). Where a gradient is wanted, the
    /// last word is whether the row was pushed back.
    pub records: Option<BufferBinding<'a>>,
    /// Where the divergences go, as those of a [`PairJob`](crate::PairJob).
    pub divergences: Option<BufferBinding<'a>>,
    /// Where the totals go.
    pub totals: Option<BufferBinding<'a>>,
    /// Budget, chunks, tolerances.
    pub options: LinearOptions,
    /// As for a [`LinearJob`](crate::LinearJob).
    pub non_finite: NonFinite,
}

/// The teacher's logits of a chunk.
enum TeacherTile<'a> {
    Given(Part<'a>, Matrix, Dtype, usize),
    Linear(Box<Call<'a>>),
}

/// One call's dispatches.
struct PairCall<'a> {
    student: Call<'a>,
    teacher: TeacherTile<'a>,
    states: &'a wgpu::Buffer,
    divergences: Part<'a>,
    temperature: bool,
}

impl<'a> TeacherHead<'a> {
    /// As a student's would be.
    fn data(&self, student: &LinearData<'a>) -> LinearData<'a> {
        let Self { dim, dtype, ref hidden, ref weight, ref bias } = *self;
        LinearData {
            dim,
            dtype,
            hidden: hidden.clone(),
            weight: weight.clone(),
            bias: bias.clone(),
            ..student.clone()
        }
    }
}

/// The parts of a teacher's products. What they do not read is the student's.
fn parts_of_teacher<'a>(data: &'a LinearData<'a>, student: &Parts<'a>) -> Result<Parts<'a>, GpuError> {
    let LinearData { rows, dim, vocab, dtype, .. } = *data;
    check_dim(dim)?;
    let bytes = |elements: usize| ((elements * dtype.bytes()) as u64).next_multiple_of(4);
    let bias = data.bias.as_ref().map(|bias| Part::new("teacher bias", bias, bytes(vocab)));
    Ok(Parts {
        data,
        hidden: Part::new("teacher hidden", &data.hidden, bytes(rows * dim))?,
        weight: pieces("teacher weight", &data.weight, vocab, (dim * dtype.bytes()) as u64)?,
        bias: bias.transpose()?,
        targets: student.targets.clone(),
        weights: None,
        records: student.records.clone(),
        totals: student.totals.clone(),
        dhidden: None,
        dweight: None,
        dbias: None,
        map: MapParts::default(),
        columns: None,
    })
}

impl Kernels {
    /// Records losses, records, divergences, totals and gradients from the student's hidden states and head, and from the
    /// teacher's logits or from hidden states and a head of its own. Neither row's tile is larger than the budget allows.
    ///
    /// With `p = softmax(z / T)` and `q = softmax(u / T)` of the student's and the teacher's logits,
    /// `loss = objective_weight * objective(z) + lambda T^2 D(p, q)`; see [`Distillation`]. Where the budget holds whole rows of
    /// both, logits are computed once, and else, where a gradient is wanted, three times; a
    /// [`Kept`](tokenloss_core::Denominator::Kept) denominator with a gradient computes those of live rows once more.
    ///
    /// A row is NaN throughout, and its record's status says why, if it or the teacher's is bad, and if its divergence is
    /// infinite.
    ///
    /// # Errors
    /// Those of [`encode_linear`](Self::encode_linear), also for the teacher's bindings; [`GpuError::Core`] for a teacher of
    /// other rows or another vocabulary, and for a map. Nothing is recorded then.
    pub fn encode_linear_pair(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearPairJob<'_>,
    ) -> Result<(), GpuError> {
        job.reduction.check()?;
        self.encode_linear_pair_scaled(encoder, job, Scale::of(job.reduction))
    }

    pub(crate) fn encode_linear_pair_scaled(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearPairJob<'_>,
        scale: Scale,
    ) -> Result<(), GpuError> {
        let (data, distillation) = (&job.data, &job.distillation);
        if data.columns != (0..data.vocab) {
            let (first, end) = (data.columns.start, data.columns.end);
            return Err(Error::Columns { first, end, vocab: data.vocab }.into());
        }
        if data.map.is_some() {
            return Err(Error::Map.into());
        }
        let given = match &job.teacher {
            LinearTeacher::Head(_) => None,
            LinearTeacher::Logits(TeacherData { shape, dtype, logits }) => {
                check_length("teacher rows", data.rows, shape.rows())?;
                check_length("teacher vocab", data.vocab, shape.vocab())?;
                let matrix = Matrix::new("teacher", 0, *shape, *dtype);
                let part = Part::new("teacher", logits, matrix.bytes(data.rows))?;
                Some((part, matrix, *dtype, shape.stride()))
            }
        };
        let outputs = [job.records.is_some(), job.totals.is_some()];
        let request = request_of(data, &job.gradients, outputs, job.reduction, job.options);
        let cost = TeacherCost {
            fixed: STATE_BYTES + if job.divergences.is_some() { 0 } else { 4 },
            hidden: match &job.teacher {
                LinearTeacher::Head(head) => Some((head.dim, head.dtype.bytes())),
                LinearTeacher::Logits(_) => None,
            },
            given: given.as_ref().map_or(0, |(_, matrix, ..)| matrix.row_bytes),
        };
        let plan = self.linear_plan_with(&request, &cost)?;
        let scratch = Scratch::new(self, &request, &plan);
        let states = self.scratch_buffer(data.rows as u64 * STATE_BYTES);
        let own_divergences = self.scratch(job.divergences.is_none(), 4 * data.rows as u64);
        let parts = Parts::new(
            data,
            &job.gradients,
            job.weights.as_ref(),
            (job.records.as_ref(), scratch.records.as_ref()),
            (job.totals.as_ref(), scratch.totals.as_ref()),
            None,
        )?;
        let divergences = match (&job.divergences, &own_divergences) {
            (Some(binding), _) => Part::new("divergences", binding, 4 * data.rows as u64)?,
            (None, Some(buffer)) => Part::whole("divergences", buffer),
            (None, None) => return Err(GpuError::NoSize { what: "divergences" }),
        };
        // The teacher's products are a call of their own, with the same rows listed.
        let of_head = match &job.teacher {
            LinearTeacher::Head(head) => {
                let tile = scratch.with_tile(self.scratch_buffer(plan.tile_bytes()));
                Some((head.data(data), tile))
            }
            LinearTeacher::Logits(_) => None,
        };
        let of_head = match &of_head {
            Some((data, tile)) => Some((parts_of_teacher(data, &parts)?, tile)),
            None => None,
        };
        let (mut written, mut read) = parts.bindings();
        written.push(&divergences);
        read.extend(given.as_ref().map(|(part, ..)| part));
        if let Some((parts, _)) = &of_head {
            read.push(&parts.hidden);
            read.extend(parts.weight.iter().map(|piece| &piece.part).chain(&parts.bias));
        }
        check_overlap(&written, &read)?;

        let divergence = *distillation.divergence();
        let temperature = distillation.temperature() != 1.0;
        let judge = Program::PairJudge.judge(job.objective);
        let reduce = self.variant.reduce();
        let part = Program::PairPart { teacher: Dtype::F32, reduce, temperature };
        let sums = part.judge(job.objective);
        let compare = Program::compare(divergence);
        let weights = if job.weights.is_some() { flag::WEIGHTS } else { 0 };
        let base = Params {
            objective: parameters(job.objective)?,
            divergence: divergence_parameters(divergence),
            temperature: distillation.temperature(),
            divergence_factor: distillation.factor() as f32,
            pull_factor: distillation.gradient_factor() as f32,
            objective_weight: distillation.objective_weight(),
            flags: weights,
            classes: data.vocab as u32,
            row_tolerance: job.options.row_tolerance,
            ..Params::default()
        };
        let call = |parts, scratch| Call {
            kernels: self,
            plan,
            parts,
            scratch,
            judge: &judge,
            sums: &sums,
            compare: &compare,
            map: Map::None,
            base,
            non_finite: job.non_finite,
            live: Live::Pair,
        };
        let teacher = match (given, &of_head) {
            (Some((part, matrix, dtype, stride)), _) => TeacherTile::Given(part, matrix, dtype, stride),
            (None, Some((parts, tile))) => TeacherTile::Linear(Box::new(call(parts, tile))),
            (None, None) => return Err(GpuError::NoSize { what: "teacher" }),
        };
        let student = call(&parts, &scratch);
        let pair = PairCall { student, teacher, states: &states, divergences, temperature };
        let student = &pair.student;

        let mut dispatches = Vec::new();
        let gradient = parts.has_gradient();
        let fused = plan.is_fused(&request);
        if fused {
            student.totals(scale, 0, &mut dispatches);
        }
        for chunk in plan.chunks(data.rows) {
            pair.judge(&chunk, &mut dispatches);
            if fused {
                pair.push_back(&chunk, true, &mut dispatches);
            }
        }
        if gradient && !fused {
            student.totals(scale, flag::JUDGED | flag::LIVE, &mut dispatches);
            for chunk in plan.chunks(data.rows) {
                pair.push_back(&chunk, false, &mut dispatches);
            }
        }
        if job.totals.is_some() {
            student.totals(scale, flag::JUDGED | flag::LIVE, &mut dispatches);
        }
        self.record(encoder, &dispatches)
    }
}

impl<'a> PairCall<'a> {
    fn dtype(&self) -> Dtype {
        match &self.teacher {
            TeacherTile::Given(_, _, dtype, _) => *dtype,
            TeacherTile::Linear(_) => Dtype::F32,
        }
    }

    /// The part of something that has so many bytes for each row.
    fn of_rows(&self, number: u32, part: &Part<'a>, chunk: &Range<usize>, bytes: u64) -> (Bound<'a>, u32) {
        self.student.bind(number, part, chunk.start as u64 * bytes, chunk.len() as u64 * bytes, 4)
    }

    /// Both rows' logits.
    fn logits(&self, chunk: &Range<usize>, columns: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        self.student.logits(chunk, columns, into);
        if let TeacherTile::Linear(teacher) = &self.teacher {
            teacher.logits(chunk, columns, into);
        }
    }

    /// One workgroup a row over a tile of both.
    fn over_tiles(
        &self,
        program: Program,
        chunk: &Range<usize>,
        columns: &Range<usize>,
        flags: u32,
        into: &mut Vec<Dispatch<'a>>,
    ) {
        let Call { kernels, plan, base, .. } = self.student;
        let (teacher, teacher_first, teacher_stride) = match &self.teacher {
            TeacherTile::Given(part, matrix, dtype, stride) => {
                let (at, bytes) = (chunk.start as u64 * matrix.row_bytes, matrix.bytes(chunk.len()));
                let (bound, first) = self.student.bind(binding::TEACHER, part, at, bytes, dtype.bytes());
                (bound, first + columns.start as u32, *stride)
            }
            TeacherTile::Linear(teacher) => {
                (self.student.whole(binding::TEACHER, teacher.scratch.tile()), 0, plan.stride)
            }
        };
        let states = Part::whole("states", self.states);
        let (states, lists_first) = self.of_rows(binding::STATES, &states, chunk, STATE_BYTES);
        let params = Params {
            vocab: columns.len() as u32,
            stride: plan.stride as u32,
            column_first: columns.start as u32,
            teacher_first,
            teacher_stride: teacher_stride as u32,
            lists_first,
            flags: base.flags | flags,
            ..base
        };
        let groups = kernels.cut.fold(chunk.len() as u64);
        let tile = self.student.whole(binding::LOGITS, self.student.scratch.tile());
        self.student.over_rows(program, chunk, params, groups, vec![tile, teacher, states], into);
    }

    /// One dispatch over records and states.
    fn over_rows(
        &self,
        program: Program,
        chunk: &Range<usize>,
        params: Params,
        groups: (u32, u32),
        mut bound: Vec<Bound<'a>>,
        into: &mut Vec<Dispatch<'a>>,
    ) {
        let states = Part::whole("states", self.states);
        let (states, lists_first) = self.of_rows(binding::STATES, &states, chunk, STATE_BYTES);
        let (divergences, side_first) = self.of_rows(binding::DIVERGENCES, &self.divergences, chunk, 4);
        bound.extend([states, divergences]);
        let params = Params { lists_first, side_first, ..params };
        self.student.over_rows(program, chunk, params, groups, bound, into);
    }

    /// From the logits of the rows that are not ignored to judged records. Where the tiles hold whole rows, their logits are
    /// there afterwards.
    fn judge(&self, chunk: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        let Call { kernels, plan, base, .. } = self.student;
        self.student.list(chunk, 0, into);
        let vocab = self.student.parts.data.vocab;
        let (reduce, temperature) = (kernels.variant.reduce(), self.temperature);
        let part = Program::PairPart { teacher: self.dtype(), reduce, temperature };
        for columns in plan.tiles(vocab) {
            self.logits(chunk, &columns, into);
            let first = if columns.start == 0 { flag::FIRST } else { 0 };
            self.over_tiles(part, chunk, &columns, first, into);
        }
        for columns in plan.tiles(vocab) {
            if plan.columns < vocab {
                self.logits(chunk, &columns, into);
            }
            self.over_tiles(Program::PairSums { teacher: self.dtype() }, chunk, &columns, 0, into);
        }
        let groups = kernels.cut.fold((chunk.len() as u64).div_ceil(kernels.lanes.into()));
        self.over_rows(Program::PairJudge, chunk, base, groups, vec![], into);
    }

    /// The gradients of a chunk's live rows, from logits that are in the tiles already or are computed anew.
    fn push_back(&self, chunk: &Range<usize>, held: bool, into: &mut Vec<Dispatch<'a>>) {
        let Call { plan, non_finite, .. } = self.student;
        let nan_rows = if non_finite == NonFinite::NanRow { flag::NAN_ROWS } else { 0 };
        self.list(chunk, flag::SCALE | flag::LIVE | nan_rows, into);
        for columns in plan.tiles(self.student.parts.data.vocab) {
            if !held {
                self.logits(chunk, &columns, into);
            }
            let push_back = Program::PairPushBack { teacher: self.dtype() };
            self.over_tiles(push_back, chunk, &columns, flag::SCALE, into);
            self.student.products(chunk, &columns, into);
        }
        self.student.store(chunk, into);
    }

    /// The list of a chunk's live rows.
    fn list(&self, chunk: &Range<usize>, flags: u32, into: &mut Vec<Dispatch<'a>>) {
        let base = self.student.base;
        let params = Params { flags: base.flags | flags, ..base };
        let bound = self.student.list_bindings();
        self.over_rows(Program::Compact { live: Live::Pair }, chunk, params, (1, 1), bound, into);
    }
}

impl std::fmt::Debug for LinearPairJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (objective, divergence) = (self.objective.name(), self.distillation.divergence().name());
        f.debug_struct("LinearPairJob")
            .field("data", &self.data)
            .field("teacher", &self.teacher)
            .field("objective", &objective)
            .field("divergence", &divergence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::slot_bytes;
    use std::sync::atomic::Ordering::Relaxed;
    use tokenloss_core::divergence::JensenShannon;
    use tokenloss_core::{Budget, Denominator, Nll, Shape};

    const ROWS: usize = 300;
    const DIM: usize = 65;
    const WIDE: usize = 130;
    const VOCAB: usize = 5_001;

    /// Every byte: what both rows need is in the budget, and uniforms come on top.
    #[test]
    fn a_call_creates_what_its_plan_says() {
        let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let kernels = Kernels::new(&device).unwrap();
        let buffer = |bytes: usize| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.next_multiple_of(4) as u64,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        let whole = |buffer| {
            let size = wgpu::BufferSize::new(wgpu::Buffer::size(buffer));
            BufferBinding { buffer, offset: 0, size }
        };
        let inputs = [2 * ROWS * DIM, 2 * VOCAB * DIM, 4 * ROWS].map(buffer);
        let teachers = [4 * ROWS * WIDE, 4 * VOCAB * WIDE, 2 * ROWS * (VOCAB + 1)].map(buffer);
        let outputs = [4 * ROWS * DIM, 4 * VOCAB * DIM, 4 * VOCAB, 4 * ROWS, 36].map(buffer);
        let divergence = JensenShannon::new(0.5).unwrap();
        let default = LinearOptions::default();
        for (budget, wanted, head) in [200_000, 1 << 20, 32 << 20]
            .into_iter()
            .flat_map(|budget| (0..32).map(move |wanted| (budget, wanted)))
            .flat_map(|(budget, wanted)| [false, true].map(|head| (budget, wanted, head)))
        {
            let [dhidden, dweight, dbias, values, totals] = [1, 2, 4, 8, 16].map(|bit| wanted & bit != 0);
            let gradient = dhidden || dweight || dbias;
            for reduction in [Reduction::Sum, Reduction::Mean(Denominator::Kept)] {
                let job = LinearPairJob {
                    data: LinearData {
                        rows: ROWS,
                        dim: DIM,
                        vocab: VOCAB,
                        columns: 0..VOCAB,
                        dtype: Dtype::F16,
                        hidden: whole(&inputs[0]),
                        weight: vec![whole(&inputs[1])],
                        bias: None,
                        targets: whole(&inputs[2]),
                        map: None,
                    },
                    teacher: if head {
                        LinearTeacher::Head(TeacherHead {
                            dim: WIDE,
                            dtype: Dtype::F32,
                            hidden: whole(&teachers[0]),
                            weight: vec![whole(&teachers[1])],
                            bias: None,
                        })
                    } else {
                        LinearTeacher::Logits(TeacherData {
                            shape: Shape::new(ROWS, VOCAB).unwrap().with_stride(VOCAB + 1).unwrap(),
                            dtype: Dtype::Bf16,
                            logits: whole(&teachers[2]),
                        })
                    },
                    objective: &Nll,
                    distillation: Distillation::new(&divergence as &dyn ShaderDivergence, 0.5).unwrap(),
                    reduction,
                    weights: None,
                    gradients: LinearBuffers {
                        dhidden: dhidden.then(|| (whole(&outputs[0]), Dtype::F32)),
                        dweight: dweight.then(|| vec![whole(&outputs[1])]),
                        dbias: dbias.then(|| whole(&outputs[2])),
                    },
                    records: None,
                    divergences: values.then(|| whole(&outputs[3])),
                    totals: totals.then(|| whole(&outputs[4])),
                    options: LinearOptions { budget: Budget(budget), ..default },
                    non_finite: NonFinite::Error,
                };
                let before = kernels.allocated.load(Relaxed);
                kernels
                    .encode_linear_pair(&mut device.create_command_encoder(&Default::default()), &job)
                    .unwrap();
                let bytes = kernels.allocated.load(Relaxed) - before;

                let request = request_of(&job.data, &job.gradients, [false, totals], reduction, job.options);
                let cost = TeacherCost {
                    fixed: STATE_BYTES + if values { 0 } else { 4 },
                    hidden: head.then_some((WIDE, 4)),
                    given: if head { 0 } else { 2 * (VOCAB as u64 + 1) },
                };
                let plan = kernels.linear_plan_with(&request, &cost).unwrap();
                let sums = if dhidden { plan.sums_bytes(DIM) } else { 0 };
                let tiles_bytes = (1 + u64::from(head)) * plan.tile_bytes();
                let scratch =
                    request.fixed_bytes() + ROWS as u64 * cost.fixed + tiles_bytes + plan.list_bytes() + sums;
                assert!(scratch <= budget as u64, "{scratch} of {budget}");
                let (chunks, tiles) = (ROWS.div_ceil(plan.rows), VOCAB.div_ceil(plan.columns));
                let logits = 1 + usize::from(head);
                let anew = if tiles > 1 { tiles * logits } else { 0 };
                // The list; both rows' logits and parts; sums; the verdict.
                let mut of_chunk = 1 + tiles * (logits + 1) + anew + tiles + 1;
                let fused = tiles == 1 && reduction == Reduction::Sum;
                if gradient {
                    let products = [dhidden, dweight, dbias].into_iter().filter(|wanted| *wanted).count();
                    let logits = if fused { 0 } else { logits };
                    of_chunk += 1 + tiles * (logits + 1 + products) + usize::from(dhidden);
                }
                let dispatches = chunks * of_chunk + usize::from(gradient) + usize::from(totals);
                let uniforms = dispatches as u64 * slot_bytes(&kernels.limits);
                assert_eq!(bytes, scratch + uniforms, "{budget} {wanted} {head} {reduction:?} {plan:?}");
            }
        }
    }
}
