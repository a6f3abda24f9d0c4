//! The pictures that alignment learns from, read once by what is frozen.

use burn::tensor::{Device, Tensor};
use image::RgbImage;

use super::condition::ConditionConfig;
use crate::{Result, image::to_tensor, scene::Scene, train::cache::Cache, umm::Umm};

/// Unlabelled pictures: conditions and targets. Scenes are there for the captioned controls alone.
#[derive(Clone, Debug, Default)]
pub struct AlignImages {
    pub(super) conditions: Cache,
    pub(super) latents: Cache,
    pub(super) scenes: Vec<Scene>,
}

impl AlignImages {
    /// Adds pictures of the model's size.
    pub async fn push(&mut self, umm: &Umm, images: &[RgbImage], condition: &ConditionConfig) -> Result<()> {
        self.push_with(umm, images, condition.tokens(umm, images)).await
    }

    /// Adds pictures whose conditions come from elsewhere, `[images, tokens, hidden]`.
    pub async fn push_with(&mut self, umm: &Umm, images: &[RgbImage], conditions: Tensor<3>) -> Result<()> {
        let device: Device = umm.connector.position_embedding.device();
        self.conditions.push(conditions).await?;
        self.latents.push(umm.autoencoder.encode(to_tensor(images, &device))).await
    }

    /// Adds what is known of the pictures, in the same order; only captioned controls read it.
    pub fn describe(&mut self, scenes: impl IntoIterator<Item = Scene>) {
        self.scenes.extend(scenes);
    }

    pub fn len(&self) -> usize {
        self.latents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.latents.is_empty()
    }
}
