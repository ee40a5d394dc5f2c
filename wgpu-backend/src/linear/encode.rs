//! Records the moves of the linear form into a caller's encoder.

use super::job::{LinearBuffers, LinearData, LinearJob, LinearPartsJob, LinearPushBackJob, Parts, Piece};
use super::plan::{LinearRequest, Plan, TeacherCost};
use crate::dispatch::{Bound, Dispatch};
use crate::job::{Part, RECORD_BYTES, TOTALS_BYTES};
use crate::kernels::Scale;
use crate::{GpuError, Kernels};
use std::ops::Range;
use tokenloss_core::{Dtype, LinearOptions, NonFinite, Reduction};
use tokenloss_shaders::{
    Live, Map, NoObjective, Params, Product, ProductParams, Program, Store, Tiles, Width, binding, flag,
    parameters,
};

/// Lanes of a product's workgroup: each computes 4 x 4 of its 64 x 64 sums.
const PRODUCT_LANES: u32 = 256;

/// Workgroup memory of a product, by whichever tiles.
const PRODUCT_BYTES: u32 = 12 << 10;

/// The buffers that a call creates.
pub(super) struct Scratch {
    tile: wgpu::Buffer,
    list: wgpu::Buffer,
    count: wgpu::Buffer,
    sums: Option<wgpu::Buffer>,
    pub(super) records: Option<wgpu::Buffer>,
    pub(super) totals: Option<wgpu::Buffer>,
}

impl Scratch {
    pub(super) fn new(kernels: &Kernels, request: &LinearRequest, plan: &Plan) -> Self {
        Self {
            tile: kernels.scratch_buffer(plan.tile_bytes()),
            list: kernels.scratch_buffer(plan.list_bytes()),
            count: kernels.count_buffer(),
            sums: request.dhidden.then(|| kernels.scratch_buffer(plan.sums_bytes(request.dim))),
            records: (!request.records).then(|| kernels.scratch_buffer(request.rows as u64 * RECORD_BYTES)),
            totals: (!request.totals).then(|| kernels.scratch_buffer(TOTALS_BYTES)),
        }
    }

    /// Another tile of the same rows.
    pub(super) fn with_tile(&self, tile: wgpu::Buffer) -> Self {
        let (list, count) = (self.list.clone(), self.count.clone());
        Self { tile, list, count, sums: None, records: None, totals: None }
    }

    pub(super) fn tile(&self) -> &wgpu::Buffer {
        &self.tile
    }
}

impl Kernels {
    /// Records losses, records, totals and gradients from hidden states and a head.
    ///
    /// Rows that are ignored, and in the backward products rows that are not live, cost nothing. Where the budget holds
    /// whole rows of logits, they are computed once; a [`Kept`](tokenloss_core::Denominator::Kept) denominator with a
    /// gradient computes them twice.
    ///
    /// # Errors
    /// For a binding: [`GpuError::NoSize`], [`GpuError::Misaligned`], [`GpuError::BufferTooSmall`],
    /// [`GpuError::Usage`], [`GpuError::Overlap`]. [`GpuError::Core`] for shape, dim, columns (a shard knows no whole row),
    /// denominator, budget, chunks, tolerances. [`GpuError::RowTooLarge`] where a row of the weight exceeds a binding;
    /// [`GpuError::Unsupported`] for a block tolerance; [`GpuError::MissingLimit`] on a device with workgroups of fewer than
    /// 256 or of less than 12 KiB; [`GpuError::Parameters`], [`GpuError::Shader`] for the objective. Nothing is recorded then.
    pub fn encode_linear(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearJob<'_>,
    ) -> Result<(), GpuError> {
        job.reduction.check()?;
        self.encode_linear_scaled(encoder, job, Scale::of(job.reduction))
    }

    pub(crate) fn encode_linear_scaled(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearJob<'_>,
        scale: Scale,
    ) -> Result<(), GpuError> {
        let data = &job.data;
        if data.columns != (0..data.vocab) {
            let (first, end) = (data.columns.start, data.columns.end);
            return Err(tokenloss_core::Error::Columns { first, end, vocab: data.vocab }.into());
        }
        let given = [job.records.is_some(), job.totals.is_some()];
        let request = request_of(data, &job.gradients, given, job.reduction, job.options);
        let plan = self.linear_plan(&request)?;
        let scratch = Scratch::new(self, &request, &plan);
        let parts = Parts::new(
            data,
            &job.gradients,
            job.weights.as_ref(),
            (job.records.as_ref(), scratch.records.as_ref()),
            (job.totals.as_ref(), scratch.totals.as_ref()),
            None,
        )?;
        let objective = parameters(job.objective)?;
        let judge = Program::Judge.judge(job.objective);
        let map = parts.map.program()?;
        let sums = self.part(map).judge(job.objective);
        let weights = if job.weights.is_some() { flag::WEIGHTS } else { 0 };
        let call = Call {
            kernels: self,
            plan,
            parts: &parts,
            scratch: &scratch,
            judge: &judge,
            sums: &sums,
            compare: "",
            map,
            live: Live::Records,
            base: parts.map.params(Params {
                objective,
                flags: weights,
                classes: data.vocab as u32,
                row_tolerance: job.options.row_tolerance,
                ..Params::default()
            }),
            non_finite: job.non_finite,
        };

        let mut dispatches = Vec::new();
        let gradient = parts.has_gradient();
        let fused = plan.is_fused(&request);
        if fused {
            call.totals(scale, 0, &mut dispatches);
        }
        for chunk in plan.chunks(data.rows) {
            call.summarise(&chunk, &mut dispatches);
            call.judge(&chunk, &mut dispatches);
            if fused {
                call.push_back(&chunk, flag::SCALE, true, &mut dispatches);
            }
        }
        if gradient && !fused {
            call.totals(scale, flag::JUDGED, &mut dispatches);
            for chunk in plan.chunks(data.rows) {
                call.push_back(&chunk, flag::SCALE, false, &mut dispatches);
            }
        }
        if job.totals.is_some() {
            let live = if gradient { flag::LIVE } else { 0 };
            call.totals(scale, flag::JUDGED | live, &mut dispatches);
        }
        self.record(encoder, &dispatches)
    }

    /// Records what these columns know of each row.
    ///
    /// # Errors
    /// Those of [`encode_linear`](Self::encode_linear) for bindings, shape and options.
    pub fn encode_linear_parts(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearPartsJob<'_>,
    ) -> Result<(), GpuError> {
        let gradients = LinearBuffers::default();
        let request = request_of(&job.data, &gradients, [true, false], Reduction::Sum, job.options);
        let plan = self.linear_plan(&request)?;
        let scratch = Scratch::new(self, &request, &plan);
        let records = (Some(&job.records), None);
        let totals = (None, scratch.totals.as_ref());
        let parts = Parts::new(&job.data, &gradients, None, records, totals, None)?;
        let base = parts.map.params(Params { classes: job.data.vocab as u32, ..Params::default() });
        let map = parts.map.program()?;
        let call = Call {
            kernels: self,
            plan,
            parts: &parts,
            scratch: &scratch,
            judge: "",
            sums: &self.part(map).judge(&NoObjective),
            compare: "",
            map,
            live: Live::Records,
            base,
            non_finite: NonFinite::Error,
        };
        let mut dispatches = Vec::new();
        for chunk in plan.chunks(job.data.rows) {
            call.summarise(&chunk, &mut dispatches);
        }
        self.record(encoder, &dispatches)
    }

    /// Records the gradients of rows that are summarised and judged.
    ///
    /// # Errors
    /// Those of [`encode_linear`](Self::encode_linear) for bindings, shape and options.
    pub fn encode_linear_push_back(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        job: &LinearPushBackJob<'_>,
    ) -> Result<(), GpuError> {
        let request = request_of(&job.data, &job.gradients, [true, false], Reduction::Sum, job.options);
        let plan = self.linear_plan(&request)?;
        let scratch = Scratch::new(self, &request, &plan);
        let records = (Some(&job.records), None);
        let totals = (None, scratch.totals.as_ref());
        let parts = Parts::new(&job.data, &job.gradients, None, records, totals, None)?;
        let base = parts.map.params(Params {
            classes: job.data.vocab as u32,
            row_tolerance: job.options.row_tolerance,
            ..Params::default()
        });
        let call = Call {
            kernels: self,
            plan,
            parts: &parts,
            scratch: &scratch,
            judge: "",
            sums: "",
            compare: "",
            map: parts.map.program()?,
            live: Live::Records,
            base,
            non_finite: job.non_finite,
        };
        let mut dispatches = Vec::new();
        for chunk in plan.chunks(job.data.rows) {
            call.push_back(&chunk, 0, false, &mut dispatches);
        }
        self.record(encoder, &dispatches)
    }

    /// What a request takes on this device.
    ///
    /// # Errors
    /// Those of [`linear_requirements`](crate::linear_requirements).
    pub fn linear_requirements(
        &self,
        request: &LinearRequest,
    ) -> Result<crate::LinearRequirements, GpuError> {
        crate::linear_requirements(request, self.variant, &self.limits)
    }

    pub(super) fn part(&self, map: Map) -> Program {
        Program::Part { width: Width::Vec4, reduce: self.variant.reduce(), map }
    }

    pub(super) fn linear_plan(&self, request: &LinearRequest) -> Result<Plan, GpuError> {
        self.linear_plan_with(request, &TeacherCost::default())
    }

    pub(super) fn linear_plan_with(
        &self,
        request: &LinearRequest,
        teacher: &TeacherCost,
    ) -> Result<Plan, GpuError> {
        let bytes = self.limits.max_compute_workgroup_storage_size;
        for (limit, needed, has) in [
            ("max_compute_invocations_per_workgroup", PRODUCT_LANES, self.lanes),
            ("max_compute_workgroup_storage_size", PRODUCT_BYTES, bytes),
        ] {
            if has < needed {
                return Err(GpuError::MissingLimit { limit, needed: needed.into(), has: has.into() });
            }
        }
        Plan::new(request, teacher, &self.cut)
    }
}

pub(super) fn request_of(
    data: &LinearData<'_>,
    gradients: &LinearBuffers<'_>,
    [records, totals]: [bool; 2],
    reduction: Reduction,
    options: LinearOptions,
) -> LinearRequest {
    LinearRequest {
        rows: data.rows,
        dim: data.dim,
        columns: data.columns.len(),
        dtype: data.dtype,
        reduction,
        dhidden: gradients.dhidden.is_some(),
        dweight: gradients.dweight.is_some(),
        dbias: gradients.dbias.is_some(),
        records,
        totals,
        options,
    }
}

/// One call's dispatches.
pub(super) struct Call<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) plan: Plan,
    pub(super) parts: &'a Parts<'a>,
    pub(super) scratch: &'a Scratch,
    /// The text of the objective, and of the statistics that it looks at.
    pub(super) judge: &'a str,
    pub(super) sums: &'a str,
    /// That of the divergence, where there is one.
    pub(super) compare: &'a str,
    pub(super) map: Map,
    pub(super) base: Params,
    pub(super) non_finite: NonFinite,
    /// What says whether a row is pushed back.
    pub(super) live: Live,
}

impl<'a> Call<'a> {
    /// A part of a buffer from this byte on, and the element inside the binding that it starts with.
    pub(super) fn bind(
        &self,
        number: u32,
        part: &Part<'a>,
        at: u64,
        size: u64,
        element: usize,
    ) -> (Bound<'a>, u32) {
        let (offset, into) = self.kernels.cut.align(part.offset + at);
        let size = (into + size).next_multiple_of(4);
        (Bound { binding: number, buffer: part.buffer, offset, size }, (into / element as u64) as u32)
    }

    pub(super) fn whole(&self, number: u32, buffer: &'a wgpu::Buffer) -> Bound<'a> {
        Bound { binding: number, buffer, offset: 0, size: buffer.size() }
    }

    fn dtype(&self) -> Dtype {
        self.parts.data.dtype
    }

    /// Counts and sums over all rows.
    pub(super) fn totals(&self, scale: Scale, flags: u32, into: &mut Vec<Dispatch<'a>>) {
        let (denominator_kind, denominator, reciprocal) = scale.words();
        for slice in self.kernels.cut.totals(self.parts.data.rows, RECORD_BYTES) {
            let first = if slice.row == 0 { flag::FIRST } else { 0 };
            let params = Params {
                denominator_kind,
                denominator,
                scale: reciprocal,
                flags: self.base.flags | flags | first,
                ..self.base
            };
            let rows = slice.row..slice.row + slice.rows;
            self.over_rows(Program::Totals, &rows, params, (1, 1), vec![], into);
        }
    }

    /// A dispatch of a program that sees targets, weights, records and totals of a chunk, and more.
    pub(super) fn over_rows(
        &self,
        program: Program,
        rows: &Range<usize>,
        params: Params,
        groups: (u32, u32),
        mut bound: Vec<Bound<'a>>,
        into: &mut Vec<Dispatch<'a>>,
    ) {
        let kernels = self.kernels;
        let parts = self.parts;
        let mut of_rows = |number, part: &Part<'a>, entry: u64| {
            let (bind, first) =
                self.bind(number, part, rows.start as u64 * entry, rows.len() as u64 * entry, 4);
            bound.push(bind);
            first
        };
        let targets_first = of_rows(binding::TARGETS, &parts.targets, 4);
        let records_first = of_rows(binding::RECORDS, &parts.records, RECORD_BYTES);
        let weights_first = parts.weights.as_ref().map_or(0, |weights| of_rows(binding::WEIGHTS, weights, 4));
        if parts.weights.is_none() {
            bound.push(self.whole(binding::WEIGHTS, &kernels.nothing));
        }
        let (totals, totals_first) = self.bind(binding::TOTALS, &parts.totals, 0, TOTALS_BYTES, 4);
        bound.push(totals);
        let mut params = params;
        parts.map.bind(&kernels.cut, &kernels.nothing, rows, &mut params, &mut bound);
        if let Some(columns) = &parts.columns {
            columns.bind(&kernels.cut, &kernels.nothing, rows, &mut params, &mut bound);
        }
        let bindings = program.bindings();
        bound.retain(|bound| bindings.contains(&bound.binding));
        let params = Params {
            rows: rows.len() as u32,
            grid_x: groups.0,
            targets_first,
            records_first,
            weights_first,
            totals_first,
            ..params
        };
        let judge = match program {
            Program::Judge | Program::PairJudge => self.judge,
            Program::Part { .. } | Program::PairPart { .. } => self.sums,
            Program::PairSums { .. } | Program::PairPushBack { .. } => self.compare,
            _ => "",
        };
        into.push(Dispatch {
            program,
            judge,
            lanes: kernels.lanes_of(program),
            uniform: params.to_bytes(),
            bound,
            groups,
        });
    }

    /// The list of a chunk's rows that take part.
    pub(super) fn list(&self, chunk: &Range<usize>, flags: u32, into: &mut Vec<Dispatch<'a>>) {
        let params = Params { flags: self.base.flags | flags, ..self.base };
        let live = if flags & flag::LIVE != 0 { self.live } else { Live::Records };
        self.over_rows(Program::Compact { live }, chunk, params, (1, 1), self.list_bindings(), into);
    }

    pub(super) fn list_bindings(&self) -> Vec<Bound<'a>> {
        let list = self.whole(binding::LIST, &self.scratch.list);
        vec![list, self.whole(binding::COUNT, &self.scratch.count)]
    }

    /// One workgroup a row over a tile of the vocabulary, in place.
    pub(super) fn over_tile(
        &self,
        program: Program,
        chunk: &Range<usize>,
        columns: &Range<usize>,
        flags: u32,
        into: &mut Vec<Dispatch<'a>>,
    ) {
        let params = Params {
            vocab: columns.len() as u32,
            stride: self.plan.stride as u32,
            column_first: (self.parts.data.columns.start + columns.start) as u32,
            flags: self.base.flags | flags,
            ..self.base
        };
        let groups = self.kernels.cut.fold(chunk.len() as u64);
        let tile = self.whole(binding::LOGITS, &self.scratch.tile);
        self.over_rows(program, chunk, params, groups, vec![tile], into);
    }

    /// Logits of the rows that are not ignored, and what is known of each.
    pub(super) fn summarise(&self, chunk: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        self.list(chunk, 0, into);
        let part = self.kernels.part(self.map);
        for columns in self.plan.tiles(self.parts.data.columns.len()) {
            self.logits(chunk, &columns, into);
            self.take(chunk, &columns, into);
            let first = if columns.start == 0 { flag::FIRST } else { 0 };
            self.over_tile(part, chunk, &columns, first, into);
        }
    }

    fn judge(&self, chunk: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        let groups = self.kernels.cut.fold((chunk.len() as u64).div_ceil(self.kernels.lanes.into()));
        self.over_rows(Program::Judge, chunk, self.base, groups, vec![], into);
    }

    /// The gradients of a chunk's live rows, from logits that are in the tile already or are computed anew.
    pub(super) fn push_back(
        &self,
        chunk: &Range<usize>,
        scale: u32,
        held: bool,
        into: &mut Vec<Dispatch<'a>>,
    ) {
        let nan_rows = if self.non_finite == NonFinite::NanRow { flag::NAN_ROWS } else { 0 };
        self.list(chunk, scale | flag::LIVE | nan_rows, into);
        let push_back = Program::PushBack {
            dtype: Dtype::F32,
            width: Width::Vec4,
            store: Store::InPlace,
            guide: None,
            map: self.map,
        };
        for columns in self.plan.tiles(self.parts.data.columns.len()) {
            if !held {
                self.logits(chunk, &columns, into);
            }
            self.over_tile(push_back, chunk, &columns, scale, into);
            self.put(chunk, &columns, into);
            self.products(chunk, &columns, into);
        }
        self.store(chunk, into);
    }

    /// The gradients of a chunk's hidden states, where they are wanted.
    pub(super) fn store(&self, chunk: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        let (Some((part, dtype)), Some(sums)) = (&self.parts.dhidden, &self.scratch.sums) else { return };
        let dtype = *dtype;
        let dim = self.parts.data.dim;
        let row = (dim * dtype.bytes()) as u64;
        let (out, first) =
            self.bind(binding::OUT, part, chunk.start as u64 * row, chunk.len() as u64 * row, dtype.bytes());
        let params = Params { stride: dim as u32, dlogits_first: first, ..self.base };
        let in_word = 4 / dtype.bytes() as u64;
        let elements = u64::from(first) % in_word + (chunk.len() * dim) as u64;
        let words = elements.div_ceil(in_word);
        let groups = self.kernels.cut.fold(words.div_ceil(self.kernels.lanes.into()));
        let bound = vec![out, self.whole(binding::SUMS, sums)];
        self.over_rows(Program::StoreHidden { dtype }, chunk, params, groups, bound, into);
    }

    /// The parts of a tile whose rows of these matrices each lie in one binding, and in which no dispatch is too long.
    fn slices(&self, columns: &Range<usize>, dweight: bool) -> Vec<Range<usize>> {
        let Parts { data, weight, dweight: out, .. } = self.parts;
        let mut bytes = data.dtype.bytes();
        let mut ends: Vec<usize> = weight.iter().map(|piece| piece.rows.end).collect();
        if let (true, Some(out)) = (dweight, out) {
            bytes = 4;
            ends.extend(out.iter().map(|piece| piece.rows.end));
        }
        let step = self.plan.most_columns(&self.kernels.cut, data.dim, data.dim * bytes);
        ends.sort_unstable();
        let mut slices = Vec::new();
        let mut next = columns.start;
        while next < columns.end {
            let end = ends.iter().copied().find(|&end| end > next).unwrap_or(columns.end);
            let end = end.min(columns.end).min(next + step);
            slices.push(next..end);
            next = end;
        }
        slices
    }

    /// The rows of a matrix in pieces.
    fn bind_piece(
        &self,
        number: u32,
        pieces: &[Piece<'a>],
        rows: &Range<usize>,
        element: usize,
    ) -> Option<(Bound<'a>, u32)> {
        let piece = pieces.iter().find(|piece| piece.rows.contains(&rows.start))?;
        let row = (self.parts.data.dim * element) as u64;
        let at = (rows.start - piece.rows.start) as u64 * row;
        Some(self.bind(number, &piece.part, at, rows.len() as u64 * row, element))
    }

    fn bind_hidden(&self, chunk: &Range<usize>) -> (Bound<'a>, u32) {
        let row = (self.parts.data.dim * self.dtype().bytes()) as u64;
        let (at, size) = (chunk.start as u64 * row, chunk.len() as u64 * row);
        self.bind(binding::HIDDEN, &self.parts.hidden, at, size, self.dtype().bytes())
    }

    /// A product of so many rows and columns.
    fn product(
        &self,
        product: Product,
        [rows, columns]: [usize; 2],
        params: ProductParams,
        mut bound: Vec<Bound<'a>>,
        into: &mut Vec<Dispatch<'a>>,
    ) {
        let cooperative = self.kernels.cooperative.as_ref();
        let (tiles, lanes) = match cooperative.filter(|matrix| matrix.computes(product, self.dtype())) {
            Some(matrix) => (Tiles::Cooperative(matrix.matrices()), matrix.lanes()),
            None => (Tiles::Registers, PRODUCT_LANES),
        };
        let program = Program::Product { product, dtype: self.dtype(), tiles };
        if program.reads_count() {
            bound.push(self.whole(binding::COUNT, &self.scratch.count));
        }
        let tiles = rows.div_ceil(Product::SIDE) as u64 * columns.div_ceil(Product::SIDE) as u64;
        let groups = self.kernels.cut.fold(tiles);
        let params = ProductParams { grid_x: groups.0, ..self.product_params(params) };
        bound.push(self.whole(binding::LOGITS, &self.scratch.tile));
        bound.push(self.whole(binding::LIST, &self.scratch.list));
        let uniform = params.to_bytes();
        into.push(Dispatch { program, judge: "", lanes, uniform, bound, groups });
    }

    fn product_params(&self, params: ProductParams) -> ProductParams {
        let (dim, tile_stride) = (self.parts.data.dim as u32, self.plan.stride as u32);
        ProductParams { dim, tile_stride, ..params }
    }

    pub(super) fn logits(&self, chunk: &Range<usize>, columns: &Range<usize>, into: &mut Vec<Dispatch<'a>>) {
        let parts = self.parts;
        let element = self.dtype().bytes();
        for slice in self.slices(columns, false) {
            let (hidden, hidden_first) = self.bind_hidden(chunk);
            let Some((weight, weight_first)) =
                self.bind_piece(binding::WEIGHT, &parts.weight, &slice, element)
            else {
                continue;
            };
            let (bias, bias_first) = match &parts.bias {
                Some(bias) => {
                    let (at, size) = ((slice.start * element) as u64, (slice.len() * element) as u64);
                    self.bind(binding::BIAS, bias, at, size, element)
                }
                None => (self.whole(binding::BIAS, &self.kernels.nothing), 0),
            };
            let params = ProductParams {
                columns: slice.len() as u32,
                depth: parts.data.dim as u32,
                hidden_first,
                weight_first,
                bias_first,
                tile_first: (slice.start - columns.start) as u32,
                bias: parts.bias.is_some(),
                ..ProductParams::default()
            };
            let bound = vec![hidden, weight, bias];
            self.product(Product::Logits, [chunk.len(), slice.len()], params, bound, into);
        }
    }

    /// What a tile's gradient is multiplied into.
    pub(super) fn products(
        &self,
        chunk: &Range<usize>,
        columns: &Range<usize>,
        into: &mut Vec<Dispatch<'a>>,
    ) {
        let parts = self.parts;
        let dim = parts.data.dim;
        for slice in self.slices(columns, true) {
            let of_slice = ProductParams {
                columns: dim as u32,
                depth: slice.len() as u32,
                tile_first: (slice.start - columns.start) as u32,
                ..ProductParams::default()
            };
            let weight = self.bind_piece(binding::WEIGHT, &parts.weight, &slice, self.dtype().bytes());
            if let (Some(sums), Some((weight, weight_first))) = (&self.scratch.sums, weight) {
                let bound = vec![weight, self.whole(binding::OUT, sums)];
                let params = ProductParams { weight_first, ..of_slice };
                self.product(Product::Hidden, [chunk.len(), dim], params, bound, into);
            }
            let out = parts.dweight.as_ref().and_then(|out| self.bind_piece(binding::OUT, out, &slice, 4));
            if let Some((out, out_first)) = out {
                let (hidden, hidden_first) = self.bind_hidden(chunk);
                let params = ProductParams { hidden_first, out_first, ..of_slice };
                self.product(Product::Weight, [slice.len(), dim], params, vec![hidden, out], into);
            }
        }
        if let Some(dbias) = &parts.dbias {
            let (at, size) = (4 * columns.start as u64, 4 * columns.len() as u64);
            let (out, out_first) = self.bind(binding::OUT, dbias, at, size, 4);
            let lanes = 64;
            let groups = self.kernels.cut.fold((columns.len() as u64).div_ceil(lanes.into()));
            let params = self.product_params(ProductParams {
                columns: columns.len() as u32,
                grid_x: groups.0,
                out_first,
                ..ProductParams::default()
            });
            let bound = vec![
                out,
                self.whole(binding::LOGITS, &self.scratch.tile),
                self.whole(binding::LIST, &self.scratch.list),
            ];
            let uniform = params.to_bytes();
            into.push(Dispatch { program: Program::SumBias, judge: "", lanes, uniform, bound, groups });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinearRequirements;
    use std::sync::atomic::Ordering::Relaxed;
    use tokenloss_core::{Budget, Denominator, Nll};

    const ROWS: usize = 300;
    const DIM: usize = 65;
    const VOCAB: usize = 5_001;

    /// Bytes of the buffers that a call creates, and what was said of it.
    fn encode(
        kernels: &Kernels,
        options: LinearOptions,
        reduction: Reduction,
        [dhidden, dweight, dbias, records, totals]: [bool; 5],
    ) -> (u64, LinearRequirements) {
        let buffer = |bytes: usize| {
            kernels.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.next_multiple_of(4) as u64,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        let inputs = [2 * ROWS * DIM, 2 * VOCAB * DIM, 4 * ROWS].map(buffer);
        let outputs =
            [4 * ROWS * DIM, 4 * VOCAB * DIM, 4 * VOCAB, RECORD_BYTES as usize * ROWS, 36].map(buffer);
        let part = |buffer| {
            let size = wgpu::BufferSize::new(wgpu::Buffer::size(buffer));
            wgpu::BufferBinding { buffer, offset: 0, size }
        };
        let job = LinearJob {
            data: LinearData {
                rows: ROWS,
                dim: DIM,
                vocab: VOCAB,
                columns: 0..VOCAB,
                dtype: Dtype::F16,
                hidden: part(&inputs[0]),
                weight: vec![part(&inputs[1])],
                bias: None,
                targets: part(&inputs[2]),
                map: None,
            },
            objective: &Nll,
            reduction,
            weights: None,
            gradients: LinearBuffers {
                dhidden: dhidden.then(|| (part(&outputs[0]), Dtype::F32)),
                dweight: dweight.then(|| vec![part(&outputs[1])]),
                dbias: dbias.then(|| part(&outputs[2])),
            },
            records: records.then(|| part(&outputs[3])),
            totals: totals.then(|| part(&outputs[4])),
            options,
            non_finite: NonFinite::Error,
        };
        let before = kernels.allocated.load(Relaxed);
        let mut encoder = kernels.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        kernels.encode_linear(&mut encoder, &job).unwrap();
        let request = request_of(&job.data, &job.gradients, [records, totals], job.reduction, job.options);
        (kernels.allocated.load(Relaxed) - before, kernels.linear_requirements(&request).unwrap())
    }

    #[test]
    fn a_call_creates_what_the_requirements_say() {
        // A binding of 1 MiB cuts the weight, of 650 KB, and its gradient, of 1.3 MB.
        let low = wgpu::Limits { max_storage_buffer_binding_size: 1 << 20, ..wgpu::Limits::default() };
        for limits in [wgpu::Limits::default(), low] {
            let description = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
            let (device, _queue) = wgpu::Device::noop(&description);
            let kernels = Kernels::new(&device).unwrap();
            for budget in [100_000, 1 << 20, 16 << 20] {
                let options = LinearOptions { budget: Budget(budget), ..LinearOptions::default() };
                for reduction in [Reduction::default(), Reduction::Mean(Denominator::Kept)] {
                    for wanted in 0..32 {
                        let wanted = [1, 2, 4, 8, 16].map(|bit| wanted & bit != 0);
                        let (bytes, needs) = encode(&kernels, options, reduction, wanted);
                        assert_eq!(bytes, needs.scratch_bytes + needs.uniform_bytes, "{budget} {wanted:?}");
                        assert!(needs.scratch_bytes <= budget as u64);
                        assert!(budget < 1 << 20 || 10 * bytes <= 11 * budget as u64, "{needs:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_device_with_too_little_workgroup_memory_is_told_so() {
        let limits = wgpu::Limits { max_compute_workgroup_storage_size: 10_240, ..wgpu::Limits::default() };
        let description = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
        let kernels = Kernels::new(&wgpu::Device::noop(&description).0).unwrap();
        let request = LinearRequest {
            rows: ROWS,
            dim: DIM,
            columns: VOCAB,
            dtype: Dtype::F32,
            reduction: Reduction::default(),
            dhidden: true,
            dweight: false,
            dbias: false,
            records: false,
            totals: false,
            options: LinearOptions::default(),
        };
        assert_eq!(
            kernels.linear_plan(&request).unwrap_err().to_string(),
            "max_compute_workgroup_storage_size: expected at least 12288, the device has 10240"
        );
    }
}
