//! The one place that names the backends.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use tokenloss::cpu::{Cpu, Level};
use tokenloss::{Batch, Element, Evaluate, Logits, Objective, Outputs, Reduction, Totals};

/// The backends by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// SIMD on all cores.
    Cpu,
    /// Compute shaders on a Vulkan, Metal or DX12 adapter.
    Gpu,
}

/// The options by which every command chooses a backend.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// Where the losses and gradients are computed.
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) backend: Kind,
    /// Instruction set of the CPU backend; the best of this machine by default. `tokenloss devices` lists them.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<String>,
}

/// An opened backend.
pub(crate) enum Engine {
    /// The CPU.
    Cpu(Cpu),
}

impl Choice {
    /// Opens the backend.
    pub(crate) fn open(&self) -> Result<Engine> {
        match (self.backend, &self.level) {
            (Kind::Cpu, None) => Ok(Engine::Cpu(Cpu::new())),
            (Kind::Cpu, Some(level)) => Ok(Engine::Cpu(Cpu::with_level(level.parse::<Level>()?))),
            (Kind::Gpu, Some(level)) => bail!("level: '{level}' belongs to --backend cpu, got --backend gpu"),
            (Kind::Gpu, None) => bail!("backend: gpu is not available in this build"),
        }
    }
}

impl Engine {
    /// What it is, in words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Cpu(cpu) => format!("cpu, level {}", cpu.level()),
        }
    }

    /// [`Evaluate::evaluate`] on whichever backend this is.
    pub(crate) fn evaluate<E: Element>(
        &self,
        objective: &Objective,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        outputs: Outputs<'_>,
    ) -> Result<Totals> {
        match self {
            Self::Cpu(cpu) => Ok(cpu.evaluate(objective, reduction, batch, logits, outputs)?),
        }
    }
}

/// The GPU adapters of this machine: name and interface.
pub(crate) fn adapters() -> Vec<(String, String)> {
    Vec::new()
}
