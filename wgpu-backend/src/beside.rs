//! What a job's rows have beside their logits.

use crate::columns::ColumnParts;
use crate::dispatch::Bound;
use crate::guide::GuideParts;
use crate::job::Part;
use crate::labels::LabelParts;
use crate::pair::PairParts;
use crate::plan::{Cut, Matrix};
use std::ops::Range;
use tokenloss_shaders::Params;

/// The checked parts of it.
pub(crate) enum Beside<'a> {
    Nothing,
    Pair(PairParts<'a>),
    Guide(GuideParts<'a>),
    Labels(LabelParts<'a>),
    Columns(ColumnParts<'a>),
}

impl<'a> Beside<'a> {
    /// A second matrix that is cut as the logits are.
    pub(crate) fn matrix(&self) -> Option<Matrix> {
        match self {
            Self::Pair(pair) => Some(pair.teacher.matrix()),
            Self::Guide(guide) => Some(guide.teacher.matrix()),
            Self::Labels(labels) => Some(labels.labels.matrix()),
            Self::Nothing | Self::Columns(_) => None,
        }
    }

    /// All that is written, and all that is read.
    pub(crate) fn parts(&self) -> (Vec<&Part<'a>>, Vec<&Part<'a>>) {
        match self {
            Self::Nothing => (vec![], vec![]),
            Self::Pair(pair) => (vec![&pair.divergences], vec![&pair.teacher.part]),
            Self::Guide(guide) => (vec![], guide.strengths.iter().chain([&guide.teacher.part]).collect()),
            Self::Labels(labels) => {
                (vec![], labels.class_weights.iter().chain([&labels.labels.part]).collect())
            }
            Self::Columns(columns) => columns.parts(),
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
            Self::Columns(columns) => columns.bind(cut, nothing, rows, params, bound),
        }
    }
}
