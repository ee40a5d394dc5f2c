//! Rows that have no answer, or an unusual one.

use crate::agreement::check;
use crate::data::{Matrix, rounded};
use crate::machine::gpus;
use crate::run::{PLACES, Place, Setup, run};
use tokenloss_core::{
    AnyRow, Composite, Denominator, Dtype, IGNORE_INDEX, Mix, Nll, Objective, Power, Reduction,
};
use tokenloss_wgpu::shaders::{STATUS_BAD_TARGET, STATUS_NO_MASS};

/// A batch in which row 1 is as given and its neighbours are fine.
fn around(dtype: Dtype, target: i32, bad: impl Fn(usize) -> f32) -> Matrix {
    let vocab = 77;
    let mut matrix = Matrix::new(dtype, vocab);
    matrix.push(3, |j| (j % 7) as f32);
    matrix.push(target, bad);
    matrix.push(76, |j| (j % 5) as f32);
    matrix
}

#[test]
fn nan_and_infinity_poison_their_row_and_name_their_column() {
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
                for at in [0, 1, 40, 76] {
                    // A second one behind it must not be the one that is named.
                    let matrix = around(dtype, 5, |j| if j == at || j == 76 { bad } else { (j % 3) as f32 });
                    for place in PLACES {
                        let setup = Setup { place, ..Setup::new(&matrix, &Nll) };
                        let done = run(gpu, &setup);
                        check(&format!("{bad} at {at} {dtype}"), &Nll, &setup, &done);
                        assert_eq!(done.records[1].status, at as u32 + 1);
                        assert!(f32::from_bits(done.totals[0]).is_nan(), "the total loss is NaN, too");
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_of_masks_has_no_mass() {
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            let matrix = around(dtype, 5, |_| f32::NEG_INFINITY);
            for place in PLACES {
                let setup = Setup { place, ..Setup::new(&matrix, &Nll) };
                let done = run(gpu, &setup);
                check("all masked", &Nll, &setup, &done);
                assert_eq!(done.records[1].status, STATUS_NO_MASS);
            }
        }
    }
}

#[test]
fn a_row_that_cannot_be_judged_counts_as_kept_only_without_a_gate() {
    let matrix = around(Dtype::F32, 5, |j| if j == 9 { f32::NAN } else { 0.0 });
    for gpu in gpus() {
        for (spec, kept) in [
            ("nll", 3),
            ("thresholded:inner=nll,lo=0,hi=1", 2),
            ("reliable_entropy:share=0", 1),
            ("nll + thresholded:inner=nll,lo=0,hi=1", 2),
        ] {
            let objective = Composite::parse(spec).unwrap();
            let setup = Setup::new(&matrix, &objective);
            let done = run(gpu, &setup);
            check(spec, &objective, &setup, &done);
            assert_eq!(done.totals[3], kept, "{spec}");
        }
    }
}

#[test]
fn a_target_out_of_range_is_named_and_reads_nothing() {
    for gpu in gpus() {
        for target in [-1, -99, 77, i32::MAX, i32::MIN] {
            let matrix = around(Dtype::F32, target, |_| 1.0);
            let done = run(gpu, &Setup::new(&matrix, &Nll));
            assert_eq!(done.records[1].status, STATUS_BAD_TARGET);
            assert!(done.dlogits[77..154].iter().all(|g| g.is_nan()));
            assert_eq!((done.records[0].status, done.records[2].status), (0, 0));
        }
    }
}

#[test]
fn a_masked_target_has_the_loss_that_its_objective_says() {
    let masked = |j: usize| if j == 5 { f32::NEG_INFINITY } else { (j % 3) as f32 };
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            let matrix = around(dtype, 5, masked);
            let loss = |objective: Objective| {
                let setup = Setup { place: Place::Over, ..Setup::new(&matrix, &objective) };
                let done = run(gpu, &setup);
                let slope = done.records[1].d_target;
                assert_eq!(
                    done.dlogits[77 + 5],
                    rounded(dtype, slope),
                    "all of the slope goes to the target"
                );
                (done.records[1].loss, slope)
            };
            assert_eq!(loss(Nll.into()), (f32::INFINITY, -1.0));
            assert_eq!(loss(Power::new(1.0).unwrap().into()), (1.0, 0.0));
            assert_eq!(loss(Mix::new(0.0).unwrap().into()), (1.0, 0.0));
            assert_eq!(loss(Mix::new(0.5).unwrap().into()), (f32::INFINITY, -0.5));
            let (loss, slope) = loss(Power::new(-0.5).unwrap().into());
            assert!(loss > 1e38 && slope < -1e38, "saturated: {loss:e}, {slope:e}");
        }
    }
}

/// Masks are no part of mean, energy and count, and a masked target is as infinitely far off as its objective says.
#[test]
fn masks_are_no_part_of_a_row_objective() {
    let masks: [fn(usize) -> bool; 4] =
        [|j| j == 5, |j| j == 4 || j > 40, |j| j != 9, |j| j == 5 || j % 2 == 0];
    for gpu in gpus() {
        for dtype in Dtype::ALL {
            for mask in masks {
                let masked = |j: usize| if mask(j) { f32::NEG_INFINITY } else { (j % 3) as f32 - 0.5 };
                let matrix = around(dtype, 5, masked);
                for name in AnyRow::NAMES {
                    let objective = Composite::parse(name).unwrap();
                    for place in [Place::Over, Place::Into] {
                        let setup = Setup { place, ..Setup::new(&matrix, &objective) };
                        check(&format!("{name} {dtype}"), &objective, &setup, &run(gpu, &setup));
                    }
                }
            }
        }
    }
}

#[test]
fn all_rows_ignored_is_zero_and_not_nan() {
    for gpu in gpus() {
        for denominator in [Denominator::Valid, Denominator::Kept] {
            let mut matrix = Matrix::new(Dtype::F16, 33);
            for _ in 0..3 {
                // Not read: it may hold anything.
                matrix.push(IGNORE_INDEX, |_| f32::NAN);
            }
            for place in PLACES {
                let setup =
                    Setup { place, reduction: Reduction::Mean(denominator), ..Setup::new(&matrix, &Nll) };
                let done = run(gpu, &setup);
                check("all ignored", &Nll, &setup, &done);
                assert_eq!(done.totals, [0, 0, 0, 0, 3, 0, 0, 0, 0]);
            }
        }
    }
}

#[test]
fn a_threshold_that_keeps_nothing_leaves_no_gradient() {
    let objective = Objective::parse("thresholded:inner=nll,lo=1").unwrap();
    let matrix = Matrix::uniform(Dtype::F32, 5, 100, 1);
    for gpu in gpus() {
        let setup =
            Setup { reduction: Reduction::Mean(Denominator::Kept), ..Setup::new(&matrix, &objective) };
        let done = run(gpu, &setup);
        check("none kept", &objective, &setup, &done);
        assert!(done.dlogits.iter().all(|g| *g == 0.0));
    }
}

#[test]
fn halves_of_every_value_are_read_exactly() {
    // Each f16 and bf16 value once as the only logit of its row beside a mask: then it is the row's maximum.
    use tokenloss_core::half::{bf16, f16};
    for gpu in gpus() {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            let mut matrix = Matrix::new(dtype, 2);
            let value = |bits: u16| match dtype {
                Dtype::F16 => f16::from_bits(bits).to_f32(),
                _ => bf16::from_bits(bits).to_f32(),
            };
            for bits in (0..=u16::MAX).filter(|bits| value(*bits).is_finite()) {
                matrix.push(0, |j| if j == 0 { value(bits) } else { f32::NEG_INFINITY });
            }
            let setup = Setup { place: Place::None, ..Setup::new(&matrix, &Nll) };
            for (record, z) in run(gpu, &setup).records.iter().zip(matrix.logits.chunks(2)) {
                // Subnormals of bf16 are subnormals of f32, which a driver may flush.
                let flushed = z[0].abs() < f32::MIN_POSITIVE && record.max == 0.0;
                assert!(record.max == z[0] || flushed, "{dtype}: {} read as {}", z[0], record.max);
                assert_eq!(record.loss, 0.0);
            }
        }
    }
}
