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
/// Weights that only learning from pictures needs, where a directory has them apart, so that a page
/// fetches them when somebody aligns.
pub const LATENT_ENCODER: &str = "latent_encoder.safetensors";
/// What the names of their tensors begin with.
const LATENT_ENCODER_PREFIX: &str = "autoencoder.encoder.";
/// A generation expert that Reconstruction Alignment made of the model's own, where a directory has one.
pub const ALIGNED: &str = "aligned.safetensors";
/// What the names of its tensors begin with.
const EXPERT_PREFIX: &str = "generation.";
/// The file that lists the others.
pub const MANIFEST: &str = "manifest.json";

/// The bytes of `config.json`, `model.safetensors`, `tokenizer.json` and `preprocessor_config.json`.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    pub config: Vec<u8>,
    pub weights: Vec<u8>,
    pub tokenizer: Vec<u8>,
    pub preprocessor: Vec<u8>,
    pub latent_encoder: LatentEncoderFile,
}

/// Where the weights of the autoencoder's encoder are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LatentEncoderFile {
    /// In `model.safetensors`.
    #[default]
    Within,
    /// In [`LATENT_ENCODER`], not read yet.
    Later,
    /// The bytes of [`LATENT_ENCODER`].
    Apart(Vec<u8>),
}

impl ModelFiles {
    /// Reads the manifest by `read`, then every file, checking each.
    ///
    /// # Errors
    /// Those of `read` and of [`Manifest::check`].
    pub fn read(mut read: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let mut files = Self::read_first(&mut read)?;
        if files.latent_encoder == LatentEncoderFile::Later {
            let [latent_encoder] = Manifest::read([LATENT_ENCODER], read)?;
            files.latent_encoder = LatentEncoderFile::Apart(latent_encoder);
        }
        Ok(files)
    }

    /// The same, leaving for later what the manifest lists as that.
    pub fn read_first(mut read: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let manifest = Manifest::from_json(&read(MANIFEST)?)?;
        let later = manifest.later.contains_key(LATENT_ENCODER);
        let names = [CONFIG, WEIGHTS, TOKENIZER, PREPROCESSOR];
        let [config, weights, tokenizer, preprocessor] = Manifest::read(names, read)?;
        let latent_encoder = if later { LatentEncoderFile::Later } else { LatentEncoderFile::Within };
        Ok(Self { config, weights, tokenizer, preprocessor, latent_encoder })
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
        let apart = self.latent_encoder != LatentEncoderFile::Within;
        let umm = Umm::new(&config, device);
        let umm = safetensors::load_only(umm, &self.weights, |name| !(apart && is_latent_encoder(name)))
            .map_err(|e| e.at(WEIGHTS))?;
        let umm = match &self.latent_encoder {
            LatentEncoderFile::Apart(bytes) => with_latent_encoder(umm, bytes)?,
            _ => umm,
        };
        Ok((umm, config, tokenizer))
    }
}

/// The model with the weights of [`LATENT_ENCODER`].
///
/// # Errors
/// `weights_format` and `weights_shape`, naming the file.
pub fn with_latent_encoder(umm: Umm, bytes: &[u8]) -> Result<Umm> {
    safetensors::load_only(umm, bytes, is_latent_encoder).map_err(|e| e.at(LATENT_ENCODER))
}

/// The model with the generation expert of [`ALIGNED`].
///
/// # Errors
/// `weights_format` and `weights_shape`, naming the file.
pub fn with_aligned(umm: Umm, bytes: &[u8]) -> Result<Umm> {
    safetensors::load_only(umm, bytes, |name| name.starts_with(EXPERT_PREFIX)).map_err(|e| e.at(ALIGNED))
}

fn is_latent_encoder(name: &str) -> bool {
    name.starts_with(LATENT_ENCODER_PREFIX)
}
