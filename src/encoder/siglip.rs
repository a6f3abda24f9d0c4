//! Our vision tower: a convolutional stem in the place of SigLIP's patch embedding, then SigLIP's
//! blocks under SigLIP's tensor names. A plain patch embedding learned shapes many times more
//! slowly at this size.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use super::vit::{Activation, BlockConfig, Encoder};
use crate::layers::{Conv2d, Embedding, GroupNorm, LayerNorm};
use crate::ops::{Geometry, gelu};
use crate::umm::config::{NORM_GROUPS, UmmConfig, VisionConfig};

/// Image to patch features, `vision_model` in a checkpoint.
#[derive(Module, Debug)]
pub struct VisionModel {
    pub embeddings: Embeddings,
    pub encoder: Encoder,
    pub post_layernorm: LayerNorm,
}

impl VisionModel {
    pub fn new(config: &UmmConfig, device: &Device) -> Self {
        Self::sized(&config.vision, config.vision_tokens(), device)
    }

    /// A tower that is no part of a model, for images of so many tokens.
    pub fn sized(vision: &VisionConfig, tokens: usize, device: &Device) -> Self {
        let block = BlockConfig {
            hidden_size: vision.hidden_size,
            num_attention_heads: vision.num_attention_heads,
            intermediate_size: vision.intermediate_size,
            layer_norm_eps: vision.layer_norm_eps,
            activation: Activation::GeluTanh,
        };
        Self {
            embeddings: Embeddings::new(vision, tokens, device),
            encoder: Encoder::new(&block, vision.num_hidden_layers, device),
            post_layernorm: LayerNorm::new(vision.hidden_size, vision.layer_norm_eps, device),
        }
    }

    /// Patch features of images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, image_size, image_size]`, values in [-1, 1]
    /// - returns `[batch, vision_tokens, hidden]`, row by row
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        self.post_layernorm.forward(self.encoder.forward(self.embeddings.forward(images)))
    }
}

/// Stem and position embedding.
#[derive(Module, Debug)]
pub struct Embeddings {
    pub stem: Vec<StemStage>,
    pub position_embedding: Embedding,
}

impl Embeddings {
    fn new(vision: &VisionConfig, tokens: usize, device: &Device) -> Self {
        let [a, b] = vision.stem_channels;
        let channels = [3, a, b, vision.hidden_size];
        Self {
            stem: channels.windows(2).map(|c| StemStage::new(c[0], c[1], device)).collect(),
            position_embedding: Embedding::new(tokens, vision.hidden_size, device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let x = self.stem.iter().fold(images, |x, stage| stage.forward(x));
        let x: Tensor<3> = x.flatten(2, 3);
        x.swap_dims(1, 2) + self.position_embedding.weight.val().unsqueeze()
    }
}

/// Stride-2 3×3 convolution, GroupNorm, GELU.
#[derive(Module, Debug)]
pub struct StemStage {
    pub conv: Conv2d,
    pub norm: GroupNorm,
}

impl StemStage {
    fn new(from: usize, to: usize, device: &Device) -> Self {
        Self {
            conv: Conv2d::new([from, to], 3, Geometry { stride: 2, padding: 1 }, device).unbiased(),
            norm: GroupNorm::new(NORM_GROUPS, to, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        gelu(self.norm.forward(self.conv.forward(x)))
    }
}
