//! The one place that names the backends.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use tokenloss::cpu::{Cpu, Level};
#[cfg(feature = "gpu")]
use tokenloss::wgpu::{Gpu, GpuError, TimedGradient};
use tokenloss::{
    Backend, Batch, Composite, Dtype, Element, Evaluate, EvaluateLinear, Linear, LinearBackend,
    LinearGradients, LinearOptions, Logits, Outputs, Reduction, RowSummary, Shape, Totals,
};

/// The backends by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// SIMD on all cores
    Cpu,
    /// Compute shaders on a Vulkan, Metal or DX12 adapter
    Gpu,
}

/// The options by which every command chooses a backend.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// Where losses and gradients are computed
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) backend: Kind,
    /// Instruction set of the CPU backend; the best of this machine by default (see `tokenloss devices`)
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<String>,
}

/// An opened backend.
pub(crate) enum Engine {
    /// The CPU.
    Cpu(Cpu),
    /// A GPU.
    #[cfg(feature = "gpu")]
    Gpu(Box<Gpu>),
}

impl Choice {
    /// Opens the backend.
    pub(crate) fn open(&self) -> Result<Engine> {
        match (self.backend, &self.level) {
            (Kind::Cpu, None) => Ok(Engine::Cpu(Cpu::new())),
            (Kind::Cpu, Some(level)) => Ok(Engine::Cpu(Cpu::with_level(level.parse::<Level>()?))),
            (Kind::Gpu, Some(level)) => bail!("level: '{level}' belongs to --backend cpu, got --backend gpu"),
            (Kind::Gpu, None) => gpu(),
        }
    }
}

#[cfg(feature = "gpu")]
fn gpu() -> Result<Engine> {
    Ok(Engine::Gpu(Box::new(Gpu::new()?)))
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> Result<Engine> {
    bail!("gpu: this program was built without the feature gpu")
}

/// What a timed evaluation does with the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timed {
    /// Copies the logits, and evaluates nothing.
    Copy,
    /// Writes it elsewhere.
    OutOfPlace,
    /// Writes it over the logits.
    InPlace,
    /// Does not compute it.
    LossesOnly,
}

impl Engine {
    /// What it is, in words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Cpu(cpu) => format!("cpu, level {}", cpu.level()),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => format!("gpu, {} ({})", gpu.info().name, gpu.info().backend),
        }
    }

    /// [`Evaluate::evaluate`] on whichever backend this is.
    pub(crate) fn evaluate<E: Element>(
        &self,
        objective: &Composite,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        outputs: Outputs<'_>,
    ) -> Result<Totals> {
        match self {
            Self::Cpu(cpu) => Ok(cpu.evaluate(objective, reduction, batch, logits, outputs)?),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.evaluate(objective, reduction, batch, logits, outputs).map_err(of_gpu),
        }
    }

    /// [`Backend::summarise`] on whichever backend this is.
    pub(crate) fn summarise<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        summaries: &mut [RowSummary<f64>],
    ) -> Result<()> {
        match self {
            Self::Cpu(cpu) => Ok(cpu.summarise(batch, logits, summaries)?),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.summarise(batch, logits, summaries).map_err(of_gpu),
        }
    }

    /// [`EvaluateLinear::evaluate_linear`] on whichever backend this is.
    pub(crate) fn evaluate_linear<E: Element>(
        &self,
        objective: &Composite,
        reduction: Reduction,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        gradients: LinearGradients<'_, E>,
        outputs: Outputs<'_>,
    ) -> Result<Totals> {
        match self {
            Self::Cpu(cpu) => {
                Ok(cpu.evaluate_linear(objective, reduction, linear, options, gradients, outputs)?)
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => {
                gpu.evaluate_linear(objective, reduction, linear, options, gradients, outputs).map_err(of_gpu)
            }
        }
    }

    /// [`LinearBackend::summarise_linear`] on whichever backend this is.
    pub(crate) fn summarise_linear<E: Element>(
        &self,
        linear: &Linear<'_, E>,
        options: &LinearOptions,
        summaries: &mut [RowSummary<f64>],
    ) -> Result<()> {
        match self {
            Self::Cpu(cpu) => Ok(cpu.summarise_linear(linear, options, summaries)?),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.summarise_linear(linear, options, summaries).map_err(of_gpu),
        }
    }

    /// Seconds of one run in the GPU's own memory; `None` for a backend that works on host slices, which the
    /// caller times itself.
    pub(crate) fn time_on_device(
        &self,
        objective: &Composite,
        shape: Shape,
        dtype: Dtype,
        timed: Timed,
    ) -> Result<Option<f64>> {
        match self {
            Self::Cpu(_) => {
                let _ = (objective, shape, dtype, timed);
                Ok(None)
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => {
                let evaluate = |gradient| gpu.time_evaluate(objective, shape, dtype, gradient, 1);
                let times = match timed {
                    Timed::Copy => gpu.time_copy(shape, dtype, 1),
                    Timed::OutOfPlace => evaluate(TimedGradient::OutOfPlace),
                    Timed::InPlace => evaluate(TimedGradient::InPlace),
                    Timed::LossesOnly => evaluate(TimedGradient::None),
                };
                Ok(times?.first().copied())
            }
        }
    }
}

/// A fault in the data is the same fault on every backend.
#[cfg(feature = "gpu")]
fn of_gpu(error: GpuError) -> anyhow::Error {
    match error {
        GpuError::Core(error) => error.into(),
        other => other.into(),
    }
}

/// A GPU adapter, for the table of devices.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Adapter {
    /// Its name.
    pub(crate) name: String,
    /// Vulkan, Metal or DX12.
    pub(crate) api: String,
    /// Its driver.
    pub(crate) driver: String,
    /// Discrete, integrated or software.
    pub(crate) kind: String,
}

/// The GPU adapters of this machine.
pub(crate) fn adapters() -> Vec<Adapter> {
    #[cfg(feature = "gpu")]
    return Gpu::adapters()
        .into_iter()
        .map(|a| Adapter { kind: format!("{:?}", a.kind), name: a.name, api: a.backend, driver: a.driver })
        .collect();
    #[cfg(not(feature = "gpu"))]
    Vec::new()
}
