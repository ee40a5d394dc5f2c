//! Texts as tokens.

use crate::Error;
use serde_json::{Value, json};
use std::path::Path;
use tokenizers::Tokenizer;

/// A tokenizer, and the token that ends a turn.
#[derive(Debug, Clone)]
pub struct Tokens {
    tokenizer: Tokenizer,
    /// The token that ends a turn.
    pub end: u32,
}

impl Tokens {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Format`] if it cannot be read or does not know `end`.
    pub fn read(path: &Path, end: &str) -> Result<Self, Error> {
        let tokenizer = Tokenizer::from_file(path).map_err(Error::format(path))?;
        match tokenizer.token_to_id(end) {
            Some(end) => Ok(Self { tokenizer, end }),
            None => Err(Error::format(path)(format!("it does not know the eos_token {end:?}"))),
        }
    }

    /// How many there are: one more than the largest.
    pub fn count(&self) -> usize {
        self.tokenizer.get_vocab(true).into_values().max().map_or(0, |last| last as usize + 1)
    }

    /// How a token is written.
    pub fn name(&self, token: u32) -> Option<String> {
        self.tokenizer.id_to_token(token)
    }

    /// Text to tokens, without any that the text does not write.
    ///
    /// # Errors
    /// [`Error::Template`] if the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.tokenizer.encode(text, false);
        encoding.map(|e| e.get_ids().to_vec()).map_err(|error| Error::Template { what: error.to_string() })
    }

    /// Tokens to text, without those that are not text.
    ///
    /// # Errors
    /// [`Error::Template`] if the tokenizer fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(tokens, true).map_err(|error| Error::Template { what: error.to_string() })
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Format`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        self.tokenizer.save(path, false).map_err(Error::format(path))
    }
}

/// What GGUF says of byte pairs.
pub(crate) struct Vocabulary {
    pub(crate) tokens: Vec<String>,
    pub(crate) merges: Vec<String>,
    /// Which tokens are never made of text by merging.
    pub(crate) special: Vec<bool>,
    /// How text is cut before bytes are paired, as llama.cpp names it.
    pub(crate) split: String,
    pub(crate) end: u32,
}

impl Vocabulary {
    /// As a tokenizer.
    pub(crate) fn tokens(self) -> Result<Tokens, String> {
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let cut: Value = match self.split.as_str() {
            "default" | "gpt-2" => bytes(true),
            "smollm" => json!({"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true}, bytes(true)]}),
            "llama-bpe" | "llama3" => {
                json!({"type": "Sequence", "pretokenizers": [split(LLAMA_3), bytes(false)]})
            }
            "qwen2" => json!({"type": "Sequence", "pretokenizers": [split(QWEN_2), bytes(false)]}),
            other => {
                return Err(format!(
                    "its tokenizer cuts text by {other}, but only default, gpt-2, smollm, llama-bpe and qwen2 are served: use a folder with tokenizer.json"
                ));
            }
        };
        let special = self.tokens.iter().enumerate().filter(|&(id, _)| self.special.get(id) == Some(&true));
        let added: Vec<Value> = special
            .map(|(id, token)| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true})
            })
            .collect();
        let vocab: serde_json::Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        let merges: Vec<Vec<&str>> = self.merges.iter().map(|merge| merge.splitn(2, ' ').collect()).collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": added,
            "pre_tokenizer": cut,
            "decoder": bytes(true),
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": self.split.starts_with("llama"), "vocab": vocab, "merges": merges},
        });
        let tokenizer = Tokenizer::from_bytes(tokenizer.to_string()).map_err(|error| error.to_string())?;
        if self.end as usize >= self.tokens.len() {
            return Err(format!(
                "its eos_token_id is {}, but there are {} tokens",
                self.end,
                self.tokens.len()
            ));
        }
        Ok(Tokens { tokenizer, end: self.end })
    }
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
