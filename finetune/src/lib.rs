//! # tokenloss-finetune
//!
//! Fine-tunes a language model of the llama family with any objective of tokenloss. The program of the same name is
//! described in the crate's README; this library is what it is made of.
//!
//! * [`load`] reads a model from GGUF or from a folder of safetensors, with its tokenizer and chat template.
//! * [`model`] is the network: RMSNorm, rotary positions, grouped queries, SwiGLU.
//! * [`data`] and [`chat`] make tokens of prompts and responses.
//! * [`loss`] is the head and the objective together, so that logits are never held.
//! * [`train`] steps, with [`optim`] and [`checkpoint`].
//! * [`backend`] says where: on the CPU, or on a GPU through wgpu.
//! * [`eval`] measures held-out probabilities and greedy answers.

pub mod backend;
pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod data;
mod error;
pub mod eval;
pub mod load;
pub mod loss;
pub mod metrics;
pub mod model;
pub mod optim;
pub mod rope;
pub mod save;
pub mod tokenizer;
pub mod train;
pub mod weights;

pub use error::Error;
