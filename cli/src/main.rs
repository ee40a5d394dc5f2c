//! The command line.
mod backend;
mod continuum;
mod progress;
use clap::Parser;
#[derive(Parser)]
struct Cli { #[command(flatten)] c: continuum::Continuum }
fn main() -> anyhow::Result<()> { Cli::parse().c.run() }
