//! The yardstick of benchmarks.

use super::matmul::{View, product};
use super::plan::{BLOCK, Plan};
use super::slices;
use rayon::prelude::*;
use tokenloss_core::{Error, Linear, LinearOptions, check_length};

/// The three matrix products of [`evaluate_linear`](tokenloss_core::EvaluateLinear::evaluate_linear) and nothing else: the same
/// crate, chunks and threads, no loss. What a fused call takes beside this is what it costs on top.
///
/// The products are those of logits that were never turned into a gradient: `dweight [vocab, dim]` gets numbers without
/// a meaning added, `dhidden` is computed and dropped. Returns the rows of a chunk.
///
/// # Errors
/// [`Error::Length`] for `dweight`; [`Error::Budget`]; those of [`LinearOptions::check`].
pub fn bare_products(
    linear: &Linear<'_, f32>,
    options: &LinearOptions,
    dweight: &mut [f32],
) -> Result<usize, Error> {
    let (dim, vocab) = (linear.dim(), linear.columns().len());
    check_length("dweight", vocab * dim, dweight.len())?;
    let plan = Plan::new(linear, options)?;
    let (width, count) = slices(dim);
    let mut logits = vec![0.0f32; plan.rows * plan.columns];
    let mut dhidden = vec![0.0f32; plan.rows * width * count];
    for hidden in linear.hidden().chunks(plan.rows * dim) {
        let rows = hidden.len() / dim;
        let hidden = View::rows(hidden, dim);
        for start in (0..vocab).step_by(plan.columns) {
            let weight = &linear.weight()[start * dim..];
            let tile = &mut logits[..rows * plan.columns.min(vocab - start)];
            tile.par_chunks_mut(rows * BLOCK).enumerate().with_max_len(1).for_each(|(block, tile)| {
                let columns = tile.len() / rows;
                let weight = View::rows(&weight[block * BLOCK * dim..], dim).transposed();
                product(tile, columns, false, [rows, dim, columns], hidden, weight);
            });
            let blocks =
                dweight[start * dim..].par_chunks_mut(BLOCK * dim).zip(tile.par_chunks(rows * BLOCK));
            blocks.with_max_len(1).for_each(|(dweight, tile)| {
                let columns = tile.len() / rows;
                let logits = View::rows(tile, columns).transposed();
                product(dweight, dim, true, [columns, rows, dim], logits, hidden);
            });
            let slices = dhidden.par_chunks_mut(plan.rows * width).enumerate().with_max_len(1);
            slices.for_each(|(slice, dhidden)| {
                let (first, width) = (slice * width, width.min(dim - slice * width));
                for (block, tile) in tile.chunks(rows * BLOCK).enumerate() {
                    let columns = tile.len() / rows;
                    let weight = View::rows(&weight[block * BLOCK * dim + first..], dim);
                    let logits = View::rows(tile, columns);
                    product(dhidden, width, start + block > 0, [rows, columns, width], logits, weight);
                }
            });
        }
    }
    std::hint::black_box(&dhidden);
    Ok(plan.rows)
}
