//! The README's table of objectives says what the list says.

use tokenloss::{AnyToken, Listed, MAX_PARAMETERS, Objective, Parameter, Thresholded, theory};

fn row(name: &str) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let line = (readme.lines().find(|line| line.starts_with(&format!("| `{name}"))))
        .unwrap_or_else(|| panic!("README.md has no row for the objective {name}"));
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn check_domains(cell: &str, parameters: &[Parameter]) {
    for Parameter { name, min, max, .. } in parameters {
        assert!(
            cell.contains(name) && cell.contains(&format!("{min} to {max}")),
            "{name} {min} to {max}: {cell}"
        );
    }
}

/// Between its two marks the README has what `tokenloss objectives --markdown` prints.
#[test]
fn the_catalogue_is_that_of_the_list() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("<!-- catalogue -->\n").expect("the first mark");
    let (catalogue, _) = rest.split_once("<!-- end of the catalogue -->").expect("the second mark");
    assert_eq!(catalogue, tokenloss::Markdown.to_string(), "run tokenloss objectives --markdown");
}

#[test]
fn every_objective_has_its_row() {
    for name in AnyToken::NAMES {
        let parameters = AnyToken::parameters_of(name).expect("listed");
        let defaults: [f32; MAX_PARAMETERS] =
            std::array::from_fn(|i| parameters.get(i).map_or(0.0, |p| p.default));
        let default = AnyToken::with_parameters(name, defaults).expect("listed").expect("in the domain");
        let row = row(name);
        let spec = row[0].trim_matches('`');
        assert_eq!(Objective::parse(spec), Ok(Objective::Token(default)), "{spec}");
        check_domains(&row[2], parameters);
        let leaning = theory::leaning(&default).to_string();
        assert!(row[3].contains(&leaning), "{name} is {leaning}, the README says {}", row[3]);
    }
    let row = row(<Thresholded<AnyToken> as Listed>::NAME);
    assert!(Objective::parse(row[0].trim_matches('`')).is_ok(), "{}", row[0]);
    check_domains(&row[2], <Thresholded<AnyToken> as Listed>::PARAMETERS);
}
