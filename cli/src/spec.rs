//! Objectives as the user writes them.

use anyhow::{Result, anyhow};
use tokenloss::{Composite, Objective};

/// An objective with the text it was read from, which is shorter than its full form.
#[derive(Debug, Clone)]
pub(crate) struct Spec<O = Objective> {
    /// As written.
    pub(crate) text: String,
    /// As read.
    pub(crate) objective: O,
}

impl Spec<Composite> {
    /// Reads a sum of objectives.
    pub(crate) fn parse_sum(text: &str) -> Result<Self> {
        let objective = Composite::parse(text).map_err(|error| anyhow!("{error}"))?;
        Ok(Self { text: text.to_owned(), objective })
    }
}

impl Spec {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let objective = Objective::parse(text).map_err(|error| anyhow!("{error}"))?;
        Ok(Self { text: text.to_owned(), objective })
    }

    /// Reads several.
    pub(crate) fn parse_all<S: AsRef<str>>(texts: &[S]) -> Result<Vec<Self>> {
        texts.iter().map(|text| Self::parse(text.as_ref())).collect()
    }
}

/// The objectives that the paper compares along the continuum.
pub(crate) const COMPARED: [&str; 5] =
    ["nll", "power:alpha=0.5", "power:alpha=1", "power:alpha=10", "thresholded:inner=nll,lo=0.2"];
