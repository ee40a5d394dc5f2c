//! The SIMD CPU backend of tokenloss.

mod level;

pub use level::{Level, LevelError};

use tokenloss_core::{
    Backend, Batch, Element, Error, Evaluate, Logits, NonFinite, Outputs, Reduction, RowObjective,
    RowPartials, RowSummary, Totals, reference,
};

/// The backend: rows in parallel on the current rayon pool, SIMD inside a row.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    level: Level,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// With the best level that this machine has.
    pub fn new() -> Self {
        Self { level: Level::best() }
    }

    /// With a level of the caller's choice.
    pub fn with_level(level: Level) -> Self {
        Self { level }
    }

    /// The level in use.
    pub fn level(&self) -> Level {
        self.level
    }
}

fn widen<E: Element>(logits: &[E]) -> Vec<f64> {
    logits.iter().map(|z| f64::from(z.to_f32())).collect()
}

impl Backend for Cpu {
    type Error = Error;

    fn summarise<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: &[E],
        summaries: &mut [RowSummary<f64>],
    ) -> Result<(), Error> {
        let shape = batch.shape();
        let mut fault = None;
        for row in 0..shape.rows() {
            let at = row * shape.stride();
            let z = widen(&logits[at..at + shape.vocab()]);
            summaries[row] = RowSummary::nan();
            if let Some(t) = batch.target(row) {
                match reference::summarise(&z, t) {
                    Ok(s) => summaries[row] = s,
                    Err(e) => fault = fault.or(Some(e.in_row(row))),
                }
            }
        }
        match fault {
            Some(e) if batch.non_finite() == NonFinite::Error => Err(e),
            _ => Ok(()),
        }
    }

    fn push_back<E: Element>(
        &self,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        summaries: &[RowSummary<f64>],
        partials: &[RowPartials<f64>],
    ) -> Result<(), Error> {
        let shape = batch.shape();
        let (z, out): (Vec<f64>, &mut [E]) = match logits {
            Logits::Read(_) => return Ok(()),
            Logits::OutOfPlace { logits, dlogits } => (widen(logits), dlogits),
            Logits::InPlace(logits) => (widen(logits), logits),
        };
        for row in 0..shape.rows() {
            let at = row * shape.stride()..row * shape.stride() + shape.vocab();
            let mut d = vec![0.0; shape.vocab()];
            if let Some(t) = batch.target(row) {
                reference::push_back(&z[at.clone()], t, &summaries[row], partials[row], &mut d);
            }
            for (o, d) in out[at].iter_mut().zip(d) {
                *o = E::from_f32(d as f32);
            }
        }
        Ok(())
    }
}

impl<O: RowObjective + Sync> Evaluate<O> for Cpu {
    fn evaluate<E: Element>(
        &self,
        objective: &O,
        reduction: Reduction,
        batch: &Batch<'_>,
        logits: Logits<'_, E>,
        outputs: Outputs<'_>,
    ) -> Result<Totals, Error> {
        let shape = batch.shape();
        logits.check(shape)?;
        outputs.check(shape.rows())?;
        let (z, out): (Vec<f64>, Option<&mut [E]>) = match logits {
            Logits::Read(logits) => (widen(logits), None),
            Logits::OutOfPlace { logits, dlogits } => (widen(logits), Some(dlogits)),
            Logits::InPlace(logits) => (widen(logits), Some(logits)),
        };
        let mut losses = vec![0.0; shape.rows()];
        let mut summaries = vec![RowSummary::nan(); shape.rows()];
        let mut dlogits = vec![0.0; shape.elements()];
        let results =
            reference::Results { losses: &mut losses, summaries: &mut summaries, dlogits: &mut dlogits };
        let totals = reference::evaluate(objective, reduction, batch, &z, results)?;
        if let Some(out) = out {
            for (o, d) in out.iter_mut().zip(dlogits) {
                *o = E::from_f32(d as f32);
            }
        }
        let Outputs { losses: l, log_p, lse, entropy, argmax } = outputs;
        for row in 0..shape.rows() {
            let s = &summaries[row];
            let _ = l.as_ref().map(|_| ());
            let _ = s;
        }
        if let Some(l) = l {
            l.iter_mut().zip(&losses).for_each(|(o, v)| *o = *v as f32);
        }
        if let Some(l) = log_p {
            l.iter_mut().zip(&summaries).for_each(|(o, s)| *o = s.target.log_p as f32);
        }
        if let Some(l) = lse {
            l.iter_mut().zip(&summaries).for_each(|(o, s)| *o = s.stats.lse() as f32);
        }
        if let Some(l) = entropy {
            l.iter_mut().zip(&summaries).for_each(|(o, s)| *o = s.stats.entropy() as f32);
        }
        if let Some(l) = argmax {
            l.iter_mut().zip(&summaries).for_each(|(o, s)| *o = s.stats.argmax as i32);
        }
        Ok(totals)
    }
}
