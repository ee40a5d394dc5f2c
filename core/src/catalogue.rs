//! Everything in the list, as data.

use crate::Parameter;
use core::fmt;

/// A kind of objectives: what they are functions of, and what computes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    /// Its name: [`Listed::KIND`](crate::Listed::KIND) of every objective in it.
    pub name: &'static str,
    /// What its objectives are functions of.
    pub of: &'static str,
    /// What computes them over a vocabulary.
    pub backed_by: &'static str,
    /// Its objectives, in the order of the list.
    pub entries: &'static [Entry],
}

/// A listed objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// The name, in specs and of its file.
    pub name: &'static str,
    /// The parameters, with their domains.
    pub parameters: &'static [Parameter],
    /// Where it was published.
    pub source: &'static str,
}

macro_rules! entries {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {
        &[$(Entry {
            name: stringify!($module),
            parameters: &[$(Parameter {
                name: stringify!($param), default: $default, min: $min, max: $max,
            }),*],
            source: $source,
        }),*]
    };
}

const FUSED: &str = "CPU, GPU, fused linear on both";
const BY_SLOPES: &str = "any backend: judged on the host from log_p, pushed back by slopes";

/// All kinds, with all that is listed.
///
/// ```
/// use tokenloss_core::CATALOGUE;
/// let tokens = &CATALOGUE[0];
/// assert_eq!((tokens.name, tokens.entries[0].name), ("token", "nll"));
/// ```
pub const CATALOGUE: &[Kind] = &[
    Kind {
        name: "token",
        of: "the target's probability",
        backed_by: FUSED,
        entries: for_each_objective!(tokens, entries),
    },
    Kind {
        name: "gate",
        of: "whether a token objective applies",
        backed_by: FUSED,
        entries: for_each_objective!(gates, entries),
    },
    Kind {
        name: "row",
        of: "a row's summary; may be added to another",
        backed_by: FUSED,
        entries: for_each_objective!(rows, entries),
    },
    Kind {
        name: "divergence",
        of: "two rows of the same vocabulary",
        backed_by: FUSED,
        entries: for_each_objective!(divergences, entries),
    },
    Kind {
        name: "label",
        of: "each class of a row and its label, over the softmax or the sigmoid",
        backed_by: "CPU and GPU",
        entries: for_each_objective!(labels, entries),
    },
    Kind {
        name: "column",
        of: "a few listed columns of a row and the sum of the rest",
        backed_by: FUSED,
        entries: for_each_objective!(columns, entries),
    },
    Kind {
        name: "column_weight",
        of: "a few listed columns; held, and the weight of a row",
        backed_by: FUSED,
        entries: for_each_objective!(column_weights, entries),
    },
    Kind {
        name: "sequence",
        of: "one sequence's log-probability",
        backed_by: BY_SLOPES,
        entries: for_each_objective!(sequences, entries),
    },
    Kind {
        name: "transition",
        of: "a token's row and the row after it",
        backed_by: "any backend: judged on the host from summaries, pushed back by partials",
        entries: for_each_objective!(transitions, entries),
    },
    Kind {
        name: "preference",
        of: "a preferred and a rejected sequence",
        backed_by: BY_SLOPES,
        entries: for_each_objective!(preferences, entries),
    },
    Kind {
        name: "group",
        of: "all the sequences of a group",
        backed_by: BY_SLOPES,
        entries: for_each_objective!(groups, entries),
    },
    Kind {
        name: "policy",
        of: "a rollout's tokens and its advantage",
        backed_by: BY_SLOPES,
        entries: for_each_objective!(policies, entries),
    },
    Kind {
        name: "advantage",
        of: "the rewards of a batch",
        backed_by: "the host",
        entries: for_each_objective!(advantages, entries),
    },
    Kind {
        name: "sample",
        of: "the losses of a batch's samples",
        backed_by: "any backend: judged on the host from losses, pushed back by weights",
        entries: for_each_objective!(samples, entries),
    },
    Kind {
        name: "spectrum",
        of: "the losses of a batch's samples in order, a worse one counting for more",
        backed_by: "as a sample objective",
        entries: for_each_objective!(spectra, entries),
    },
    Kind {
        name: "penalty",
        of: "how far a spectrum's weights are from equal",
        backed_by: "as a sample objective",
        entries: for_each_objective!(penalties, entries),
    },
    Kind {
        name: "score",
        of: "scores, values or predictions",
        backed_by: "the host",
        entries: for_each_objective!(scores, entries),
    },
    Kind {
        name: "embedding",
        of: "embeddings or their similarities",
        backed_by: "the host",
        entries: for_each_objective!(embeddings, entries),
    },
];

/// The catalogue as Markdown, a table a kind: what the README shows.
#[derive(Debug, Clone, Copy)]
pub struct Markdown;

impl fmt::Display for Markdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Kind { name, of, backed_by, entries }) in CATALOGUE.iter().enumerate() {
            let blank = if at == 0 { "" } else { "\n" };
            let count = entries.len();
            writeln!(
                f,
                "{blank}<details><summary><b>{name}</b> ({count}): of {of}. {backed_by}.</summary>\n"
            )?;
            writeln!(f, "| {name} | parameters, with default and domain | source |\n|---|---|---|")?;
            for Entry { name, parameters, source } in *entries {
                write!(f, "| `{name}` | ")?;
                for (at, parameter) in parameters.iter().enumerate() {
                    write!(
                        f,
                        "{}`{}` = {}, {} to {}",
                        if at == 0 { "" } else { "; " },
                        parameter.name,
                        parameter.default,
                        parameter.min,
                        parameter.max
                    )?;
                }
                writeln!(f, " | {source} |")?;
            }
            writeln!(f, "\n</details>")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list's arms cannot be counted by a macro, but their text can.
    #[test]
    fn no_kind_is_forgotten() {
        let arms = include_str!("objective.rs").matches(", $callback:ident) => {").count();
        assert_eq!(CATALOGUE.len(), arms);
    }

    #[test]
    fn names_differ_within_a_kind_and_defaults_lie_in_their_domains() {
        for kind in CATALOGUE {
            for (at, entry) in kind.entries.iter().enumerate() {
                assert!(kind.entries[..at].iter().all(|other| other.name != entry.name), "{}", entry.name);
                assert!(!entry.source.is_empty());
                for Parameter { name, default, min, max } in entry.parameters {
                    assert!(min < max && default >= min && default <= max, "{}: {name}", entry.name);
                }
            }
        }
    }
}
