//! What a step holds above its inputs, by an allocator that counts for the whole process: a test binary of its own, with
//! one test. `cargo test --test memory -- --nocapture` prints the peaks.

use candle_core::{D, DType, Device, Tensor, Var};
use peak_alloc::PeakAlloc;
use tokenloss_candle::core::{Budget, LinearOptions, Nll};
use tokenloss_candle::{Options, linear_token_loss, token_loss};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const ROWS: usize = 512;
const DIM: usize = 256;
const VOCAB: usize = 32_000;

/// The most bytes of some work above those held before.
fn peak<T>(work: impl FnOnce() -> T) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    let peak = ALLOCATOR.peak_usage() - before;
    drop(result);
    peak
}

#[test]
fn a_step_holds_its_gradient_and_what_candle_adds_it_to() {
    let values = |rows: usize, columns: usize| {
        let values = (0..rows * columns).map(|i| (i as f32).sin()).collect::<Vec<f32>>();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    };
    let targets = Tensor::zeros(ROWS, DType::U32, &Device::Cpu).unwrap();
    let logits = Var::from_tensor(&values(ROWS, VOCAB)).unwrap();
    // In units of rows x vocab.
    let units = |bytes: usize| bytes as f64 / (ROWS * VOCAB * size_of::<f32>()) as f64;
    let loss = |overwrite_logits: bool| {
        let options = Options { overwrite_logits, ..Options::default() };
        token_loss(&logits, &targets, Nll, &options).unwrap().loss.backward().unwrap()
    };
    let composed = units(peak(|| {
        let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
        candle_nn::loss::nll(&log_p, &targets).unwrap().backward().unwrap()
    }));
    let beside = units(peak(|| loss(false)));
    let over = units(peak(|| loss(true)));
    println!("composed {composed:.2}, token_loss {beside:.2}, over the logits {over:.2} times rows x vocab");
    // candle makes zeros and a sum of them and the gradient; with the gradient itself there are three.
    assert!(composed > 9.0, "{composed}");
    assert!(beside <= 3.1, "{beside}");
    assert!(over <= 2.1, "{over}");

    let hidden = Var::from_tensor(&values(ROWS, DIM)).unwrap();
    let weight = values(VOCAB, DIM);
    // What threads of the matrix product keep for good is made here.
    let linear = |budget: Budget| {
        let options =
            Options { linear: LinearOptions { budget, ..LinearOptions::default() }, ..Options::default() };
        linear_token_loss(&hidden, &weight, None, &targets, Nll, &options).unwrap().loss.backward().unwrap()
    };
    linear(Budget::default());
    for budget in [8usize << 20, 32 << 20] {
        let held = peak(|| linear(Budget(budget)));
        // dhidden, candle's zeros and their sum, and a few numbers for each row.
        let gradients = 3 * ROWS * DIM * size_of::<f32>() + ROWS * 256;
        println!("budget {budget}: {held} held, {gradients} of it gradients");
        assert!(held <= budget + gradients, "{held}");
    }
}
