//! The GPU suite: everything against `tokenloss_core::reference` in f64, on whatever adapter is there.
//!
//! Without an adapter every test prints that it did not run, and passes; with TOKENLOSS_REQUIRE_GPU=1 it fails.

mod agreement;
mod columns;
mod cooperative;
mod data;
mod errors;
mod guided;
mod guided_errors;
mod hosts;
mod label_errors;
mod labels;
mod linear;
mod linear_pairs;
mod linear_rows;
mod machine;
mod maps;
mod pair_errors;
mod pairs;
mod rows;
mod run;
mod splits;
mod tolerance;
