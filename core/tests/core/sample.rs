//! Objectives of the losses of a batch's samples. What is drawn from the list is under every test of [`gradient`], [`laws`]
//! and [`golden`].

mod errors;
mod families;
mod golden;
mod gradient;
mod identities;
mod laws;
mod penalties;
mod state;
