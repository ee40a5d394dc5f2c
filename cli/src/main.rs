//! The command line of tokenloss.

mod backend;
mod bench;
mod continuum;
mod devices;
mod draw;
mod eval;
mod files;
mod linear;
mod map;
mod objectives;
mod place;
mod progress;
mod spec;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Training objectives as functions of a token's probability: which fits where, measured.
///
/// Without a command it runs `continuum`.
#[derive(Debug, Parser)]
#[command(name = "tokenloss", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    continuum: continuum::Continuum,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Train small models of three capabilities under several objectives and label noise, and compare them
    Continuum(continuum::Continuum),
    /// Losses and gradient of a file of logits, or of hidden states and their head
    Eval(eval::Eval),
    /// Where a model and its data lie on the continuum
    Place(place::Place),
    /// Time the fused loss and gradient beside a copy of the same bytes, or beside bare matrix products
    Bench(bench::Bench),
    /// The objectives, their parameters and their weight W
    Objectives(objectives::Objectives),
    /// Instruction sets and GPU adapters of this machine
    Devices(devices::Devices),
}

/// The exit code of every error.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command.unwrap_or(Command::Continuum(cli.continuum)) {
        Command::Continuum(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Place(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Objectives(command) => command.run(),
        Command::Devices(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&format!("{error:#}")));
            ExitCode::from(FAILED)
        }
    }
}

/// Help goes to stdout as clap writes it; of a usage error only what is wrong, on one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let what = text.split("\n\nUsage:").next().unwrap_or(&text);
    let what = what.split("\n\nFor more information").next().unwrap_or(what);
    eprintln!("{} (--help shows the options)", one_line(what));
    ExitCode::from(FAILED)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
