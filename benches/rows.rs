//! Row objectives, sums and logit maps beside nll, in one run.
//!
//! `cargo bench --bench rows` prints medians of interleaved rounds: the time of loss and gradient, out of place, as a ratio to
//! nll's.

mod setup;

use setup::{logits, median, targets, time, uniform};
use std::hint::black_box;
use tokenloss::cpu::Cpu;
use tokenloss::half::bf16;
use tokenloss::{
    AnyRow, Batch, ClassMask, Composite, Element, Evaluate, LogitMap, Logits, Outputs, Reduction, Shape,
};

const ROUNDS: usize = 11;
const ROWS: usize = 256;
const VOCAB: usize = 128_256;

fn bench<E: Element>(cases: &[(String, Composite, Option<LogitMap<'_>>)], targets: &[i32]) {
    let (z, cpu) = (logits::<E>(&mut uniform(), VOCAB, targets), Cpu::new());
    let mut out = z.clone();
    let batch = Batch::new(Shape::new(ROWS, VOCAB).expect("a shape"), targets).expect("a batch");
    let mut seconds = vec![Vec::new(); cases.len()];
    for round in 0..ROUNDS + 2 {
        for ((_, objective, map), all) in cases.iter().zip(&mut seconds) {
            let batch = map.map_or(batch, |map| batch.with_map(map).expect("a map"));
            let seconds = time(|| {
                let io = Logits::OutOfPlace { logits: &z, dlogits: &mut out };
                let totals = cpu.evaluate(objective, Reduction::default(), &batch, io, Outputs::default());
                black_box(totals.expect("finite"));
            });
            if round >= 2 {
                all.push(seconds);
            }
        }
    }
    let medians: Vec<f64> = seconds.into_iter().map(median).collect();
    println!("{}, {ROWS} x {VOCAB}, {} threads", cpu.level(), rayon::current_num_threads());
    for ((name, ..), median) in cases.iter().zip(&medians) {
        println!("{:4} {name:60} {:7.2} ms  {:.2}x", E::DTYPE.name(), median * 1e3, median / medians[0]);
    }
}

fn main() {
    let targets = targets(ROWS, VOCAB);
    let mut mask = vec![0x7777_7777u32; VOCAB.div_ceil(32)];
    targets.iter().for_each(|target| mask[*target as usize / 32] |= 1 << (target % 32));
    let parsed = |spec: &str| Composite::parse(spec).expect("a spec");
    let plain = |spec: &str| (spec.to_owned(), parsed(spec), None);
    let mut cases = vec![plain("nll")];
    cases.extend(AnyRow::NAMES.iter().map(|name| plain(name)));
    cases.push(plain("nll + z_loss + entropy:lambda=-0.01"));
    cases.push(plain("label_smoothing + z_loss + entropy:lambda=-0.01 + logit_l2:lambda=0.001"));
    let maps = [
        ("scale 0.5", LogitMap::default().with_scale(0.5).expect("positive")),
        ("margin 0.5", LogitMap::default().with_margin(0.5).expect("finite")),
        ("mask of a quarter", LogitMap::default().with_mask(ClassMask::shared(&mask))),
        ("softcap 30", LogitMap::softcap(30.0).expect("positive")),
        ("StableMax", LogitMap::stable_max()),
    ];
    cases.extend(maps.map(|(name, map)| (format!("nll, {name}"), parsed("nll"), Some(map))));
    bench::<f32>(&cases, &targets);
    bench::<bf16>(&cases, &targets);
}
