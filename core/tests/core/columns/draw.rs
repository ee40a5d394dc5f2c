//! What tests draw from: rows, sides of every kind, and the list.

use super::Drawn;
use crate::draw::settings;
use proptest::prelude::*;
use tokenloss_core::columns::{self, ColumnObjective, SideKind, Topk};
use tokenloss_core::{Listed, MAX_PARAMETERS, divergence, for_each_objective};

/// What is done with every objective of the list.
pub(super) trait Visit {
    fn visit<O: ColumnObjective>(&mut self, name: &str, objective: &O);
}

macro_rules! visit_all {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {
        /// Every listed objective, at many of its parameters, and every listed divergence on a teacher's top k.
        pub(super) fn each(visitor: &mut impl Visit) {
            $(for setting in settings(<columns::$type as Listed>::PARAMETERS) {
                visitor.visit(stringify!($module), &with::$module(setting));
            })*
            each_topk(visitor);
        }

        /// One objective by name.
        pub(super) fn named(name: &str, values: [f32; MAX_PARAMETERS], visitor: &mut impl Visit) {
            match name {
                $(stringify!($module) => visitor.visit(name, &with::$module(values)),)*
                _ => named_topk(name, values, visitor),
            }
        }

        /// All names.
        pub(super) const NAMES: &[&str] = &[$(stringify!($module)),*];

        mod with {
            use super::*;
            $(#[allow(unused_mut, unused_variables)]
            pub(super) fn $module(values: [f32; MAX_PARAMETERS]) -> columns::$type {
                let mut values = values.into_iter();
                $(let $param = values.next().unwrap();)*
                columns::$type::new($($param),*).unwrap()
            })*
        }
    };
}
for_each_objective!(columns, visit_all);

macro_rules! visit_topk {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {
        fn each_topk(visitor: &mut impl Visit) {
            $(for setting in settings(<divergence::$type as Listed>::PARAMETERS) {
                named_topk(concat!("topk ", stringify!($module)), setting, visitor);
            })*
        }

        #[allow(unused_mut, unused_variables)]
        fn named_topk(name: &str, values: [f32; MAX_PARAMETERS], visitor: &mut impl Visit) {
            let mut values = values.into_iter();
            match name {
                $(concat!("topk ", stringify!($module)) => {
                    $(let $param = values.next().unwrap();)*
                    visitor.visit(name, &Topk(divergence::$type::new($($param),*).unwrap()))
                })*
                _ => panic!("{name} is not listed"),
            }
        }
    };
}
for_each_objective!(divergences, visit_topk);

/// A logit as it comes, and as it hurts.
fn logits() -> impl Strategy<Value = Vec<f64>> {
    let classes = 3usize..8;
    let uniform = |width: f64| prop::collection::vec(-width..width, 3..8);
    prop_oneof![
        4 => uniform(3.0),
        3 => uniform(20.0),
        3 => (uniform(2.0), 0.0f64..80.0, any::<prop::sample::Index>()).prop_map(|(mut z, margin, at)| {
            let at = at.index(z.len());
            z[at] += margin;
            z
        }),
        1 => (classes, -5.0f64..5.0).prop_map(|(n, z)| vec![z; n]),
        1 => (uniform(10.0), -1000.0f64..1000.0).prop_map(|(z, by)| z.iter().map(|z| z + by).collect()),
    ]
}

/// Rows with a mask here and there, and what is told beside them. Where a class is masked, it is so to the teacher, too,
/// and has no coefficient.
pub(super) fn drawn(kind: SideKind) -> impl Strategy<Value = Drawn> {
    let number = match kind {
        SideKind::Coefficients => (-0.5f64..2.0).boxed(),
        SideKind::Values => (-5.0f64..5.0).boxed(),
        _ => (-12.0f64..12.0).boxed(),
    };
    let mask = prop_oneof![6 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    (logits(), prop::collection::vec(number, 8), mask).prop_map(move |(mut classes, numbers, mask)| {
        let mut sides = numbers[..classes.len()].to_vec();
        if let Some(mask) = mask {
            // The first column stays, since some objectives have their target there.
            let at = 1 + mask.index(classes.len() - 1);
            classes[at] = f64::NEG_INFINITY;
            match kind {
                SideKind::Coefficients => sides[at] = 0.0,
                SideKind::Teacher => sides[at] = f64::NEG_INFINITY,
                SideKind::Nothing | SideKind::Values => {}
            }
        }
        if kind == SideKind::Nothing {
            sides.clear();
        }
        Drawn { classes, sides }
    })
}
