//! Where a batch lies on the continuum, from what a pass knows anyway.

use crate::{RowPartials, RowSummary};

/// Rows and gradient mass by the probability of the target: cheap, of the same pass.
///
/// The mass of a row is `weight |dL/dz_target|`, which for a token objective `f(p)` is `weight |f'(p)| p (1 - p)`, the
/// paper's `W`. Rows that are ignored or bad do not count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diagnostics {
    /// Rows whose p lies in each tenth of `[0, 1]`.
    pub rows: [usize; Self::BUCKETS],
    /// The mass of the rows of each tenth.
    pub mass: [f64; Self::BUCKETS],
    /// The sum of p.
    pub sum_p: f64,
    /// The sum of `log_p`.
    pub sum_log_p: f64,
    /// The sum of squared masses.
    pub sum_squares: f64,
    /// Rows with a gradient.
    pub live: usize,
}

impl Default for Diagnostics {
    fn default() -> Self {
        let rows = [0; Self::BUCKETS];
        let mass = [0.0; Self::BUCKETS];
        Self { rows, mass, sum_p: 0.0, sum_log_p: 0.0, sum_squares: 0.0, live: 0 }
    }
}

impl Diagnostics {
    /// Buckets of p.
    pub const BUCKETS: usize = 10;

    /// Counts a row. Its partials are those of the objective times the row's weight.
    pub fn add(&mut self, summary: &RowSummary<f64>, partials: &RowPartials<f64>) {
        let p = summary.target.p();
        if p.is_nan() {
            return;
        }
        let mass = if partials.is_live() { partials.target_gradient(summary).abs() } else { 0.0 };
        let bucket = ((p * Self::BUCKETS as f64) as usize).min(Self::BUCKETS - 1);
        self.rows[bucket] += 1;
        self.mass[bucket] += mass;
        self.sum_p += p;
        self.sum_log_p += summary.target.log_p;
        self.sum_squares += mass * mass;
        self.live += usize::from(partials.is_live());
    }

    /// Adds what another batch counted.
    pub fn merge(mut self, other: Self) -> Self {
        for bucket in 0..Self::BUCKETS {
            self.rows[bucket] += other.rows[bucket];
            self.mass[bucket] += other.mass[bucket];
        }
        self.sum_p += other.sum_p;
        self.sum_log_p += other.sum_log_p;
        self.sum_squares += other.sum_squares;
        self.live += other.live;
        self
    }

    /// Rows counted.
    pub fn count(&self) -> usize {
        self.rows.iter().sum()
    }

    /// The mean of p; NaN without rows.
    pub fn mean_p(&self) -> f64 {
        self.sum_p / self.count() as f64
    }

    /// The mean of `log_p`; NaN without rows.
    pub fn mean_log_p(&self) -> f64 {
        self.sum_log_p / self.count() as f64
    }

    /// Each bucket's share of the gradient mass; all 0 where there is none.
    pub fn mass_shares(&self) -> [f64; Self::BUCKETS] {
        let sum: f64 = self.mass.iter().sum();
        self.mass.map(|mass| if sum > 0.0 { mass / sum } else { 0.0 })
    }

    /// `(sum w)^2 / sum w^2` over the rows' masses: how many tokens the gradient comes from, as if each had the same
    /// share. 0 where there is no mass.
    pub fn effective_tokens(&self) -> f64 {
        let sum: f64 = self.mass.iter().sum();
        if self.sum_squares > 0.0 { sum * sum / self.sum_squares } else { 0.0 }
    }
}
