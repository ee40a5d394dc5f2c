//! Every fault in samples, provoked, with its message word for word.

use super::families::families;
use tokenloss_core::sample::*;
use tokenloss_core::{Error, IGNORE_INDEX, Segments};

#[track_caller]
fn says<T: std::fmt::Debug>(result: Result<T, Error>, text: &str) {
    assert_eq!(result.expect_err(text).to_string(), text);
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

fn three() -> Samples<'static, f64> {
    Samples::new(&[1.0, 2.0, 3.0]).unwrap()
}

fn grouped() -> Samples<'static, f64> {
    three().with_groups(Segments::new(&[0, 1, 3], 3).unwrap()).unwrap()
}

#[test]
fn losses_and_references() {
    says(Samples::<f64>::new(&[]), "losses: number 0 has 0 members, expected at least 1");
    for (bad, text) in [(NAN, "NaN"), (INF, "inf"), (-INF, "-inf")] {
        says(Samples::new(&[1.0, bad, bad]), &format!("losses: value 1 is {text}, expected a finite number"));
        says(
            three().with_reference(&[1.0, bad, bad]),
            &format!("reference: value 1 is {text}, expected a finite number"),
        );
        says(
            three().with_difficulties(&[1.0, bad, bad]),
            &format!("difficulties: value 1 is {text}, expected a finite number"),
        );
    }
    says(three().with_reference(&[1.0]), "reference: expected 3 values, got 1");
    says(
        Samples::new(&[1.0, 3e38f32]).unwrap().with_reference(&[1.0, -3e38]),
        "reference: value 1 is -300000000549775580000000000000000000000, expected a number whose difference from the loss is finite",
    );
}

#[test]
fn columns() {
    says(three().with_weights(&[1.0; 2]), "weights: expected 3 values, got 2");
    says(three().with_propensities(&[1.0; 4]), "propensities: expected 3 values, got 4");
    says(three().with_duals(&[1.0; 4]), "duals: expected 3 values, got 4");
    says(three().with_difficulties(&[1.0; 4]), "difficulties: expected 3 values, got 4");
    says(three().with_groups(Segments::new(&[0, 2], 2).unwrap()), "groups: expected 3 values, got 2");
    says(grouped().with_group_weights(&[1.0]), "group_weights: expected 2 values, got 1");
    says(grouped().with_proportions(&[1.0]), "proportions: expected 2 values, got 1");
    says(three().with_group_weights(&[1.0]), "groups: expected 3 values, got 0");
    says(three().with_proportions(&[1.0]), "groups: expected 3 values, got 0");
    for (bad, text) in [(-0.5, "-0.5"), (NAN, "NaN"), (INF, "inf")] {
        let says = |result: Result<Samples<'_, f64>, Error>, what: &str| {
            says(result, &format!("{what}: value 1 is {text}, expected a finite number of at least 0"));
        };
        says(three().with_weights(&[1.0, bad, bad]), "weights");
        says(three().with_duals(&[1.0, bad, bad]), "duals");
        says(grouped().with_group_weights(&[1.0, bad]), "group_weights");
    }
    for (bad, text) in [(0.0, "0"), (1.5, "1.5"), (-1.0, "-1"), (NAN, "NaN")] {
        says(
            three().with_propensities(&[1.0, 1.0, bad]),
            &format!("propensities: value 2 is {text}, expected above 0 and at most 1"),
        );
    }
    for (bad, text) in [(1.5, "1.5"), (-1.0, "-1"), (NAN, "NaN")] {
        says(
            grouped().with_proportions(&[1.0, bad]),
            &format!("proportions: value 1 is {text}, expected from 0 to 1"),
        );
    }
    for (bad, text) in [(NAN, "NaN"), (INF, "inf")] {
        says(three().with_log_u(bad), &format!("log_u: value 0 is {text}, expected a finite number or -inf"));
    }
}

fn of(objective: impl SampleObjective, samples: &Samples<'_, f64>) -> Result<f64, Error> {
    let (mut weights, mut scratch) =
        (vec![0.0; samples.count()], vec![0; objective.scratch(samples.count())]);
    objective.of_losses(samples, &mut weights, &mut scratch)
}

#[test]
fn an_input_that_is_missing_is_named() {
    let bare = three();
    says(of(WeightedMean::new().unwrap(), &bare), "weights: expected 3 values, got 0");
    says(of(InversePropensity::new(2.0).unwrap(), &bare), "propensities: expected 3 values, got 0");
    says(of(SelfNormalised::new(2.0).unwrap(), &bare), "propensities: expected 3 values, got 0");
    says(of(Feasible::new(0.0, 0.1).unwrap(), &bare), "duals: expected 3 values, got 0");
    says(of(Resilient::new(0.0, 1.0, 0.1).unwrap(), &bare), "duals: expected 3 values, got 0");
    says(of(Cadft::new(1.0).unwrap(), &bare), "difficulties: expected 3 values, got 0");
    says(of(GroupDro::new(0.1).unwrap(), &bare), "groups: expected 3 values, got 0");
    says(of(GroupDro::new(0.1).unwrap(), &grouped()), "group_weights: expected 2 values, got 0");
    says(of(Rex::new(1.0).unwrap(), &bare), "groups: expected 3 values, got 0");
    says(of(Irm::new().unwrap(), &bare), "groups: expected 3 values, got 0");
    says(of(IrmUnbiased::new().unwrap(), &bare), "groups: expected 3 values, got 0");
    says(of(EasyLlp::new(0.5).unwrap(), &bare), "groups: expected 3 values, got 0");
    says(of(EasyLlp::new(0.5).unwrap(), &grouped()), "proportions: expected 2 values, got 0");
    says(of(RunningKl::new(1.0, 0.5, 0.0, 0.0).unwrap(), &bare), "log_u: expected 1 values, got 0");
    says(GroupDro::new(0.1).unwrap().step(&bare, &mut [1.0]), "groups: expected 3 values, got 0");
}

#[test]
fn slices_of_another_length() {
    let mean = Mean::new().unwrap();
    says(mean.of_losses(&three(), &mut [0.0; 2], &mut []), "weights: expected 3 values, got 2");
    says(mean.of_losses(&three(), &mut [0.0; 3], &mut [0]), "scratch: expected 0 values, got 1");
    let cvar = Cvar::new(0.5).unwrap();
    says(cvar.of_losses(&three(), &mut [0.0; 3], &mut [0; 2]), "scratch: expected 3 values, got 2");
    let smooth = ChiSquare::new(cvar, 1.0).unwrap();
    says(smooth.of_losses(&three(), &mut [0.0; 3], &mut [0; 3]), "scratch: expected 6 values, got 3");
    says(Feasible::new(0.0, 0.1).unwrap().step(&three(), &mut [0.0; 2]), "duals: expected 3 values, got 2");
    says(
        GroupDro::new(0.1).unwrap().step(&grouped(), &mut [0.5; 3]),
        "group_weights: expected 2 values, got 3",
    );
}

#[test]
fn what_an_objective_is_not_defined_for() {
    let zero = three().with_weights(&[0.0; 3]).unwrap();
    says(of(WeightedMean::new().unwrap(), &zero), "weights: the sum is 0, which nothing can be divided by");
    says(of(TopK::new(4.0).unwrap(), &three()), "losses: number 0 has 3 members, expected at least 4");
    says(of(TopK::new(3.5).unwrap(), &three()), "losses: number 0 has 3 members, expected at least 4");
    let smooth = Kl::new(TopK::new(4.0).unwrap(), 1.0).unwrap();
    says(of(smooth, &three()), "losses: number 0 has 3 members, expected at least 4");
    says(
        of(IrmUnbiased::new().unwrap(), &grouped()),
        "environments: number 0 has 1 members, expected at least 2",
    );
    let odd = grouped().with_proportions(&[0.5, 0.5]).unwrap();
    says(of(EasyLlp::new(0.5).unwrap(), &odd), "pairs of losses of a bag: expected 2 values, got 1");
    let stale = three().with_log_u(-1e6).unwrap();
    says(
        of(RunningKl::new(1.0, 0.5, 0.0, 0.0).unwrap(), &stale),
        "log_u: value 0 is -1000000, expected what a step with these losses leads to",
    );
    says(
        RunningKl::new(1.0, 0.5, 0.0, 0.0).unwrap().step(&three(), NAN),
        "log_u: value 0 is NaN, expected a finite number or -inf",
    );
}

#[test]
fn states_that_are_wrong_are_left_as_they_are() {
    let mut duals = [1.0, -1.0, 0.0];
    says(
        Resilient::new(0.0, 1.0, 0.1).unwrap().step(&three(), &mut duals),
        "duals: value 1 is -1, expected a finite number of at least 0",
    );
    assert_eq!(duals, [1.0, -1.0, 0.0]);
    let mut q = [0.0, 0.0];
    says(
        GroupDro::new(0.1).unwrap().step(&grouped(), &mut q),
        "group_weights: the sum is 0, which nothing can be divided by",
    );
    let mut q = [0.5, NAN];
    says(
        GroupDro::new(0.1).unwrap().step(&grouped(), &mut q),
        "group_weights: value 1 is NaN, expected a finite number of at least 0",
    );
}

#[test]
fn weights_of_classes() {
    let mut weights = [0.0; 2];
    says(class_weights(&[1.0, 1.0], &[0], &mut weights), "weights: expected 1 values, got 2");
    says(class_weights(&[1.0], &[0, 0], &mut weights), "vocab: expected at least 2 classes, got 1");
    says(
        class_weights(&[1.0, -1.0], &[0, 1], &mut weights),
        "classes: value 1 is -1, expected a finite number of at least 0",
    );
    says(
        class_weights(&[1.0, 1.0], &[0, 2], &mut weights),
        "targets: row 1 has target 2, expected -100 (ignored) or 0 to 1 for a vocab of 2",
    );
    says(
        class_weights(&[1.0, 0.0], &[IGNORE_INDEX, 1], &mut weights),
        "weights: the sum is 0, which nothing can be divided by",
    );
}

#[test]
fn a_parameter_outside_its_domain_is_named() {
    says(Cvar::new(0.0), "cvar: alpha = 0 lies outside its domain 0.000001 to 1");
    says(KlDro::new(1.0, -1.0), "kl_dro: rho = -1 lies outside its domain 0 to 1000");
    says(
        ChiSquare::new(Cvar::new(0.5).unwrap(), f32::NAN),
        "chi_square: nu = NaN lies outside its domain 0.000001 to 1000000",
    );
    // And every family keeps its domain.
    for family in families() {
        for parameter in &family.parameters {
            assert!(
                parameter.min <= parameter.default && parameter.default <= parameter.max,
                "{}",
                family.name
            );
        }
    }
}
