//! The adapter beside candle's own ops in f64.

mod bad_input;
mod composed;
mod linear;
mod logits;
