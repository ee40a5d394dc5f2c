//! # tokenloss-burn
