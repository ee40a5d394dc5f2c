//! # tokenloss-shaders
//!
//! The WGSL of tokenloss and how it is put together. No device, no dependency on a graphics library: the result
//! is text.
//!
//! A shader is the concatenation of small files: arithmetic, the row (the twin of `core/src/row.rs`), the terms of one
//! objective (the twins of `core/src/objective/<name>.rs`), the statistics that it looks at, the storage type, the width of
//! a load, where the gradient goes, how lanes are merged, for two rows a divergence (the twin of
//! `core/src/divergence/<name>.rs`), for labels an objective of theirs (the twin of `core/src/label/<name>.rs`), and a kernel. There is no preprocessor: each choice is a file that
//! declares the same names.
//!
//! ```
//! use tokenloss_core::{Dtype, Power};
//! use tokenloss_shaders::{Map, Program, Reduce, Store, Width};
//!
//! let program = Program::Evaluate {
//!     dtype: Dtype::Bf16,
//!     width: Width::Vec4,
//!     store: Store::InPlace,
//!     reduce: Reduce::Tree,
//!     map: Map::None,
//!     guide: None,
//! };
//! let text = program.assemble(&Power::new(2.0)?);
//! assert!(text.contains("fn power(prob: TargetProb, alpha: f32) -> TokenEval"));
//! # Ok::<(), tokenloss_core::Error>(())
//! ```
//!
//! The name `target` is reserved in WGSL; where the Rust twin says `target`, the shaders say `prob` for the
//! probability and `goal` for the class; a class and its label are `c` and `label`, because `class` is reserved, too.
#![forbid(unsafe_code)]

mod divergence;
mod label;
mod layout;
mod objective;
mod of_class;
mod program;

pub use divergence::{DIVERGENCES, ShaderDivergence, divergence_parameters};
pub use label::{LABELS, ShaderLabel, label_parameters};
pub use layout::{
    BatchRecord, GATHERED_WORDS, Params, ProductParams, RECORD_WORDS, Record, STATE_WORDS, STATUS_BAD_TARGET,
    STATUS_INFINITE, STATUS_LABEL, STATUS_NO_MASS, STATUS_TEACHER, STATUS_TEACHER_NO_MASS, TOTALS_WORDS,
    binding, flag,
};
pub use objective::{
    Form, MAX_SHADER_PARAMETERS, NoObjective, ROWS, ShaderObjective, TOKENS, TooManyParameters, parameters,
};
pub use program::{Live, Map, Matrices, Product, Program, Reduce, Store, Tiles, Width};
