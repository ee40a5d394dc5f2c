//! Specs: what is written is read back, what the paper's code calls an objective is understood, and what is
//! wrong is quoted.

use crate::draw::{cases, objective, parsed};
use proptest::prelude::*;
use tokenloss_core::{AnyToken, Error, Objective, SpecError};

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn what_is_written_is_read_back(objective in objective()) {
        let text = objective.to_string();
        let again = Objective::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(again, objective);
        // And it is a normal form.
        prop_assert_eq!(again.to_string(), text);
    }

    #[test]
    fn the_paper_keys_take_any_number_of_their_domain(alpha in 0.0f32..=16.0, q in 0.0f32..=1.0) {
        for (key, spec) in [
            (format!("GeneralFamily-{alpha}"), format!("power:alpha={alpha}")),
            (format!("convexity-{alpha}"), format!("power:alpha={alpha}")),
            (format!("OnlyTopP-{q}"), format!("thresholded:inner=power,alpha=1,lo={q}")),
            (format!("OnlyBottomP-{q}"), format!("thresholded:inner=power,alpha=1,hi={q}")),
            (format!("OnlyTopLogP-{q}"), format!("thresholded:inner=nll,lo={q}")),
            (format!("OnlyBottomLogP-{q}"), format!("thresholded:inner=nll,hi={q}")),
            (format!("UnlikehoodTop-{q}"), format!("thresholded:inner=unlikelihood,eps=0.001,lo={q}")),
            (format!("UnlikehoodBottom-{q}"), format!("thresholded:inner=unlikelihood,eps=0.001,hi={q}")),
        ] {
            prop_assert_eq!(Objective::parse(&key).unwrap(), Objective::parse(&spec).unwrap(), "{}", key);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-zA-Z:=,.0-9 -]{0,40}", tail in ".{0,10}") {
        for text in [text.clone(), format!("thresholded:{text}"), format!("power:{text}"), format!("{text}{tail}")] {
            if let Err(error) = Objective::parse(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn keys_of_the_papers_code() {
    for (key, spec) in [
        ("original", "nll"),
        ("logp", "nll"),
        ("p", "power:alpha=1"),
        ("GeneralFamily-8", "power:alpha=8"),
        ("GeneralFamily-0.5", "power:alpha=0.5"),
        ("convexity-10", "power:alpha=10"),
        ("OnlyTopP-0.2", "thresholded:inner=power,alpha=1,lo=0.2,hi=1"),
        ("OnlyBottomP-0.1", "thresholded:inner=power,alpha=1,lo=0,hi=0.1"),
        ("OnlyTopLogP-0.2", "thresholded:inner=nll,lo=0.2,hi=1"),
        ("OnlyBottomLogP-0.1", "thresholded:inner=nll,lo=0,hi=0.1"),
        ("UnlikehoodTop-0.9", "thresholded:inner=unlikelihood,eps=0.001,lo=0.9,hi=1"),
        ("UnlikehoodBottom-0.9", "thresholded:inner=unlikelihood,eps=0.001,lo=0,hi=0.9"),
        // The gate of a percentile of the base model, as their scripts write it.
        ("OnlyTopLogP-0.9936020970344543", "thresholded:inner=nll,lo=0.9936021,hi=1"),
    ] {
        assert_eq!(parsed(key).to_string(), spec, "{key}");
        assert_eq!(parsed(key), parsed(spec), "{key}");
    }
}

/// That code asserts 0 <= q < 1 for its Top keys and 0 < q <= 1 for its Bottom keys. Here the closed interval
/// is accepted: at the excluded end a gate keeps the rows whose p is exactly 1, or 0, which is what it says.
#[test]
fn the_ends_that_the_papers_code_refuses_are_gates_like_others() {
    for (key, spec) in [
        ("OnlyTopP-1", "thresholded:inner=power,alpha=1,lo=1,hi=1"),
        ("OnlyTopLogP-1", "thresholded:inner=nll,lo=1,hi=1"),
        ("UnlikehoodTop-1", "thresholded:inner=unlikelihood,eps=0.001,lo=1,hi=1"),
        ("OnlyBottomP-0", "thresholded:inner=power,alpha=1,lo=0,hi=0"),
        ("OnlyBottomLogP-0", "thresholded:inner=nll,lo=0,hi=0"),
        ("UnlikehoodBottom-0", "thresholded:inner=unlikelihood,eps=0.001,lo=0,hi=0"),
    ] {
        assert_eq!(parsed(key).to_string(), spec);
    }
}

#[test]
fn defaults_spaces_and_order() {
    for (text, spec) in [
        ("power", "power:alpha=1"),
        ("focal", "focal:gamma=2"),
        ("power: alpha = 2 ", "power:alpha=2"),
        ("power:alpha=-1", "power:alpha=-1"),
        ("power:alpha=1e-3", "power:alpha=0.001"),
        ("thresholded:inner=nll", "thresholded:inner=nll,lo=0,hi=1"),
        (
            "thresholded:hi=0.9,inner=mix,lo=0.1,lambda=0.25",
            "thresholded:inner=mix,lambda=0.25,lo=0.1,hi=0.9",
        ),
        ("thresholded: lo=0.5 , inner = dft", "thresholded:inner=dft,lo=0.5,hi=1"),
    ] {
        assert_eq!(parsed(text).to_string(), spec, "{text}");
    }
    for name in AnyToken::NAMES {
        let objective = parsed(name);
        assert!(matches!(objective, Objective::Token(token) if token.name() == *name));
    }
}

#[test]
fn every_message() {
    let names = format!("{}, thresholded or a key of the paper's code", AnyToken::NAMES.join(", "));
    let inner = "objective: thresholded needs inner=NAME with an ungated objective, got";
    let domain = "lies outside its domain 0 to 1";
    for (text, message) in [
        ("", format!("objective: no objective is called '', expected {names}")),
        ("ce", format!("objective: no objective is called 'ce', expected {names}")),
        ("NLL", format!("objective: no objective is called 'NLL', expected {names}")),
        ("GeneralFamily", format!("objective: no objective is called 'GeneralFamily', expected {names}")),
        ("OnlyMiddleP-0.1", format!("objective: no objective is called 'OnlyMiddleP-0.1', expected {names}")),
        ("power:beta=1", "objective: power has no parameter 'beta', expected alpha".into()),
        ("nll:alpha=1", "objective: nll has no parameter 'alpha'".into()),
        ("power:", "objective: power has no parameter '', expected alpha".into()),
        ("thresholded:inner=nll,alpha=1", "objective: nll has no parameter 'alpha'".into()),
        ("power:alpha", "objective: alpha = '' is not a finite number".into()),
        ("power:alpha=x", "objective: alpha = 'x' is not a finite number".into()),
        ("power:alpha=inf", "objective: alpha = 'inf' is not a finite number".into()),
        ("power:alpha=NaN", "objective: alpha = 'NaN' is not a finite number".into()),
        ("power:alpha=1e40", "objective: alpha = '1e40' is not a finite number".into()),
        ("GeneralFamily-", "objective: GeneralFamily = '' is not a finite number".into()),
        ("OnlyTopP-high", "objective: OnlyTopP = 'high' is not a finite number".into()),
        ("power:alpha=1,alpha=2", "objective: alpha is given twice".into()),
        ("thresholded:inner=nll,inner=nll", "objective: inner is given twice".into()),
        ("thresholded:inner=nll,lo=0,lo=0", "objective: lo is given twice".into()),
        ("thresholded", format!("{inner} ''")),
        ("thresholded:lo=0.2", format!("{inner} ''")),
        ("thresholded:inner", format!("{inner} ''")),
        ("thresholded:inner=ce", format!("{inner} 'ce'")),
        ("thresholded:inner=thresholded", format!("{inner} 'thresholded'")),
        ("power:alpha=99", "power: alpha = 99 lies outside its domain -1 to 16".into()),
        ("GeneralFamily-99", "power: alpha = 99 lies outside its domain -1 to 16".into()),
        ("OnlyTopP-1.5", format!("thresholded: lo = 1.5 {domain}")),
        ("OnlyBottomP--0.5", format!("thresholded: hi = -0.5 {domain}")),
        (
            "thresholded:inner=nll,lo=0.9,hi=0.1",
            "thresholded: lo = 0.9 lies above hi = 0.1, so that no row would be kept".into(),
        ),
    ] {
        let error = Objective::parse(text).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}

#[test]
fn errors_keep_their_parts() {
    assert_eq!(Objective::parse("x"), Err(SpecError::Unknown("x")));
    assert_eq!(
        Objective::parse("power:b=1"),
        Err(SpecError::Parameter { objective: "power", parameter: "b" })
    );
    assert_eq!(Objective::parse("power:alpha=x"), Err(SpecError::Value { parameter: "alpha", value: "x" }));
    assert_eq!(
        Objective::parse("thresholded:inner=nll,lo=1,hi=0"),
        Err(SpecError::Domain(Error::Interval { lo: 1.0, hi: 0.0 }))
    );
    // A gate's own parameter names, where it does not know one: those of its inner objective are asked.
    assert_eq!(
        Objective::parse("thresholded:inner=power,mid=1"),
        Err(SpecError::Parameter { objective: "power", parameter: "mid" })
    );
}
