//! What the command line does.

pub(crate) mod ask;
pub(crate) mod eval;
pub(crate) mod train;

use clap::Args;
use std::path::PathBuf;
use tokenloss_finetune::Error;
use tokenloss_finetune::backend::Backend;
use tokenloss_finetune::chat::Chat;
use tokenloss_finetune::load::load;
use tokenloss_finetune::model::Model;
use tokenloss_finetune::tokenizer::Tokens;

/// Which model, and how much of it is used.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// A GGUF file, or a folder with config.json, model*.safetensors, tokenizer.json and tokenizer_config.json
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The most tokens of prompt and response together [default: the model's own limit]
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Where it is computed: cpu, or gpu in builds with the feature gpu
    #[arg(long, default_value = "cpu", value_name = "WHERE")]
    backend: Backend,
}

/// A model that is ready.
pub(crate) struct Ready {
    pub(crate) model: Model,
    pub(crate) tokens: Tokens,
    pub(crate) chat: Chat,
    pub(crate) context: usize,
}

impl Source {
    pub(crate) fn load(&self) -> Result<Ready, Error> {
        let device = self.backend.device()?;
        let loaded = load(&self.model, &device)?;
        let longest = loaded.config.max_position_embeddings;
        let context = self.context.unwrap_or(longest);
        if context == 0 || context > longest {
            return Err(Error::Setting {
                name: "context",
                found: context.to_string(),
                expected: format!("the model has 1 to {longest}"),
            });
        }
        let model = Model::new(loaded.config, loaded.weights, context, &device);
        Ok(Ready { model, tokens: loaded.tokens, chat: loaded.chat, context })
    }
}
