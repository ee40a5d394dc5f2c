//! On the CPU, by way of burn's Flex backend.

use crate::Error;
use crate::op::{Call, Forward, Gradients, Head, LinearForward, Losses, Maybe, Wanted};
use crate::records::{RECORD, of_record, record_of, words_of};
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, TensorData};
use bytemuck::Pod;
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{
    Backend, Batch, Element, EvaluateLinear, IGNORE_INDEX, Judged, Linear, LinearBackend, LinearGradients,
    Logits, Outputs, Reduction, RowPartials, RowSummary, Shape, Totals,
};
use tokenloss_cpu::Cpu;

/// A storage type that both sides know.
trait Stored: burn::tensor::Element + Pod + Element {}

impl Stored for f32 {}
impl Stored for f16 {}
impl Stored for bf16 {}

/// Calls a function for one storage type.
macro_rules! typed {
    ($what:literal, $dtype:expr, $function:ident($($argument:expr),*)) => {
        match $dtype {
            DType::F32 => $function::<f32>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            got => Err(Error::Dtype { what: $what, got, expected: "f32, f16 or bf16" }),
        }
    };
}

/// Rows one after the other. A slice of rows is that already.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// All elements of a contiguous tensor.
fn elements<E: burn::tensor::Element + Pod>(tensor: &FlexTensor) -> &[E] {
    let start = tensor.layout().start_offset();
    &tensor.storage()[start..start + tensor.layout().num_elements()]
}

fn tensor<E: burn::tensor::Element, const D: usize>(values: Vec<E>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// In the shape and the type of another, for what could not be computed.
fn nan_like(like: &FlexTensor) -> FlexTensor {
    fn nan<E: Stored>(like: &FlexTensor) -> Result<FlexTensor, Error> {
        let values = vec![E::from_f32(f32::NAN); like.layout().num_elements()];
        Ok(FlexTensor::from_data(TensorData::new(values, like.layout().shape().clone())))
    }
    // The type was checked before the tensor was taken apart.
    typed!("logits", like.dtype(), nan(like)).unwrap_or_else(|_| like.clone())
}

/// What is known of the rows but for their logits.
struct Rows {
    shape: Shape,
    targets: Vec<i32>,
    weights: Option<Vec<f32>>,
    call: Call,
}

impl Rows {
    fn new(
        rows: usize,
        vocab: usize,
        targets: &FlexTensor,
        weights: Maybe<Flex>,
        call: &Call,
    ) -> Result<Self, Error> {
        let rows = Self {
            shape: Shape::new(rows, vocab)?,
            targets: targets_of(targets, vocab)?,
            weights: weights.into_option().map(|weights| floats("weights", weights)).transpose()?,
            call: call.clone(),
        };
        rows.batch()?;
        Ok(rows)
    }

    fn batch(&self) -> Result<Batch<'_>, Error> {
        let mut batch = Batch::new(self.shape, &self.targets)?.with_non_finite(self.call.non_finite);
        if let Some(weights) = &self.weights {
            batch = batch.with_weights(weights)?;
        }
        if let Some(map) = self.call.map {
            batch = batch.with_map(map)?;
        }
        Ok(batch)
    }

    fn reduction(&self) -> Reduction {
        self.call.reduction.unwrap_or(Reduction::Sum)
    }

    /// The middle move.
    fn judge(&self, summaries: &[RowSummary<f64>]) -> Result<Vec<Judged>, Error> {
        let (batch, objective) = (self.batch()?, &self.call.objective);
        let of_row = |(row, summary)| Judged::of_summary(objective, &batch, row, summary);
        Ok(summaries.iter().enumerate().map(of_row).collect())
    }

    /// What rows that were summarised amount to.
    fn forward(&self, summaries: &[RowSummary<f64>]) -> Result<Forward<Flex>, Error> {
        let judged = self.judge(summaries)?;
        let totals = Totals::of_rows(&self.batch()?, self.reduction(), judged.iter().map(Judged::verdict));
        let scale = self.reduction().scale(totals.valid, totals.kept);
        let mut columns = Columns::new(self.shape.rows());
        columns.outputs().write(&judged);
        let records =
            judged.iter().flat_map(|judged| record_of(&judged.summary, &judged.partials.scaled(scale)));
        columns.forward(self, &totals, records.collect())
    }
}

/// The columns of a result, before they are tensors.
struct Columns {
    losses: Vec<f32>,
    log_p: Vec<f32>,
    entropy: Vec<f32>,
}

impl Columns {
    fn new(rows: usize) -> Self {
        let column = || vec![f32::NAN; rows];
        Self { losses: column(), log_p: column(), entropy: column() }
    }

    fn outputs(&mut self) -> Outputs<'_> {
        Outputs {
            losses: Some(&mut self.losses),
            log_p: Some(&mut self.log_p),
            entropy: Some(&mut self.entropy),
            ..Outputs::default()
        }
    }

    fn forward(self, rows: &Rows, totals: &Totals, records: Vec<f64>) -> Result<Forward<Flex>, Error> {
        let Self { losses, log_p, entropy } = self;
        let count = losses.len();
        let batch = rows.batch()?;
        // As in totals: a weight of 0 switches a row off even where its loss is not finite.
        let weighted = |(row, loss): (usize, f32)| match batch.weight(row) {
            0.0 => 0.0,
            weight => weight * loss,
        };
        let loss = match rows.call.reduction {
            Some(_) => vec![totals.loss() as f32],
            None => losses.into_iter().enumerate().map(weighted).collect(),
        };
        let (values, kept) = (loss.len(), records.len() / RECORD);
        Ok(Forward {
            loss: tensor(loss, [values]),
            log_p: tensor(log_p, [count]),
            entropy: tensor(entropy, [count]),
            totals: tensor(words_of(totals).to_vec(), [words_of(totals).len()]),
            records: tensor(records, [kept, RECORD]),
        })
    }
}

/// What is returned beside an error.
fn nothing(rows: usize, call: &Call) -> Forward<Flex> {
    let column = |rows: usize| tensor(vec![f32::NAN; rows], [rows]);
    let totals = Totals { loss_sum: f64::NAN, ..Totals::default() };
    Forward {
        loss: column(if call.reduction.is_some() { 1 } else { rows }),
        log_p: column(rows),
        entropy: column(rows),
        totals: tensor(words_of(&totals).to_vec(), [words_of(&totals).len()]),
        records: tensor(Vec::<f64>::new(), [0, RECORD]),
    }
}

fn targets_of(targets: &FlexTensor, vocab: usize) -> Result<Vec<i32>, Error> {
    let targets = contiguous(targets.clone());
    fn wide<I: burn::tensor::Element + Pod + TryInto<i64>>(targets: &FlexTensor) -> Vec<i64> {
        // What no i64 holds is no class either.
        elements::<I>(targets).iter().map(|&target| target.try_into().unwrap_or(i64::MAX)).collect()
    }
    let wide = match targets.dtype() {
        DType::I64 => wide::<i64>(&targets),
        DType::I32 => wide::<i32>(&targets),
        DType::I16 => wide::<i16>(&targets),
        DType::I8 => wide::<i8>(&targets),
        DType::U64 => wide::<u64>(&targets),
        DType::U32 => wide::<u32>(&targets),
        DType::U16 => wide::<u16>(&targets),
        DType::U8 => wide::<u8>(&targets),
        got => return Err(Error::Dtype { what: "targets", got, expected: "an integer" }),
    };
    let of_row = |(row, target): (usize, i64)| match i32::try_from(target) {
        Ok(IGNORE_INDEX) => Ok(IGNORE_INDEX),
        Ok(class) if class >= 0 && (class as usize) < vocab => Ok(class),
        _ => Err(Error::Target { row, target, vocab }),
    };
    wide.into_iter().enumerate().map(of_row).collect()
}

/// As f32, whatever the type.
fn floats(what: &'static str, tensor: FlexTensor) -> Result<Vec<f32>, Error> {
    let tensor = contiguous(tensor);
    fn read<E: Stored>(tensor: &FlexTensor) -> Vec<f32> {
        elements::<E>(tensor).iter().map(|&x| Element::to_f32(x)).collect()
    }
    match tensor.dtype() {
        DType::F64 => Ok(elements::<f64>(&tensor).iter().map(|&x| x as f32).collect()),
        DType::F32 => Ok(read::<f32>(&tensor)),
        DType::F16 => Ok(read::<f16>(&tensor)),
        DType::BF16 => Ok(read::<bf16>(&tensor)),
        got => Err(Error::Dtype { what, got, expected: "a float" }),
    }
}

/// What is pushed back: summaries, and partials times weights, scale and the gradient from above.
type Judgement = (Vec<RowSummary<f64>>, Vec<RowPartials<f64>>);

/// From records, and the gradient from above, one number or one for each row.
fn rows_of(records: FlexTensor, upstream: FlexTensor) -> Result<Judgement, Error> {
    let (records, upstream) = (contiguous(records), floats("the gradient from above", upstream)?);
    let (records, _) = elements::<f64>(&records).as_chunks::<RECORD>();
    let of_row = |(row, record): (usize, &[f64; RECORD])| {
        let by = upstream[if upstream.len() == 1 { 0 } else { row }];
        let (summary, partials) = of_record(record);
        (summary, partials.scaled(f64::from(by)))
    };
    Ok(records.iter().enumerate().map(of_row).unzip())
}

fn summarise<E: Stored>(rows: &Rows, logits: &FlexTensor) -> Result<Forward<Flex>, Error> {
    let mut summaries = vec![RowSummary::nan(); rows.shape.rows()];
    Cpu::new().summarise(&rows.batch()?, elements::<E>(logits), &mut summaries)?;
    rows.forward(&summaries)
}

fn push_back<E: Stored>(
    rows: &Rows,
    logits: &FlexTensor,
    summaries: &[RowSummary<f64>],
    partials: &[RowPartials<f64>],
) -> Result<FlexTensor, Error> {
    let mut dlogits = vec![E::from_f32(0.0); rows.shape.elements()];
    let to = Logits::OutOfPlace { logits: elements::<E>(logits), dlogits: &mut dlogits };
    Cpu::new().push_back(&rows.batch()?, to, summaries, partials)?;
    Ok(tensor(dlogits, [rows.shape.rows(), rows.shape.vocab()]))
}

/// A head whose rows lie one after the other.
struct Contiguous {
    hidden: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    rows: usize,
    dim: usize,
    vocab: usize,
}

impl Contiguous {
    fn of(head: Head<Flex>) -> Self {
        let hidden = contiguous(head.hidden);
        let weight = contiguous(head.weight);
        let (states, classes) = (hidden.layout().shape(), weight.layout().shape());
        let (rows, dim, vocab) = (states[0], states[1], classes[0]);
        Self { bias: head.bias.into_option().map(contiguous), hidden, weight, rows, dim, vocab }
    }

    fn linear<'a, E: Stored>(&'a self, batch: Batch<'a>) -> Result<Linear<'a, E>, Error> {
        let linear = Linear::new(batch, self.dim, elements::<E>(&self.hidden), elements(&self.weight))?;
        Ok(match &self.bias {
            Some(bias) => linear.with_bias(elements(bias))?,
            None => linear,
        })
    }
}

/// In f32 whatever the inputs' type: the gradient from above may be what keeps them in range.
struct Sums {
    dhidden: Option<Vec<f32>>,
    dweight: Option<Vec<f32>>,
    dbias: Option<Vec<f32>>,
}

impl Sums {
    fn new(head: &Contiguous, wanted: Wanted) -> Self {
        let zeros = |wanted: bool, elements: usize| wanted.then(|| vec![0.0; elements]);
        Self {
            dhidden: zeros(wanted.hidden, head.rows * head.dim),
            dweight: zeros(wanted.weight, head.vocab * head.dim),
            dbias: zeros(wanted.bias, head.vocab),
        }
    }

    fn borrow(&mut self) -> LinearGradients<'_, f32> {
        LinearGradients {
            dhidden: self.dhidden.as_deref_mut(),
            dweight: self.dweight.as_deref_mut(),
            dbias: self.dbias.as_deref_mut(),
        }
    }

    fn tensors(self, head: &Contiguous) -> Gradients<Flex> {
        Gradients {
            dhidden: Maybe::of(self.dhidden.map(|sums| tensor(sums, [head.rows, head.dim]))),
            dweight: Maybe::of(self.dweight.map(|sums| tensor(sums, [head.vocab, head.dim]))),
            dbias: Maybe::of(self.dbias.map(|sums| tensor(sums, [head.vocab]))),
        }
    }

    fn nan(head: &Contiguous, wanted: Wanted) -> Gradients<Flex> {
        let mut sums = Self::new(head, wanted);
        let parts = [&mut sums.dhidden, &mut sums.dweight, &mut sums.dbias];
        parts.into_iter().flatten().for_each(|part| part.fill(f32::NAN));
        sums.tensors(head)
    }
}

fn linear_forward<E: Stored>(
    rows: &Rows,
    head: &Contiguous,
    wanted: Wanted,
) -> Result<LinearForward<Flex>, Error> {
    let (call, linear) = (&rows.call, head.linear::<E>(rows.batch()?)?);
    let mut sums = Sums::new(head, wanted);
    let forward = match call.reduction {
        Some(reduction) => {
            let mut columns = Columns::new(head.rows);
            let (gradients, outputs) = (sums.borrow(), columns.outputs());
            let totals = Cpu::new().evaluate_linear(
                &call.objective,
                reduction,
                &linear,
                &call.linear,
                gradients,
                outputs,
            )?;
            columns.forward(rows, &totals, Vec::new())?
        }
        // Each row has a gradient from above of its own, which is still to come.
        None => {
            sums = Sums::new(head, Wanted::NONE);
            let mut summaries = vec![RowSummary::nan(); head.rows];
            Cpu::new().summarise_linear(&linear, &call.linear, &mut summaries)?;
            rows.forward(&summaries)?
        }
    };
    Ok(LinearForward { forward, gradients: sums.tensors(head) })
}

fn linear_backward<E: Stored>(
    rows: &Rows,
    head: &Contiguous,
    wanted: Wanted,
    summaries: &[RowSummary<f64>],
    partials: &[RowPartials<f64>],
) -> Result<Gradients<Flex>, Error> {
    let linear = head.linear::<E>(rows.batch()?)?;
    let mut sums = Sums::new(head, wanted);
    Cpu::new().push_back_linear(&linear, &rows.call.linear, summaries, partials, sums.borrow())?;
    Ok(sums.tensors(head))
}

impl Losses for Flex {
    fn token_loss(
        logits: FlexTensor,
        targets: FlexTensor,
        weights: Maybe<Self>,
        call: Call,
    ) -> Forward<Self> {
        let (rows, vocab) = (logits.layout().shape()[0], logits.layout().shape()[1]);
        let forward = || {
            let known = Rows::new(rows, vocab, &targets, weights, &call)?;
            let logits = contiguous(logits);
            typed!("logits", logits.dtype(), summarise(&known, &logits))
        };
        forward().unwrap_or_else(|error| {
            call.fault.set(error);
            nothing(rows, &call)
        })
    }

    fn token_loss_backward(
        logits: FlexTensor,
        targets: FlexTensor,
        _: Maybe<Self>,
        records: FlexTensor,
        upstream: FlexTensor,
        call: Call,
    ) -> FlexTensor {
        let (rows, vocab) = (logits.layout().shape()[0], logits.layout().shape()[1]);
        let logits = contiguous(logits);
        let backward = || {
            // The records' partials have the weights in them.
            let known = Rows::new(rows, vocab, &targets, Maybe::None, &call)?;
            let (summaries, partials) = rows_of(records, upstream)?;
            typed!("logits", logits.dtype(), push_back(&known, &logits, &summaries, &partials))
        };
        backward().unwrap_or_else(|error| {
            call.fault.set(error);
            nan_like(&logits)
        })
    }

    fn linear_token_loss(
        head: Head<Self>,
        targets: FlexTensor,
        weights: Maybe<Self>,
        wanted: Wanted,
        call: Call,
    ) -> LinearForward<Self> {
        let head = Contiguous::of(head);
        let forward = || {
            let rows = Rows::new(head.rows, head.vocab, &targets, weights, &call)?;
            typed!("hidden", head.hidden.dtype(), linear_forward(&rows, &head, wanted))
        };
        forward().unwrap_or_else(|error| {
            call.fault.set(error);
            LinearForward { forward: nothing(head.rows, &call), gradients: Sums::nan(&head, wanted) }
        })
    }

    fn linear_token_loss_backward(
        head: Head<Self>,
        targets: FlexTensor,
        _: Maybe<Self>,
        records: FlexTensor,
        upstream: FlexTensor,
        wanted: Wanted,
        call: Call,
    ) -> Gradients<Self> {
        let head = Contiguous::of(head);
        let backward = || {
            let rows = Rows::new(head.rows, head.vocab, &targets, Maybe::None, &call)?;
            let (summaries, partials) = rows_of(records, upstream)?;
            typed!(
                "hidden",
                head.hidden.dtype(),
                linear_backward(&rows, &head, wanted, &summaries, &partials)
            )
        };
        backward().unwrap_or_else(|error| {
            call.fault.set(error);
            Sums::nan(&head, wanted)
        })
    }
}
