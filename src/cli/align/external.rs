//! `--encoder`: an official encoder in the place of the model's own, behind a connector that is
//! trained first as the model's own was: without that stage alignment harms.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use pollster::block_on;
use reca::encoder::Parts;
use reca::image::to_tensor;
use reca::reca::{External, ExternalConnector};
use reca::scene::{Engine, Scene};
use reca::train::cache::Cache;
use reca::train::checkpoint;
use reca::train::connector::{ConnectorData, ConnectorStage, Projector};
use reca::train::recipe::Recipe;
use reca::train::stage::Trainer;
use reca::train::texts::Texts;
use reca::{Error, Pipeline, Result, random};
use serde_json::json;

use super::images::scenes;
use crate::drive::{Job, drive, go_on, write_whole};
use crate::encoder::{Folder, hidden_state};
use crate::log::Log;

/// What is asked for.
pub struct Wanted<'a> {
    pub encoder: &'a Path,
    pub layer: i64,
    /// Most captioned scenes that the connector learns from.
    pub count: u64,
    /// Steps of the connector; the recipe's if `None`.
    pub steps: Option<u64>,
    pub seed: u64,
    pub out: &'a Path,
    /// The sha256 of the model's weights.
    pub model: &'a str,
}

impl Wanted<'_> {
    /// The connector, and its checkpoint while it is trained.
    pub fn files(&self) -> [PathBuf; 2] {
        ["connector.safetensors", "connector.checkpoint.safetensors"].map(|name| self.out.join(name))
    }
}

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
    /// Opens the encoder and trains its connector, or finds it trained.
    ///
    /// # Errors
    /// Those of [`Folder::open`], [`hidden_state`] and training; `bad_input` for a connector of other
    /// settings.
    pub fn open(wanted: &Wanted, pipeline: &Pipeline, recipe: &Recipe, engine: &Engine) -> Result<Self> {
        let device = pipeline.umm.connector.position_embedding.device();
        let folder = Folder(wanted.encoder);
        let opened = folder.open(Parts::Vision, device.clone())?;
        let vision = &opened.config.vision;
        let layer = hidden_state(wanted.layer, vision.num_hidden_layers)?;
        let external = External {
            encoder: opened.model,
            preprocessor: opened.preprocessor,
            patch_size: vision.patch_size,
            layer,
        };
        let mut config = recipe.stages.connector.clone();
        config.training.steps = wanted.steps.unwrap_or(config.training.steps);
        for pool in [&mut config.pool, &mut config.understanding_pool] {
            pool.size = pool.size.min(wanted.count);
        }
        let run = json!({
            "stage": "connector", "model": wanted.model, "encoder": folder.sha256()?, "layer": layer,
            "settings": config, "seed": wanted.seed,
        });
        let fresh = || ExternalConnector::new(vision.block.hidden_size, &pipeline.config, &device);
        let connector = random::seeded(&device, wanted.seed, fresh);
        let side = pipeline.config.visual_tokens().isqrt();
        let mut guest = Self { external, connector, side, device, run: run.to_string() };
        let [path, checkpoint] = wanted.files();
        let anew = |e: Error| e.at(format!("{} (--fresh trains it anew)", path.display()));
        if !path.exists() {
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
            let data = ConnectorData { drawn: [features, latents], understood: (told.into(), read) };
            let texts = Texts::new(pipeline.tokenizer.clone());
            let stage = ConnectorStage::new(&config, wanted.seed, data, texts, &pipeline.umm);
            let job = Job {
                stage: "connector",
                run: guest.run.clone(),
                checkpoint: checkpoint.clone(),
                anew: "--fresh".to_owned(),
                log: Log::new(wanted.out),
                look_every: None,
            };
            let trainer = Trainer::new(stage, guest.connector.clone(), config.training);
            let trained = drive(trainer, &job, |_, _| Ok(go_on(())))?;
            write_whole(&path, &block_on(checkpoint::save_part(&trained, &guest.run, 0))?)?;
            fs::remove_file(&checkpoint).map_err(|e| Error::bad_input(e).at(checkpoint.display()))?;
        }
        let bytes = fs::read(&path).map_err(|e| anew(Error::bad_input(e)))?;
        guest.connector = checkpoint::load_part(guest.connector, &guest.run, &bytes).map_err(anew)?.no_grad();
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
