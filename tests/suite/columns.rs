//! Objectives of listed columns: against the oracle, and what they promise beside accuracy. `cargo test --test
//! suite columns -- --nocapture` prints the largest errors as shares of what is granted.

mod bad_input;
mod dense;
mod identities;
mod linear;
mod top_k;

use crate::inputs::Stream;
use crate::oracle::Grant;
use tokenloss::columns::{self, ColumnObjective, ColumnRow, Columns, Side, SideKind, Sides, Topk};
use tokenloss::divergence::{ForwardKl, JensenShannon, ReverseKl};
use tokenloss::{Batch, IGNORE_INDEX, Listed, for_each_objective};

/// What is done with every objective.
trait Visit {
    fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O);
}

macro_rules! visit_all {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {
        /// Every listed objective at its defaults, and divergences on a teacher's top k.
        fn each(visitor: &mut impl Visit) {
            $(
                let objective = columns::$type::new($($default),*).expect("in the domain");
                visitor.visit(<columns::$type as Listed>::NAME, &objective);
            )*
            visitor.visit("forward KL", &Topk(ForwardKl::new().expect("no parameters")));
            visitor.visit("reverse KL", &Topk(ReverseKl::new().expect("no parameters")));
            visitor.visit("Jensen-Shannon", &Topk(JensenShannon::new(0.5).expect("in the domain")));
        }
    };
}
for_each_objective!(columns, visit_all);

/// Listed columns of each row and what is told beside them.
struct Lists {
    k: usize,
    ids: Vec<i32>,
    of_columns: Vec<f64>,
    of_rows: Vec<f64>,
}

impl Lists {
    /// The target, the greatest column and some others; every fifth row lists one less. Where a class has no mass, neither
    /// has the teacher there, nor is there a coefficient.
    fn new(rows: &[Vec<f64>], targets: &[i32], k: usize, kind: SideKind, seed: u64) -> Self {
        let mut s = Stream::new(seed);
        let (mut ids, mut of_columns, mut of_rows) = (vec![], vec![], vec![]);
        for (row, (z, &target)) in rows.iter().zip(targets).enumerate() {
            let greatest = (0..z.len()).fold(0, |best, j| if z[j] > z[best] { j } else { best });
            let mut listed = vec![];
            let mut offers = vec![target.max(0) as usize, greatest];
            offers.extend((0..20 * z.len()).map(|_| s.below(z.len())));
            let wanted = k.min(z.len()) - usize::from(row % 5 == 4 && k > 2 && z.len() > 2);
            for j in offers {
                if listed.len() < wanted && !listed.contains(&j) {
                    listed.push(j);
                }
            }
            let number = |s: &mut Stream| f64::from(s.uniform());
            for at in 0..k {
                let masked = listed.get(at).is_none_or(|&j| z[j] == f64::NEG_INFINITY);
                ids.push(listed.get(at).map_or(IGNORE_INDEX, |&j| j as i32));
                of_columns.push(match kind {
                    SideKind::Teacher if masked => f64::NEG_INFINITY,
                    SideKind::Coefficients if masked => 0.0,
                    SideKind::Teacher | SideKind::Values => 8.0 * number(&mut s) - 4.0,
                    _ => number(&mut s),
                });
            }
            of_rows.push(match kind {
                SideKind::Teacher if rest(z, &listed).0 == f64::NEG_INFINITY => f64::NEG_INFINITY,
                SideKind::Coefficients if rest(z, &listed).0 == f64::NEG_INFINITY => 0.0,
                _ => number(&mut s),
            });
        }
        if kind == SideKind::Nothing {
            of_columns.clear();
            of_rows.clear();
        }
        Self { k, ids, of_columns, of_rows }
    }

    fn columns(&self, batch: &Batch<'_>) -> Columns<'_> {
        Columns::new(batch.shape(), self.k, &self.ids).expect("distinct columns")
    }

    fn sides(&self) -> Sides<'_> {
        Sides { columns: &self.of_columns, rows: &self.of_rows }
    }
}

/// The log-sum-exp of what is not listed, and its greatest.
fn rest(z: &[f64], listed: &[usize]) -> (f64, f64) {
    let others = || z.iter().enumerate().filter(|(j, _)| !listed.contains(j)).map(|(_, z)| *z);
    let max = others().fold(f64::NEG_INFINITY, f64::max);
    (
        if max == f64::NEG_INFINITY {
            max
        } else {
            max + others().map(|z| (z - max).exp()).sum::<f64>().ln()
        },
        max,
    )
}

/// A row's truth in f64: of the logits as the batch takes them, without weight.
struct Truth {
    loss: f64,
    loss_tolerance: f64,
    /// `[vocab]`, by the logits as the batch takes them.
    d: Vec<f64>,
    tolerances: Vec<f64>,
}

/// `off` is how far off a logit of the rest may be, beside what is granted to differences of logits.
#[allow(clippy::too_many_arguments)]
fn truth<O: ColumnObjective>(
    objective: &O,
    z: &[f64],
    columns: &Columns<'_>,
    sides: Sides<'_>,
    row: usize,
    grant: Grant,
    off: f64,
) -> Truth {
    let listed: Vec<_> = columns.of_row(row).iter().map(|&id| id as usize).collect();
    let logits: Vec<_> = listed.iter().map(|&j| z[j]).collect();
    let (mut lse, max) = rest(z, &listed);
    let range = columns.range(row);
    let mut side = Side {
        columns: sides.columns.get(range).unwrap_or_default(),
        row: sides.rows.get(row).copied().unwrap_or(f64::NAN),
    };
    if columns.are_alone() {
        lse = f64::NEG_INFINITY;
        side.row = match O::SIDE {
            SideKind::Teacher => f64::NEG_INFINITY,
            SideKind::Coefficients => 0.0,
            _ => side.row,
        };
    }
    let of = |rest: f64| {
        let mut d = vec![f64::NAN; listed.len()];
        let eval = objective.of_columns(ColumnRow { logits: &logits, rest }, side, &mut d);
        (eval.loss, eval.d_rest, d)
    };
    let (loss, d_rest, d_listed) = of(lse);
    // The rest's mass is off by what its logits are off.
    let moved = if lse.is_finite() { grant.at(1.0) + off } else { 0.0 };
    let (above, below) = (of(lse + moved), of(lse - moved));
    let response = |a: f64, b: f64, here: f64| {
        if here.is_finite() { (a - here).abs().max((b - here).abs()) } else { 0.0 }
    };
    let by_rest = response(above.1, below.1, d_rest);
    let (mut d, mut tolerances) = (vec![0.0; z.len()], vec![0.0; z.len()]);
    if lse.is_finite() {
        for (j, &z) in z.iter().enumerate() {
            let share = (z - lse).exp();
            d[j] = d_rest * share;
            let own = grant.at((max - z).min(90.0)) + grant.at(1.0) + 2.0 * off;
            tolerances[j] = own * d[j].abs() + by_rest * share;
        }
    }
    for (at, &j) in listed.iter().enumerate() {
        d[j] = d_listed[at];
        // One rounding to f32 beside the response.
        tolerances[j] = response(above.2[at], below.2[at], d[j]) + 2f64.powi(-23) * d[j].abs();
    }
    let loss_tolerance = response(above.0, below.0, loss) + 2f64.powi(-23) * loss.abs();
    Truth { loss, loss_tolerance, d, tolerances }
}

/// How far off a mapped logit may be: the link's own error, of at most 5 ULP, and a few roundings, of a number of at most the
/// cap of 30, times its scale.
fn off_by_map(batch: &Batch<'_>, row: usize) -> f64 {
    batch.row_map(row).map_or(0.0, |map| 8.0 * f64::from(f32::EPSILON) * 30.0 * f64::from(map.scale))
}

/// An error beyond one rounding to storage, as a share of what is granted.
fn share(got: f64, want: f64, tolerance: f64, rounding: f64, at: impl Fn() -> String) -> f64 {
    let off = (got - want).abs() - rounding;
    if got == want || off <= 0.0 {
        return 0.0;
    }
    let share = off / tolerance;
    assert!(share <= 1.0, "{}: {got:e}, expected {want:e}, off by {share:.2} of what is granted", at());
    share
}
