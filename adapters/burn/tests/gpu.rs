//! burn's wgpu backend, inside of Fusion where the feature is on, beside its Flex backend.
#![cfg(feature = "wgpu")]

mod common;

use burn::backend::wgpu::graphics::AutoGraphicsApi;
use burn::backend::wgpu::{RuntimeOptions, try_init_setup};
use burn::backend::{CubeDevice, DispatchDevice};
use burn::tensor::{DType, Device, DeviceKind, Int, Tensor};
use common::{assert_near, distance, ints, objectives, read, scaled, tensor, uniform, wide};
use std::sync::OnceLock;
use tokenloss_burn::core::{self, Composite, Denominator, LogitMap, Nll, NonFinite, Reduction, Totals};
use tokenloss_burn::{Error, Options, init_wgpu, linear_token_loss, share_wgpu, token_loss};

/// The device, or a line that says that there is none.
fn gpu() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        match init_wgpu(&device) {
            Ok(()) => Some(device.autodiff()),
            Err(Error::Init { reason }) => {
                assert!(std::env::var_os("TOKENLOSS_REQUIRE_GPU").is_none(), "gpu: {reason}");
                None
            }
            Err(other) => panic!("{other}"),
        }
    });
    if device.is_none() {
        println!("gpu: not tested, no adapter");
    }
    device.clone()
}

fn cpu() -> Device {
    Device::flex().autodiff()
}

const ROWS: usize = 7;
const VOCAB: usize = 1001;
const TARGETS: [i32; ROWS] = [3, -100, 1000, 0, 17, 17, 500];
const WEIGHTS: [f32; ROWS] = [1.0, 2.0, 0.5, 3.0, 0.0, 1.25, 1.0];

/// Both round in f32; logits reach 6 in size.
const TOLERANCE: f64 = 4e-6;

struct Outcome {
    loss: Vec<f32>,
    log_p: Vec<f32>,
    entropy: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    totals: Totals,
}

impl Outcome {
    #[track_caller]
    fn check(&self, other: &Self, tolerance: f64) {
        assert_near("loss", &self.loss, &wide(&other.loss), tolerance);
        assert_near("log_p", &self.log_p, &wide(&other.log_p), tolerance);
        assert_near("entropy", &self.entropy, &wide(&other.entropy), tolerance);
        for (ours, theirs) in self.gradients.iter().zip(&other.gradients) {
            assert!(ours.iter().any(|d| *d != 0.0));
            assert_near("gradient", ours, &wide(theirs), tolerance);
        }
        assert_eq!(self.gradients.len(), other.gradients.len());
        let counts = |totals: &Totals| (totals.valid, totals.kept, totals.ignored, totals.live);
        assert_eq!(counts(&self.totals), counts(&other.totals));
        assert!((self.totals.loss() - other.totals.loss()).abs() <= tolerance);
        assert!((self.totals.weight_sum - other.totals.weight_sum).abs() <= tolerance);
    }
}

fn above(rows: usize, device: &Device) -> Tensor<1> {
    let above = [2.0f32, 7.0, 0.0, -1.5, 4.0, 0.25, 1.0];
    tensor(&above[..rows], [rows], device)
}

fn of_logits(device: &Device, objective: Composite, options: &Options) -> Outcome {
    let z = tensor(&scaled(uniform(ROWS * VOCAB, 1), 6.0), [ROWS, VOCAB], device).require_grad();
    let options = Options {
        weights: options.weights.clone().map(|_| tensor(&WEIGHTS, [ROWS], device)),
        ..options.clone()
    };
    let out = token_loss(z.clone(), ints(&TARGETS, [ROWS], device), objective, &options).unwrap();
    let pulled = match options.reduction {
        Some(_) => out.loss.clone() * -2.5,
        None => (out.loss.clone() * above(ROWS, device)).sum(),
    };
    let gradient = z.grad(&pulled.backward()).unwrap();
    Outcome {
        totals: out.totals().unwrap(),
        loss: read(out.loss),
        log_p: read(out.log_p),
        entropy: read(out.entropy),
        gradients: vec![read(gradient)],
    }
}

fn reductions() -> [Option<Reduction>; 5] {
    let mean = |denominator| Some(Reduction::Mean(denominator));
    let (valid, kept) = (mean(Denominator::Valid), mean(Denominator::Kept));
    [valid, kept, mean(Denominator::Given(3.0)), Some(Reduction::Sum), None]
}

#[test]
fn losses_of_logits_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let thresholded = Composite::parse("thresholded:inner=nll,lo=0.0005").unwrap();
    for objective in objectives().into_iter().chain([thresholded]) {
        for reduction in reductions() {
            for weights in [None, Some(tensor(&WEIGHTS, [ROWS], &cpu()))] {
                let options = Options { reduction, weights, ..Options::default() };
                let cpu = of_logits(&cpu(), objective, &options);
                // Sums over rows reach 40.
                of_logits(&gpu, objective, &options).check(&cpu, 10.0 * TOLERANCE);
            }
        }
    }
}

#[test]
fn a_softcap_and_a_temperature_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let map = LogitMap::softcap(4.0).unwrap().with_scale(0.7).unwrap();
    let options = Options { map: Some(map), ..Options::default() };
    let objective = Composite::from(Nll);
    of_logits(&gpu, objective, &options).check(&of_logits(&cpu(), objective, &options), TOLERANCE);
}

#[test]
fn views_and_more_dimensions_are_those_of_plain_rows() {
    let Some(gpu) = gpu() else { return };
    let values = scaled(uniform(6 * 40, 5), 3.0);
    let targets = [3, -100, 39, 0, 17, 17];
    let run = |z: Tensor<2>, leaf: Tensor<2>| {
        let out = token_loss(z, ints(&targets, [6], &gpu), Nll, &Options::default()).unwrap();
        (read(out.loss.clone()), leaf.grad(&out.loss.backward()).unwrap())
    };
    let plain = tensor(&values, [6, 40], &gpu).require_grad();
    let (loss, gradient) = run(plain.clone(), plain.clone());
    let gradient = read(gradient);
    let turned = tensor(&read(plain.detach().transpose()), [40, 6], &gpu).require_grad();
    let (turned_loss, d) = run(turned.clone().transpose(), turned);
    assert_eq!((turned_loss, read(d.transpose())), (loss.clone(), gradient.clone()));
    let more = tensor(&[&values[..], &values[..]].concat(), [12, 40], &gpu).require_grad();
    let (part_loss, d) = run(more.clone().narrow(0, 6, 6), more);
    assert_eq!((part_loss, read(d.narrow(0, 6, 6))), (loss.clone(), gradient.clone()));
    let cube = tensor(&values, [2, 3, 40], &gpu).require_grad();
    let out = token_loss(cube.clone(), ints(&targets, [2, 3], &gpu), Nll, &Options::default()).unwrap();
    assert_eq!((read(out.loss.clone()), out.log_p.dims()), (loss, [2, 3]));
    assert_eq!(read(cube.grad(&out.loss.backward()).unwrap()), gradient);
}

/// Ops of burn before and after, all of them queued, on tensors that share pages.
#[test]
fn ops_around_it_keep_their_order() {
    let Some(gpu) = gpu() else { return };
    let run = |device: &Device| {
        let mut w = tensor(&scaled(uniform(16 * 33, 6), 0.5), [16, 33], device);
        let x = tensor(&uniform(24 * 16, 7), [24, 16], device);
        let targets: Vec<i32> = (0..24).map(|row| row * 5 % 33).collect();
        let targets = ints(&targets, [24], device);
        let mut losses = Vec::new();
        for _ in 0..20 {
            w = w.detach().require_grad();
            let z = (x.clone().matmul(w.clone()) * 2.0).tanh() * 3.0;
            let out = token_loss(z, targets.clone(), Nll, &Options::default()).unwrap();
            let gradients = (out.loss.clone() * 3.0).backward();
            w = w.clone().detach() - w.grad(&gradients).unwrap() * 0.5;
            losses.push(out.loss.detach());
        }
        read(Tensor::cat(losses, 0))
    };
    let (ours, theirs) = (run(&gpu), run(&cpu()));
    assert!(ours[19] < 0.5 * ours[0], "{ours:?}");
    // Errors of 20 steps.
    assert_near("losses", &ours, &wide(&theirs), 1e-4);
}

#[test]
fn faults_of_rows_are_told_with_the_totals() {
    let Some(gpu) = gpu() else { return };
    let run = |bad: f32, target: i32, non_finite: NonFinite| {
        let mut values = uniform(3 * 10, 8);
        values[14] = bad;
        let z = tensor(&values, [3, 10], &gpu).require_grad();
        let options = Options { reduction: None, non_finite, ..Options::default() };
        let out = token_loss(z.clone(), ints(&[1, 2, target], [3], &gpu), Nll, &options).unwrap();
        let d = read(z.grad(&out.loss.clone().sum().backward()).unwrap());
        let nan = |row: usize| d[row * 10..][..10].iter().all(|d| d.is_nan());
        (out.totals(), read(out.loss).iter().map(|l| l.is_nan()).collect::<Vec<_>>(), [0, 1, 2].map(nan))
    };
    let (totals, losses, rows) = run(f32::NAN, 3, NonFinite::Error);
    assert!(matches!(totals, Err(Error::NonFinite { row: 1, column: 4 })), "{totals:?}");
    assert_eq!((losses, rows), (vec![false, true, false], [false, true, false]));
    let (totals, losses, _) = run(f32::INFINITY, 3, NonFinite::NanRow);
    assert!(totals.unwrap().loss().is_nan() && losses[1]);
    for bad in [10, -1, i32::MIN] {
        let (totals, losses, rows) = run(0.0, bad, NonFinite::NanRow);
        let error = totals.unwrap_err();
        assert_eq!(error.to_string(), format!("target {bad} of row 2 is neither -100 nor in 0..10"));
        assert_eq!((losses, rows), (vec![false, false, true], [false, false, true]));
    }
}

#[test]
fn what_is_wrong_with_the_call_is_told_at_once() {
    let Some(gpu) = gpu() else { return };
    let z = || tensor(&uniform(2 * 5, 9), [2, 5], &gpu);
    let error = token_loss(z(), ints(&[0, 1], [2], &cpu()), Nll, &Options::default()).unwrap_err();
    assert!(matches!(error, Error::OtherDevice { what: "targets", .. }), "{error}");
    let error = token_loss(z(), ints(&[0, 1, 2], [3], &gpu), Nll, &Options::default()).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "targets", .. }), "{error}");
    static SCALES: [f32; 2] = [1.0, 2.0];
    let map = LogitMap::default().with_scales(&SCALES).unwrap();
    let options = Options { map: Some(map), ..Options::default() };
    let error = token_loss(z(), ints(&[0, 1], [2], &gpu), Nll, &options).unwrap_err();
    assert_eq!(error.to_string(), "a logit map with rows or a mask of its own: not supported on the GPU");
    // burn has brought this device up.
    let error = init_wgpu(&gpu).unwrap_err();
    assert!(matches!(error, Error::Init { .. }), "{error}");
}

/// A second device, the machine's software adapter, which is not the losses' own doing.
#[test]
fn a_device_is_shared_or_said_not_to_be() {
    if gpu().is_none() {
        return;
    }
    let device = Device::wgpu(DeviceKind::Cpu);
    let DispatchDevice::Cube(CubeDevice::Wgpu(wgpu)) = device.as_dispatch() else { panic!("{device:?}") };
    let setup = match try_init_setup::<AutoGraphicsApi>(wgpu, RuntimeOptions::default()) {
        Ok(setup) => setup,
        Err(error) => {
            println!("gpu: a shared device is not tested, no software adapter: {error}");
            return;
        }
    };
    let run = |device: &Device| {
        let z = tensor(&uniform(2 * 5, 9), [2, 5], device);
        token_loss(z, ints(&[0, 1], [2], device), Nll, &Options::default()).map(|out| read(out.loss))
    };
    let error = run(&device).unwrap_err();
    assert!(matches!(error, Error::NotShared { .. }), "{error}");
    share_wgpu(&device, &setup).unwrap();
    assert_near("loss", &run(&device).unwrap(), &wide(&run(&cpu()).unwrap()), TOLERANCE);
}

/// burn has a stream for each thread; what one of them has queued is waited for by another.
#[test]
fn tensors_of_other_threads_are_complete() {
    let Some(gpu) = gpu() else { return };
    let run = |device: &Device| {
        let z = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                let a = tensor(&uniform(64 * 64, 14), [64, 64], device);
                (0..8).fold(a.clone(), |z, _| (z.matmul(a.clone()) * 0.3).tanh())
            });
            made.join().unwrap()
        });
        let targets =
            std::thread::scope(|scope| scope.spawn(|| ints(&[5; 64], [64], device)).join().unwrap());
        read(token_loss(z, targets, Nll, &Options::default()).unwrap().loss)
    };
    assert_near("loss", &run(&gpu), &wide(&run(&cpu())), 1e-5);
}

#[test]
fn wide_targets_are_cut_to_nothing() {
    let Some(gpu) = gpu() else { return };
    if !gpu.supports_dtype(DType::I64) {
        println!("gpu: i64 not tested, not supported");
        return;
    }
    let wide = burn::tensor::TensorData::new(vec![0i64, (1 << 32) + 1], [2]);
    let wide = Tensor::<1, Int>::from_data(wide, (&gpu, DType::I64));
    let z = tensor(&uniform(2 * 5, 9), [2, 5], &gpu);
    let out = token_loss(z, wide, Nll, &Options::default()).unwrap();
    assert!(
        matches!(out.totals(), Err(Error::Target { row: 1, target: 4_294_967_297, .. })),
        "{:?}",
        out.totals()
    );
}

#[test]
fn half_types_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F16, DType::BF16] {
        if !gpu.supports_dtype(dtype) {
            println!("gpu: {dtype:?} not tested, not supported");
            continue;
        }
        let run = |device: &Device| {
            let z = tensor(&scaled(uniform(4 * 50, 10), 3.0), [4, 50], device).cast(dtype).require_grad();
            let out = token_loss(z.clone(), ints(&[0, 1, -100, 49], [4], device), Nll, &Options::default());
            let out = out.unwrap();
            let d = z.grad(&out.loss.clone().backward()).unwrap();
            assert_eq!(d.dtype(), dtype);
            (read(out.loss), read(d))
        };
        let (ours, theirs) = (run(&gpu), run(&cpu()));
        assert_near("loss", &ours.0, &wide(&theirs.0), TOLERANCE);
        // A unit in the last place of numbers below 1/2, in bf16.
        assert!(distance(&ours.1, &wide(&theirs.1)) <= 0.5f64.powi(9));
    }
}

fn of_head(
    device: &Device,
    reduction: Option<Reduction>,
    tracked: [bool; 3],
    objective: Composite,
) -> Outcome {
    let (rows, dim, vocab) = (6, 24, 203);
    let hidden = tensor(&uniform(rows * dim, 11), [2, 3, dim], device).set_require_grad(tracked[0]);
    let weight = tensor(&uniform(vocab * dim, 12), [vocab, dim], device).set_require_grad(tracked[1]);
    let bias = tensor(&uniform(vocab, 13), [vocab], device).set_require_grad(tracked[2]);
    let targets = ints(&[3, -100, 202, 0, 17, 17], [2, 3], device);
    let weights = Some(tensor(&WEIGHTS[..rows], [rows], device));
    let options = Options { reduction, weights, ..Options::default() };
    let (h, w, b) = (hidden.clone(), weight.clone(), Some(bias.clone()));
    let out = linear_token_loss(h, w, b, targets, objective, &options).unwrap();
    let pulled = match reduction {
        Some(_) => out.loss.clone() * -2.5,
        None => (out.loss.clone() * above(rows, device)).sum(),
    };
    let gradients = pulled.backward();
    let ours = [
        hidden.grad(&gradients).map(read),
        weight.grad(&gradients).map(read),
        bias.grad(&gradients).map(read),
    ];
    assert_eq!([0, 1, 2].map(|i: usize| ours[i].is_some()), tracked);
    Outcome {
        totals: out.totals().unwrap(),
        loss: read(out.loss),
        log_p: read(out.log_p),
        entropy: read(out.entropy),
        gradients: ours.into_iter().flatten().collect(),
    }
}

#[test]
fn losses_of_a_head_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for objective in objectives() {
        for reduction in reductions() {
            let cpu = of_head(&cpu(), reduction, [true; 3], objective);
            of_head(&gpu, reduction, [true; 3], objective).check(&cpu, 1e-4);
        }
    }
    for tracked in [[true, false, false], [false, true, false], [false, false, true]] {
        for reduction in [Some(Reduction::default()), None] {
            let cpu = of_head(&cpu(), reduction, tracked, Composite::from(Nll));
            of_head(&gpu, reduction, tracked, Composite::from(Nll)).check(&cpu, 1e-4);
        }
    }
}

#[test]
fn what_fails_after_the_call_is_told_with_the_totals() {
    let Some(gpu) = gpu() else { return };
    // A tolerance that the kernels do not have, found when they are recorded: at once, or inside of Fusion later.
    let linear = core::LinearOptions { block_tolerance: 1e-3, ..core::LinearOptions::default() };
    let options = Options { linear, ..Options::default() };
    let (h, w) = (tensor(&uniform(8, 1), [2, 4], &gpu).require_grad(), tensor(&uniform(20, 2), [5, 4], &gpu));
    let targets = ints(&[0, 1], [2], &gpu);
    let result = linear_token_loss(h.clone(), w, None, targets, Nll, &options);
    assert_eq!(result.is_ok(), cfg!(feature = "fusion"));
    let error = match result {
        Err(error) => error,
        Ok(out) => {
            assert!(read(out.loss.clone())[0].is_nan());
            assert!(read(h.grad(&out.loss.clone().backward()).unwrap()).iter().all(|d| d.is_nan()));
            out.totals().unwrap_err()
        }
    };
    assert!(matches!(error, Error::Gpu(_)), "{error}");
}
