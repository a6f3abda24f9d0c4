//! Stage `connector`: the flow loss through the frozen generator teaches the connector to speak to
//! the circuits that read words; a part of the understanding loss keeps what it could say before.
//! Without this stage Reconstruction Alignment only harms.

use std::{marker::PhantomData, sync::Arc};

use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};
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

/// What brings an encoder's features into the understanding expert's space.
pub trait Projector: Module + ModuleDisplay {
    /// Understanding embeddings, `[batch, visual_tokens, hidden]`, from features, `[batch, tokens, size]`.
    fn project(&self, features: Tensor<3>) -> Tensor<3>;
}

impl Projector for Connector {
    fn project(&self, features: Tensor<3>) -> Tensor<3> {
        self.forward(features)
    }
}

/// Trains the model's own connector, or another encoder's.
pub struct ConnectorStage<P = Connector> {
    projector: PhantomData<P>,
    config: ConnectorConfig,
    seed: u64,
    scenes: Arc<[Scene]>,
    /// Of the encoder and of the autoencoder, one entry a scene.
    features: Cache,
    latents: Cache,
    texts: Texts,
    /// Frozen, but inside the graph: gradients pass through them.
    understanding: Understanding,
    generation: Generation,
}

impl<P> ConnectorStage<P> {
    pub fn new(
        config: &ConnectorConfig,
        seed: u64,
        scenes: Arc<[Scene]>,
        [features, latents]: [Cache; 2],
        texts: Texts,
        umm: &Umm,
    ) -> Self {
        Self {
            projector: PhantomData,
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

impl<P: Projector> Stage for ConnectorStage<P> {
    type Module = P;

    fn loss(&self, module: &P, step: u64) -> Result<Tensor<1>> {
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
        let device = self.generation.position_embedding.device();
        let visual = module.project(self.features.gather(&indices, &device));
        let context = self.understanding.context(&TextBatch::prompts(&templates), Some(visual.clone()));
        let clean = self.latents.gather(&indices, &device);
        let flow = flow_loss(&self.generation, clean, &context, self.config.times, &mut random);
        let answers = answer_loss(&self.understanding, &asked, Some(visual.narrow(0, 0, half)));
        let read = self.understanding.context(&TextBatch::prompts(&captions), None);
        let apart = (context.pooled - read.pooled).square().mean();
        Ok(flow + answers * self.config.understanding_weight + apart * self.config.pooled_weight)
    }
}
