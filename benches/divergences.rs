//! Loss and gradient of a pair of rows, beside a copy of the same bytes by the same threads, two rows read and one written, and
//! beside nll of the student's row alone, in one run; on the GPU beside nll.
//!
//! `cargo bench -p tokenloss --bench divergences` prints the median of interleaved rounds and their ratio to the copy, or to
//! nll; `-- gpu` runs only the GPU's.

mod setup;

use rayon::prelude::*;
use setup::{logits, median, targets, time, uniform};
use std::hint::black_box;
use tokenloss::cpu::{Cpu, Level};
use tokenloss::divergence::{AnyDivergence, Distillation};
use tokenloss::half::bf16;
use tokenloss::wgpu::{Gpu, GpuError, ShaderDivergence, TimedGradient};
use tokenloss::{
    Batch, Dtype, Element, Evaluate, EvaluatePair, Logits, MAX_PARAMETERS, Nll, Outputs, PairOutputs,
    Reduction, Shape, Teacher, Unjudged,
};

const ROUNDS: usize = 9;
/// Each of which compiles and uploads anew.
const GPU_ROUNDS: usize = 3;

/// A student's logits and a teacher's that are near.
fn pairs<E: Element>(vocab: usize, targets: &[i32]) -> [Vec<E>; 2] {
    let mut uniform = uniform();
    let z: Vec<f32> = logits(&mut uniform, vocab, targets);
    let u: Vec<_> = z.iter().map(|z| z + uniform() - 0.25).collect();
    let narrow = |row: Vec<f32>| row.into_iter().map(E::from_f32).collect();
    [narrow(z), narrow(u)]
}

/// Each of the list by its defaults.
fn divergences() -> Vec<AnyDivergence> {
    let of = |name: &&str| {
        let parameters = AnyDivergence::parameters_of(name).expect("listed");
        let mut values = [0.0; MAX_PARAMETERS];
        parameters.iter().zip(&mut values).for_each(|(parameter, value)| *value = parameter.default);
        AnyDivergence::with_parameters(name, values).expect("listed").expect("in the domain")
    };
    AnyDivergence::NAMES.iter().map(of).collect()
}

fn bench<E: Element>(level: Level, rows: usize, vocab: usize) {
    let cpu = Cpu::with_level(level);
    let targets = targets(rows, vocab);
    let shape = Shape::new(rows, vocab).expect("a shape");
    let batch = Batch::new(shape, &targets).expect("a batch");
    let [z, u] = pairs::<E>(vocab, &targets);
    let teacher = Teacher::new(shape, &u).expect("a teacher");
    let mut out = z.clone();
    let mut work = z.clone();
    for divergence in divergences() {
        let alone = Distillation::new(divergence, 1.0).expect("a factor");
        let tempered = alone.with_temperature(2.0).expect("a temperature").with_square();
        let run = |distillation: &Distillation<AnyDivergence>, nll: bool, logits: Logits<'_, E>| {
            let (reduction, outputs) = (Reduction::default(), PairOutputs::default());
            let totals = if nll {
                cpu.evaluate_pair(&Nll, distillation, reduction, &batch, logits, teacher, outputs)
            } else {
                cpu.evaluate_pair(&Unjudged, distillation, reduction, &batch, logits, teacher, outputs)
            };
            black_box(totals.expect("finite logits"));
        };
        let mut seconds = [const { Vec::new() }; 7];
        for round in 0..ROUNDS + 2 {
            let copy = time(|| {
                let rows = out.par_chunks_mut(vocab).zip(z.par_chunks(vocab)).zip(u.par_chunks(vocab));
                rows.for_each(|((out, z), u)| {
                    black_box(u.iter().fold(0u32, |sum, u| sum ^ u.to_bits()));
                    out.copy_from_slice(z);
                });
            });
            let out_of_place =
                time(|| run(&alone, false, Logits::OutOfPlace { logits: &z, dlogits: &mut out }));
            let nll = time(|| {
                let logits = Logits::OutOfPlace { logits: &z, dlogits: &mut out };
                black_box(
                    cpu.evaluate(&Nll, Reduction::default(), &batch, logits, Outputs::default()).is_ok(),
                );
            });
            // By the threads that will read it, as the layer before would.
            work.par_chunks_mut(vocab).zip(z.par_chunks(vocab)).for_each(|(work, z)| work.copy_from_slice(z));
            let in_place = time(|| run(&alone, false, Logits::InPlace(&mut work)));
            let read = time(|| run(&alone, false, Logits::Read(&z)));
            let with_nll = time(|| run(&alone, true, Logits::OutOfPlace { logits: &z, dlogits: &mut out }));
            let warm = time(|| run(&tempered, true, Logits::OutOfPlace { logits: &z, dlogits: &mut out }));
            // The first rounds warm caches, threads and pages up.
            if round >= 2 {
                let round = [copy, nll, out_of_place, in_place, read, with_nll, warm];
                for (all, one) in seconds.iter_mut().zip(round) {
                    all.push(one);
                }
            }
        }
        let [copy, others @ ..] = seconds.map(median);
        let bytes = 3.0 * (rows * vocab * E::DTYPE.bytes()) as f64;
        let [nll, out_of_place, in_place, read, with_nll, warm] = others.map(|seconds| seconds / copy);
        println!(
            "{:10} {:4} {rows:4} x {vocab:6}  {:16} copy {:6.2} ms {:4.1} GB/s   nll alone {nll:4.2}x   out of place {out_of_place:4.2}x   in place \
             {in_place:4.2}x   losses only {read:4.2}x   with nll {with_nll:4.2}x   with nll at T = 2 {warm:4.2}x",
            level.name(),
            E::DTYPE.name(),
            divergence.name(),
            copy * 1e3,
            bytes / copy / 1e9,
        );
    }
}

fn bench_gpu(gpu: &Gpu, dtype: Dtype, rows: usize, vocab: usize) -> Result<(), GpuError> {
    const PLACES: [TimedGradient; 2] = [TimedGradient::None, TimedGradient::OutOfPlace];
    let shape = Shape::new(rows, vocab)?;
    for divergence in divergences() {
        let alone = Distillation::new(&divergence as &dyn ShaderDivergence, 1.0)?;
        let mut seconds = [const { Vec::new() }; 6];
        for _ in 0..GPU_ROUNDS {
            for (i, place) in PLACES.into_iter().enumerate() {
                let nll = gpu.time_evaluate(&Nll, shape, dtype, place, 1)?;
                seconds[i].extend(nll);
                for (k, distillation) in [alone, alone.with_temperature(2.0)?].into_iter().enumerate() {
                    let of_pair = gpu.time_evaluate_pair(&Nll, distillation, shape, dtype, place, 1)?;
                    seconds[2 + 2 * k + i].extend(of_pair);
                }
            }
        }
        let [nll_read, nll, read, out_of_place, warm_read, warm] = seconds.map(median);
        println!(
            "{:10} {:4} {rows:4} x {vocab:6}  {:16} nll, out of place {:6.1} ms   with it {:4.2}x, at T = 2 {:4.2}x   losses only \
             {:4.2}x, at T = 2 {:4.2}x",
            gpu.kernels().variant().name(),
            dtype.name(),
            divergence.name(),
            nll * 1e3,
            out_of_place / nll,
            warm / nll,
            read / nll_read,
            warm_read / nll_read,
        );
    }
    Ok(())
}

fn main() {
    match Gpu::new() {
        Ok(gpu) => {
            println!("{}", gpu.info().name);
            for dtype in [Dtype::F32, Dtype::Bf16] {
                bench_gpu(&gpu, dtype, 64, 128_256).expect("a device with room");
            }
        }
        Err(error) => println!("gpu: not timed: {error}"),
    }
    if std::env::args().any(|argument| argument == "gpu") {
        return;
    }
    println!("{} threads", rayon::current_num_threads());
    bench::<f32>(Level::best(), 128, 128_256);
    bench::<bf16>(Level::best(), 128, 128_256);
    if let Some(level) = Level::available().into_iter().find(|level| level.name() == "avx2") {
        bench::<f32>(level, 128, 128_256);
    }
}
