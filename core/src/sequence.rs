//! Objectives of whole sequences.

mod reduction;
mod response;
mod rows;

pub use reduction::{Counts, SequenceReduction};
pub use response::Response;
pub use rows::Sequences;
