//! Stage `understanding`: questions about images, and, for a part of the batch, about their
//! captions, so that text and image contexts become one language. The vision tower is frozen.

use std::sync::Arc;

use burn::{module::Module, tensor::Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    cache::Cache,
    objective::{Exchange, answer_loss},
    pool::PoolConfig,
    stage::{Stage, TrainingConfig},
    texts::Texts,
};
use crate::{
    Result, random,
    scene::Scene,
    umm::{Umm, connector::Connector, understanding::Understanding},
};

const TAG: u64 = u64::from_be_bytes(*b"understa");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnderstandingConfig {
    #[serde(flatten)]
    pub training: TrainingConfig,
    /// Part of the batch, and of the loss, that reads a caption instead of an image.
    pub text_only: f32,
    /// Part of the batch that shows two objects: relations are learned last.
    pub two_objects: f64,
    pub pool: PoolConfig,
}

/// What the stage trains.
#[derive(Module, Debug)]
pub struct UnderstandingModule {
    pub connector: Connector,
    pub understanding: Understanding,
}

impl UnderstandingModule {
    pub fn of(umm: &Umm) -> Self {
        Self { connector: umm.connector.clone(), understanding: umm.understanding.clone() }
    }

    pub fn put_into(self, mut umm: Umm) -> Umm {
        umm.connector = self.connector;
        umm.understanding = self.understanding;
        umm
    }
}

pub struct UnderstandingStage {
    scenes: Arc<[Scene]>,
    /// Of the vision tower, one entry a scene.
    features: Cache,
    texts: Texts,
    config: UnderstandingConfig,
    /// The scenes of two objects, and the others.
    kinds: [Vec<usize>; 2],
    seed: u64,
}

impl UnderstandingStage {
    pub fn new(
        config: &UnderstandingConfig,
        seed: u64,
        scenes: Arc<[Scene]>,
        features: Cache,
        texts: Texts,
    ) -> Self {
        let (two, others) = (0..scenes.len()).partition(|index| scenes[*index].relation.is_some());
        Self { scenes, features, texts, config: config.clone(), kinds: [two, others], seed }
    }
}

impl UnderstandingStage {
    /// Samples of a batch, with replacement, two objects at their own rate.
    fn draw(&self, random: &mut ChaCha8Rng, batch: usize) -> Vec<usize> {
        let one = |_| {
            let two = random::uniform(random) < self.config.two_objects;
            let wanted = &self.kinds[usize::from(!two)];
            let kind = if wanted.is_empty() { &self.kinds[usize::from(two)] } else { wanted };
            kind[random::below(random, kind.len())]
        };
        (0..batch).map(one).collect()
    }
}

impl Stage for UnderstandingStage {
    type Module = UnderstandingModule;

    fn loss(&self, module: &UnderstandingModule, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let (batch, text_only) = (self.config.training.batch, self.config.text_only);
        let indices = self.draw(&mut random, batch);
        let (read, seen) = indices.split_at((text_only * batch as f32).round() as usize);
        let read: Vec<Exchange> = read
            .iter()
            .map(|index| {
                let mut prompt = self.texts.dense(&self.scenes[*index], &mut random)?;
                let (question, answer) = self.texts.question(&self.scenes[*index], &mut random)?;
                prompt.extend(question);
                Ok((prompt, answer))
            })
            .collect::<Result<_>>()?;
        let asked: Vec<Exchange> = seen
            .iter()
            .map(|index| self.texts.question(&self.scenes[*index], &mut random))
            .collect::<Result<_>>()?;
        let device = module.understanding.position_embedding.weight.device();
        let visual = module.connector.forward(self.features.gather(seen, &device));
        let from_image = answer_loss(&module.understanding, &asked, Some(visual));
        if read.is_empty() {
            return Ok(from_image);
        }
        let from_text = answer_loss(&module.understanding, &read, None);
        Ok(from_image * (1.0 - text_only) + from_text * text_only)
    }
}
