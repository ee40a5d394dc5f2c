//! The command line.

mod commands;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Fine-tunes a llama-family language model with any objective of tokenloss.
#[derive(Debug, Parser)]
#[command(name = "tokenloss-finetune", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Train on prompts and responses
    Train(commands::train::Train),
    /// Probabilities of held-out responses, and greedy answers beside them
    Eval(commands::eval::Eval),
    /// What a model answers to a prompt
    Ask(commands::ask::Ask),
}

/// The exit code of every error.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Ask(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Errors name their causes themselves.
            eprintln!("error: {error}");
            ExitCode::from(FAILED)
        }
    }
}
