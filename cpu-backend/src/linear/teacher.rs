//! The teacher's logits of a chunk of rows, a tile at a time.

use super::chunk::Chunk;
use super::plan::{Plan, Side};
use crate::level::Level;
use crate::widen::widen;
use core::ops::Range;
use rayon::prelude::*;
use tokenloss_core::{Element, Teacher, TeacherRows};

/// A tile that lies like the student's, block by block, each `[rows, block]`.
pub(crate) enum TeacherTile<'a, U> {
    /// Of hidden states.
    Linear(Chunk<'a, U>),
    /// Of logits that are given.
    Given(Given<'a, U>),
}

/// Logits that are given, and a tile of them as `f32`.
pub(crate) struct Given<'a, U> {
    level: Level,
    teacher: Teacher<'a, U>,
    block: usize,
    /// The rows' places in the batch.
    rows: Vec<usize>,
    tile: Vec<f32>,
}

impl<'a, U: Element> TeacherTile<'a, U> {
    pub(crate) fn new(level: Level, teacher: &'a TeacherRows<'a, U>, plan: Plan) -> Self {
        match teacher {
            TeacherRows::Linear(linear) => Self::Linear(Chunk::new(level, linear, plan, 0.0)),
            TeacherRows::Logits(teacher) => Self::Given(Given {
                level,
                teacher: *teacher,
                block: plan.block,
                rows: Vec::with_capacity(plan.rows),
                tile: vec![0.0; plan.rows * plan.columns],
            }),
        }
    }

    pub(crate) fn side(teacher: &TeacherRows<'_, U>) -> Side {
        match teacher {
            TeacherRows::Linear(linear) => Side::of(linear),
            TeacherRows::Logits(_) => Side::given(),
        }
    }

    /// The rows to work on.
    pub(crate) fn load(&mut self, rows: impl Iterator<Item = usize>) {
        match self {
            Self::Linear(chunk) => chunk.load(rows),
            Self::Given(given) => {
                given.rows.clear();
                given.rows.extend(rows);
            }
        }
    }

    /// Their logits in these columns.
    pub(crate) fn logits(&mut self, columns: &Range<usize>) {
        match self {
            Self::Linear(chunk) => chunk.logits(columns),
            Self::Given(Given { level, teacher, block, rows, tile }) => {
                let tiles = tile[..rows.len() * columns.len()].par_chunks_mut(rows.len() * *block);
                tiles.enumerate().for_each(|(index, tile)| {
                    let first = columns.start + index * *block;
                    let width = tile.len() / rows.len();
                    for (into, &row) in tile.chunks_exact_mut(width).zip(rows.iter()) {
                        widen(*level, &teacher.row(row)[first..first + width], into);
                    }
                });
            }
        }
    }

    /// The tile in these columns.
    pub(crate) fn tile(&self, columns: &Range<usize>) -> &[f32] {
        match self {
            Self::Linear(chunk) => chunk.tile(columns),
            Self::Given(Given { rows, tile, .. }) => &tile[..rows.len() * columns.len()],
        }
    }
}
