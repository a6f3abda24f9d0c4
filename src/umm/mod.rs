//! The unified multimodal model: one understanding expert that describes, one generation expert
//! that draws from the other's keys and values, and the encoders around these.

pub mod attention;
pub mod autoencoder;
pub mod block;
pub mod config;
pub mod connector;
pub mod context;
pub mod describe;
pub mod generation;
pub mod norm;
pub mod understanding;

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use self::{
    autoencoder::Autoencoder, connector::Connector, generation::Generation, understanding::Understanding,
};
pub use self::{
    config::UmmConfig,
    context::{Context, TextBatch},
    describe::Decoding,
};
use crate::encoder::siglip::VisionModel;

/// The whole model; field names are the prefixes of the checkpoint's tensor names.
#[derive(Module, Debug)]
pub struct Umm {
    pub vision_model: VisionModel,
    pub connector: Connector,
    pub understanding: Understanding,
    pub generation: Generation,
    pub autoencoder: Autoencoder,
}

impl Umm {
    /// A model with fresh random weights.
    pub fn new(config: &UmmConfig, device: &Device) -> Self {
        Self {
            vision_model: VisionModel::new(config, device),
            connector: Connector::new(config, device),
            understanding: Understanding::new(config, device),
            generation: Generation::new(config, device),
            autoencoder: Autoencoder::new(config, device),
        }
    }

    /// The understanding embeddings of images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, image_size, image_size]`, values in [-1, 1]
    /// - returns `[batch, visual_tokens, hidden]`
    pub fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        self.connector.forward(self.vision_model.forward(images))
    }

    /// What the generation expert draws from: keys and values of [visual tokens ; text] per layer.
    /// Computed once a prompt and reused over all steps.
    ///
    /// `visual`: `[batch, visual_tokens, hidden]`, from [`Umm::embed`].
    pub fn context(&self, text: &TextBatch, visual: Option<Tensor<3>>) -> Context {
        self.understanding.context(text, visual)
    }

    /// The clean latents that `noisy` ones probably came from.
    ///
    /// # Shapes
    /// - `noisy`, result: `[batch, latent_tokens, latent_channels]`
    /// - `times`: one `t` in [0, 1] a row, 1 being clean
    pub fn denoise(&self, noisy: Tensor<3>, times: &[f32], context: &Context) -> Tensor<3> {
        self.generation.forward(noisy, times, context)
    }
}
