//! Sizes of the model, read from `config.json`.

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    encoder::limits::{LARGEST, bad, check_size, check_transformer},
};

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
        let config: Self = serde_json::from_slice(json).map_err(bad)?;
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
        if self.model_type != "reca-umm" {
            return Err(bad(format!("model_type is {:?}, expected \"reca-umm\"", self.model_type)));
        }
        let side = self.image_size;
        if side == 0 || !side.is_multiple_of(LATENT_STRIDE) || side > 512 {
            return Err(bad(format!("image_size {side} is not a multiple of {LATENT_STRIDE} up to 512")));
        }
        let (v, u, g, a) = (&self.vision, &self.understanding, &self.generation, &self.autoencoder);
        if v.hidden_size != u.hidden_size || g.hidden_size != u.hidden_size {
            return Err(bad("the hidden sizes of vision, understanding and generation differ"));
        }
        if g.num_hidden_layers != u.num_hidden_layers || g.num_attention_heads != u.num_attention_heads {
            return Err(bad(
                "generation and understanding differ in layers or heads, but share keys and values",
            ));
        }
        v.check()?;
        let sizes = [u.hidden_size, u.intermediate_size, u.num_attention_heads];
        check_transformer("understanding", u.num_hidden_layers, sizes, u.rms_norm_eps)?;
        let sizes = [g.hidden_size, g.intermediate_size, g.num_attention_heads];
        check_transformer("generation", g.num_hidden_layers, sizes, g.rms_norm_eps)?;
        check_channels("autoencoder", &a.channels)?;
        for (name, size) in [
            ("connector: intermediate_size", self.connector.intermediate_size),
            ("understanding: vocab_size", u.vocab_size),
            ("understanding: max_position_embeddings", u.max_position_embeddings),
            ("generation: time_frequencies", g.time_frequencies),
            ("autoencoder: latent_channels", a.latent_channels),
        ] {
            check_size(name, size, LARGEST)?;
        }
        Ok(())
    }
}

impl VisionConfig {
    /// # Errors
    /// `weights_format` for sizes that contradict one another or make no sense.
    pub fn check(&self) -> Result<()> {
        let sizes = [self.hidden_size, self.intermediate_size, self.num_attention_heads];
        check_transformer("vision", self.num_hidden_layers, sizes, self.layer_norm_eps)?;
        let [a, b] = self.stem_channels;
        check_channels("vision", &[a, b, self.hidden_size])
    }
}

/// Channels that a GroupNorm can split.
fn check_channels(name: &str, channels: &[usize]) -> Result<()> {
    let grouped = |count: usize| count > 0 && count <= LARGEST && count.is_multiple_of(NORM_GROUPS);
    match channels.iter().find(|count| !grouped(**count)) {
        Some(count) => Err(bad(format!(
            "{name}: {count} channels, expected a multiple of {NORM_GROUPS} up to {LARGEST}"
        ))),
        None => Ok(()),
    }
}
