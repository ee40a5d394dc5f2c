//! Records the moves into a caller's encoder.

use crate::beside::Beside;
use crate::dispatch::{Bound, Dispatch, Key};
use crate::fused::Fused;
use crate::guide::{GATHERED_BYTES, GuideParts};
use crate::job::{Data, Gradient, Part, RECORD_BYTES, TOTALS_BYTES, check_overlap};
use crate::map::MapParts;
use crate::plan::{Cut, Matrix, Slice};
use crate::{
    CooperativeMatrix, GpuError, GuidanceBindings, Job, PushBackJob, Request, Requirements, SummariseJob,
    Variant,
};
use std::collections::HashMap;
use std::sync::Mutex;
use tokenloss_core::{Denominator, Reduction};
use tokenloss_shaders::{
    NoObjective, Params, Program, ShaderObjective, Store, Width, binding, flag, parameters,
};

/// Bytes of the number of listed rows, as a uniform.
pub(crate) const COUNT_BYTES: u64 = 16;

/// The kernels on one device. Pipelines are compiled on first use and kept.
///
/// Never submits, never maps a caller's buffer and never waits: all it does is to record dispatches, in one
/// compute pass per call, and to create small buffers for uniforms and for what the caller gives no binding.
#[derive(Debug)]
pub struct Kernels {
    pub(crate) device: wgpu::Device,
    pub(crate) variant: Variant,
    pub(crate) limits: wgpu::Limits,
    pub(crate) cut: Cut,
    pub(crate) lanes: u32,
    /// Bound where the layout has a place for weights and there are none.
    pub(crate) nothing: wgpu::Buffer,
    pub(crate) cooperative: Option<CooperativeMatrix>,
    pub(crate) pipelines: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
    /// Bytes of all buffers created so far.
    #[cfg(test)]
    pub(crate) allocated: std::sync::atomic::AtomicU64,
}

/// What the gradient is divided by, with the counts that a host may know already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// The denominator and its reciprocal.
    Given { denominator: f64, scale: f64 },
    /// Counted on the GPU.
    Valid,
    /// Counted on the GPU after all rows are judged.
    Kept,
}

impl Scale {
    pub(crate) fn of(reduction: Reduction) -> Self {
        match reduction {
            Reduction::Sum => Self::count(1.0),
            Reduction::Mean(Denominator::Valid) => Self::Valid,
            Reduction::Mean(Denominator::Kept) => Self::Kept,
            Reduction::Mean(Denominator::Given(denominator)) => Self::count(denominator),
        }
    }

    /// The kind, the denominator and its reciprocal, as the uniform holds them.
    pub(crate) fn words(self) -> (u32, f32, f32) {
        match self {
            Self::Given { denominator, scale } => (0, denominator as f32, scale as f32),
            Self::Valid => (1, 0.0, 0.0),
            Self::Kept => (2, 0.0, 0.0),
        }
    }

    /// A known denominator, where 0 rows have no gradient.
    pub(crate) fn count(denominator: f64) -> Self {
        let scale = if denominator == 0.0 { 0.0 } else { 1.0 / denominator };
        Self::Given { denominator, scale }
    }
}

/// The checked parts of a job.
pub(crate) struct Parts<'a> {
    pub(crate) data: &'a Data<'a>,
    logits: Part<'a>,
    gradient: Option<Part<'a>>,
    targets: Part<'a>,
    weights: Option<Part<'a>>,
    records: Option<Part<'a>>,
    totals: Option<Part<'a>>,
    pub(crate) map: MapParts<'a>,
    pub(crate) beside: Beside<'a>,
}

impl Kernels {
    /// The kernels that need no feature.
    ///
    /// # Errors
    /// [`GpuError::MissingLimit`] where the device was created with less than WebGPU's defaults.
    pub fn new(device: &wgpu::Device) -> Result<Self, GpuError> {
        Self::with_variant(device, Variant::Baseline)
    }

    /// The kernels of a variant.
    ///
    /// # Errors
    /// * [`GpuError::MissingFeature`] or [`GpuError::SubgroupSize`] where the device cannot run it.
    /// * [`GpuError::MissingLimit`] as for [`new`](Self::new).
    pub fn with_variant(device: &wgpu::Device, variant: Variant) -> Result<Self, GpuError> {
        variant.check(device.features(), &device.adapter_info())?;
        let limits = device.limits();
        let enough = |limit, needed: u64, has: u64| {
            if has < needed { Err(GpuError::MissingLimit { limit, needed, has }) } else { Ok(()) }
        };
        enough(
            "max_storage_buffers_per_shader_stage",
            8,
            limits.max_storage_buffers_per_shader_stage.into(),
        )?;
        enough(
            "max_dynamic_uniform_buffers_per_pipeline_layout",
            1,
            limits.max_dynamic_uniform_buffers_per_pipeline_layout.into(),
        )?;
        enough(
            "max_compute_invocations_per_workgroup",
            64,
            limits.max_compute_invocations_per_workgroup.into(),
        )?;
        enough("max_compute_workgroup_size_x", 64, limits.max_compute_workgroup_size_x.into())?;
        enough(
            "max_compute_workgroup_storage_size",
            10_240,
            limits.max_compute_workgroup_storage_size.into(),
        )?;
        let most = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        let nothing = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("tokenloss nothing"),
            size: 16,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        Ok(Self {
            device: device.clone(),
            nothing,
            variant,
            cut: Cut::new(&limits),
            lanes: if most >= 256 { 256 } else { 64 },
            cooperative: None,
            limits,
            pipelines: Mutex::default(),
            #[cfg(test)]
            allocated: Default::default(),
        })
    }

    /// The same kernels, with cooperative matrices for the products of the linear form: never chosen by themselves.
    ///
    /// # Errors
    /// [`GpuError::OtherAdapter`] where the device is not of the adapter that lists them; [`GpuError::MissingFeature`]
    /// where it was created without the features; [`GpuError::MissingLimit`] where a workgroup of four subgroups is too
    /// large for it.
    pub fn with_cooperative_matrix(self, matrix: CooperativeMatrix) -> Result<Self, GpuError> {
        matrix.check(&self.device)?;
        Ok(Self { cooperative: Some(matrix), ..self })
    }

    /// The cooperative matrices in use.
    pub fn cooperative_matrix(&self) -> Option<&CooperativeMatrix> {
        self.cooperative.as_ref()
    }

    /// The variant.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// What a request takes on this device.
    ///
    /// # Errors
    /// Those of [`requirements`](crate::requirements).
    pub fn requirements(&self, request: &Request) -> Result<Requirements, GpuError> {
        crate::requirements(request, self.variant, &self.limits)
    }

    /// Records losses, records, totals and gradient of a batch.
    ///
    /// The denominators [`Valid`](Denominator::Valid) and [`Kept`](Denominator::Kept) are counted on the GPU, so
    /// nothing is read back. `Kept` with a gradient sweeps the logits twice.
    ///
    /// # Errors
    /// For a binding: [`GpuError::NoSize`], [`GpuError::Misaligned`], [`GpuError::BufferTooSmall`],
    /// [`GpuError::Usage`], [`GpuError::Overlap`]. For the shape: [`GpuError::Misaligned`] (an odd stride of a
    /// 16-bit type), [`GpuError::RowTooLarge`]. For the objective: [`GpuError::Parameters`],
    /// [`GpuError::Shader`]. [`GpuError::Core`] for the denominator. Nothing is recorded then.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, job: &Job<'_>) -> Result<(), GpuError> {
        job.reduction.check()?;
        self.encode_scaled(encoder, job, None, Scale::of(job.reduction))
    }

    pub(crate) fn encode_scaled(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &Job<'_>,
        guidance: Option<&GuidanceBindings<'_>>,
        scale: Scale,
    ) -> Result<(), GpuError> {
        let Data { shape, dtype, .. } = job.data;
        let objective = parameters(job.objective)?;
        let scratch_gathered = self.scratch(guidance.is_some(), shape.rows() as u64 * GATHERED_BYTES);
        let beside = match (guidance, &scratch_gathered) {
            (Some(guidance), Some(gathered)) => Beside::Guide(GuideParts::new(shape, guidance, gathered)?),
            _ => Beside::Nothing,
        };
        let scratch_records = self.scratch(job.records.is_none(), shape.rows() as u64 * RECORD_BYTES);
        let scratch_totals = self.scratch(job.totals.is_none(), TOTALS_BYTES);
        let parts = Parts::new(
            &job.data,
            &job.gradient,
            job.weights.as_ref(),
            (job.records.as_ref(), scratch_records.as_ref()),
            (job.totals.as_ref(), scratch_totals.as_ref()),
            beside,
        )?;

        let map = parts.map.program()?;
        let guide = guidance.map(|guidance| guidance.teacher.dtype);
        let (store, reduce) = (job.gradient.store(), self.variant.reduce());
        let evaluate = |store, width| Program::Evaluate { dtype, width, store, reduce, map, guide };
        let push_back = |width| Program::PushBack { dtype, width, store, map, guide };
        let judge = evaluate(store, Width::Vec4).judge(job.objective);
        let base = Params { objective, ..Params::default() };
        let fused = Fused {
            program: &evaluate,
            judge: &judge,
            second: (&push_back, ""),
            base,
            judged: flag::JUDGED,
            weights: job.weights.is_some(),
            store,
            scale,
            totals: job.totals.is_some(),
        };
        let mut dispatches = Vec::new();
        self.plan_gather(&parts, fused.params(0), &mut dispatches);
        self.plan_fused(&parts, &fused, &mut dispatches)?;
        self.record(encoder, &dispatches)
    }

    /// Records the summaries of a batch.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode) for bindings and shape.
    pub fn encode_summarise(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &SummariseJob<'_>,
    ) -> Result<(), GpuError> {
        let totals = self.scratch(true, TOTALS_BYTES);
        let parts = Parts::new(
            &job.data,
            &Gradient::None,
            None,
            (Some(&job.records), None),
            (None, totals.as_ref()),
            Beside::Nothing,
        )?;
        let (dtype, reduce, map) = (job.data.dtype, self.variant.reduce(), parts.map.program()?);
        let summarise = |width| Program::Summarise { dtype, width, reduce, map };
        let judge = summarise(Width::Vec4).judge(&NoObjective);
        let mut dispatches = Vec::new();
        self.plan_rows(&parts, &summarise, &judge, Params::default(), &mut dispatches)?;
        self.record(encoder, &dispatches)
    }

    /// Records the gradient of a batch whose rows are summarised and judged.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode) for bindings and shape.
    pub fn encode_push_back(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &PushBackJob<'_>,
    ) -> Result<(), GpuError> {
        let store = job.gradient.store();
        if store == Store::None {
            return Ok(());
        }
        let totals = self.scratch(true, TOTALS_BYTES);
        let records = (Some(&job.records), None);
        let totals = (None, totals.as_ref());
        let parts = Parts::new(&job.data, &job.gradient, None, records, totals, Beside::Nothing)?;
        let (dtype, map) = (job.data.dtype, parts.map.program()?);
        let push_back = |width| Program::PushBack { dtype, width, store, map, guide: None };
        let mut dispatches = Vec::new();
        self.plan_rows(&parts, &push_back, "", Params::default(), &mut dispatches)?;
        self.record(encoder, &dispatches)
    }

    /// Records a copy of the logits to the gradient's binding, whole rows of `stride` elements: the yardstick of
    /// memory speed. The stride must be a multiple of 16 bytes.
    #[cfg(feature = "device")]
    pub(crate) fn encode_copy<'d>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        data: &Data<'d>,
        into: &wgpu::BufferBinding<'d>,
    ) -> Result<(), GpuError> {
        let bytes = data.row_bytes() * data.shape.rows() as u64;
        let logits = Part::new("logits", &data.logits, bytes)?;
        let dlogits = Part::new("dlogits", into, bytes)?;
        let per_row = (data.row_bytes() / 16) as u32;
        let matrices =
            [&logits, &dlogits].map(|part| Matrix::new(part.what, part.offset, data.shape, data.dtype));
        let slices = self.cut.rows(data.shape, &matrices, RECORD_BYTES)?;
        let dispatches: Vec<_> = slices
            .into_iter()
            .map(|slice| {
                let at = slice.row as u64 * data.row_bytes();
                let size = slice.rows as u64 * data.row_bytes();
                let bound = |binding, part: &Part<'d>| Bound {
                    binding,
                    buffer: part.buffer,
                    offset: part.offset + at,
                    size,
                };
                let groups = self.cut.fold(slice.rows as u64);
                let params = Params {
                    rows: slice.rows as u32,
                    vocab: per_row,
                    stride: per_row,
                    grid_x: groups.0,
                    ..Params::default()
                };
                Dispatch {
                    program: Program::Copy,
                    judge: "",
                    lanes: self.lanes,
                    uniform: params.to_bytes(),
                    bound: vec![bound(binding::LOGITS, &logits), bound(binding::DLOGITS, &dlogits)],
                    groups,
                }
            })
            .collect();
        self.record(encoder, &dispatches)
    }

    pub(crate) fn scratch(&self, wanted: bool, size: u64) -> Option<wgpu::Buffer> {
        wanted.then(|| self.scratch_buffer(size))
    }

    pub(crate) fn scratch_buffer(&self, size: u64) -> wgpu::Buffer {
        self.create_buffer(size, wgpu::BufferUsages::STORAGE, false)
    }

    /// For [`binding::COUNT`].
    pub(crate) fn count_buffer(&self) -> wgpu::Buffer {
        self.create_buffer(COUNT_BYTES, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM, false)
    }

    /// All that a call creates on the device.
    pub(crate) fn create_buffer(&self, size: u64, usage: wgpu::BufferUsages, mapped: bool) -> wgpu::Buffer {
        #[cfg(test)]
        self.allocated.fetch_add(size, std::sync::atomic::Ordering::Relaxed);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("tokenloss scratch"),
            size,
            usage,
            mapped_at_creation: mapped,
        })
    }

    /// One workgroup a row, over as many dispatches as it takes.
    pub(crate) fn plan_rows<'a>(
        &'a self,
        parts: &'a Parts<'a>,
        program: &dyn Fn(Width) -> Program,
        judge: &'a str,
        params: Params,
        dispatches: &mut Vec<Dispatch<'a>>,
    ) -> Result<(), GpuError> {
        let (shape, dtype) = (parts.data.shape, parts.data.dtype);
        let own = [Some(&parts.logits), parts.gradient.as_ref()].into_iter().flatten();
        let own = own.map(|part| Matrix::new(part.what, part.offset, shape, dtype));
        let all: Vec<_> = own.chain(parts.beside.matrix()).collect();
        let words = shape.vocab() * dtype.bytes() / 4;
        for slice in self.cut.rows(shape, &all, RECORD_BYTES)? {
            let (matrices, width) = self.matrices(parts, slice);
            let program = program(width);
            // More lanes than groups of four words would only wait for each other.
            let lanes = if words <= 4 * 64 { 64 } else { self.lanes_of(program) };
            let groups = self.cut.fold(slice.rows as u64);
            let first = |number| matrices.iter().find(|(bound, _)| bound.binding == number);
            let element = |number| first(number).map_or(0, |(_, into)| (into / dtype.bytes() as u64) as u32);
            let mut params = Params {
                rows: slice.rows as u32,
                vocab: shape.vocab() as u32,
                classes: shape.vocab() as u32,
                stride: shape.stride() as u32,
                grid_x: groups.0,
                logits_first: element(binding::LOGITS),
                dlogits_first: element(binding::DLOGITS),
                ..parts.map.params(params)
            };
            let mut bound: Vec<_> = matrices.into_iter().map(|(bound, _)| bound).collect();
            self.bind_rows(parts, slice, &mut params, &mut bound);
            let rows = slice.row..slice.row + slice.rows;
            parts.map.bind(&self.cut, &self.nothing, &rows, &mut params, &mut bound);
            parts.beside.bind(&self.cut, &self.nothing, &rows, &mut params, &mut bound);
            let bindings = program.bindings();
            bound.retain(|bound| bindings.contains(&bound.binding));
            dispatches.push(Dispatch { program, judge, lanes, uniform: params.to_bytes(), bound, groups });
        }
        Ok(())
    }

    /// Counts and sums, in one workgroup.
    pub(crate) fn plan_totals<'a>(
        &'a self,
        parts: &'a Parts<'a>,
        params: Params,
        scale: Scale,
        dispatches: &mut Vec<Dispatch<'a>>,
    ) {
        let (kind, denominator, reciprocal) = scale.words();
        for slice in self.cut.totals(parts.data.shape.rows(), RECORD_BYTES) {
            let mut params = Params {
                rows: slice.rows as u32,
                denominator_kind: kind,
                denominator,
                scale: reciprocal,
                flags: params.flags | if slice.row == 0 { flag::FIRST } else { 0 },
                ..params
            };
            let mut bound = Vec::new();
            self.bind_rows(parts, slice, &mut params, &mut bound);
            let (program, lanes) = (Program::Totals, self.lanes);
            let uniform = params.to_bytes();
            dispatches.push(Dispatch { program, judge: "", lanes, uniform, bound, groups: (1, 1) });
        }
    }

    /// The slice's part of logits and gradient, how far into each binding it starts, and the width of a load
    /// that both allow.
    fn matrices<'a>(&self, parts: &'a Parts<'a>, slice: Slice) -> (Vec<(Bound<'a>, u64)>, Width) {
        let data = parts.data;
        let needed = Matrix::new("logits", 0, data.shape, data.dtype).bytes(slice.rows);
        let mut wide = true;
        let mut matrices = Vec::new();
        for (number, part) in
            [(binding::LOGITS, Some(&parts.logits)), (binding::DLOGITS, parts.gradient.as_ref())]
        {
            let Some(part) = part else { continue };
            let (offset, into) = self.cut.align(part.offset + slice.row as u64 * data.row_bytes());
            let size = into + needed;
            // What lies behind the caller's binding is not ours, so a row may end within a group of four.
            wide &= offset + size.next_multiple_of(16) <= part.offset + part.size;
            matrices.push((Bound { binding: number, buffer: part.buffer, offset, size }, into));
        }
        let same_place = matrices.iter().all(|(_, into)| into % 16 == matrices[0].1 % 16);
        let width = if wide && same_place { Width::Vec4 } else { Width::Word };
        if width == Width::Vec4 {
            for (bound, _) in &mut matrices {
                bound.size = bound.size.next_multiple_of(16);
            }
        }
        (matrices, width)
    }

    /// The slice's part of everything that has one entry a row, and the totals.
    pub(crate) fn bind_rows<'a>(
        &'a self,
        parts: &'a Parts<'a>,
        slice: Slice,
        params: &mut Params,
        bound: &mut Vec<Bound<'a>>,
    ) {
        let mut bind = |number, part: &Part<'a>, entry: u64, rows: usize, row: usize| {
            let (part, into) = part.bound(&self.cut, number, row as u64 * entry, rows as u64 * entry);
            bound.push(part);
            (into / 4) as u32
        };
        let Slice { row, rows } = slice;
        params.targets_first = bind(binding::TARGETS, &parts.targets, 4, rows, row);
        if let Some(weights) = &parts.weights {
            params.weights_first = bind(binding::WEIGHTS, weights, 4, rows, row);
        }
        if let Some(records) = &parts.records {
            params.records_first = bind(binding::RECORDS, records, RECORD_BYTES, rows, row);
        }
        if let Some(totals) = &parts.totals {
            params.totals_first = bind(binding::TOTALS, totals, TOTALS_BYTES, 1, 0);
        }
        if parts.weights.is_none() {
            bound.push(Bound { binding: binding::WEIGHTS, buffer: &self.nothing, offset: 0, size: 16 });
        }
    }
}

impl<'a> Parts<'a> {
    pub(crate) fn new(
        data: &'a Data<'a>,
        gradient: &Gradient<'a>,
        weights: Option<&wgpu::BufferBinding<'a>>,
        records: (Option<&wgpu::BufferBinding<'a>>, Option<&'a wgpu::Buffer>),
        totals: (Option<&wgpu::BufferBinding<'a>>, Option<&'a wgpu::Buffer>),
        mut beside: Beside<'a>,
    ) -> Result<Self, GpuError> {
        data.check_stride()?;
        let rows = data.shape.rows() as u64;
        let logits = Part::new("logits", &data.logits, data.matrix_bytes())?;
        let targets = Part::new("targets", &data.targets, 4 * rows)?;
        let dlogits = match gradient {
            Gradient::Into(binding) => Some(Part::new("dlogits", binding, data.matrix_bytes())?),
            _ => None,
        };
        let weights = weights.map(|weights| Part::new("weights", weights, 4 * rows)).transpose()?;
        let part = |what, (binding, scratch): (Option<_>, Option<&'a wgpu::Buffer>), needed| match binding {
            Some(binding) => Part::new(what, binding, needed).map(Some),
            None => Ok(scratch.map(|buffer| Part::whole(what, buffer))),
        };
        let records = part("records", records, rows * RECORD_BYTES)?;
        let totals = part("totals", totals, TOTALS_BYTES)?;

        let mut map = MapParts::new(data.map.as_ref(), data.shape.rows(), data.shape.vocab())?;
        let mut written: Vec<&Part<'_>> = [&records, &totals, &dlogits].into_iter().flatten().collect();
        let mut read = vec![&targets];
        read.extend(weights.iter().chain(map.parts()));
        let (more_written, more_read) = beside.parts();
        written.extend(more_written);
        read.extend(more_read);
        if matches!(gradient, Gradient::InPlace) { &mut written } else { &mut read }.push(&logits);
        check_overlap(&written, &read)?;
        if let Beside::Guide(guide) = &mut beside {
            guide.row_maps = map.gather(guide.gathered.clone());
        }
        Ok(Self { data, logits, gradient: dlogits, targets, weights, records, totals, map, beside })
    }
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = ShaderObjective::name(self.objective);
        f.debug_struct("Job").field("data", &self.data).field("objective", &name).finish_non_exhaustive()
    }
}
