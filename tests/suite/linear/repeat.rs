//! Results repeat bit for bit.

use super::{Case, gradients, objective};
use tokenloss::cpu::Cpu;
use tokenloss::half::bf16;
use tokenloss::{Budget, Denominator, Element, LinearOptions, Reduction};

fn on_any_number_of_threads<E: Element>() {
    // Several blocks and several slices of a hidden state, none of which a number of threads divides.
    let case = Case::<E>::noise(35, 4201, 520, 6);
    let default = LinearOptions::default();
    let filter = LinearOptions { row_tolerance: 1e-6, block_tolerance: 1e-5, ..default };
    let ways = [
        ("whole rows", default),
        ("chunks of whole rows", LinearOptions { chunk_rows: Some(10), ..default }),
        ("tiles", LinearOptions { chunk_vocab: Some(2500), ..default }),
        // Fewer workers than threads.
        ("tiles of 1 MiB", LinearOptions { budget: Budget(1 << 20), ..default }),
        ("whole rows, filtered", filter),
        ("tiles, filtered", LinearOptions { chunk_vocab: Some(2500), ..filter }),
    ];
    let power = objective("power:alpha=1");
    for (what, options) in ways {
        let reductions: &[_] = match what {
            "whole rows" => &[Reduction::Sum, Reduction::Mean(Denominator::Kept)],
            _ => &[Reduction::Sum],
        };
        for &reduction in reductions {
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                let (totals, gradients) = pool
                    .install(|| gradients::<E, E>(Cpu::new(), &power, reduction, &case.linear(), &options));
                (gradients.bits(), totals.loss_sum.to_bits(), totals.live)
            };
            let one = run(1);
            for threads in [1, 2, 3, 8] {
                assert!(run(threads) == one, "{}, {what}, {reduction:?}: {threads} threads", E::DTYPE);
            }
        }
    }
}

#[test]
fn on_any_number_of_threads_f32() {
    on_any_number_of_threads::<f32>();
}

#[test]
fn on_any_number_of_threads_bf16() {
    on_any_number_of_threads::<bf16>();
}
