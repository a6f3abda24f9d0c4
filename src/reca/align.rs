//! Reconstruction Alignment as a training stage, and its controls.

use std::sync::Arc;

use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{condition::ConditionConfig, images::AlignImages};
use crate::{
    Error, Result, random,
    scene::{CaptionRates, Scene, Split, caption},
    train::{
        objective::{TimeConfig, flow_loss},
        pool,
        stage::{Stage, TrainingConfig},
        texts::Texts,
    },
    umm::{Context, TextBatch, Umm, generation::Generation, understanding::Understanding},
};

const TAG: u64 = u64::from_be_bytes(*b"alignmen");

/// Share of scenes of two objects among those that are rehearsed, where no recipe says it: as many as
/// drawing from text was taught with.
pub const TWO_OBJECTS: f32 = 0.75;

/// RecA, and what it is measured against: the same trainer, images and steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The image's own embeddings.
    #[default]
    Reca,
    /// Another image's embeddings: nothing can be learned but the pool's average.
    Shuffled,
    /// Captions by the rule the base was trained on: sparse, and silent about every colour that the
    /// base's captions never named.
    SftSparse,
    /// Captions that say all: an oracle, since they label what is tested.
    SftDense,
}

impl Method {
    pub const ALL: [Self; 4] = [Self::Reca, Self::Shuffled, Self::SftSparse, Self::SftDense];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reca => "reca",
            Self::Shuffled => "shuffled",
            Self::SftSparse => "sft-sparse",
            Self::SftDense => "sft-dense",
        }
    }

    /// Whether it needs to be told what the images show.
    pub fn needs_captions(self) -> bool {
        matches!(self, Self::SftSparse | Self::SftDense)
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlignConfig {
    #[serde(flatten)]
    pub training: TrainingConfig,
    pub method: Method,
    pub condition: ConditionConfig,
    /// Part of the templates (or captions) that say nothing, so that guidance goes on working. The
    /// image's embeddings stay.
    pub template_drop: f64,
    /// Weight of the captioned flow loss on the base's own pool beside RecA's (the paper's
    /// `lambda_t2i`, 0 there).
    pub lambda_t2i: f32,
    /// How often sparse captions name things.
    pub captions: CaptionRates,
    #[serde(flatten)]
    pub times: TimeConfig,
}

impl Default for AlignConfig {
    /// Gentle and short: 500 steps of 64 at a tenth of the base's learning rate. Fewer steps warm up as slowly:
    /// at the full rate from the beginning, 10 to 30 of them cost points (`docs/recipe.md`).
    fn default() -> Self {
        Self {
            training: TrainingConfig {
                steps: 500,
                batch: 64,
                learning_rate: 1e-4,
                warmup: 20,
                ..TrainingConfig::default()
            },
            method: Method::Reca,
            condition: ConditionConfig::default(),
            template_drop: 0.1,
            lambda_t2i: 0.0,
            captions: CaptionRates { colour: 0.7, relation: 0.3, count: 0.7, style: 0.7 },
            times: TimeConfig { mean: -0.8, std: 0.8 },
        }
    }
}

/// The generation expert in alignment; everything else is frozen.
pub struct AlignStage {
    config: AlignConfig,
    seed: u64,
    images: Arc<AlignImages>,
    /// What the captioned controls say; their scenes hide what the base's captions never named.
    scenes: Vec<Scene>,
    /// The base's own captioned pool, for `lambda_t2i`.
    captioned: Option<Arc<AlignImages>>,
    texts: Texts,
    understanding: Understanding,
}

impl AlignStage {
    /// `images` must have been read by the same `umm` with the config's condition.
    ///
    /// # Errors
    /// `bad_input` without images, or without captions for a method or `lambda_t2i` that needs them.
    pub fn new(
        config: &AlignConfig,
        seed: u64,
        images: Arc<AlignImages>,
        captioned: Option<Arc<AlignImages>>,
        texts: Texts,
        split: &Split,
        umm: &Umm,
    ) -> Result<Self> {
        if images.len() < 2 {
            return Err(Error::bad_input("alignment needs at least two images"));
        }
        let method = config.method;
        if method.needs_captions() && images.scenes.len() != images.len() {
            return Err(Error::bad_input(format!(
                "{} needs captions, which only the data engine's own scenes have; give it a pool instead of \
                 images",
                method.name()
            )));
        }
        if !method.needs_captions() && images.conditions.len() != images.len() {
            return Err(Error::bad_input(format!("{} needs the pictures' embeddings", method.name())));
        }
        let told = captioned.as_ref().is_some_and(|own| !own.is_empty() && own.scenes.len() == own.len());
        if config.lambda_t2i > 0.0 && !told {
            return Err(Error::bad_input("lambda_t2i needs the base's captioned pool"));
        }
        let scenes = match method {
            Method::SftSparse => images.scenes.iter().map(|scene| caption::silent(scene, split)).collect(),
            Method::SftDense => images.scenes.clone(),
            Method::Reca | Method::Shuffled => Vec::new(),
        };
        let understanding = umm.understanding.clone();
        Ok(Self { config: config.clone(), seed, images, scenes, captioned, texts, understanding })
    }

    /// What is drawn from for the images of a batch.
    fn context(&self, indices: &[usize], random: &mut ChaCha8Rng) -> Result<Context> {
        let visual = match self.config.method {
            Method::Reca => Some(self.conditions(indices, random)),
            Method::Shuffled => {
                let mut others = indices.to_vec();
                others.rotate_left(1);
                Some(self.conditions(&others, random))
            }
            Method::SftSparse | Method::SftDense => None,
        };
        let text = |index: &usize| {
            let text = match self.config.method {
                Method::Reca | Method::Shuffled => self.texts.template(random)?,
                Method::SftSparse => self.sparse(&self.scenes[*index], random)?,
                Method::SftDense => self.texts.dense(&self.scenes[*index], random)?,
            };
            self.texts.or_null(text, self.config.template_drop, random)
        };
        let rows = indices.iter().map(text).collect::<Result<Vec<_>>>()?;
        Ok(self.understanding.context(&TextBatch::prompts(&rows), visual).autodiff())
    }

    /// The embeddings of pictures, the same ones left out of each.
    fn conditions(&self, indices: &[usize], random: &mut ChaCha8Rng) -> Tensor<3> {
        let device = self.understanding.position_embedding.weight.device();
        self.config.condition.dropped(self.images.conditions.gather(indices, &device), random)
    }

    fn sparse(&self, scene: &Scene, random: &mut ChaCha8Rng) -> Result<Vec<u32>> {
        self.texts.sparse(scene, self.config.captions, random)
    }

    /// The flow loss on the base's captioned pool.
    fn captioned(
        &self,
        own: &AlignImages,
        module: &Generation,
        random: &mut ChaCha8Rng,
    ) -> Result<Tensor<1>> {
        let indices = pool::draw(random, self.config.training.batch, own.len());
        let rows = indices
            .iter()
            .map(|index| {
                let caption = self.sparse(&own.scenes[*index], random)?;
                self.texts.or_null(caption, self.config.template_drop, random)
            })
            .collect::<Result<Vec<_>>>()?;
        let context = self.understanding.context(&TextBatch::prompts(&rows), None).autodiff();
        let clean = own.latents.gather(&indices, &module.position_embedding.device());
        Ok(flow_loss(module, clean, &context, self.config.times, random))
    }
}

impl Stage for AlignStage {
    type Module = Generation;

    fn loss(&self, module: &Generation, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let indices = pool::draw(&mut random, self.config.training.batch, self.images.len());
        let context = self.context(&indices, &mut random)?;
        let clean = self.images.latents.gather(&indices, &module.position_embedding.device());
        let loss = flow_loss(module, clean, &context, self.config.times, &mut random);
        match &self.captioned {
            Some(own) if self.config.lambda_t2i > 0.0 => {
                Ok(loss + self.captioned(own, module, &mut random)? * self.config.lambda_t2i)
            }
            _ => Ok(loss),
        }
    }
}
