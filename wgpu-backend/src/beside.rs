//! What a row has beside it.

use crate::dispatch::Bound;
use crate::guide::GuideParts;
use crate::job::Part;
use crate::labels::LabelParts;
use crate::pair::PairParts;
use crate::plan::{Cut, Matrix};
use std::ops::Range;
use tokenloss_shaders::Params;

/// What lies beside a batch's logits.
pub(crate) enum Beside<'a> {
    Nothing,
    Pair(PairParts<'a>),
    Guide(GuideParts<'a>),
    Labels(LabelParts<'a>),
}

impl<'a> Beside<'a> {
    /// What has a row beside each row.
    pub(crate) fn matrix(&self) -> Option<Matrix> {
        match self {
            Self::Nothing => None,
            Self::Pair(pair) => Some(pair.teacher.matrix()),
            Self::Guide(guide) => Some(guide.teacher.matrix()),
            Self::Labels(labels) => Some(labels.labels.matrix()),
        }
    }

    pub(crate) fn written(&self) -> Option<&Part<'a>> {
        match self {
            Self::Pair(pair) => Some(&pair.divergences),
            Self::Nothing | Self::Guide(_) | Self::Labels(_) => None,
        }
    }

    pub(crate) fn read(&self) -> Vec<&Part<'a>> {
        match self {
            Self::Nothing => vec![],
            Self::Pair(pair) => vec![&pair.teacher.part],
            Self::Guide(guide) => guide.strengths.iter().chain([&guide.teacher.part]).collect(),
            Self::Labels(labels) => labels.class_weights.iter().chain([&labels.labels.part]).collect(),
        }
    }

    /// The bindings of some rows.
    pub(crate) fn bind<'b>(
        &'b self,
        cut: &Cut,
        nothing: &'b wgpu::Buffer,
        rows: &Range<usize>,
        params: &mut Params,
        bound: &mut Vec<Bound<'b>>,
    ) {
        match self {
            Self::Nothing => {}
            Self::Pair(pair) => pair.bind(cut, rows, params, bound),
            Self::Guide(guide) => guide.teacher.bind(cut, rows, params, bound),
            Self::Labels(labels) => labels.bind(cut, nothing, rows, params, bound),
        }
    }
}
