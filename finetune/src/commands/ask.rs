//! One prompt.

use super::Source;
use anyhow::Result;
use clap::Args;
use tokenloss_finetune::eval::ask;

/// What a model answers to a prompt.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    source: Source,
    /// What is asked
    prompt: String,
    /// The most tokens of the answer
    #[arg(long, default_value_t = 64, value_name = "TOKENS")]
    answer: usize,
}

impl Ask {
    pub(crate) fn run(&self) -> Result<()> {
        let ready = self.source.load()?;
        println!("{}", ask(&ready.model, &ready.tokens, &ready.chat, &self.prompt, self.answer)?);
        Ok(())
    }
}
