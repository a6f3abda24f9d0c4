//! `--encoder`: an official encoder in the place of the model's own, behind a connector that is
//! trained first as the model's own was: without that stage alignment gains little.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use image::RgbImage;
use pollster::block_on;
use reca::encoder::Parts;
use reca::image::to_tensor;
use reca::reca::{External, ExternalConnector};
use reca::scene::{Engine, Scene};
use reca::train::cache::Cache;
use reca::train::connector::{ConnectorData, Projector};
use reca::{Pipeline, Result, random};
use serde_json::json;

use super::connector::Lessons;
use super::images::scenes;
use crate::encoder::{Folder, hidden_state};

/// An encoder with its connector.
pub struct Guest {
    external: External,
    connector: ExternalConnector,
    side: usize,
    device: Device,
    /// Names what the connector was trained on and how.
    pub run: String,
}

impl Guest {
    /// Opens the encoder, counting hidden states as `--layer` does, and trains its connector, or finds it
    /// trained.
    ///
    /// # Errors
    /// Those of [`Folder::open`], [`hidden_state`] and [`Lessons::teach`].
    pub fn open(
        encoder: &Path,
        layer: i64,
        lessons: &Lessons,
        pipeline: &Pipeline,
        engine: &Engine,
    ) -> Result<Self> {
        let device = pipeline.umm.connector.position_embedding.device();
        let folder = Folder(encoder);
        let opened = folder.open(Parts::Vision, device.clone())?;
        let vision = &opened.config.vision;
        let layer = hidden_state(layer, vision.num_hidden_layers)?;
        let external = External {
            encoder: opened.model,
            preprocessor: opened.preprocessor,
            patch_size: vision.patch_size,
            layer,
        };
        let run = lessons.run(json!({ "encoder": folder.sha256()?, "layer": layer }));
        let fresh = || ExternalConnector::new(vision.block.hidden_size, &pipeline.config, &device);
        let connector = random::seeded(&device, lessons.seed, fresh);
        let side = pipeline.config.visual_tokens().isqrt();
        let mut guest = Self { external, connector, side, device, run };
        guest.connector = lessons.teach(guest.connector.clone(), &guest.run, pipeline, || {
            let config = &lessons.config;
            let (mut told, mut read) = (Vec::new(), Cache::default());
            scenes(engine, config.understanding_pool, |scenes: Vec<Scene>, pictures| {
                told.extend(scenes);
                block_on(read.push(guest.features(&pictures)?))
            })?;
            let (mut features, mut latents) = (Cache::default(), Cache::default());
            scenes(engine, config.pool, |_, pictures| {
                block_on(features.push(guest.features(&pictures)?))?;
                block_on(latents.push(pipeline.umm.autoencoder.encode(to_tensor(&pictures, &guest.device))))
            })?;
            Ok(ConnectorData { drawn: Some([features, latents]), understood: (told.into(), read) })
        })?;
        Ok(guest)
    }

    fn features(&self, images: &[RgbImage]) -> Result<Tensor<3>> {
        self.external.features(images, self.side, &self.device)
    }

    /// What stands in the place of the model's own embeddings, `[images, visual_tokens, hidden]`.
    pub fn embed(&self, images: &[RgbImage]) -> Result<Tensor<3>> {
        Ok(self.connector.project(self.features(images)?))
    }
}
