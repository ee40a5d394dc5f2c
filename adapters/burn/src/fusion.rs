//! Shapes and types of what the wgpu backend returns, which Fusion asks for before anything runs.

use crate::op::{
    Call, ForwardMetadata as Forward, GradientsMetadata as Gradients, HeadMetadata as Head,
    LinearForwardMetadata as LinearForward, MaybeMetadata as Maybe, Wanted,
};
use burn::backend::fusion::custom::TensorSpec;
use burn::tensor::{DType, Shape};
use tokenloss_wgpu::shaders::{RECORD_WORDS, TOTALS_WORDS};

fn of<const D: usize>(shape: [usize; D], dtype: DType) -> TensorSpec {
    TensorSpec::new(Shape::from(shape), dtype)
}

fn forward(rows: usize, call: &Call) -> Forward {
    Forward {
        loss: of([if call.reduction.is_some() { 1 } else { rows }], DType::F32),
        log_p: of([rows], DType::F32),
        entropy: of([rows], DType::F32),
        totals: of([TOTALS_WORDS], DType::I32),
        records: of([rows, RECORD_WORDS], DType::F32),
    }
}

fn gradients(head: &Head, wanted: Wanted) -> Gradients {
    let (rows, dim, vocab) = (head.hidden.shape[0], head.hidden.shape[1], head.weight.shape[0]);
    let maybe = |wanted: bool, spec: TensorSpec| if wanted { Maybe::Some(spec) } else { Maybe::None };
    Gradients {
        dhidden: maybe(wanted.hidden, of([rows, dim], DType::F32)),
        dweight: maybe(wanted.weight, of([vocab, dim], DType::F32)),
        dbias: maybe(wanted.bias, of([vocab], DType::F32)),
    }
}

pub(crate) fn token_loss(logits: &TensorSpec, _: &TensorSpec, _: &Maybe, call: &Call) -> Forward {
    forward(logits.shape[0], call)
}

pub(crate) fn linear_token_loss(
    head: &Head,
    _: &TensorSpec,
    _: &Maybe,
    wanted: &Wanted,
    call: &Call,
) -> LinearForward {
    let wanted = if call.reduction.is_some() { *wanted } else { Wanted::NONE };
    LinearForward { forward: forward(head.hidden.shape[0], call), gradients: gradients(head, wanted) }
}

pub(crate) fn linear_token_loss_backward(
    head: &Head,
    _: &TensorSpec,
    _: &Maybe,
    _: &TensorSpec,
    _: &TensorSpec,
    wanted: &Wanted,
    _: &Call,
) -> Gradients {
    gradients(head, *wanted)
}
