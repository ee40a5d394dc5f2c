//! The three products of the fused linear form, by the crates that could do them, in its layouts and chunks:
//!
//! * logits `[rows, vocab] = hidden [rows, dim] @ weight [vocab, dim]^T`
//! * dhidden `[rows, dim] = logits [rows, vocab] @ weight [vocab, dim]`
//! * dweight `[vocab, dim] += logits [rows, vocab]^T @ hidden [rows, dim]`
//!
//! each by the crate's own threads on the whole chunk, and by one thread for each tile of the vocabulary (for dhidden: slice
//! of dim). `cargo run --release --manifest-path benches/matmul/Cargo.toml`

use rayon::prelude::*;
use std::time::Instant;

const ROUNDS: usize = 5;
/// Columns of a tile.
const TILE: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Crate {
    Faer,
    Gemm,
    MatrixMultiply,
}

#[derive(Clone, Copy)]
struct View<'a> {
    data: &'a [f32],
    strides: [usize; 2],
}

impl Crate {
    /// `into [m, n] = (into +) a [m, k] @ b [k, n]`, `into` with rows `stride` apart.
    fn product(
        self,
        threads: usize,
        [m, k, n]: [usize; 3],
        into: (&mut [f32], usize),
        accumulate: bool,
        a: View<'_>,
        b: View<'_>,
    ) {
        let (into, stride) = into;
        let last = |rows: usize, columns: usize, [row, column]: [usize; 2]| {
            (rows - 1) * row + (columns - 1) * column
        };
        assert!(last(m, n, [stride, 1]) < into.len() && n <= stride);
        assert!(last(m, k, a.strides) < a.data.len() && last(k, n, b.strides) < b.data.len());
        let signed = |[row, column]: [usize; 2]| [row as isize, column as isize];
        let ([i, _], [ar, ac], [br, bc]) = (signed([stride, 1]), signed(a.strides), signed(b.strides));
        let (c, a, b) = (into.as_mut_ptr(), a.data.as_ptr(), b.data.as_ptr());
        // SAFETY: the matrices lie inside their slices, by the assertions above, and `into` is borrowed mutably.
        unsafe {
            match self {
                Crate::Faer => {
                    let into = faer::MatMut::from_raw_parts_mut(c, m, n, i, 1);
                    let a = faer::MatRef::from_raw_parts(a, m, k, ar, ac);
                    let b = faer::MatRef::from_raw_parts(b, k, n, br, bc);
                    let accumulate = if accumulate { faer::Accum::Add } else { faer::Accum::Replace };
                    let threads = if threads > 1 { faer::Par::rayon(threads) } else { faer::Par::Seq };
                    faer::linalg::matmul::matmul(into, accumulate, a, b, 1.0, threads);
                }
                Crate::Gemm => {
                    let threads =
                        if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
                    gemm::gemm(
                        m, n, k, c, 1, i, accumulate, a, ac, ar, b, bc, br, 1.0, 1.0, false, false, false,
                        threads,
                    );
                }
                // Its threads are its own, by MATMUL_NUM_THREADS.
                Crate::MatrixMultiply => {
                    let beta = if accumulate { 1.0 } else { 0.0 };
                    matrixmultiply::sgemm(m, k, n, 1.0, a, ar, ac, b, br, bc, beta, c, i, 1);
                }
            }
        }
    }
}

struct Buffers {
    hidden: Vec<f32>,
    weight: Vec<f32>,
    logits: Vec<f32>,
    dhidden: Vec<f32>,
    dweight: Vec<f32>,
}

fn rows_of(data: &[f32], stride: usize) -> View<'_> {
    View { data, strides: [stride, 1] }
}

/// Seconds of the three products over all chunks.
fn time(
    which: Crate,
    tiled: bool,
    [rows, dim, vocab, chunk]: [usize; 4],
    slice: usize,
    buffers: &mut Buffers,
) -> [f64; 3] {
    let Buffers { hidden, weight, logits, dhidden, dweight } = buffers;
    let threads = rayon::current_num_threads();
    let turned = |view: View<'_>| [view.strides[1], view.strides[0]];
    let mut took = [0.0; 3];
    for first in (0..rows).step_by(chunk) {
        let rows = chunk.min(rows - first);
        let hidden = rows_of(&hidden[first * dim..(first + rows) * dim], dim);
        let weight = &*weight;
        let tiles: Vec<usize> = (0..vocab).step_by(TILE).collect();
        let columns = |tile: usize| TILE.min(vocab - tile);

        let start = Instant::now();
        if tiled {
            logits[..rows * vocab].par_chunks_mut(rows * TILE).zip(&tiles).with_max_len(1).for_each(
                |(into, &tile)| {
                    let weight = rows_of(&weight[tile * dim..], dim);
                    let weight = View { strides: turned(weight), ..weight };
                    which.product(
                        1,
                        [rows, dim, columns(tile)],
                        (into, columns(tile)),
                        false,
                        hidden,
                        weight,
                    );
                },
            );
        } else {
            let weight = View { data: weight, strides: [1, dim] };
            which.product(threads, [rows, dim, vocab], (logits, vocab), false, hidden, weight);
        }
        took[0] += start.elapsed().as_secs_f64();

        let start = Instant::now();
        if tiled {
            dhidden.par_chunks_mut(chunk * slice).enumerate().with_max_len(1).for_each(|(index, into)| {
                let width = slice.min(dim - index * slice);
                for &tile in &tiles {
                    let logits = rows_of(&logits[rows * tile..], columns(tile));
                    let weight = rows_of(&weight[tile * dim + index * slice..], dim);
                    which.product(1, [rows, columns(tile), width], (into, width), tile > 0, logits, weight);
                }
            });
        } else {
            let (logits, weight) = (rows_of(logits, vocab), rows_of(weight, dim));
            which.product(threads, [rows, vocab, dim], (dhidden, dim), false, logits, weight);
        }
        took[1] += start.elapsed().as_secs_f64();

        let start = Instant::now();
        if tiled {
            dweight.par_chunks_mut(TILE * dim).zip(&tiles).with_max_len(1).for_each(|(into, &tile)| {
                let logits = View { data: &logits[rows * tile..], strides: [1, columns(tile)] };
                which.product(1, [columns(tile), rows, dim], (into, dim), true, logits, hidden);
            });
        } else {
            let logits = View { data: logits, strides: [1, vocab] };
            which.product(threads, [vocab, rows, dim], (dweight, dim), true, logits, hidden);
        }
        took[2] += start.elapsed().as_secs_f64();
    }
    took
}

fn main() {
    println!("| rows x dim x vocab, chunk | crate | threads | logits | dhidden | dweight | all three |");
    println!("|---|---|---|---|---|---|---|");
    for (shape, slice) in [([1024, 576, 49_152, 205], 288), ([512, 2048, 128_256, 86], 256)] {
        let [rows, dim, vocab, chunk] = shape;
        let numbers =
            |count: usize| (0..count).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect::<Vec<_>>();
        let mut buffers = Buffers {
            hidden: numbers(rows * dim),
            weight: numbers(vocab * dim),
            logits: vec![0.0; chunk * vocab],
            dhidden: vec![0.0; chunk * dim],
            dweight: vec![0.0; vocab * dim],
        };
        let arms: Vec<_> = [Crate::Faer, Crate::Gemm, Crate::MatrixMultiply]
            .into_iter()
            .flat_map(|which| [(which, false), (which, true)])
            .collect();
        let mut times = vec![vec![]; arms.len()];
        for round in 0..=ROUNDS {
            for (&(which, tiled), times) in arms.iter().zip(&mut times) {
                let took = time(which, tiled, shape, slice, &mut buffers);
                // The first round pays for pages.
                if round > 0 {
                    times.push(took);
                }
            }
        }
        for ((which, tiled), times) in arms.into_iter().zip(times) {
            let median = |of: &dyn Fn(&[f64; 3]) -> f64| {
                let mut sorted: Vec<f64> = times.iter().map(of).collect();
                sorted.sort_unstable_by(f64::total_cmp);
                sorted[sorted.len() / 2]
            };
            let product = 2.0 * (rows * dim * vocab) as f64 / 1e9;
            let each: Vec<_> =
                (0..3).map(|i| format!("{:.0}", product / median(&|t: &[f64; 3]| t[i]))).collect();
            let all = 3.0 * product / median(&|t: &[f64; 3]| t.iter().sum());
            let threads = if tiled { "one a tile" } else { "its own" };
            println!(
                "| {rows} x {dim} x {vocab}, {chunk} | {which:?} | {threads} | {} | {all:.0} GFLOP/s |",
                each.join(" | ")
            );
        }
    }
}
