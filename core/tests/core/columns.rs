//! Objectives of listed columns: everything in the list, by itself, and the moves around it.

mod draw;
mod errors;
mod golden;
mod gradient;
mod identities;
mod moves;

use tokenloss_core::columns::{ColumnEval, ColumnObjective, ColumnRow, Side};

/// A row with what is told beside it, owned: listed columns first, the rest last.
#[derive(Debug, Clone)]
struct Drawn {
    classes: Vec<f64>,
    sides: Vec<f64>,
}

impl Drawn {
    fn row(&self) -> ColumnRow<'_, f64> {
        let (rest, logits) = self.classes.split_last().unwrap();
        ColumnRow { logits, rest: *rest }
    }

    fn side(&self) -> Side<'_, f64> {
        match self.sides.split_last() {
            Some((row, columns)) => Side { columns, row: *row },
            None => Side::nothing(),
        }
    }

    /// The same numbers rounded to f32, in f32 and back in f64.
    fn rounded(&self) -> (Vec<f32>, Vec<f32>, Drawn) {
        let single = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
        let double = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect();
        let (classes, sides) = (single(&self.classes), single(&self.sides));
        let back = Drawn { classes: double(&classes), sides: double(&sides) };
        (classes, sides, back)
    }
}

/// Loss and all derivatives, the rest's last.
fn evaluate<O: ColumnObjective>(objective: &O, drawn: &Drawn) -> (f64, Vec<f64>) {
    let mut d = vec![f64::NAN; drawn.classes.len() - 1];
    let ColumnEval { loss, d_rest } = objective.of_columns(drawn.row(), drawn.side(), &mut d);
    d.push(d_rest);
    (loss, d)
}
