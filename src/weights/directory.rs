//! A model directory's files as bytes, wherever they came from.

use burn::tensor::Device;

use super::{Manifest, manifest::FileEntry, safetensors};
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
    /// Those of `read` and of [`Manifest::check`].
    pub fn read(mut read: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let manifest = Manifest::from_json(&read(MANIFEST)?)?;
        let mut file = |name: &str| {
            let bytes = read(name)?;
            manifest.check(name, &bytes)?;
            Ok(bytes)
        };
        Ok(Self {
            config: file(CONFIG)?,
            weights: file(WEIGHTS)?,
            tokenizer: file(TOKENIZER)?,
            preprocessor: file(PREPROCESSOR)?,
        })
    }

    /// Names and bytes of all files, the manifest last.
    pub fn with_manifest(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut files = vec![
            (CONFIG, self.config.clone()),
            (WEIGHTS, self.weights.clone()),
            (TOKENIZER, self.tokenizer.clone()),
            (PREPROCESSOR, self.preprocessor.clone()),
        ];
        let entries = files.iter().map(|(name, bytes)| ((*name).to_owned(), FileEntry::of(bytes)));
        let manifest = Manifest { files: entries.collect() };
        files.push((MANIFEST, serde_json::to_vec_pretty(&manifest).map_err(Error::internal)?));
        Ok(files)
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
