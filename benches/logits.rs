//! Fused loss and gradient over logits, beside a copy of the same bytes by the same threads, in one run.
//!
//! `cargo bench --bench logits` prints the median of interleaved rounds and their ratio to the copy.

mod setup;

use rayon::prelude::*;
use setup::{logits, median, targets, time, uniform};
use std::hint::black_box;
use tokenloss::cpu::{Cpu, Level};
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Element, Evaluate, Logits, Outputs, Power, Reduction, Shape};

const ROUNDS: usize = 15;

fn bench<E: Element>(level: Level, rows: usize, vocab: usize) {
    let cpu = Cpu::with_level(level);
    let objective = Power::new(1.0).expect("in the domain");
    let targets = targets(rows, vocab);
    let batch = Batch::new(Shape::new(rows, vocab).expect("a shape"), &targets).expect("a batch");
    let z = logits::<E>(&mut uniform(), vocab, &targets);
    let mut out = z.clone();
    let mut work = z.clone();
    let run = |logits: Logits<'_, E>| {
        let totals = cpu.evaluate(&objective, Reduction::default(), &batch, logits, Outputs::default());
        black_box(totals.expect("finite logits"));
    };
    let mut seconds = [const { Vec::new() }; 4];
    for round in 0..ROUNDS + 2 {
        let copy = time(|| {
            out.par_chunks_mut(vocab).zip(z.par_chunks(vocab)).for_each(|(out, z)| out.copy_from_slice(z));
        });
        let out_of_place = time(|| run(Logits::OutOfPlace { logits: &z, dlogits: &mut out }));
        // By the threads that will read it, as the layer before would.
        work.par_chunks_mut(vocab).zip(z.par_chunks(vocab)).for_each(|(work, z)| work.copy_from_slice(z));
        let in_place = time(|| run(Logits::InPlace(&mut work)));
        let read = time(|| run(Logits::Read(&z)));
        // The first rounds warm caches, threads and pages up.
        if round >= 2 {
            for (all, one) in seconds.iter_mut().zip([copy, out_of_place, in_place, read]) {
                all.push(one);
            }
        }
    }
    let [copy, out_of_place, in_place, read] = seconds.map(median);
    let bytes = 2.0 * (rows * vocab * E::DTYPE.bytes()) as f64;
    println!(
        "{:8} {:4} {rows:5} x {vocab:6}  copy {:7.2} ms {:5.1} GB/s   out of place {:5.2}x   in place {:5.2}x   losses only {:5.2}x   {:.3} ns/logit",
        level.name(),
        E::DTYPE.name(),
        copy * 1e3,
        bytes / copy / 1e9,
        out_of_place / copy,
        in_place / copy,
        read / copy,
        out_of_place / (rows * vocab) as f64 * 1e9,
    );
}

fn main() {
    println!("{} threads", rayon::current_num_threads());
    for level in Level::available().into_iter().rev() {
        bench::<f32>(level, 256, 128_256);
        bench::<bf16>(level, 256, 128_256);
        bench::<f16>(level, 256, 128_256);
    }
    for (rows, vocab) in [
        (256, 32_000),
        (256, 50_257),
        (256, 128_256),
        (256, 262_144),
        (16, 128_256),
        (64, 128_256),
        (1024, 128_256),
        (4096, 32_000),
    ] {
        bench::<f32>(Level::best(), rows, vocab);
    }
}
