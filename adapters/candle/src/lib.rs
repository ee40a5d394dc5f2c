//! # tokenloss-candle
