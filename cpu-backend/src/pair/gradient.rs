//! The gradient of a student's row, or of a part of it.

use crate::entries::{Combine, Factors, Frame};
use crate::gradient::{PushBack, Row, narrow};
use crate::level::Level;
use crate::row::Kept;
use crate::simd::Lanes;
use tokenloss_core::divergence::{Distillation, Divergence, EntrySums};
use tokenloss_core::{RowPartials, RowSummary};

/// How an objective's gradient joins the divergence's.
#[derive(Clone, Copy, PartialEq)]
enum Joined {
    /// It has none.
    Nothing,
    /// As a factor of the probabilities, which are the divergence's, too; but at the target.
    Factor,
    /// By a sweep of its own.
    Base,
}

/// What a row's gradient is made of beside its pulls and probabilities. It does not depend on the divergence's sums.
#[derive(Clone, Copy)]
pub(crate) struct Gradient<'a> {
    level: Level,
    frame: &'a Frame,
    summary: &'a RowSummary<f64>,
    partials: RowPartials<f64>,
    factor: f64,
    joined: Joined,
}

/// A row's pulls and probabilities, or those of a part of it, and the objective's gradient where it has a sweep of its own.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) pulls: &'a [f32],
    pub(crate) probabilities: &'a [f32],
    pub(crate) base: Option<&'a [f32]>,
}

impl<'a> Gradient<'a> {
    /// Partials and factor are those that enter the gradient.
    pub(crate) fn new<D>(
        level: Level,
        distillation: &Distillation<D>,
        frame: &'a Frame,
        summary: &'a RowSummary<f64>,
        partials: RowPartials<f64>,
        factor: f64,
    ) -> Self {
        let joined = if partials == RowPartials::zero() {
            Joined::Nothing
        } else if distillation.temperature() == 1.0 && partials.is_plain() {
            Joined::Factor
        } else {
            Joined::Base
        };
        Self { level, frame, summary, partials, factor, joined }
    }

    /// The objective's gradient of these logits in `room`, where it has a sweep of its own; from what their summary kept, if it did.
    pub(crate) fn base<'r>(
        &self,
        z: &[f32],
        target: Option<usize>,
        kept: Option<&Kept>,
        room: impl FnOnce() -> &'r mut [f32],
    ) -> Option<&'r [f32]> {
        if self.joined != Joined::Base {
            return None;
        }
        let base = room();
        base.copy_from_slice(z);
        let (row, summary, partials) = (Row::InPlace(&mut *base), self.summary, self.partials);
        self.level.run(PushBack { row, target, summary, partials, map: None, kept, stream: false });
        Some(base)
    }

    /// `out = factor (pull_j - p_j sum_k pull_k)`, and the objective's gradient.
    ///
    /// The sum is taken off where it is 0 by its nature, too: what is measured of it then is what both normalisers are off by,
    /// which all pulls share.
    pub(crate) fn write<L: Lanes>(&self, sums: &EntrySums<f64>, of: Terms<'_>, out: &mut [L], stream: bool) {
        let of_objective = if self.joined == Joined::Factor { self.partials.d_lse } else { 0.0 };
        let factors = Factors { pull: self.factor, probability: of_objective - self.factor * sums.pull };
        let Terms { pulls, probabilities, base } = of;
        self.level.run(Combine { factors, pulls, probabilities, base, out, stream });
    }

    /// The target's gradient by its two logits, where [`write`](Self::write) has not got it right: `1 - p` is more than a
    /// factor of `p` tells.
    pub(crate) fn at_target<D: Divergence>(
        &self,
        divergence: &D,
        sums: &EntrySums<f64>,
        z: f32,
        u: f32,
    ) -> Option<f32> {
        if self.joined != Joined::Factor {
            return None;
        }
        let entry = self.frame.entry(z, u);
        let (pull, p) = (divergence.of_entry(&entry).pull, entry.p());
        let of_objective = self.partials.target_gradient(self.summary);
        Some(narrow(self.factor * (pull - p * sums.pull) + of_objective))
    }
}
