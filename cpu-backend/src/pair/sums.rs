//! What is known of two rows, or of a part of them.

use crate::entries::{Entries, Frame, Greatest, Normaliser, Shares, TemperedTail};
use crate::level::Level;
use crate::row::{Kept, SCRATCH, Summarise, Wanted};
use tokenloss_core::divergence::{Divergence, EntrySums, Visitor};
use tokenloss_core::{Detail, RowStats};

/// The statistics of logits.
pub(crate) fn stats(level: Level, logits: &[f32], detail: Detail) -> RowStats<f64> {
    let wanted = Wanted { detail, shares: false };
    SCRATCH.with_borrow_mut(|scratch| level.run(Summarise { logits, scratch, wanted, map: None }))
}

/// The statistics of logits divided by a temperature that is not 1, of which there are only maximum and tail. The shares go
/// where they are kept.
pub(crate) fn tempered(
    level: Level,
    logits: &[f32],
    temperature: f32,
    kept: Option<&mut Kept>,
) -> RowStats<f64> {
    let max = level.run(Greatest(logits));
    if max == f32::NEG_INFINITY && !logits.iter().any(|z| z.is_nan()) {
        return RowStats::empty();
    }
    let shares = kept.map_or(&mut [][..], |kept| kept.room(logits.len(), max.into()));
    let tail = level.run(TemperedTail { logits, max, temperature, shares });
    RowStats { max: f64::from(max) / f64::from(temperature), tail, ..RowStats::empty() }
}

/// From the statistics of a whole row divided by the temperature.
pub(crate) fn normaliser(stats: &RowStats<f64>, temperature: f32) -> Normaliser {
    Normaliser { max: stats.max * f64::from(temperature), ln_mass: stats.tail.ln_1p() }
}

/// A divergence's sums over classes, or the first column where it is infinite.
pub(crate) struct Summing<'a> {
    pub(crate) level: Level,
    pub(crate) frame: &'a Frame,
    pub(crate) z: &'a [f32],
    pub(crate) u: &'a [f32],
    /// The student's and the teacher's, as for [`Entries`].
    pub(crate) shares: [Shares<'a>; 2],
    pub(crate) keep: bool,
}

impl Visitor for Summing<'_> {
    type Output = Result<EntrySums<f64>, usize>;

    fn visit<D: Divergence>(self, divergence: &D) -> Self::Output {
        let Self { level, frame, z, u, shares, keep } = self;
        let sums = level.run(Entries { divergence, frame, z, u, shares, keep });
        if sums.value.is_finite() {
            return Ok(sums);
        }
        let infinite = |(z, u): (&f32, &f32)| !divergence.of_entry(&frame.entry(*z, *u)).value.is_finite();
        Err(z.iter().zip(u).position(infinite).unwrap_or(0))
    }
}
