//! Row objectives, sums and logit maps beside nll, in one run.
//!
//! `cargo bench --bench rows` prints medians of interleaved rounds: the time of loss and gradient, out of place, as a ratio to
//! nll's.

use std::hint::black_box;
use std::time::Instant;
use tokenloss::cpu::Cpu;
use tokenloss::half::bf16;
use tokenloss::{
    AnyRow, Batch, ClassMask, Composite, Element, Evaluate, LogitMap, Logits, Outputs, Reduction, Shape,
};

const ROUNDS: usize = 11;
const ROWS: usize = 256;
const VOCAB: usize = 128_256;

fn logits<E: Element>(targets: &[i32]) -> Vec<E> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut z: Vec<E> = (0..ROWS * VOCAB)
        .map(|_| E::from_f32(3.0 * (uniform() + uniform() + uniform() + uniform() - 2.0)))
        .collect();
    for (row, &target) in targets.iter().enumerate() {
        z[row * VOCAB + target as usize] = E::from_f32(4.0 + 12.0 * uniform());
    }
    z
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn bench<E: Element>(cases: &[(String, Composite, Option<LogitMap<'_>>)], targets: &[i32]) {
    let (z, cpu) = (logits::<E>(targets), Cpu::new());
    let mut out = z.clone();
    let batch = Batch::new(Shape::new(ROWS, VOCAB).expect("a shape"), targets).expect("a batch");
    let mut seconds = vec![Vec::new(); cases.len()];
    for round in 0..ROUNDS + 2 {
        for ((_, objective, map), all) in cases.iter().zip(&mut seconds) {
            let batch = map.map_or(batch, |map| batch.with_map(map).expect("a map"));
            let start = Instant::now();
            let io = Logits::OutOfPlace { logits: &z, dlogits: &mut out };
            black_box(
                cpu.evaluate(objective, Reduction::default(), &batch, io, Outputs::default())
                    .expect("finite"),
            );
            if round >= 2 {
                all.push(start.elapsed().as_secs_f64());
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
    let targets: Vec<i32> = (0..ROWS).map(|row| ((row * 7919) % VOCAB) as i32).collect();
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
