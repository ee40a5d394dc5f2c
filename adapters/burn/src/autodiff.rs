//! Backward, by hand.

use crate::op::{Call, Forward, Gradients as Parts, Head, LinearForward, Losses, Maybe, Wanted};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorMetadata};
use burn::tensor::{DType, Shape};

type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

fn lift<B: Losses, C: CheckpointStrategy>(tensor: FloatTensor<B>) -> Tracked<B, C> {
    <Autodiff<B, C> as AutodiffBackend>::from_inner(tensor)
}

/// No gradient goes to weights.
fn constant<B: Losses, C: CheckpointStrategy>(tensor: Maybe<Autodiff<B, C>>) -> Maybe<B> {
    Maybe::of(tensor.into_option().map(|tensor| tensor.into_primitive()))
}

/// Of a [`Forward`], all but the loss.
fn untracked<B: Losses, C: CheckpointStrategy>(
    loss: Tracked<B, C>,
    forward: Forward<B>,
) -> Forward<Autodiff<B, C>> {
    Forward {
        loss,
        log_p: lift::<B, C>(forward.log_p),
        entropy: lift::<B, C>(forward.entropy),
        totals: forward.totals,
        records: lift::<B, C>(forward.records),
    }
}

/// What backward of a loss of logits starts from.
#[derive(Debug, Clone)]
struct Logits<B: Backend> {
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    weights: Maybe<B>,
    records: FloatTensor<B>,
    call: Call,
}

#[derive(Debug)]
struct TokenLossBackward;

impl<B: Losses> Backward<B, 1> for TokenLossBackward {
    type State = Logits<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let upstream = grads.consume::<B>(&ops.node);
        let [Some(parent)] = ops.parents else { return };
        let Logits { logits, targets, weights, records, call } = ops.state;
        let dlogits = B::token_loss_backward(logits, targets, weights, records, upstream, call);
        grads.register::<B>(parent.id, dlogits);
    }
}

/// What backward of a loss of a head starts from.
#[derive(Debug, Clone)]
enum Linear<B: Backend> {
    /// The gradients, in f32, for a gradient from above of 1, and the type to store them in.
    Made(Parts<B>, DType),
    /// As each row has a gradient from above of its own, they are still to be made.
    Rows {
        head: Head<B>,
        targets: IntTensor<B>,
        weights: Maybe<B>,
        records: FloatTensor<B>,
        wanted: Wanted,
        call: Call,
    },
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Losses, const N: usize> Backward<B, N> for LinearBackward {
    type State = Linear<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let upstream = grads.consume::<B>(&ops.node);
        let (parts, upstream, dtype) = match ops.state {
            Linear::Made(parts, dtype) => (parts, Some(upstream), dtype),
            Linear::Rows { head, targets, weights, records, wanted, call } => {
                let dtype = head.hidden.dtype();
                let parts =
                    B::linear_token_loss_backward(head, targets, weights, records, upstream, wanted, call);
                (parts, None, dtype)
            }
        };
        let parts = [parts.dhidden, parts.dweight, parts.dbias];
        for (parent, gradient) in ops.parents.into_iter().zip(parts) {
            register::<B>(parent.map(|parent| parent.id), gradient, upstream.as_ref(), dtype, grads);
        }
    }
}

fn register<B: Losses>(
    parent: Option<NodeId>,
    gradient: Maybe<B>,
    upstream: Option<&FloatTensor<B>>,
    dtype: DType,
    grads: &mut Gradients,
) {
    let (Some(parent), Maybe::Some(mut gradient)) = (parent, gradient) else { return };
    if let Some(upstream) = upstream {
        let shape = gradient.shape();
        let one = Shape::from(vec![1; shape.num_dims()]);
        gradient = B::float_mul(gradient, B::float_reshape(upstream.clone(), one));
    }
    if dtype != DType::F32 {
        gradient = B::float_cast(gradient, dtype.into());
    }
    grads.register::<B>(parent, gradient);
}

/// Whether a gradient goes to a tensor.
#[derive(Debug)]
struct Probe;

impl<B: Backend> Backward<B, 1> for Probe {
    type State = ();

    fn backward(self, _: Ops<(), 1>, _: &mut Gradients, _: &mut Checkpointer) {}
}

fn is_tracked<B: Losses, C: CheckpointStrategy>(tensor: &Tracked<B, C>) -> bool {
    let prep = Backward::<B, 1>::prepare::<C>(Probe, [tensor.node()]);
    matches!(prep.compute_bound().stateful(), OpsKind::Tracked(_))
}

impl<B: Losses, C: CheckpointStrategy> Losses for Autodiff<B, C> {
    fn token_loss(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: Maybe<Self>,
        call: Call,
    ) -> Forward<Self> {
        let (logits, guard) = logits.into_parts();
        let weights = constant::<B, C>(weights);
        let forward = B::token_loss(logits.clone(), targets.clone(), weights.clone(), call.clone());
        let loss = forward.loss.clone();
        let prep = Backward::<B, 1>::prepare::<C>(TokenLossBackward, [guard]);
        let loss = match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let records = forward.records.clone();
                prep.finish(Logits { logits, targets, weights, records, call }, loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        untracked(loss, forward)
    }

    // Gradients of gradients are not made.
    fn token_loss_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: Maybe<Self>,
        records: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self> {
        let (logits, weights) = (logits.into_primitive(), constant::<B, C>(weights));
        let (records, upstream) = (records.into_primitive(), upstream.into_primitive());
        lift::<B, C>(B::token_loss_backward(logits, targets, weights, records, upstream, call))
    }

    fn linear_token_loss(
        head: Head<Self>,
        targets: IntTensor<Self>,
        weights: Maybe<Self>,
        _: Wanted,
        call: Call,
    ) -> LinearForward<Self> {
        let bias = head.bias.into_option();
        let wanted = Wanted {
            hidden: is_tracked::<B, C>(&head.hidden),
            weight: is_tracked::<B, C>(&head.weight),
            bias: bias.as_ref().is_some_and(is_tracked::<B, C>),
        };
        let (hidden, hidden_guard) = head.hidden.into_parts();
        let (weight, weight_guard) = head.weight.into_parts();
        let (bias, bias_guard) = bias.map(|bias| bias.into_parts()).unzip();
        let dtype = hidden.dtype();
        let head = Head { hidden, weight, bias: Maybe::of(bias) };
        let weights = constant::<B, C>(weights);
        let LinearForward { forward, gradients } =
            B::linear_token_loss(head.clone(), targets.clone(), weights.clone(), wanted, call.clone());
        let state = |records| match call.reduction {
            Some(_) => Linear::Made(gradients, dtype),
            None => Linear::Rows { head, targets, weights, records, wanted, call },
        };
        let (loss, records) = (forward.loss.clone(), forward.records.clone());
        let loss = match bias_guard {
            None => track::<B, C, 2>([hidden_guard, weight_guard], loss, || state(records)),
            Some(bias_guard) => {
                track::<B, C, 3>([hidden_guard, weight_guard, bias_guard], loss, || state(records))
            }
        };
        let gradients = Parts { dhidden: Maybe::None, dweight: Maybe::None, dbias: Maybe::None };
        LinearForward { forward: untracked(loss, forward), gradients }
    }

    fn linear_token_loss_backward(
        head: Head<Self>,
        targets: IntTensor<Self>,
        weights: Maybe<Self>,
        records: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        wanted: Wanted,
        call: Call,
    ) -> Parts<Self> {
        let head = Head {
            hidden: head.hidden.into_primitive(),
            weight: head.weight.into_primitive(),
            bias: constant::<B, C>(head.bias),
        };
        let (records, upstream) = (records.into_primitive(), upstream.into_primitive());
        let weights = constant::<B, C>(weights);
        let parts = B::linear_token_loss_backward(head, targets, weights, records, upstream, wanted, call);
        let lifted = |part: Maybe<B>| Maybe::of(part.into_option().map(lift::<B, C>));
        Parts { dhidden: lifted(parts.dhidden), dweight: lifted(parts.dweight), dbias: lifted(parts.dbias) }
    }
}

fn track<B: Losses, C: CheckpointStrategy, const N: usize>(
    guards: [NodeGuard; N],
    loss: FloatTensor<B>,
    state: impl FnOnce() -> Linear<B>,
) -> Tracked<B, C> {
    match Backward::<B, N>::prepare::<C>(LinearBackward, guards).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state(), loss),
        OpsKind::UnTracked(prep) => prep.finish(loss),
    }
}
