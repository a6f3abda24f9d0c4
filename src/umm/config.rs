//! Sizes of the model, read from `config.json`.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Groups of every GroupNorm.
pub const NORM_GROUPS: usize = 8;
/// Down-sampling factor of the convolutional stem (three stride-2 convolutions).
pub const STEM_STRIDE: usize = 8;
/// Down-sampling factor of the autoencoder (pixel-unshuffle 4, then two stride-2 convolutions).
pub const LATENT_STRIDE: usize = 16;

/// The whole model. All lengths are in tokens, channels or pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UmmConfig {
    pub model_type: String,
    /// Side of the square image, pixels.
    pub image_size: usize,
    pub vision: VisionConfig,
    pub connector: ConnectorConfig,
    pub understanding: UnderstandingConfig,
    pub generation: GenerationConfig,
    pub autoencoder: AutoencoderConfig,
}

/// The vision tower: a convolutional stem, then SigLIP's blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Channels after the first and second stem convolution; the third gives `hidden_size`.
    pub stem_channels: [usize; 2],
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub layer_norm_eps: f64,
}

/// Merges 2×2 visual tokens into one and maps them to where words lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectorConfig {
    pub intermediate_size: usize,
}

/// The understanding expert: a prefix language model over visual tokens and text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnderstandingConfig {
    pub vocab_size: usize,
    /// Longest text, tokens.
    pub max_position_embeddings: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub rms_norm_eps: f64,
}

/// The generation expert: one block for each block of the understanding expert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationConfig {
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub rms_norm_eps: f64,
    /// Frequencies of the sinusoidal time features (cosines and sines, so twice as many features).
    pub time_frequencies: usize,
}

/// The convolutional autoencoder, image ⇄ latents at a sixteenth of the side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoencoderConfig {
    /// Channels from the finest to the coarsest scale.
    pub channels: [usize; 4],
    pub latent_channels: usize,
}

impl UmmConfig {
    /// Parses and checks `config.json`.
    ///
    /// # Errors
    /// `weights_format` where a field is missing or sizes contradict one another.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(json).map_err(|e| Error::weights_format(format!("config.json: {e}")))?;
        config.check()?;
        Ok(config)
    }

    /// Image tokens of the encoder, `(image_size / 8)²`.
    pub fn vision_tokens(&self) -> usize {
        (self.image_size / STEM_STRIDE).pow(2)
    }

    /// Understanding embeddings of an image, a quarter of the vision tokens.
    pub fn visual_tokens(&self) -> usize {
        self.vision_tokens() / 4
    }

    /// Side of the latent grid.
    pub fn latent_side(&self) -> usize {
        self.image_size / LATENT_STRIDE
    }

    /// Image tokens of the generation expert.
    pub fn latent_tokens(&self) -> usize {
        self.latent_side().pow(2)
    }

    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::weights_format(format!("config.json: {what}")));
        if self.model_type != "reca-umm" {
            return bad(format!("model_type is {:?}, expected \"reca-umm\"", self.model_type));
        }
        if self.image_size == 0 || !self.image_size.is_multiple_of(LATENT_STRIDE) || self.image_size > 512 {
            return bad(format!(
                "image_size {} is not a multiple of {LATENT_STRIDE} up to 512",
                self.image_size
            ));
        }
        let (v, u, g, a) = (&self.vision, &self.understanding, &self.generation, &self.autoencoder);
        if v.hidden_size != u.hidden_size || g.hidden_size != u.hidden_size {
            return bad("the hidden sizes of vision, understanding and generation differ".into());
        }
        if g.num_hidden_layers != u.num_hidden_layers || g.num_attention_heads != u.num_attention_heads {
            return bad(
                "generation and understanding differ in layers or heads, but share keys and values".into()
            );
        }
        for (name, heads) in [("vision", v.num_attention_heads), ("understanding", u.num_attention_heads)] {
            if heads == 0 || !u.hidden_size.is_multiple_of(heads) {
                return bad(format!(
                    "{name}: hidden_size {} is not a multiple of {heads} heads",
                    u.hidden_size
                ));
            }
        }
        let grouped = [v.stem_channels.as_slice(), &[v.hidden_size], &a.channels].concat();
        if let Some(c) = grouped.iter().find(|c| **c == 0 || !c.is_multiple_of(NORM_GROUPS)) {
            return bad(format!("{c} channels are not a multiple of {NORM_GROUPS}"));
        }
        let sizes = [u.vocab_size, u.max_position_embeddings, u.num_hidden_layers, a.latent_channels];
        if sizes.contains(&0) || sizes.iter().any(|s| *s > 1 << 20) || u.hidden_size > 1 << 14 {
            return bad("a size is zero or absurdly large".into());
        }
        Ok(())
    }
}
