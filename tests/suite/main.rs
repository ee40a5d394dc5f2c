//! The backends, each against the oracle and against the other.

mod accuracy;
mod bad_input;
mod columns;
mod cpu;
mod divergences;
mod guided;
mod inputs;
mod labels;
mod linear;
mod oracle;
mod readme;
mod rows;
mod runner;
