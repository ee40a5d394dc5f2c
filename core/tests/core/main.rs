//! The tests of tokenloss-core, one binary so that it links once.
//!
//! Inputs are drawn from the list of objectives and its declared domains ([`draw`]): a new line in
//! `for_each_objective!` is under every test here that is not about one objective by name. Seeds are fixed, so
//! that a red test is red for everybody; raise `PROPTEST_CASES` to look further.

mod accuracy;
mod advantage;
mod agree;
mod columns;
mod difference;
mod divergence;
mod draw;
mod embedding;
mod errors;
mod golden;
mod gradient;
mod group;
mod kinds;
mod label;
mod limits;
mod listed;
mod logit_map;
mod oracle;
mod policy;
mod preference;
mod responses;
mod risk;
mod rows;
mod sample;
mod score;
mod sequence;
mod sets;
mod sharded;
mod spec;
mod theory;
