//! What tests draw from.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tokenloss_core::{AnyToken, MAX_PARAMETERS, Objective, Parameter, Thresholded};

/// Cases per property, with a fixed seed.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(20251001),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The whole domain of a parameter, with its ends, its default and what lies near its lower end drawn often.
pub(crate) fn within(parameter: &Parameter) -> BoxedStrategy<f32> {
    let Parameter { min, max, default, .. } = *parameter;
    prop_oneof![
        4 => (0.0f32..=1.0).prop_map(move |u| (min + u * (max - min)).clamp(min, max)),
        1 => (-12.0f32..=0.0).prop_map(move |e| (min + (max - min) * e.exp()).clamp(min, max)),
        1 => Just(min),
        1 => Just(max),
        1 => Just(default),
    ]
    .boxed()
}

/// An objective of this name over its declared domain.
pub(crate) fn named(name: &'static str) -> BoxedStrategy<AnyToken> {
    let parameters = AnyToken::parameters_of(name).expect("a name of the list");
    let values: Vec<_> = parameters.iter().map(within).collect();
    values
        .prop_map(move |values| {
            let mut all = [0.0; MAX_PARAMETERS];
            all[..values.len()].copy_from_slice(&values);
            AnyToken::with_parameters(name, all).expect("a name of the list").expect("within the domain")
        })
        .boxed()
}

/// Any listed token objective.
pub(crate) fn token() -> impl Strategy<Value = AnyToken> {
    proptest::sample::select(AnyToken::NAMES).prop_flat_map(named)
}

/// Any objective behind any threshold.
pub(crate) fn gated() -> impl Strategy<Value = Objective> {
    let bound = || prop_oneof![4 => 0.0f32..=1.0, 1 => Just(0.0), 1 => Just(1.0)];
    (token(), bound(), bound()).prop_map(|(inner, a, b)| {
        Objective::Thresholded(Thresholded::new(inner, a.min(b), a.max(b)).unwrap())
    })
}

/// Any objective at all.
pub(crate) fn objective() -> impl Strategy<Value = Objective> {
    prop_oneof![2 => token().prop_map(Objective::Token), 1 => gated()]
}

/// The ends, the default and two points inside the domain of each parameter, in every combination.
pub(crate) fn settings(parameters: &[Parameter]) -> Vec<[f32; MAX_PARAMETERS]> {
    let mut settings = vec![[0.0f32; MAX_PARAMETERS]];
    for (at, parameter) in parameters.iter().enumerate() {
        let Parameter { min, max, default, .. } = *parameter;
        let values = [min, default, max, min + 0.05 * (max - min), min + 0.6 * (max - min)];
        settings = settings
            .iter()
            .flat_map(|setting| {
                values.iter().map(move |value| {
                    let mut setting = *setting;
                    setting[at] = *value;
                    setting
                })
            })
            .collect();
    }
    settings
}

/// Each listed objective at these settings.
pub(crate) fn sampled() -> Vec<AnyToken> {
    let of = |name: &&'static str| {
        let settings = settings(AnyToken::parameters_of(name).unwrap());
        settings.into_iter().map(|values| AnyToken::with_parameters(name, values).unwrap().unwrap())
    };
    AnyToken::NAMES.iter().flat_map(of).collect()
}

/// A spec, parsed; for tests that name their objectives.
pub(crate) fn parsed(spec: &str) -> Objective {
    Objective::parse(spec).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

/// Rows as they come, and as they hurt: uniform, one-hot-like with a margin to 80, constant, masked, with a
/// large offset.
pub(crate) fn row() -> impl Strategy<Value = (Vec<f64>, usize)> {
    let uniform = || prop::collection::vec(-20.0f64..20.0, 2..12);
    let logits = prop_oneof![
        4 => uniform(),
        2 => (prop::collection::vec(-2.0f64..0.0, 2..12), 0.0f64..80.0, any::<prop::sample::Index>()).prop_map(
            |(mut z, margin, at)| {
                let at = at.index(z.len());
                z[at] = margin;
                z
            }
        ),
        1 => (2usize..12, -5.0f64..5.0).prop_map(|(n, z)| vec![z; n]),
        1 => (uniform(), -1000.0f64..1000.0).prop_map(|(z, by)| z.iter().map(|z| z + by).collect()),
        1 => (uniform(), any::<prop::sample::Index>()).prop_map(|(mut z, at)| {
            let at = at.index(z.len());
            z[at] = f64::NEG_INFINITY;
            z
        }),
    ];
    (logits, any::<prop::sample::Index>()).prop_map(|(z, at)| {
        let at = at.index(z.len());
        (z, at)
    })
}
