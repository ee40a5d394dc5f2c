//! The ops, as burn dispatches them to the backend of their tensors.

use crate::Options;
use crate::error::Fault;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};
use tokenloss_core::{Composite, LinearOptions, LogitMap, NonFinite, Reduction};

/// A tensor that need not be there.
#[derive(ExtensionType, Debug, Clone)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub(crate) enum Maybe<B: Backend> {
    Some(FloatTensor<B>),
    None,
}

impl<B: Backend> Maybe<B> {
    pub(crate) fn of(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::None, Self::Some)
    }

    pub(crate) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Some(tensor) => Some(tensor),
            Self::None => None,
        }
    }
}

/// What of a call is no tensor.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) objective: Composite,
    pub(crate) reduction: Option<Reduction>,
    pub(crate) map: Option<LogitMap<'static>>,
    pub(crate) non_finite: NonFinite,
    pub(crate) linear: LinearOptions,
    pub(crate) fault: Fault,
}

impl Call {
    pub(crate) fn new(objective: Composite, options: &Options) -> Self {
        Self {
            objective,
            reduction: options.reduction,
            map: options.map,
            non_finite: options.non_finite,
            linear: options.linear,
            fault: Fault::default(),
        }
    }
}

/// What forward finds out. After an error all numbers are NaN.
#[derive(ExtensionType, Debug, Clone)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub(crate) struct Forward<B: Backend> {
    /// `[1]` with a reduction, `[rows]` without.
    pub(crate) loss: FloatTensor<B>,
    /// `[rows]`
    pub(crate) log_p: FloatTensor<B>,
    /// `[rows]`
    pub(crate) entropy: FloatTensor<B>,
    /// In words of the backend's own.
    pub(crate) totals: IntTensor<B>,
    /// `[rows, ..]`, a few numbers for each row, of the backend's own: what backward starts from.
    pub(crate) records: FloatTensor<B>,
}

/// Logits that are never held: `hidden [rows, dim] @ weight [vocab, dim]^T + bias [vocab]`.
#[derive(ExtensionType, Debug, Clone)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub(crate) struct Head<B: Backend> {
    pub(crate) hidden: FloatTensor<B>,
    pub(crate) weight: FloatTensor<B>,
    #[extension_type]
    pub(crate) bias: Maybe<B>,
}

/// Which gradients are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) hidden: bool,
    pub(crate) weight: bool,
    pub(crate) bias: bool,
}

impl Wanted {
    pub(crate) const NONE: Self = Self { hidden: false, weight: false, bias: false };
}

/// Those that are.
#[derive(ExtensionType, Debug, Clone)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub(crate) struct Gradients<B: Backend> {
    #[extension_type]
    pub(crate) dhidden: Maybe<B>,
    #[extension_type]
    pub(crate) dweight: Maybe<B>,
    #[extension_type]
    pub(crate) dbias: Maybe<B>,
}

/// [`Forward`] from a head, with the gradients, in f32, that were made on the way.
#[derive(ExtensionType, Debug, Clone)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub(crate) struct LinearForward<B: Backend> {
    #[extension_type]
    pub(crate) forward: Forward<B>,
    #[extension_type]
    pub(crate) gradients: Gradients<B>,
}

#[backend_extension(Cube: cfg(feature = "wgpu"), Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait Losses: Backend {
    /// Of `logits [rows, vocab]` and `targets [rows]`.
    #[fusion(meta = crate::fusion::token_loss)]
    fn token_loss(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        #[extension_type] weights: Maybe<Self>,
        call: Call,
    ) -> Forward<Self>;

    /// `dlogits [rows, vocab]`, in the type of the logits. `upstream [1]` or `[rows]`.
    #[fusion(dtype = logits, shape = logits)]
    fn token_loss_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        #[extension_type] weights: Maybe<Self>,
        records: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self>;

    /// Of a head, and `targets [rows]`. With a reduction the gradients that are wanted are made at once.
    #[fusion(meta = crate::fusion::linear_token_loss)]
    fn linear_token_loss(
        #[extension_type] head: Head<Self>,
        targets: IntTensor<Self>,
        #[extension_type] weights: Maybe<Self>,
        wanted: Wanted,
        call: Call,
    ) -> LinearForward<Self>;

    /// The gradients that are wanted, in f32. `upstream [rows]`.
    #[fusion(meta = crate::fusion::linear_token_loss_backward)]
    fn linear_token_loss_backward(
        #[extension_type] head: Head<Self>,
        targets: IntTensor<Self>,
        #[extension_type] weights: Maybe<Self>,
        records: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        wanted: Wanted,
        call: Call,
    ) -> Gradients<Self>;
}
