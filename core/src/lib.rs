//! # tokenloss-core
//!
//! Training objectives for language models as functions of a token's probability, with exact analytic
//! gradients. No `std`, no `unsafe`, generic over the float type, and no allocation but, with the feature
//! `alloc`, for ranks that share a vocabulary, for summaries from hidden states and for whole passes over listed columns.
//!
//! The whole system is three moves, and only the middle one knows the objective:
//!
//! ```text
//! summarise   logits               ->  RowSummary per row    O(rows * vocab)
//! judge       RowSummary           ->  loss and partials     O(rows)
//! push back   logits, partials     ->  dlogits               O(rows * vocab)
//! ```
//!
//! The two outer moves are what a [`Backend`] implements once. This crate holds the middle one, and the
//! plainest form of the whole as the oracle ([`reference`](mod@reference)).
//!
//! ```
//! use tokenloss_core::{Power, RowStats, RowSummary, RowObjective};
//!
//! let logits = [2.0f64, 0.0, -1.0];
//! let stats = (0..3).fold(RowStats::empty(), |s, j| s.merge(RowStats::of(logits[j], j as u32)));
//! let row = RowSummary::new(stats, logits[0]);
//! let eval = Power::new(1.0)?.of_row(&row);
//! assert!((eval.loss - row.target.one_minus_p).abs() < 1e-15);
//! # Ok::<(), tokenloss_core::Error>(())
//! ```
//!
//! Words used throughout: `logits [rows, vocab]`, `targets [rows]` with [`IGNORE_INDEX`] for rows that take no
//! part, `log_p` (of the target, nats), `lse` (log-sum-exp of a row), `slope` (d loss / d log_p), `weights
//! [rows]`, `live` (a row with a gradient).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

// First, for its macro that every kind of objective declares its list with.
#[macro_use]
mod objective;

pub mod advantage;
mod backend;
mod batch;
mod catalogue;
mod check;
pub mod columns;
mod composite;
mod diagnostics;
pub mod divergence;
mod element;
pub mod embedding;
mod error;
pub mod group;
mod guided;
mod judged;
pub mod label;
mod labelled;
mod linear;
mod logit_map;
mod math;
mod number;
mod pair;
pub mod policy;
pub mod preference;
mod reduction;
pub mod reference;
mod row;
pub mod sample;
pub mod score;
mod segments;
pub mod sequence;
pub mod sets;
#[cfg(feature = "alloc")]
mod sharded;
mod spec;
pub mod theory;

pub use backend::{AnyLogits, Backend, Evaluate, Logits, Outputs};
pub use batch::{Batch, IGNORE_INDEX, NonFinite, Shape};
pub use catalogue::{CATALOGUE, Entry, Kind, Markdown};
pub use check::{CheckFailure, check_objective};
pub use composite::{Composite, MAX_TERMS, Term};
pub use diagnostics::Diagnostics;
pub use element::{Dtype, Element};
pub use error::{Error, check_length};
pub use guided::{EvaluateGuided, Guidance};
pub use judged::Judged;
pub use labelled::{EvaluateLabels, Labels};
pub use linear::{
    Budget, EvaluateLinear, Linear, LinearBackend, LinearGradients, LinearOptions, RowPart, check_columns,
    check_dim, check_whole, summaries_of_parts,
};
pub use logit_map::{ClassMask, Link, LogitMap, RowMap, aldr_lambda};
pub use number::Number;
pub use objective::*;
pub use pair::{
    EvaluateLinearPair, EvaluatePair, PairOutputs, PairVerdict, Teacher, TeacherRows, check_unmapped,
};
pub use reduction::{Denominator, Reduction, RowVerdict, Totals};
pub use row::{RowPartials, RowStats, RowSummary, TargetProb};
pub use segments::Segments;
#[cfg(feature = "alloc")]
pub use sharded::{Collective, ShardError, Sharded};
pub use spec::SpecError;

pub use half;
