//! A backend, as something that runs a test.

use crate::oracle::Grant;
use std::fmt;
use std::sync::OnceLock;
use tokenloss::columns::{ColumnBackend, ColumnLoss, ColumnObjective, ColumnPartials, Columns};
use tokenloss::cpu::{Cpu, Level};
use tokenloss::divergence::{AnyDivergence, Distillation};
use tokenloss::label::AnyLabel;
use tokenloss::wgpu::{Gpu, GpuError, ShaderObjective};
use tokenloss::{
    Batch, Element, Error, Evaluate, EvaluateGuided, EvaluateLabels, EvaluateLinearPair, EvaluatePair,
    Guidance, Labels, Linear, LinearGradients, LinearOptions, Logits, Objective, Outputs, PairOutputs,
    Reduction, RowObjective, RowPart, RowSummary, Teacher, TeacherRows, Totals,
};

pub(crate) enum Runner {
    Cpu(Cpu),
    Gpu(Box<Gpu>),
}

impl Runner {
    pub(crate) fn cpu(level: Level) -> Self {
        Self::Cpu(Cpu::with_level(level))
    }

    /// `None`, and said so, where there is no adapter; a failure where one is required.
    pub(crate) fn gpu() -> Option<Self> {
        match Gpu::new() {
            Ok(gpu) => Some(Self::Gpu(Box::new(gpu))),
            Err(error) => {
                let required = std::env::var_os("TOKENLOSS_REQUIRE_GPU").is_some_and(|value| value == "1");
                assert!(!required, "a GPU is required: {error}");
                println!("gpu: not tested, no adapter");
                None
            }
        }
    }

    pub(crate) fn is_cpu(&self) -> bool {
        matches!(self, Self::Cpu(_))
    }

    pub(crate) fn grant(&self) -> Grant {
        match self {
            Self::Cpu(_) => Grant::CPU,
            Self::Gpu(_) => Grant::GPU,
        }
    }

    pub(crate) fn evaluate<E: Element>(
        &self,
        objective: &Objective,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        outputs: Outputs<'_>,
    ) -> Totals {
        match self {
            Self::Cpu(cpu) => {
                cpu.evaluate(objective, reduction, batch, logits, outputs).expect("finite logits")
            }
            Self::Gpu(gpu) => {
                gpu.evaluate(objective, reduction, batch, logits, outputs).expect("finite logits")
            }
        }
    }
}

impl Runner {
    /// Every level of the CPU, and the GPU where there is one.
    pub(crate) fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Runner>> = OnceLock::new();
        ALL.get_or_init(|| Level::available().into_iter().map(Self::cpu).chain(Self::gpu()).collect())
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn evaluate_pair<O: ShaderObjective + RowObjective + Sync, E: Element, U: Element>(
        &self,
        objective: &O,
        distillation: &Distillation<AnyDivergence>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        teacher: Teacher<'_, U>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, Error> {
        match self {
            Self::Cpu(cpu) => {
                cpu.evaluate_pair(objective, distillation, reduction, batch, logits, teacher, outputs)
            }
            Self::Gpu(gpu) => gpu
                .evaluate_pair(objective, distillation, reduction, batch, logits, teacher, outputs)
                .map_err(of_core),
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn evaluate_linear_pair<O, E: Element, U: Element, G: Element>(
        &self,
        objective: &O,
        distillation: &Distillation<AnyDivergence>,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        teacher: &TeacherRows<'_, U>,
        options: &LinearOptions,
        gradients: LinearGradients<'_, G>,
        outputs: PairOutputs<'_>,
    ) -> Result<Totals, Error>
    where
        O: ShaderObjective + RowObjective + Sync,
    {
        match self {
            Self::Cpu(cpu) => cpu.evaluate_linear_pair(
                objective,
                distillation,
                reduction,
                linear,
                teacher,
                options,
                gradients,
                outputs,
            ),
            Self::Gpu(gpu) => gpu
                .evaluate_linear_pair(
                    objective,
                    distillation,
                    reduction,
                    linear,
                    teacher,
                    options,
                    gradients,
                    outputs,
                )
                .map_err(of_core),
        }
    }

    pub(crate) fn evaluate_columns<O: ColumnObjective, E: Element>(
        &self,
        loss: &ColumnLoss<'_, O>,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, Error> {
        match self {
            Self::Cpu(cpu) => loss.evaluate(cpu, batch, logits, losses),
            Self::Gpu(gpu) => loss.evaluate(gpu.as_ref(), batch, logits, losses).map_err(of_core),
        }
    }
}

impl Runner {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn evaluate_guided<E: Element, U: Element>(
        &self,
        objective: &Objective,
        guidance: Guidance<'_>,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        teacher: Teacher<'_, U>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Error> {
        match self {
            Self::Cpu(cpu) => {
                cpu.evaluate_guided(objective, guidance, reduction, batch, logits, teacher, outputs)
            }
            Self::Gpu(gpu) => gpu
                .evaluate_guided(objective, guidance, reduction, batch, logits, teacher, outputs)
                .map_err(of_core),
        }
    }
}

impl Runner {
    pub(crate) fn evaluate_labels<E: Element, U: Element>(
        &self,
        objective: &AnyLabel,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        labels: Labels<'_, U>,
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, Error> {
        match self {
            Self::Cpu(cpu) => cpu.evaluate_labels(objective, reduction, batch, logits, labels, losses),
            Self::Gpu(gpu) => {
                gpu.evaluate_labels(objective, reduction, batch, logits, labels, losses).map_err(of_core)
            }
        }
    }
}

/// Listed columns without logits, and the greatest.
impl Runner {
    pub(crate) fn evaluate_columns_linear<O: ColumnObjective, E: Element, G: Element>(
        &self,
        loss: &ColumnLoss<'_, O>,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        gradients: LinearGradients<'_, G>,
        losses: Option<&mut [f32]>,
    ) -> Result<Totals, Error> {
        match self {
            Self::Cpu(cpu) => loss.evaluate_linear(cpu, linear, options, gradients, losses),
            Self::Gpu(gpu) => {
                loss.evaluate_linear(gpu.as_ref(), linear, options, gradients, losses).map_err(of_core)
            }
        }
    }

    pub(crate) fn rests_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        columns: &Columns<'_>,
        parts: &mut [RowPart],
    ) -> Result<(), Error> {
        match self {
            Self::Cpu(cpu) => cpu.rests_linear(linear, options, columns, parts),
            Self::Gpu(gpu) => gpu.rests_linear(linear, options, columns, parts).map_err(of_core),
        }
    }

    pub(crate) fn push_back_columns_linear<E: Element, G: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        rests: &[RowSummary<f64>],
        partials: ColumnPartials<'_>,
        gradients: LinearGradients<'_, G>,
    ) -> Result<usize, Error> {
        match self {
            Self::Cpu(cpu) => cpu.push_back_columns_linear(linear, options, rests, partials, gradients),
            Self::Gpu(gpu) => {
                gpu.push_back_columns_linear(linear, options, rests, partials, gradients).map_err(of_core)
            }
        }
    }

    pub(crate) fn top_k<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        k: usize,
        ids: &mut [i32],
        top: &mut [f32],
    ) -> Result<(), Error> {
        match self {
            Self::Cpu(cpu) => cpu.top_k(batch, logits, k, ids, top),
            Self::Gpu(gpu) => gpu.top_k(batch, logits, k, ids, top).map_err(of_core),
        }
    }

    pub(crate) fn top_k_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        k: usize,
        ids: &mut [i32],
        top: &mut [f32],
    ) -> Result<(), Error> {
        match self {
            Self::Cpu(cpu) => cpu.top_k_linear(linear, options, k, ids, top),
            Self::Gpu(gpu) => gpu.top_k_linear(linear, options, k, ids, top).map_err(of_core),
        }
    }
}

/// The caller's data is at fault, and nothing else.
fn of_core(error: GpuError) -> Error {
    match error {
        GpuError::Core(error) => error,
        other => panic!("{other}"),
    }
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(cpu) => write!(f, "cpu {}", cpu.level()),
            Self::Gpu(_) => write!(f, "gpu"),
        }
    }
}
