//! What logits are taken for, as the user writes it.

use anyhow::{Context, Result};
use clap::Args;
use tokenloss::LogitMap;

/// The options of a logit map.
#[derive(Debug, Clone, Args)]
pub(crate) struct Map {
    /// Divide the logits by this
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Bound the logits by C tanh(z / C), before the temperature
    #[arg(long, value_name = "C", conflicts_with = "stable_max", allow_negative_numbers = true)]
    softcap: Option<f32>,
    /// StableMax in place of softmax
    #[arg(long)]
    stable_max: bool,
    /// Take this off the target's logit, before the temperature
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    margin: Option<f32>,
}

impl Map {
    /// The map, if any option is given.
    pub(crate) fn of(&self) -> Result<Option<LogitMap<'static>>> {
        let mut map = match self.softcap {
            Some(cap) => LogitMap::softcap(cap)?,
            None if self.stable_max => LogitMap::stable_max(),
            None => LogitMap::default(),
        };
        if let Some(temperature) = self.temperature {
            map = map.with_scale(1.0 / temperature).with_context(|| format!("temperature: {temperature}"))?;
        }
        if let Some(margin) = self.margin {
            map = map.with_margin(margin)?;
        }
        Ok((map != LogitMap::default()).then_some(map))
    }
}
