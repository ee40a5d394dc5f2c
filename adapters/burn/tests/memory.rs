//! Bytes on the heap, forward and backward, above the inputs.

mod common;

use burn::nn::{LinearConfig, LinearLayout};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use common::{ints, scaled, tensor, uniform};
use peak_alloc::PeakAlloc;
use tokenloss_burn::core::{Budget, LinearOptions, Nll};
use tokenloss_burn::{Options, linear_token_loss, token_loss};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most bytes held while `f` runs, above those held before.
fn above<T>(f: impl FnOnce() -> T) -> (T, f64) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = f();
    (result, ALLOCATOR.peak_usage() as f64 - before as f64)
}

const ROWS: usize = 512;
const VOCAB: usize = 32_000;
const DIM: usize = 64;
const MATRIX: f64 = (ROWS * VOCAB * size_of::<f32>()) as f64;

/// In one test, since all threads' bytes are counted.
#[test]
fn the_gradient_is_all_that_is_added() {
    let device = Device::flex().autodiff();
    let targets: Vec<i32> = (0..ROWS).map(|row| (row * 7919 % VOCAB) as i32).collect();
    let targets = ints(&targets, [ROWS], &device);

    let logits = tensor(&scaled(uniform(ROWS * VOCAB, 1), 3.0), [ROWS, VOCAB], &device).require_grad();
    let step =
        || token_loss(logits.clone(), targets.clone(), Nll, &Options::default()).unwrap().loss.backward();
    let (gradients, bytes) = above(step);
    println!("from logits, forward and backward: {:.4} of the logits", bytes / MATRIX);
    assert!(logits.grad(&gradients).is_some());
    // The gradient itself; nothing else that grows with the vocabulary but a row for each thread.
    assert!((1.0..=1.05).contains(&(bytes / MATRIX)));
    drop(gradients);

    // What the same costs by burn's own ops.
    let composed = || {
        let log_p = log_softmax(logits.clone(), 1).gather(1, targets.clone().reshape([ROWS, 1]));
        log_p.mean().neg().backward()
    };
    let (gradients, theirs) = above(composed);
    println!("from logits by burn's own ops: {:.4} of the logits", theirs / MATRIX);
    assert!(theirs >= 2.0 * bytes);
    drop((gradients, logits));

    let hidden = tensor(&uniform(ROWS * DIM, 2), [ROWS, DIM], &device).require_grad();
    let budget = 16 << 20;
    let linear = LinearOptions { budget: Budget(budget), ..LinearOptions::default() };
    let options = Options { linear, ..Options::default() };
    let head = (VOCAB * DIM * size_of::<f32>()) as f64;
    for reduction in [options.reduction, None] {
        for frozen in [false, true] {
            let weight = tensor(&scaled(uniform(VOCAB * DIM, 3), 0.3), [VOCAB, DIM], &device);
            let weight = weight.set_require_grad(!frozen);
            let options = Options { reduction, ..options.clone() };
            let (gradients, bytes) = above(|| {
                let out =
                    linear_token_loss(hidden.clone(), weight.clone(), None, targets.clone(), Nll, &options);
                out.unwrap().loss.sum().backward()
            });
            let gradient = if frozen { 0.0 } else { head };
            println!(
                "from a head, frozen {frozen}, reduction {}: {:.1} MiB above its gradient of {:.1} MiB; logits have {:.1} MiB",
                reduction.is_some(),
                (bytes - gradient) / (1 << 20) as f64,
                gradient / (1 << 20) as f64,
                MATRIX / (1 << 20) as f64,
            );
            assert_eq!(weight.grad(&gradients).is_none(), frozen);
            assert!(hidden.grad(&gradients).is_some());
            // The budget, the gradient of the hidden states, a cache's size for each thread of the products, and small change.
            assert!(bytes - gradient <= (budget + (8 << 20)) as f64);
        }
    }

    // A layer holds [dim, vocab]. As a view of [vocab, dim] it is copied, unless it lies that way.
    let frozen = |weight: Tensor<2>| {
        let step = || linear_token_loss(hidden.clone(), weight, None, targets.clone(), Nll, &options);
        let (out, bytes) = above(step);
        out.unwrap();
        bytes
    };
    let layer =
        |layout| LinearConfig::new(DIM, VOCAB).with_layout(layout).init(&device).weight.val().detach();
    let (row, col) = (layer(LinearLayout::Row), layer(LinearLayout::Col));
    let trained = col.clone() - col.clone() * 0.1;
    let (row, col, trained) = (frozen(row.transpose()), frozen(col.transpose()), frozen(trained.transpose()));
    println!(
        "a layer's weight, turned: {:.1} MiB as Row, {:.1} as Col, {:.1} as Col after an update",
        row / (1 << 20) as f64,
        col / (1 << 20) as f64,
        trained / (1 << 20) as f64
    );
    assert!(row >= col + head);
}
