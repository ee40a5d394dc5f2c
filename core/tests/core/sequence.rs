//! Objectives of whole sequences, and the way from rows to them and back.

mod rows;
