//! Stage `generation`: sparse captions through the frozen understanding expert, latents of the
//! frozen autoencoder; the generation expert learns to draw.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    cache::Cache,
    objective::{TimeConfig, flow_loss},
    pool::{Mixture, PoolConfig},
    recipe::Recipe,
    stage::{Stage, Trainer, TrainingConfig},
    texts::Texts,
};
use crate::{
    Result,
    image::to_tensor,
    random,
    scene::{CaptionRates, Engine, Scene},
    umm::{TextBatch, generation::Generation, understanding::Understanding},
};

const TAG: u64 = u64::from_be_bytes(*b"generati");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationConfig {
    #[serde(flatten)]
    pub training: TrainingConfig,
    /// Part of the batch that shows two objects: relations are learned last.
    pub two_objects: f64,
    /// Part of the captions that say nothing, for guidance.
    pub null_caption: f64,
    #[serde(flatten)]
    pub times: TimeConfig,
    pub captions: CaptionRates,
    pub pool: PoolConfig,
}

pub struct GenerationStage {
    config: GenerationConfig,
    seed: u64,
    scenes: Arc<[Scene]>,
    /// One entry a scene.
    latents: Cache,
    texts: Texts,
    /// Frozen and plain.
    understanding: Understanding,
    mixture: Mixture,
}

impl GenerationStage {
    pub fn new(
        config: &GenerationConfig,
        seed: u64,
        scenes: Arc<[Scene]>,
        latents: Cache,
        texts: Texts,
        understanding: Understanding,
    ) -> Self {
        let mixture = Mixture::new(&scenes, config.two_objects);
        Self { config: config.clone(), seed, scenes, latents, texts, understanding, mixture }
    }
}

impl Stage for GenerationStage {
    type Module = Generation;

    fn loss(&self, module: &Generation, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let indices = self.mixture.draw(&mut random, self.config.training.batch);
        let prompts = indices
            .iter()
            .map(|index| {
                let caption = self.texts.sparse(&self.scenes[*index], self.config.captions, &mut random)?;
                self.texts.or_null(caption, self.config.null_caption, &mut random)
            })
            .collect::<Result<Vec<_>>>()?;
        let context = self.understanding.context(&TextBatch::prompts(&prompts), None).autodiff();
        let clean = self.latents.gather(&indices, &module.position_embedding.device());
        Ok(flow_loss(module, clean, &context, self.config.times, &mut random))
    }
}

/// The stage on random weights and a few scenes, to measure a step's cost.
///
/// # Errors
/// `bad_input` for a world that cannot be.
pub async fn untrained(
    recipe: &Recipe,
    engine: &Engine,
    scenes: u64,
    device: &Device,
) -> Result<Trainer<GenerationStage>> {
    let config = &recipe.stages.generation;
    let umm = recipe.init(device);
    let pool = PoolConfig { size: scenes, ..config.pool };
    let (scenes, images) = pool.samples(engine)?;
    let mut latents = Cache::default();
    latents.push(umm.autoencoder.encode(to_tensor(&images, device))).await?;
    let texts = Texts::new(recipe.tokenizer()?);
    let stage = GenerationStage::new(config, recipe.seed, scenes.into(), latents, texts, umm.understanding);
    Ok(Trainer::new(stage, umm.generation, config.training.clone()))
}
