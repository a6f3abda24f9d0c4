//! Stage `connector`: the flow loss through the frozen generator teaches the connector to speak to
//! the circuits that read words; a part of the understanding loss keeps what it could say before.
//! Without this stage Reconstruction Alignment only harms.

use std::sync::Arc;

use burn::{module::Module, tensor::Tensor};
use serde::{Deserialize, Serialize};

use super::{
    cache::Cache,
    objective::{Exchange, TimeConfig, answer_loss, flow_loss},
    pool::{self, PoolConfig},
    stage::{Stage, TrainingConfig},
    texts::Texts,
};
use crate::{
    Result, random,
    scene::Scene,
    umm::{TextBatch, Umm, connector::Connector, generation::Generation, understanding::Understanding},
};

const TAG: u64 = u64::from_be_bytes(*b"connecto");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectorConfig {
    #[serde(flatten)]
    pub training: TrainingConfig,
    /// Weight of the understanding loss, taken on half of the batch.
    pub understanding_weight: f32,
    /// Weight of the distance between the pooled contexts of an image and of its dense caption: what
    /// the generator is later taught about one, it then knows of the other.
    pub pooled_weight: f32,
    /// Part of the templates that say nothing, for guidance.
    pub null_caption: f64,
    #[serde(flatten)]
    pub times: TimeConfig,
    pub pool: PoolConfig,
}

pub struct ConnectorStage {
    config: ConnectorConfig,
    seed: u64,
    scenes: Arc<[Scene]>,
    /// Of the vision tower and of the autoencoder, one entry a scene.
    features: Cache,
    latents: Cache,
    texts: Texts,
    /// Frozen, but inside the graph: gradients pass through them.
    understanding: Understanding,
    generation: Generation,
}

impl ConnectorStage {
    pub fn new(
        config: &ConnectorConfig,
        seed: u64,
        scenes: Arc<[Scene]>,
        [features, latents]: [Cache; 2],
        texts: Texts,
        umm: &Umm,
    ) -> Self {
        Self {
            config: config.clone(),
            seed,
            scenes,
            features,
            latents,
            texts,
            understanding: umm.understanding.clone().freeze().train(),
            generation: umm.generation.clone().freeze().train(),
        }
    }
}

impl Stage for ConnectorStage {
    type Module = Connector;

    fn loss(&self, module: &Connector, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let indices = pool::draw(&mut random, self.config.training.batch, self.scenes.len());
        let templates = indices
            .iter()
            .map(|_| {
                let template = self.texts.template(&mut random)?;
                self.texts.or_null(template, self.config.null_caption, &mut random)
            })
            .collect::<Result<Vec<_>>>()?;
        let half = indices.len() / 2;
        let asked: Vec<Exchange> = indices[..half]
            .iter()
            .map(|index| self.texts.question(&self.scenes[*index], &mut random))
            .collect::<Result<_>>()?;
        let captions = indices
            .iter()
            .map(|index| self.texts.dense(&self.scenes[*index], &mut random))
            .collect::<Result<Vec<_>>>()?;
        let device = module.position_embedding.device();
        let visual = module.forward(self.features.gather(&indices, &device));
        let context = self.understanding.context(&TextBatch::prompts(&templates), Some(visual.clone()));
        let clean = self.latents.gather(&indices, &device);
        let flow = flow_loss(&self.generation, clean, &context, self.config.times, &mut random);
        let answers = answer_loss(&self.understanding, &asked, Some(visual.narrow(0, 0, half)));
        let read = self.understanding.context(&TextBatch::prompts(&captions), None);
        let apart = (context.pooled - read.pooled).square().mean();
        Ok(flow + answers * self.config.understanding_weight + apart * self.config.pooled_weight)
    }
}
