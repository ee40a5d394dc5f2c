//! What passes are of each other.

use crate::inputs::{self, Matrix, Stream};
use crate::oracle::{FLUSH, Grant};
use tokenloss::columns::{ColumnBackend, ColumnLoss, Columns, Eaft, Sides, SoftLabels, SubsetMass};
use tokenloss::cpu::Cpu;
use tokenloss::{Batch, ClassMask, Evaluate, IGNORE_INDEX, LogitMap, Logits, Nll, Outputs, Reduction, Shape};

/// One listed column with coefficient 1 is nll, on confident rows, too: at a margin of 80 in f32.
#[test]
fn one_column_is_nll() {
    let matrix = Matrix::<f32>::new(&inputs::rows(501, 3), 0);
    let rows = matrix.targets.len();
    let batch = Batch::new(Shape::new(rows, 501).expect("a shape"), &matrix.targets).expect("a batch");
    let mut want = vec![f32::NAN; matrix.logits.len()];
    let io = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut want };
    let cpu = Cpu::new();
    let nll = cpu.evaluate(&Nll, Reduction::Sum, &batch, io, Outputs::default()).expect("finite");
    let columns = Columns::new(batch.shape(), 1, &matrix.targets).expect("targets");
    let ones = vec![1.0; rows];
    let soft = Sides { columns: &ones, rows: &[] };
    let mut all = vec![];
    let mut got = vec![f32::NAN; want.len()];
    let labels =
        ColumnLoss { objective: &SoftLabels, reduction: Reduction::Sum, columns: &columns, sides: soft };
    let io = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut got };
    all.push((labels.evaluate(&cpu, &batch, io, None).expect("finite"), got));
    let mut got = vec![f32::NAN; want.len()];
    let sides = Sides::default();
    let mass = ColumnLoss { objective: &SubsetMass, reduction: Reduction::Sum, columns: &columns, sides };
    let io = Logits::OutOfPlace { logits: &matrix.logits, dlogits: &mut got };
    all.push((mass.evaluate(&cpu, &batch, io, None).expect("finite"), got));
    for (totals, got) in all {
        assert!((totals.loss_sum - nll.loss_sum).abs() <= 1e-6 * nll.loss_sum);
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            // Each is within what is granted to margins of 80, the greatest here, of the truth.
            let tolerance = 2.0 * Grant::CPU.at(80.0) as f32 * want.abs() + 2.0 * FLUSH as f32;
            assert!(
                (got - want).abs() <= tolerance,
                "{} column {}: {got:e}, {want:e}",
                matrix.what[at / 501],
                at % 501
            );
        }
    }
}

/// Rows weighed by the entropy of their top k, and nll.
#[test]
fn weights_of_entropies_in_two_calls() {
    let matrix = Matrix::<f32>::new(&inputs::rows(501, 3), 0);
    let rows = matrix.targets.len();
    let batch = Batch::new(Shape::new(rows, 501).expect("a shape"), &matrix.targets).expect("a batch");
    let (mut ids, mut top) = (vec![0; rows * 20], vec![0.0; rows * 20]);
    Cpu::new().top_k(&batch, &matrix.logits, 20, &mut ids, &mut top).expect("finite");
    let eaft = Eaft::new(1.0, 3.0).expect("in the domain");
    let weights: Vec<_> = top.chunks(20).map(|top| eaft.weight(top)).collect();
    for (row, weight) in weights.iter().enumerate() {
        let mut z = matrix.row(row);
        z.sort_by(|a, b| b.total_cmp(a));
        let mass: f64 = z[..20].iter().map(|x| (x - z[0]).exp()).sum();
        let shares = z[..20].iter().map(|x| (x - z[0]).exp() / mass).filter(|p| *p > 0.0);
        let want = shares.map(|p| -p * p.ln()).sum::<f64>() / 3.0;
        assert!((f64::from(*weight) - want).abs() <= 1e-5 * want + 1e-7, "{}", matrix.what[row]);
    }
    let batch = batch.with_weights(&weights).expect("finite weights");
    let io = Logits::Read(&matrix.logits[..]);
    let totals = Cpu::new().evaluate(&Nll, Reduction::Sum, &batch, io, Outputs::default()).expect("finite");
    assert!(totals.weight_sum < rows as f64 && totals.loss_sum > 0.0);
}

/// Logits that are only read are copied some rows at a time: here in two parts, with a map, a mask and a weight of each row's own.
#[test]
fn losses_do_not_depend_on_the_way() {
    let (rows, vocab) = (1100, 4099usize);
    let mut s = Stream::new(5);
    let logits: Vec<_> = (0..rows * vocab).map(|_| 8.0 * s.uniform()).collect();
    let targets: Vec<_> = (0..rows as i32)
        .map(|row| if row % 7 == 3 { IGNORE_INDEX } else { row * 3 % vocab as i32 })
        .collect();
    let ids: Vec<_> =
        (0..rows as i32).flat_map(|row| [row * 3 % vocab as i32, (row * 3 + 1) % vocab as i32]).collect();
    let (scales, weights): (Vec<_>, Vec<_>) = (0..rows).map(|_| (0.5 + s.uniform(), s.uniform())).unzip();
    let mut words = vec![u32::MAX; rows * vocab.div_ceil(32)];
    // No row may choose its class number 100 + row, which is no target and not listed.
    for row in 0..rows {
        let class = (row * 3 + 100) % vocab;
        words[row * vocab.div_ceil(32) + class / 32] ^= 1 << (class % 32);
    }
    let map = LogitMap::default().with_scales(&scales).expect("scales").with_mask(ClassMask::per_row(&words));
    let batch = Batch::new(Shape::new(rows, vocab).expect("a shape"), &targets).expect("a batch");
    let batch = batch.with_weights(&weights).and_then(|batch| batch.with_map(map)).expect("a map");
    let columns = Columns::new(batch.shape(), 2, &ids).expect("columns");
    let (reduction, sides) = (Reduction::default(), Sides::default());
    let loss = ColumnLoss { objective: &SubsetMass, reduction, columns: &columns, sides };
    let (mut read, mut written) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
    let totals = loss.evaluate(&Cpu::new(), &batch, Logits::Read(&logits), Some(&mut read)).expect("finite");
    let mut dlogits = vec![0.0; logits.len()];
    let io = Logits::OutOfPlace { logits: &logits, dlogits: &mut dlogits };
    let again = loss.evaluate(&Cpu::new(), &batch, io, Some(&mut written)).expect("finite");
    assert_eq!((totals, read), (again, written));
    assert!(totals.loss() > 0.0 && totals.ignored == 157);
}

/// Without a gradient, or with an error before there is one, logits are as they were.
#[test]
fn logits_survive_an_error() {
    use tokenloss::columns::Topk;
    use tokenloss::divergence::ForwardKl;
    let matrix = Matrix::<f32>::new(&inputs::rows(31, 3), 0);
    let rows = matrix.targets.len();
    let batch = Batch::new(Shape::new(rows, 31).expect("a shape"), &matrix.targets).expect("a batch");
    let columns = Columns::new(batch.shape(), 1, &matrix.targets).expect("targets");
    let objective = Topk(ForwardKl::new().expect("no parameters"));
    let nothing = vec![f64::NEG_INFINITY; rows];
    let sides = Sides { columns: &nothing, rows: &[] };
    let loss = ColumnLoss { objective: &objective, reduction: Reduction::Sum, columns: &columns, sides };
    let mut logits = matrix.logits.clone();
    let error = loss.evaluate(&Cpu::new(), &batch, Logits::InPlace(&mut logits), None).expect_err("no mass");
    assert_eq!(
        error.to_string(),
        "teacher: row 0 is -inf in all 31 columns, so that no class has probability"
    );
    assert_eq!(logits, matrix.logits);
}
