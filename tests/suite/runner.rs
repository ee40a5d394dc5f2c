//! A backend, as something that runs a test.

use crate::oracle::Grant;
use std::fmt;
use tokenloss::cpu::{Cpu, Level};
use tokenloss::wgpu::Gpu;
use tokenloss::{Batch, Element, Evaluate, Logits, Objective, Outputs, Reduction, Totals};

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

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(cpu) => write!(f, "cpu {}", cpu.level()),
            Self::Gpu(_) => write!(f, "gpu"),
        }
    }
}
