//! Stage `connector`: the flow loss through the frozen generator, on the scenes that it learned to
//! draw, teaches the connector to speak to the circuits that read words; on the scenes that the
//! understanding expert learned from, answers keep what it could say before, and pooled contexts
//! come close to those of captions. Without this stage Reconstruction Alignment gains little
//! (`docs/recipe.md`).

use std::{marker::PhantomData, sync::Arc};

use burn::{
    module::{Module, ModuleDisplay},
    tensor::{Device, Tensor},
};
use rand_chacha::ChaCha8Rng;
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
    /// Weight of the understanding loss.
    pub understanding_weight: f32,
    /// Weight of the distance between the pooled contexts of an image and of its dense caption: what
    /// the generator is later taught about one, it then knows of the other.
    pub pooled_weight: f32,
    /// Part of the templates that say nothing, for guidance.
    pub null_caption: f64,
    #[serde(flatten)]
    pub times: TimeConfig,
    /// What is drawn, a batch a step.
    pub pool: PoolConfig,
    /// What is understood, half a batch a step.
    pub understanding_pool: PoolConfig,
}

/// What the stage learns from; every part has one entry a scene.
pub struct ConnectorData {
    /// Of what is drawn: the encoder's features and the autoencoder's latents. Without it the stage learns
    /// from answers alone, as the stage of the understanding expert does: a control.
    pub drawn: Option<[Cache; 2]>,
    /// What is understood, and the encoder's features of it.
    pub understood: (Arc<[Scene]>, Cache),
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
    data: ConnectorData,
    texts: Texts,
    /// Frozen, but inside the graph: gradients pass through them.
    understanding: Understanding,
    generation: Generation,
}

impl<P> ConnectorStage<P> {
    pub fn new(config: &ConnectorConfig, seed: u64, data: ConnectorData, texts: Texts, umm: &Umm) -> Self {
        Self {
            projector: PhantomData,
            config: config.clone(),
            seed,
            data,
            texts,
            understanding: umm.understanding.clone().freeze().train(),
            generation: umm.generation.clone().freeze().train(),
        }
    }

    /// Requests for a caption, which stand beside what is seen.
    fn templates(&self, count: usize, random: &mut ChaCha8Rng) -> Result<TextBatch> {
        let rows = (0..count)
            .map(|_| self.texts.or_null(self.texts.template(random)?, self.config.null_caption, random))
            .collect::<Result<Vec<_>>>()?;
        Ok(TextBatch::prompts(&rows))
    }
}

impl<P: Projector> Stage for ConnectorStage<P> {
    type Module = P;

    fn loss(&self, module: &P, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let flow = self.data.drawn.as_ref().map(|drawn| self.flow(module, drawn, &mut random)).transpose()?;
        let (scenes, features) = &self.data.understood;
        let indices = pool::draw(&mut random, self.config.training.batch.div_ceil(2), scenes.len());
        let chosen = || indices.iter().map(|index| &scenes[*index]);
        let asked: Vec<Exchange> =
            chosen().map(|scene| self.texts.question(scene, &mut random)).collect::<Result<_>>()?;
        let visual = module.project(features.gather(&indices, &self.device()));
        let answers = answer_loss(&self.understanding, &asked, Some(visual.clone()));
        let answers = answers * self.config.understanding_weight;
        let Some(flow) = flow else { return Ok(answers) };
        let captions: Vec<Vec<u32>> =
            chosen().map(|scene| self.texts.dense(scene, &mut random)).collect::<Result<_>>()?;
        let templates = self.templates(indices.len(), &mut random)?;
        let seen = self.understanding.context(&templates, Some(visual));
        let read = self.understanding.context(&TextBatch::prompts(&captions), None);
        let apart = (seen.pooled - read.pooled).square().mean();
        Ok(flow + answers + apart * self.config.pooled_weight)
    }
}

impl<P: Projector> ConnectorStage<P> {
    /// The flow loss of a batch of what is drawn, from its features.
    fn flow(
        &self,
        module: &P,
        [features, latents]: &[Cache; 2],
        random: &mut ChaCha8Rng,
    ) -> Result<Tensor<1>> {
        let (batch, device) = (self.config.training.batch, self.device());
        let indices = pool::draw(random, batch, latents.len());
        let visual = module.project(features.gather(&indices, &device));
        let context = self.understanding.context(&self.templates(batch, random)?, Some(visual));
        let clean = latents.gather(&indices, &device);
        Ok(flow_loss(&self.generation, clean, &context, self.config.times, random))
    }

    fn device(&self) -> Device {
        self.generation.position_embedding.device()
    }
}
