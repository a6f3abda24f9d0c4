//! A checkpoint's own tokenizer, with the padding and truncation that its text tower needs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{Tokenizer, TruncationParams};

use super::config::{EncoderConfig, Family};
use crate::{Error, Result};

const FILE: &str = "tokenizer.json";

/// Texts to token ids.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    family: Family,
    length: usize,
    pad: u32,
    end: u32,
    /// SigLIP's first tokenizer drops punctuation before it reads a text.
    strips_punctuation: bool,
}

/// What `tokenizer_config.json` tells beside `tokenizer.json`.
#[derive(Default, Deserialize)]
struct Settings {
    tokenizer_class: Option<String>,
    pad_token: Option<Value>,
    eos_token: Option<Value>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` and, where it is there, `tokenizer_config.json`.
    ///
    /// # Errors
    /// `weights_format` for damaged files and missing end or padding tokens; `bad_input` for a
    /// checkpoint of the vision tower alone.
    pub fn new(tokenizer: &[u8], settings: Option<&[u8]>, config: &EncoderConfig) -> Result<Self> {
        let text =
            config.text.as_ref().ok_or_else(|| Error::bad_input("this checkpoint has no text tower"))?;
        let mut tokenizer = contained(|| Tokenizer::from_bytes(tokenizer))?
            .map_err(|e| Error::weights_format(format!("{FILE}: {e}")))?;
        let settings: Settings = settings
            .map(serde_json::from_slice)
            .transpose()
            .map_err(|e| Error::weights_format(format!("tokenizer_config.json: {e}")))?
            .unwrap_or_default();
        // Names of either family's tokens, for folders without tokenizer_config.json.
        let usual = ["<|endoftext|>", "</s>", "<eos>"];
        let end = id(&tokenizer, settings.eos_token.as_ref(), &usual, "end")?;
        let pad =
            id(&tokenizer, settings.pad_token.as_ref(), &["<|endoftext|>", "</s>", "<pad>"], "padding")?;
        let class = settings.tokenizer_class.unwrap_or_default();
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: text.max_position_embeddings,
                ..Default::default()
            }))
            .map_err(|e| Error::weights_format(format!("{FILE}: {e}")))?;
        Ok(Self {
            tokenizer,
            family: config.family,
            length: text.max_position_embeddings,
            pad,
            end,
            strips_punctuation: config.family == Family::Siglip && class.starts_with("Siglip"),
        })
    }

    /// One row of ids a text, all of one length: SigLIP's padded to the tower's full length, at whose
    /// end it pools; CLIP's to the longest of them, since its causal tower sees nothing behind the end.
    ///
    /// # Errors
    /// `bad_input` if a text cannot be read.
    pub fn encode(&self, texts: &[String]) -> Result<Vec<Vec<u32>>> {
        let mut rows = texts.iter().map(|text| self.ids(text)).collect::<Result<Vec<_>>>()?;
        let length = match self.family {
            Family::Siglip => self.length,
            Family::Clip => rows.iter().map(Vec::len).max().unwrap_or(0),
        };
        rows.iter_mut().for_each(|row| row.resize(length, self.pad));
        Ok(rows)
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let text = match self.family {
            Family::Clip => text.to_owned(),
            Family::Siglip => self.canonical(text),
        };
        let encoding = contained(|| self.tokenizer.encode_fast(text, true))?.map_err(Error::bad_input)?;
        let mut ids = encoding.get_ids().to_vec();
        // Some converted files leave the end token to their Python class.
        if ids.last() != Some(&self.end) {
            ids.truncate(self.length - 1);
            ids.push(self.end);
        }
        Ok(ids)
    }

    /// Lower case, and for SigLIP's first tokenizer without punctuation and doubled spaces, which
    /// its Python class does before `tokenizer.json` comes to it. Twice is the same as once.
    fn canonical(&self, text: &str) -> String {
        let text = text.to_lowercase();
        if !self.strips_punctuation {
            return text;
        }
        let kept: String = text.chars().filter(|c| !c.is_ascii_punctuation()).collect();
        kept.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Runs the library, which panics on some damaged files, natively behind a barrier; in the browser, which has
/// none, an encoder's worker is its own.
///
/// # Errors
/// `weights_format` if it panics.
fn contained<T>(work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        Error::weights_format(format!("{FILE} is damaged: the tokenizer breaks down over it; fetch it again"))
    })
}

/// The id of a special token, by the settings' name for it or by one of the usual ones.
fn id(tokenizer: &Tokenizer, given: Option<&Value>, usual: &[&str], what: &str) -> Result<u32> {
    // A string, or an object with the string inside.
    let given = given.and_then(|value| value.as_str().or(value.get("content")?.as_str()));
    let names: Vec<&str> = given.map_or_else(|| usual.to_vec(), |name| vec![name]);
    names.iter().find_map(|name| tokenizer.token_to_id(name)).ok_or_else(|| {
        Error::weights_format(format!("tokenizer.json has no {what} token ({})", names.join(", ")))
    })
}
