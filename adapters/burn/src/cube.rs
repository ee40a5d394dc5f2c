//! On burn's wgpu backend: its tensors' buffers, used where they lie by the kernels of tokenloss-wgpu.
//!
//! The kernels bind all storage as `read_write`, so that tensors which share a page of the allocator may be bound together:
//! they share a buffer, but no bytes of it.

use crate::error::Error;
use crate::op::{Call, Forward, Gradients, Head, LinearForward, Losses, Maybe, Wanted};
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::graphics::AutoGraphicsApi;
use burn::backend::wgpu::{
    AutoCompiler, CubeBackend, CubeTensor, RuntimeOptions, WgpuResource, WgpuSetup, into_contiguous,
    try_init_setup, wgpu,
};
use burn::backend::{CubeDevice, DispatchDevice, TensorMetadata, get_or_init_device_settings};
use burn::cubecl::wgpu::WgpuServer;
use burn::tensor::{DType, Device, FloatDType, IntDType, Scalar, Shape, Slice};
use std::sync::{Arc, Mutex, PoisonError};
use tokenloss_core::{Dtype, LogitMap, Reduction, RowMap};
use tokenloss_wgpu::shaders::{RECORD_WORDS, TOTALS_WORDS};
use tokenloss_wgpu::{
    Data, GpuError, Gradient, Job, Kernels, LinearBuffers, LinearData, LinearJob, MapBindings, Variant,
    guarded,
};
use wgpu::BufferBinding;

/// A device of burn's, its queue, and our kernels on it.
struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    kernels: Kernels,
}

static DEVICES: Mutex<Vec<(CubeDevice, Arc<Shared>)>> = Mutex::new(Vec::new());

/// Brings up burn's wgpu device for burn and for the losses, which need the queue that burn keeps to itself. Call it once for
/// each device, before burn has used it. A device that was made from a setup of your own goes to [`share_wgpu`].
///
/// # Errors
/// * [`Error::Device`] for a device of another backend.
/// * [`Error::Init`] where there is no adapter, or where burn has brought the device up already.
/// * [`Error::Gpu`] where the device is too small for the kernels.
pub fn init_wgpu(device: &Device) -> Result<(), Error> {
    let cube = cube_device("device", device)?;
    let CubeDevice::Wgpu(wgpu) = &cube else { return Err(other_runtime("device", device)) };
    let setup = try_init_setup::<AutoGraphicsApi>(wgpu, RuntimeOptions::default())
        .map_err(|error| Error::Init { reason: error.to_string() })?;
    register(cube, &setup)
}

/// Lets the losses use a device that burn was given: `Device::wgpu_options().setup(setup.clone()).init()`.
///
/// # Errors
/// Those of [`init_wgpu`].
pub fn share_wgpu(device: &Device, setup: &WgpuSetup) -> Result<(), Error> {
    register(cube_device("device", device)?, setup)
}

fn register(device: CubeDevice, setup: &WgpuSetup) -> Result<(), Error> {
    let variant = Variant::best(setup.device.features(), &setup.device.adapter_info());
    let kernels = Kernels::with_variant(&setup.device, variant).map_err(Error::Gpu)?;
    let shared = Shared { device: setup.device.clone(), queue: setup.queue.clone(), kernels };
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    devices.retain(|(known, _)| *known != device);
    devices.push((device, Arc::new(shared)));
    Ok(())
}

fn shared(device: &CubeDevice) -> Result<Arc<Shared>, Error> {
    let devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = devices.iter().find(|(known, _)| known == device);
    known
        .map(|(_, shared)| shared.clone())
        .ok_or_else(|| Error::NotShared { got: Box::new(Device::new(device.clone())) })
}

fn cube_device(what: &'static str, device: &Device) -> Result<CubeDevice, Error> {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(cube) => Ok(cube.clone()),
        #[allow(unreachable_patterns, reason = "burn has other backends only with features of its own")]
        _ => Err(other_runtime(what, device)),
    }
}

fn other_runtime(what: &'static str, device: &Device) -> Error {
    Error::Device { what, got: Box::new(device.clone()), served: "burn's Flex and wgpu backends" }
}

/// What can be known of a call before burn queues it.
pub(crate) fn check(what: &'static str, device: &Device, map: Option<&LogitMap<'_>>) -> Result<(), Error> {
    let cube = cube_device(what, device)?;
    if !matches!(cube, CubeDevice::Wgpu(_)) {
        return Err(other_runtime(what, device));
    }
    shared(&cube)?;
    match map {
        Some(map) if map.scales().is_some() || map.margins().is_some() || map.mask().is_some() => {
            Err(Error::Gpu(GpuError::Unsupported { what: "a logit map with rows or a mask of its own" }))
        }
        _ => Ok(()),
    }
}

/// A tensor's part of a buffer, which stays where it is as long as this lives.
struct Bound {
    resource: WgpuResource,
    _held: Box<dyn Send>,
}

impl Bound {
    fn new(tensor: &CubeTensor) -> Result<Self, Error> {
        let managed = tensor.client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone());
        let managed = managed.map_err(|error| Error::Gpu(internal(error)))?;
        Ok(Self { resource: managed.resource().clone(), _held: Box::new(managed) })
    }

    fn binding(&self) -> BufferBinding<'_> {
        let WgpuResource { buffer, offset, size, .. } = &self.resource;
        BufferBinding { buffer, offset: *offset, size: wgpu::BufferSize::new(size.next_multiple_of(4)) }
    }
}

fn internal(error: impl std::fmt::Display) -> GpuError {
    GpuError::Internal { reason: error.to_string() }
}

impl Shared {
    /// Records, and submits behind all that burn has queued.
    fn submit(
        &self,
        like: &CubeTensor,
        record: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<(), GpuError>,
    ) -> Result<(), Error> {
        let done = guarded(&self.device, 0, || {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            record(&mut encoder)?;
            like.client.flush().map_err(internal)?;
            self.queue.submit([encoder.finish()]);
            Ok(())
        });
        done.map_err(Error::Gpu)
    }
}

fn dtype_of(what: &'static str, tensor: &CubeTensor) -> Result<Dtype, Error> {
    match tensor.dtype {
        DType::F32 => Ok(Dtype::F32),
        DType::F16 => Ok(Dtype::F16),
        DType::BF16 => Ok(Dtype::Bf16),
        got => Err(Error::Dtype { what, got, expected: "f32, f16 or bf16" }),
    }
}

/// Memory that nobody has written to.
fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let handle = like.client.empty(bytes.next_multiple_of(4));
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), Shape::from(shape), handle, dtype)
}

fn nan<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    CubeBackend::float_full(Shape::from(shape), Scalar::from(f32::NAN), &like.device, dtype.into())
}

fn zeros<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    CubeBackend::float_zeros(Shape::from(shape), &like.device, FloatDType::F32)
}

/// As i32. What that does not hold becomes something that is no class either.
fn targets_of(targets: CubeTensor) -> CubeTensor {
    let targets = match targets.dtype {
        DType::I32 => targets,
        DType::I64 => {
            let (min, max) = (Scalar::from(i32::MIN), Scalar::from(i32::MAX));
            CubeBackend::int_cast(CubeBackend::int_clamp(targets, min, max), IntDType::I32)
        }
        DType::U32 | DType::U64 => {
            let max = Scalar::from(i32::MAX);
            CubeBackend::int_cast(CubeBackend::int_clamp_max(targets, max), IntDType::I32)
        }
        _ => CubeBackend::int_cast(targets, IntDType::I32),
    };
    into_contiguous(targets)
}

fn floats(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(CubeBackend::float_cast(tensor, FloatDType::F32))
}

/// Weights times the gradient from above, for each row.
fn weights_with(weights: Maybe<CubeBackend>, upstream: CubeTensor, rows: usize) -> CubeTensor {
    let upstream = floats(upstream);
    match weights {
        Maybe::Some(weights) => CubeBackend::float_mul(floats(weights), upstream),
        Maybe::None => into_contiguous(CubeBackend::float_expand(upstream, Shape::from([rows]))),
    }
}

fn map_of(call: &Call, vocab: usize) -> Option<MapBindings<'static>> {
    call.map.map(|map| {
        let RowMap { link, scale, margin, .. } = map.row(0, vocab);
        MapBindings { link, scale, margin, rows: None, mask: None }
    })
}

/// A column of the records.
fn column(records: &CubeTensor, word: usize) -> CubeTensor {
    let rows = records.shape()[0];
    let at = |range: std::ops::Range<usize>| Slice::from(range);
    let column = CubeBackend::float_slice(records.clone(), &[at(0..rows), at(word..word + 1)]);
    CubeBackend::float_reshape(column, Shape::from([rows]))
}

/// What the kernels wrote, as burn's tensors.
struct Written {
    records: CubeTensor,
    totals: CubeTensor,
}

impl Written {
    fn new(like: &CubeTensor, rows: usize) -> Self {
        Self {
            records: empty(like, [rows, RECORD_WORDS], DType::F32),
            totals: empty(like, [TOTALS_WORDS], DType::F32),
        }
    }

    fn forward(self, weights: Option<CubeTensor>, call: &Call) -> Forward<CubeBackend> {
        let Self { records, totals } = self;
        let word = |at: usize| CubeBackend::float_slice(totals.clone(), &[Slice::from(at..at + 1)]);
        let losses = column(&records, 0);
        let loss = match (call.reduction, weights) {
            // The weighted sum, and the inverse of the denominator.
            (Some(_), _) => CubeBackend::float_mul(word(0), word(6)),
            (None, None) => losses,
            (None, Some(weights)) => {
                // A weight of 0 switches a row off even where its loss is not finite.
                let store = get_or_init_device_settings::<CubeBackend>(&weights.device).bool_dtype;
                let off = CubeBackend::float_equal_elem(weights.clone(), Scalar::from(0.0f32), store);
                CubeBackend::float_mask_fill(
                    CubeBackend::float_mul(losses, weights),
                    off,
                    Scalar::from(0.0f32),
                )
            }
        };
        let mut words = totals;
        words.dtype = DType::I32;
        Forward { loss, log_p: column(&records, 1), entropy: column(&records, 3), totals: words, records }
    }

    fn nothing(like: &CubeTensor, rows: usize, call: &Call) -> Forward<CubeBackend> {
        let mut totals = nan(like, [TOTALS_WORDS], DType::F32);
        totals.dtype = DType::I32;
        Forward {
            loss: nan(like, [if call.reduction.is_some() { 1 } else { rows }], DType::F32),
            log_p: nan(like, [rows], DType::F32),
            entropy: nan(like, [rows], DType::F32),
            totals,
            records: nan(like, [rows, RECORD_WORDS], DType::F32),
        }
    }
}

/// Summarises and judges; with a gradient, pushes back as well.
fn evaluate(
    logits: &CubeTensor,
    targets: CubeTensor,
    weights: Option<&CubeTensor>,
    gradient: Option<&CubeTensor>,
    written: Option<&Written>,
    reduction: Reduction,
    call: &Call,
) -> Result<(), Error> {
    let shared = shared(&logits.device)?;
    let (rows, vocab) = (logits.shape()[0], logits.shape()[1]);
    let targets = targets_of(targets);
    let (records, totals) = (written.map(|written| &written.records), written.map(|written| &written.totals));
    let (z, t) = (Bound::new(logits)?, Bound::new(&targets)?);
    let of = |tensor: Option<&CubeTensor>| tensor.map(Bound::new).transpose();
    let (w, d, r, s) = (of(weights)?, of(gradient)?, of(records)?, of(totals)?);
    let job = Job {
        data: Data {
            shape: tokenloss_core::Shape::new(rows, vocab)?,
            dtype: dtype_of("logits", logits)?,
            logits: z.binding(),
            targets: t.binding(),
            map: map_of(call, vocab),
        },
        objective: &call.objective,
        reduction,
        weights: w.as_ref().map(Bound::binding),
        gradient: d.as_ref().map_or(Gradient::None, |d| Gradient::Into(d.binding())),
        records: r.as_ref().map(Bound::binding),
        totals: s.as_ref().map(Bound::binding),
    };
    shared.submit(logits, |encoder| shared.kernels.encode(encoder, &job))
}

/// A head whose rows lie one after the other.
struct Contiguous {
    hidden: CubeTensor,
    weight: CubeTensor,
    bias: Option<CubeTensor>,
    rows: usize,
    dim: usize,
    vocab: usize,
}

impl Contiguous {
    fn of(head: Head<CubeBackend>) -> Self {
        let (hidden, weight) = (into_contiguous(head.hidden), into_contiguous(head.weight));
        let (rows, dim, vocab) = (hidden.shape()[0], hidden.shape()[1], weight.shape()[0]);
        Self { bias: head.bias.into_option().map(into_contiguous), hidden, weight, rows, dim, vocab }
    }

    fn gradients(&self, wanted: Wanted) -> Sums {
        Sums {
            dhidden: wanted.hidden.then(|| empty(&self.hidden, [self.rows, self.dim], DType::F32)),
            // These are added to.
            dweight: wanted.weight.then(|| zeros(&self.hidden, [self.vocab, self.dim])),
            dbias: wanted.bias.then(|| zeros(&self.hidden, [self.vocab])),
        }
    }

    fn nan(&self, wanted: Wanted) -> Gradients<CubeBackend> {
        let sums = Sums {
            dhidden: wanted.hidden.then(|| nan(&self.hidden, [self.rows, self.dim], DType::F32)),
            dweight: wanted.weight.then(|| nan(&self.hidden, [self.vocab, self.dim], DType::F32)),
            dbias: wanted.bias.then(|| nan(&self.hidden, [self.vocab], DType::F32)),
        };
        sums.tensors()
    }
}

struct Sums {
    dhidden: Option<CubeTensor>,
    dweight: Option<CubeTensor>,
    dbias: Option<CubeTensor>,
}

impl Sums {
    fn tensors(self) -> Gradients<CubeBackend> {
        Gradients {
            dhidden: Maybe::of(self.dhidden),
            dweight: Maybe::of(self.dweight),
            dbias: Maybe::of(self.dbias),
        }
    }
}

fn evaluate_linear(
    head: &Contiguous,
    targets: CubeTensor,
    weights: Option<&CubeTensor>,
    sums: &Sums,
    written: Option<&Written>,
    reduction: Reduction,
    call: &Call,
) -> Result<(), Error> {
    let shared = shared(&head.hidden.device)?;
    let targets = targets_of(targets);
    let hidden = Bound::new(&head.hidden)?;
    let weight = Bound::new(&head.weight)?;
    let targets_bound = Bound::new(&targets)?;
    let of = |tensor: Option<&CubeTensor>| tensor.map(Bound::new).transpose();
    let (bias, weights) = (of(head.bias.as_ref())?, of(weights)?);
    let (dhidden, dweight, dbias) =
        (of(sums.dhidden.as_ref())?, of(sums.dweight.as_ref())?, of(sums.dbias.as_ref())?);
    let (records, totals) =
        (of(written.map(|written| &written.records))?, of(written.map(|written| &written.totals))?);
    let job = LinearJob {
        data: LinearData {
            rows: head.rows,
            dim: head.dim,
            vocab: head.vocab,
            columns: 0..head.vocab,
            dtype: dtype_of("hidden", &head.hidden)?,
            hidden: hidden.binding(),
            weight: vec![weight.binding()],
            bias: bias.as_ref().map(Bound::binding),
            targets: targets_bound.binding(),
            map: map_of(call, head.vocab),
        },
        objective: &call.objective,
        reduction,
        weights: weights.as_ref().map(Bound::binding),
        gradients: LinearBuffers {
            dhidden: dhidden.as_ref().map(|d| (d.binding(), Dtype::F32)),
            dweight: dweight.as_ref().map(|d| vec![d.binding()]),
            dbias: dbias.as_ref().map(Bound::binding),
        },
        records: records.as_ref().map(Bound::binding),
        totals: totals.as_ref().map(Bound::binding),
        options: call.linear,
        non_finite: call.non_finite,
    };
    shared.submit(&head.hidden, |encoder| shared.kernels.encode_linear(encoder, &job))
}

impl Losses for CubeBackend {
    fn token_loss(
        logits: FloatTensor<Self>,
        targets: CubeTensor,
        weights: Maybe<Self>,
        call: Call,
    ) -> Forward<Self> {
        let logits = into_contiguous(logits);
        let rows = logits.shape()[0];
        let weights = weights.into_option().map(floats);
        let written = Written::new(&logits, rows);
        let reduction = call.reduction.unwrap_or(Reduction::Sum);
        match evaluate(&logits, targets, weights.as_ref(), None, Some(&written), reduction, &call) {
            Ok(()) => written.forward(weights, &call),
            Err(error) => {
                call.fault.set(error);
                Written::nothing(&logits, rows, &call)
            }
        }
    }

    // Judges once more, with the gradient from above among the weights: the kernel that does both reads the logits no more
    // often than one that would read records.
    fn token_loss_backward(
        logits: FloatTensor<Self>,
        targets: CubeTensor,
        weights: Maybe<Self>,
        _: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self> {
        let logits = into_contiguous(logits);
        let shape = [logits.shape()[0], logits.shape()[1]];
        let weights = weights_with(weights, upstream, shape[0]);
        let dlogits = empty(&logits, shape, logits.dtype);
        let reduction = call.reduction.unwrap_or(Reduction::Sum);
        match evaluate(&logits, targets, Some(&weights), Some(&dlogits), None, reduction, &call) {
            Ok(()) => dlogits,
            Err(error) => {
                call.fault.set(error);
                nan(&logits, shape, logits.dtype)
            }
        }
    }

    fn linear_token_loss(
        head: Head<Self>,
        targets: CubeTensor,
        weights: Maybe<Self>,
        wanted: Wanted,
        call: Call,
    ) -> LinearForward<Self> {
        let head = Contiguous::of(head);
        let weights = weights.into_option().map(floats);
        // Without a reduction each row has a gradient from above of its own, which is still to come.
        let wanted = if call.reduction.is_some() { wanted } else { Wanted::NONE };
        let sums = head.gradients(wanted);
        let written = Written::new(&head.hidden, head.rows);
        let reduction = call.reduction.unwrap_or(Reduction::Sum);
        match evaluate_linear(&head, targets, weights.as_ref(), &sums, Some(&written), reduction, &call) {
            Ok(()) => LinearForward { forward: written.forward(weights, &call), gradients: sums.tensors() },
            Err(error) => {
                call.fault.set(error);
                let forward = Written::nothing(&head.hidden, head.rows, &call);
                LinearForward { forward, gradients: head.nan(wanted) }
            }
        }
    }

    fn linear_token_loss_backward(
        head: Head<Self>,
        targets: CubeTensor,
        weights: Maybe<Self>,
        _: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        wanted: Wanted,
        call: Call,
    ) -> Gradients<Self> {
        let head = Contiguous::of(head);
        let weights = weights_with(weights, upstream, head.rows);
        let sums = head.gradients(wanted);
        match evaluate_linear(&head, targets, Some(&weights), &sums, None, Reduction::Sum, &call) {
            Ok(()) => sums.tensors(),
            Err(error) => {
                call.fault.set(error);
                head.nan(wanted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::DeviceKind;

    /// What the tests of losses rest on: small tensors do lie in one buffer, and are bound together all the same.
    #[test]
    fn tensors_share_a_page() {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        if let Err(error) = init_wgpu(&device) {
            assert!(std::env::var_os("TOKENLOSS_REQUIRE_GPU").is_none(), "gpu: {error}");
            println!("gpu: not tested, no adapter");
            return;
        }
        let cube = cube_device("device", &device).unwrap();
        let logits =
            CubeBackend::float_full(Shape::from([4, 8]), Scalar::from(1.0f32), &cube, FloatDType::F32);
        let targets = CubeBackend::int_zeros(Shape::from([4]), &cube, IntDType::I32);
        let dlogits = empty(&logits, [4, 8], DType::F32);
        let bound = [&logits, &targets, &dlogits].map(|tensor| Bound::new(tensor).unwrap().resource);
        assert!(bound[0].buffer == bound[1].buffer && bound[1].buffer == bound[2].buffer);
        assert!(bound[0].offset != bound[1].offset && bound[1].offset != bound[2].offset);
        let call = Call::new(tokenloss_core::Nll.into(), &crate::Options::default());
        evaluate(&logits, targets, None, Some(&dlogits), None, Reduction::Sum, &call).unwrap();
        let read = logits.client.read_one(dlogits.handle).unwrap();
        let first = f32::from_le_bytes(read[..4].try_into().unwrap());
        assert!((first - (0.125 - 1.0)).abs() < 1e-6, "{first}");
    }
}
