//! The kinds' names: the catalogue and the types say the same.

use tokenloss_core::{CATALOGUE, Listed, Nll, Thresholded, for_each_objective};

/// That an objective says it is of the kind that the catalogue lists it under.
fn is_listed<O: Listed>() {
    let kind = CATALOGUE.iter().find(|kind| kind.name == O::KIND);
    let kind = kind.unwrap_or_else(|| panic!("{} is of no kind of the catalogue: {}", O::NAME, O::KIND));
    let entry = kind.entries.iter().find(|entry| entry.name == O::NAME);
    let entry = entry.unwrap_or_else(|| panic!("{} is not among {}", O::NAME, kind.name));
    assert_eq!((entry.parameters, entry.source), (O::PARAMETERS, O::SOURCE), "{}", O::NAME);
}

macro_rules! kinds {
    ($($arm:ident: $($module:ident)::+;)*) => { $(
        #[test]
        fn $arm() {
            #[allow(unused_imports)]
            use $($module)::+::*;
            for_each_objective!($arm, are_listed);
        }
    )* };
}

macro_rules! are_listed {
    ($($module:ident $type:ident $parameters:tt $source:literal)*) => { $(is_listed::<$type>();)* };
}

kinds! {
    tokens: tokenloss_core;
    rows: tokenloss_core;
    divergences: tokenloss_core::divergence;
    columns: tokenloss_core::columns;
    column_weights: tokenloss_core::columns;
    sequences: tokenloss_core::sequence;
    transitions: tokenloss_core::sequence;
    preferences: tokenloss_core::preference;
    groups: tokenloss_core::group;
    policies: tokenloss_core::policy;
    advantages: tokenloss_core::advantage;
    samples: tokenloss_core::sample;
    spectra: tokenloss_core::sample;
    scores: tokenloss_core::score;
    embeddings: tokenloss_core::embedding;
}

#[test]
fn wrappers() {
    use tokenloss_core::sample::{ChiSquare, Cvar, Kl};
    is_listed::<Thresholded<Nll>>();
    is_listed::<ChiSquare<Cvar>>();
    is_listed::<Kl<Cvar>>();
}
