//! The pictures that alignment learns from, read once by what is frozen.

use burn::tensor::{Device, Tensor};
use image::RgbImage;

use super::condition::ConditionConfig;
use crate::{Result, image::to_tensor, scene::Scene, train::cache::Cache, umm::Umm};

/// Pictures to learn from: targets, conditions for what reads embeddings, scenes for what reads captions.
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
        self.conditions.push(conditions).await?;
        self.push_targets(umm, images).await
    }

    /// Adds pictures that only captions are read for.
    pub async fn push_captioned(&mut self, umm: &Umm, images: &[RgbImage], scenes: Vec<Scene>) -> Result<()> {
        self.describe(scenes);
        self.push_targets(umm, images).await
    }

    async fn push_targets(&mut self, umm: &Umm, images: &[RgbImage]) -> Result<()> {
        let device: Device = umm.connector.position_embedding.device();
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
