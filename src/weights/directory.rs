//! A model directory's files as bytes, wherever they came from.

use burn::tensor::Device;

use super::{Manifest, safetensors};
use crate::{
    Error, Result,
    text::Tokenizer,
    umm::{Umm, UmmConfig},
};

/// File names of a model directory, manifest apart.
pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "model.safetensors";
pub const TOKENIZER: &str = "tokenizer.json";
pub const PREPROCESSOR: &str = "preprocessor_config.json";
/// The file that lists the others.
pub const MANIFEST: &str = "manifest.json";

/// The bytes of `config.json`, `model.safetensors`, `tokenizer.json` and `preprocessor_config.json`.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    pub config: Vec<u8>,
    pub weights: Vec<u8>,
    pub tokenizer: Vec<u8>,
    pub preprocessor: Vec<u8>,
}

impl ModelFiles {
    /// Reads the manifest by `read`, then every file, checking each.
    ///
    /// # Errors
    /// Those of [`Manifest::read`].
    pub fn read(read: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let names = [CONFIG, WEIGHTS, TOKENIZER, PREPROCESSOR];
        let [config, weights, tokenizer, preprocessor] = Manifest::read(names, read)?;
        Ok(Self { config, weights, tokenizer, preprocessor })
    }

    /// Names and bytes of all files, the manifest last.
    pub fn with_manifest(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        Manifest::seal(&[
            (CONFIG, &self.config),
            (WEIGHTS, &self.weights),
            (TOKENIZER, &self.tokenizer),
            (PREPROCESSOR, &self.preprocessor),
        ])
    }

    /// Builds the model and its tokenizer.
    ///
    /// # Errors
    /// `weights_format` and `weights_shape`, naming the file.
    pub fn build(&self, device: &Device) -> Result<(Umm, UmmConfig, Tokenizer)> {
        let config = UmmConfig::from_json(&self.config)?;
        let tokenizer = Tokenizer::from_json(&self.tokenizer)?;
        if tokenizer.vocab_size() != config.understanding.vocab_size {
            return Err(Error::weights_format(format!(
                "tokenizer.json has {} tokens, config.json says {}",
                tokenizer.vocab_size(),
                config.understanding.vocab_size
            )));
        }
        let umm = safetensors::load(Umm::new(&config, device), &self.weights).map_err(|e| e.at(WEIGHTS))?;
        Ok((umm, config, tokenizer))
    }
}
