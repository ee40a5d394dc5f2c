//! What the suites over a kind of the list share.

use serde_json::Value;
use std::fmt::Debug;
use tokenloss_core::{Error, Listed};

/// A line's constructor, from the values of its parameters in order.
pub(crate) type Build<O> = fn(&[f32]) -> Result<O, Error>;

/// The defaults of the parameters.
pub(crate) fn defaults<O: Listed>() -> Vec<f32> {
    O::PARAMETERS.iter().map(|parameter| parameter.default).collect()
}

/// Every combination of the ends and the defaults of the parameters.
pub(crate) fn ends_of<O: Listed>() -> Vec<Vec<f32>> {
    O::PARAMETERS.iter().fold(vec![vec![]], |all, parameter| {
        let with =
            |value: f32| all.iter().map(move |values: &Vec<f32>| [values.as_slice(), &[value]].concat());
        [parameter.min, parameter.default, parameter.max].into_iter().flat_map(with).collect()
    })
}

/// That every parameter is kept inside its domain, and refused outside of it by name.
pub(crate) fn domains<O: Listed + Debug>(build: Build<O>) {
    for values in ends_of::<O>() {
        build(&values).unwrap();
    }
    for (at, parameter) in O::PARAMETERS.iter().enumerate() {
        let with = |value: f32| {
            let mut values = defaults::<O>();
            values[at] = value;
            build(&values)
        };
        for inside in [parameter.min, parameter.max, parameter.default] {
            assert_eq!(with(inside).unwrap().parameters()[at], inside);
        }
        for outside in [parameter.min.next_down(), parameter.max.next_up(), f32::NAN, f32::NEG_INFINITY] {
            let error = with(outside).unwrap_err();
            assert!(
                matches!(error, Error::Parameter { objective, parameter: p, .. } if objective == O::NAME && p == parameter.name),
                "{error}"
            );
            let start = format!("{}: {} = {outside} lies outside its domain", O::NAME, parameter.name);
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }
}

/// A number of a golden file that has texts, so that their rounding is ours and not a JSON parser's, and short numbers,
/// where that cannot matter.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_str().map_or_else(|| value.as_f64(), |text| text.parse().ok()).expect("a number")
}

/// A list of them.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}
