//! The listed objectives, and samples for them.

use num_traits::Float;
use proptest::prelude::*;
use tokenloss_core::sample::*;
use tokenloss_core::{Error, Listed, Parameter, Segments, for_each_objective};

/// Evaluations of an objective, whatever its type.
pub(crate) trait Evaluate {
    fn f64(&self, case: &Case) -> Result<(f64, Vec<f64>), Error>;
    fn f32(&self, case: &Case) -> Result<(f32, Vec<f32>), Error>;
    /// The loss at `live` with what is held, held at `frozen`.
    fn held(&self, frozen: &Case, live: &Case) -> Result<f64, Error>;
}

fn evaluate<T: Float, O: SampleObjective>(objective: &O, case: &Case) -> Result<(T, Vec<T>), Error> {
    let n = case.losses.len();
    // Dirty on purpose.
    let (mut weights, mut scratch) = (vec![T::nan(); n], vec![usize::MAX; objective.scratch(n)]);
    let loss = case.samples::<T, _>(|samples| objective.of_losses(&samples, &mut weights, &mut scratch))?;
    Ok((loss, weights))
}

impl<O: SampleObjective> Evaluate for O {
    fn f64(&self, case: &Case) -> Result<(f64, Vec<f64>), Error> {
        evaluate(self, case)
    }
    fn f32(&self, case: &Case) -> Result<(f32, Vec<f32>), Error> {
        evaluate(self, case)
    }
    fn held(&self, frozen: &Case, live: &Case) -> Result<f64, Error> {
        let n = live.losses.len();
        let (mut weights, mut scratch) =
            (vec![f64::NAN; n], vec![usize::MAX; SampleObjective::scratch(self, n)]);
        frozen.samples::<f64, _>(|frozen| {
            live.samples::<f64, _>(|live| {
                SampleObjective::held(self, &frozen, &live, &mut weights, &mut scratch)
            })
        })
    }
}

type Make = Box<dyn Fn(&[f32]) -> Box<dyn Evaluate>>;

/// All objectives of one line of the list; for a penalty, around one line of the spectra.
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) non_negative: bool,
    pub(crate) sums_to_one: bool,
    pub(crate) sorts: bool,
    make: Make,
}

impl Family {
    fn of<O: SampleObjective + Listed + 'static>(
        name: &str,
        parameters: Vec<Parameter>,
        make: impl Fn(&[f32]) -> Result<O, Error> + 'static,
    ) -> Self {
        let defaults: Vec<f32> = parameters.iter().map(|p| p.default).collect();
        let sorts = make(&defaults).unwrap().scratch(1) > 0;
        Self {
            name: name.to_string(),
            parameters,
            non_negative: O::NON_NEGATIVE,
            sums_to_one: O::SUMS_TO_ONE,
            sorts,
            make: Box::new(move |values| Box::new(make(values).expect("within the domain"))),
        }
    }

    pub(crate) fn make(&self, values: &[f32]) -> Box<dyn Evaluate> {
        (self.make)(values)
    }

    /// The value of a parameter, or 0.
    pub(crate) fn value(&self, values: &[f32], name: &str) -> f64 {
        self.parameters.iter().position(|p| p.name == name).map_or(0.0, |at| f64::from(values[at]))
    }

    /// Parameters over the declared domains, and fit for so many losses.
    pub(crate) fn values(&self, losses: usize) -> BoxedStrategy<Vec<f32>> {
        self.parameters
            .iter()
            .map(|parameter| {
                let most = if parameter.name == "k" { losses as f32 } else { parameter.max };
                crate::draw::within(&Parameter { max: most, ..*parameter })
            })
            .collect::<Vec<_>>()
            .boxed()
    }

    /// What the state of the objective has to be for these samples.
    pub(crate) fn prepare(&self, values: &[f32], case: &mut Case) {
        if self.name == "running_kl" {
            let objective = RunningKl::new(values[0], values[1], values[2], values[3]).unwrap();
            let step =
                |case: &Case, u| case.samples::<f64, _>(|samples| objective.step(&samples, u)).unwrap();
            let first = step(case, f64::NEG_INFINITY);
            let before = case.before.map_or(f64::NEG_INFINITY, |off| first + off);
            // What f32 gets, f64 gets.
            case.log_u = Some(f64::from(step(case, before) as f32));
        }
    }
}

macro_rules! families {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {
        vec![$(Family::of($type::NAME, $type::PARAMETERS.to_vec(), |values| {
            #[allow(unused_mut, unused_variables)]
            let mut values = values.iter().copied();
            $(let $param = values.next().unwrap();)*
            $type::new($($param),*)
        })),*]
    };
}

macro_rules! penalised {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {
        /// Every penalty around one spectrum.
        fn penalised<S: Spectrum + Listed + 'static>(make: fn(&[f32]) -> Result<S, Error>) -> Vec<Family> {
            vec![$({
                let own = <$type<S> as Listed>::PARAMETERS;
                let parameters = own.iter().chain(S::PARAMETERS).copied().collect();
                Family::of(&format!("{} around {}", <$type<S> as Listed>::NAME, S::NAME), parameters, move |values| {
                    let (own, inner) = values.split_at(own.len());
                    let mut own = own.iter().copied();
                    $(let $param = own.next().unwrap();)*
                    $type::new(make(inner)?, $($param),*)
                })
            }),*]
        }
    };
}
for_each_objective!(penalties, penalised);

macro_rules! penalised_spectra {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {{
        let mut all = Vec::new();
        $(all.extend(penalised::<$type>(|values| {
            let mut values = values.iter().copied();
            $(let $param = values.next().unwrap();)*
            $type::new($($param),*)
        }));)*
        all
    }};
}

/// Every line of the list, and every penalty around every spectrum.
pub(crate) fn families() -> Vec<Family> {
    let mut all = for_each_objective!(samples, families);
    all.extend(for_each_objective!(spectra, families));
    all.extend(for_each_objective!(spectra, penalised_spectra));
    all
}

/// Samples with everything that any objective may ask for; numbers are those of an `f32`.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) losses: Vec<f64>,
    pub(crate) reference: Option<Vec<f64>>,
    pub(crate) weights: Vec<f64>,
    pub(crate) propensities: Vec<f64>,
    pub(crate) duals: Vec<f64>,
    pub(crate) difficulties: Vec<f64>,
    pub(crate) offsets: Vec<usize>,
    pub(crate) group_weights: Vec<f64>,
    pub(crate) proportions: Vec<f64>,
    /// Where the running average was before, in nats above what the samples themselves have.
    pub(crate) before: Option<f64>,
    pub(crate) log_u: Option<f64>,
}

impl Case {
    /// With nothing given that matters.
    pub(crate) fn of(losses: &[f64]) -> Self {
        let n = losses.len();
        Self {
            losses: losses.to_vec(),
            reference: None,
            weights: vec![1.0; n],
            propensities: vec![1.0; n],
            duals: vec![1.0; n],
            difficulties: vec![1.0; n],
            offsets: vec![0, n],
            group_weights: vec![1.0],
            proportions: vec![0.5],
            before: None,
            log_u: None,
        }
    }

    pub(crate) fn samples<T: Float, R>(
        &self,
        then: impl FnOnce(Samples<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let cast = |values: &[f64]| values.iter().map(|&x| T::from(x).unwrap()).collect::<Vec<_>>();
        let [losses, weights, propensities, duals, difficulties] =
            [&self.losses, &self.weights, &self.propensities, &self.duals, &self.difficulties]
                .map(|x| cast(x));
        let (group_weights, proportions) = (cast(&self.group_weights), cast(&self.proportions));
        let mut samples = Samples::new(&losses)?
            .with_weights(&weights)?
            .with_propensities(&propensities)?
            .with_duals(&duals)?
            .with_difficulties(&difficulties)?
            .with_groups(Segments::new(&self.offsets, losses.len())?)?
            .with_group_weights(&group_weights)?
            .with_proportions(&proportions)?;
        let reference = self.reference.as_deref().map(cast);
        if let Some(reference) = &reference {
            samples = samples.with_reference(reference)?;
        }
        if let Some(log_u) = self.log_u {
            samples = samples.with_log_u(T::from(log_u).unwrap())?;
        }
        then(samples)
    }

    /// The losses that count.
    pub(crate) fn excess(&self, i: usize) -> f64 {
        self.losses[i] - self.reference.as_ref().map_or(0.0, |reference| reference[i])
    }

    pub(crate) fn extremes(&self) -> (f64, f64) {
        let all = (0..self.losses.len()).map(|i| self.excess(i));
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), l| (lo.min(l), hi.max(l)))
    }

    /// The greatest loss or reference loss by size.
    pub(crate) fn size(&self) -> f64 {
        self.losses.iter().chain(self.reference.iter().flatten()).fold(0.0, |size, l| size.max(l.abs()))
    }
}

fn single(x: f64) -> f64 {
    f64::from(x as f32)
}

/// Losses as they come, and as they hurt: of one scale, of many, tied, constant, with a large offset.
pub(crate) fn losses(n: usize) -> BoxedStrategy<Vec<f64>> {
    let some = move |range: core::ops::Range<f64>| prop::collection::vec(range.prop_map(single), n);
    prop_oneof![
        4 => some(0.0..8.0),
        2 => some(-3.0..3.0),
        1 => some(-12.0..3.0).prop_map(|e| e.into_iter().map(|e| single(e.exp())).collect::<Vec<_>>()),
        1 => prop::collection::vec((0i32..4).prop_map(f64::from), n),
        1 => (0.0f64..5.0).prop_map(move |l| vec![single(l); n]),
        1 => some(0.0..2.0).prop_map(|l| l.into_iter().map(|l| single(l + 1000.0)).collect::<Vec<_>>()),
    ]
    .boxed()
}

/// Samples in groups of whole pairs, in two groups or one.
pub(crate) fn case() -> BoxedStrategy<Case> {
    (1usize..7)
        .prop_flat_map(|pairs| {
            let n = 2 * pairs;
            let some = move |range: core::ops::Range<f64>| prop::collection::vec(range.prop_map(single), n);
            (
                losses(n),
                prop_oneof![3 => Just(None), 1 => losses(n).prop_map(Some)],
                (some(0.01..3.0), some(0.05..1.0), some(0.0..3.0), some(0.0..4.0)),
                0..pairs,
                prop::collection::vec((0.0f64..=1.0).prop_map(single), 2),
                prop::collection::vec((0.0f64..=1.0).prop_map(single), 2),
                prop_oneof![1 => Just(None), 1 => (-1.0f64..1.0).prop_map(Some)],
            )
        })
        .prop_map(|(losses, reference, (weights, propensities, duals, difficulties), cut, q, a, before)| {
            let n = losses.len();
            let offsets = if cut == 0 { vec![0, n] } else { vec![0, 2 * cut, n] };
            let groups = offsets.len() - 1;
            Case {
                losses,
                reference,
                weights,
                propensities,
                duals,
                difficulties,
                offsets,
                group_weights: q[..groups].to_vec(),
                proportions: a[..groups].to_vec(),
                before,
                log_u: None,
            }
        })
        .boxed()
}

/// Runs a property over every family, with parameters and samples drawn.
pub(crate) fn for_each_family(
    cases: u32,
    property: impl Fn(&Family, &dyn Evaluate, &[f32], Case) -> Result<(), TestCaseError>,
) {
    for family in families() {
        let strategy = case().prop_flat_map(|case| (family.values(case.losses.len()), Just(case)));
        let mut runner = proptest::test_runner::TestRunner::new(crate::draw::cases(cases));
        let outcome = runner.run(&strategy, |(values, mut case)| {
            family.prepare(&values, &mut case);
            property(&family, &*family.make(&values), &values, case)
        });
        outcome.unwrap_or_else(|failure| panic!("{}: {failure}", family.name));
    }
}
