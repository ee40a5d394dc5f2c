//! From hidden states and a head.

use crate::input::{Rows, Stored, Typed, contiguous, read, typed, upstream_of};
use crate::logits::{check_targets, judge};
use crate::output::{Columns, totals_of};
use crate::{Error, Options, TokenLoss};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Tensor};
use tokenloss_core::{
    EvaluateLinear, Linear, LinearBackend, LinearGradients, LinearOptions, Reduction, RowObjective,
    RowPartials, RowSummary, Totals, check_dim,
};
use tokenloss_cpu::Cpu;

/// The loss of the logits `hidden [.., dim] @ weight [vocab, dim]^T + bias [vocab]`, which are never held, at
/// `targets [..]`.
///
/// ```text
/// loss = sum_i weight_i L(z_i, t_i) / denominator        or weight_i L(z_i, t_i), one for each row
/// ```
///
/// With a reduction, the gradients of tracked inputs are made in forward, in f32, and backward multiplies them by the gradient
/// from above. With a loss for each row that is not possible, and backward computes the logits once more. An input that is not
/// tracked costs no product.
///
/// # Errors
/// * [`Error::Shape`] for tensors whose dimensions do not fit.
/// * [`Error::Dtype`] for types other than f32, f16 and bf16, or not the same of all three, and targets that are not integers.
/// * [`Error::Device`] for what does not lie on the CPU; [`Error::Target`] for what is no class.
/// * [`Error::Loss`] for weights, logits that are not finite, a budget that is too small, and what else the core checks.
pub fn linear_token_loss<O: RowObjective + Sync>(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    targets: &Tensor,
    objective: O,
    options: &Options,
) -> Result<TokenLoss, Error> {
    let hidden = contiguous("hidden", hidden)?;
    let weight = contiguous("weight", weight)?;
    let bias = bias.map(|bias| contiguous("bias", bias)).transpose()?;
    let head = Head { hidden: &hidden, weight: &weight, bias: bias.as_ref() };
    let [vocab, dim] = head.check()?;
    let leading = &hidden.dims()[..hidden.rank() - 1];
    check_targets(targets, leading)?;
    let rows = Rows::new(leading.iter().product(), vocab, targets, options)?;
    let reduction = options.reduction.unwrap_or(Reduction::Sum).check()?;
    let part = Part { rows: &rows, dim, options: &options.linear };
    let mut columns = Columns::new(rows.shape.rows());
    let (state, totals) = match options.reduction {
        Some(_) => {
            let call = Fused { head, part, objective: &objective, reduction, columns: &mut columns };
            typed("hidden", hidden.dtype(), call)?
        }
        None => {
            let (summaries, judged) =
                typed("hidden", hidden.dtype(), Summarise { head, part, objective: &objective })?;
            columns.outputs().write(&judged);
            let totals = totals_of(&rows, reduction, &judged)?;
            let partials = judged.iter().map(|judged| judged.partials).collect();
            (State::Rows { summaries, partials }, totals)
        }
    };
    let values = columns.values(&rows, options.reduction, &totals)?;
    let dims = if options.reduction.is_some() { Vec::new() } else { leading.to_vec() };
    let loss = Loss { values, dims, rows, dim, options: options.linear, state };
    let loss = match &bias {
        Some(bias) => hidden.apply_op3(&weight, bias, loss)?,
        None => hidden.apply_op2(&weight, loss)?,
    };
    columns.with(loss, totals, targets)
}

/// The tensors that logits are made of, and that gradients go to.
#[derive(Clone, Copy)]
struct Head<'a> {
    hidden: &'a Tensor,
    weight: &'a Tensor,
    bias: Option<&'a Tensor>,
}

impl Head<'_> {
    /// Vocabulary and dim.
    fn check(&self) -> Result<[usize; 2], Error> {
        let shape = |what, tensor: &Tensor, expected: String| {
            Err(Error::Shape { what, got: tensor.dims().to_vec(), expected })
        };
        let &[vocab, dim] = self.weight.dims() else {
            return shape("weight", self.weight, "[vocab, dim]".into());
        };
        check_dim(dim)?;
        if self.hidden.dims().last() != Some(&dim) {
            return shape("hidden", self.hidden, format!("[.., {dim}]"));
        }
        if let Some(bias) = self.bias
            && bias.dims() != [vocab]
        {
            return shape("bias", bias, format!("[{vocab}]"));
        }
        let others = [("weight", Some(self.weight)), ("bias", self.bias)];
        for (what, tensor) in others {
            if let Some(got) = tensor.map(Tensor::dtype).filter(|&dtype| dtype != self.hidden.dtype()) {
                return Err(Error::Dtype { what, got, expected: "that of the hidden states" });
            }
        }
        Ok([vocab, dim])
    }

    /// Zeros for the gradient of what is tracked.
    fn gradients(&self) -> Gradients {
        let zeros = |tensor: &Tensor| tensor.track_op().then(|| vec![0.0f32; tensor.elem_count()]);
        Gradients {
            dhidden: zeros(self.hidden),
            dweight: zeros(self.weight),
            dbias: self.bias.and_then(zeros),
        }
    }
}

/// What of a call is not a tensor.
#[derive(Clone, Copy)]
struct Part<'a> {
    rows: &'a Rows,
    dim: usize,
    options: &'a LinearOptions,
}

impl Part<'_> {
    /// Reads the tensors in place.
    fn linear<E: Stored, R>(
        &self,
        head: Head<'_>,
        f: impl FnOnce(&Linear<'_, E>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let batch = self.rows.batch()?;
        read::<E, _>(head.hidden, |hidden| {
            read::<E, _>(head.weight, |weight| {
                let linear = Linear::new(batch, self.dim, hidden, weight)?;
                match head.bias {
                    None => f(&linear),
                    Some(bias) => read::<E, _>(bias, |bias| f(&linear.with_bias(bias)?)),
                }
            })
        })
    }
}

/// In f32 whatever the inputs' type: the gradient from above may be what keeps them in range.
struct Gradients {
    dhidden: Option<Vec<f32>>,
    dweight: Option<Vec<f32>>,
    dbias: Option<Vec<f32>>,
}

impl Gradients {
    fn borrow(&mut self) -> LinearGradients<'_, f32> {
        LinearGradients {
            dhidden: self.dhidden.as_deref_mut(),
            dweight: self.dweight.as_deref_mut(),
            dbias: self.dbias.as_deref_mut(),
        }
    }

    fn tensors(self, head: Head<'_>) -> Result<[Option<Tensor>; 3], Error> {
        let tensor = |values: Option<Vec<f32>>, like: Option<&Tensor>| match (values, like) {
            (Some(values), Some(like)) => Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some),
            _ => Ok(None),
        };
        Ok([
            tensor(self.dhidden, Some(head.hidden))?,
            tensor(self.dweight, Some(head.weight))?,
            tensor(self.dbias, head.bias)?,
        ])
    }
}

/// Everything in forward.
struct Fused<'a, O> {
    head: Head<'a>,
    part: Part<'a>,
    objective: &'a O,
    reduction: Reduction,
    columns: &'a mut Columns,
}

impl<O: RowObjective + Sync> Typed for Fused<'_, O> {
    type Output = (State, Totals);

    fn run<E: Stored>(self) -> Result<Self::Output, Error> {
        let Self { head, part, objective, reduction, columns } = self;
        let mut gradients = head.gradients();
        let totals = part.linear::<E, _>(head, |linear| {
            let (wanted, outputs) = (gradients.borrow(), columns.outputs());
            Ok(Cpu::new().evaluate_linear(objective, reduction, linear, part.options, wanted, outputs)?)
        })?;
        Ok((State::Gradients(gradients.tensors(head)?), totals))
    }
}

/// Forward, where each row has a gradient from above of its own.
struct Summarise<'a, O> {
    head: Head<'a>,
    part: Part<'a>,
    objective: &'a O,
}

impl<O: RowObjective> Typed for Summarise<'_, O> {
    type Output = (Vec<RowSummary<f64>>, Vec<tokenloss_core::Judged>);

    fn run<E: Stored>(self) -> Result<Self::Output, Error> {
        let mut summaries = vec![RowSummary::nan(); self.part.rows.shape.rows()];
        self.part.linear::<E, _>(self.head, |linear| {
            Ok(Cpu::new().summarise_linear(linear, self.part.options, &mut summaries)?)
        })?;
        let judged = judge(self.objective, self.part.rows, &summaries)?;
        Ok((summaries, judged))
    }
}

/// What backward starts from.
enum State {
    /// The gradients for a gradient from above of 1.
    Gradients([Option<Tensor>; 3]),
    /// Partials times weights.
    Rows { summaries: Vec<RowSummary<f64>>, partials: Vec<RowPartials<f64>> },
}

/// The op: its value is known before it is applied.
struct Loss {
    values: Vec<f32>,
    dims: Vec<usize>,
    rows: Rows,
    dim: usize,
    options: LinearOptions,
    state: State,
}

impl Loss {
    fn forward(&self) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
        Ok((CpuStorage::F32(self.values.clone()), self.dims.clone().into()))
    }

    fn backward(&self, head: Head<'_>, upstream: &Tensor) -> Result<[Option<Tensor>; 3], Error> {
        let dtype = head.hidden.dtype();
        let upstream = upstream_of(upstream, self.rows.shape.rows())?;
        let [dhidden, dweight, dbias] = match &self.state {
            State::Gradients(gradients) => {
                let by = upstream[0];
                let scaled = |gradient: &Option<Tensor>| match gradient {
                    Some(gradient) if by != 1.0 => gradient.affine(by, 0.0).map(Some),
                    gradient => Ok(gradient.clone()),
                };
                let [dhidden, dweight, dbias] = gradients;
                [scaled(dhidden)?, scaled(dweight)?, scaled(dbias)?]
            }
            State::Rows { summaries, partials } => {
                let partials = partials.iter().zip(&upstream).map(|(partials, by)| partials.scaled(*by));
                let part = Part { rows: &self.rows, dim: self.dim, options: &self.options };
                typed("hidden", dtype, PushBack { head, part, summaries, partials: partials.collect() })?
            }
        };
        let stored = |gradient: Option<Tensor>| gradient.map(|gradient| gradient.to_dtype(dtype)).transpose();
        Ok([stored(dhidden)?, stored(dweight)?, stored(dbias)?])
    }
}

struct PushBack<'a> {
    head: Head<'a>,
    part: Part<'a>,
    summaries: &'a [RowSummary<f64>],
    partials: Vec<RowPartials<f64>>,
}

impl Typed for PushBack<'_> {
    type Output = [Option<Tensor>; 3];

    fn run<E: Stored>(self) -> Result<Self::Output, Error> {
        let Self { head, part, summaries, partials } = self;
        let mut gradients = head.gradients();
        part.linear::<E, _>(head, |linear| {
            let wanted = gradients.borrow();
            Ok(Cpu::new().push_back_linear(linear, part.options, summaries, &partials, wanted)?)
        })?;
        gradients.tensors(head)
    }
}

const NAME: &str = "linear-token-loss";

impl CustomOp2 for Loss {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let head = Head { hidden, weight, bias: None };
        let [dhidden, dweight, _] = self.backward(head, upstream).map_err(Error::wrap)?;
        Ok((dhidden, dweight))
    }
}

impl CustomOp3 for Loss {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let head = Head { hidden, weight, bias: Some(bias) };
        let [dhidden, dweight, dbias] = self.backward(head, upstream).map_err(Error::wrap)?;
        Ok((dhidden, dweight, dbias))
    }
}
