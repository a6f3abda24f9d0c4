//! Reconstruction Alignment in the tab, a step a call.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use js_sys::Uint8Array;
use serde::{Deserialize, Serialize};
use tsify::{Ts, Tsify};
use wasm_bindgen::prelude::*;

use super::{Runtime, scenes::named, tuned::Tuned};
use crate::{
    Error, Pipeline, Result, image,
    reca::{
        AlignConfig, AlignImages, AlignStage, ConditionConfig, Method, TWO_OBJECTS, condition::TOKEN_DROP,
    },
    scene::{Pool, Split},
    train::{optim::Rule, pool::PoolConfig, stage::Trainer, texts::Texts},
    weights::manifest::FileEntry,
};

/// How to align; what is left out has its default.
#[derive(Clone, Deserialize, Serialize, Tsify)]
#[serde(default, rename_all = "camelCase")]
pub struct AlignOptions {
    /// Default 100.
    pub steps: u64,
    /// Pictures a step. Default 8.
    pub batch: usize,
    /// Highest learning rate. Default 2e-4.
    pub learning_rate: f64,
    /// Of batches and noise. Default 0.
    pub seed: u64,
    /// RecA, or what it is measured against. Default `reca`.
    #[tsify(type = "'reca' | 'shuffled' | 'sft-sparse' | 'sft-dense'")]
    pub method: Method,
    /// The update rule; Muon's rates are those of AdamW. Default `adamw`.
    #[tsify(type = "'adamw' | 'muon'")]
    pub optimizer: Rule,
    /// Weight of the captioned loss on pictures of the kind that the base was taught to draw, which keeps
    /// what captions taught; above 0 a step takes twice the time. Default 0.
    pub lambda_t2i: f32,
    /// Largest share of a picture's embeddings that a step leaves out, drawn anew each step. Default 0.75.
    pub token_drop: f64,
}

impl Default for AlignOptions {
    fn default() -> Self {
        Self {
            steps: 100,
            batch: 8,
            learning_rate: 2e-4,
            seed: 0,
            method: Method::Reca,
            optimizer: Rule::AdamW,
            lambda_t2i: 0.0,
            token_drop: TOKEN_DROP,
        }
    }
}

impl AlignOptions {
    fn config(&self) -> Result<AlignConfig> {
        let Self { steps, batch, learning_rate, .. } = *self;
        if !(1..=100_000).contains(&steps) || !(2..=256).contains(&batch) {
            return Err(Error::bad_input("steps must be 1 to 100000, and batch 2 to 256"));
        }
        if !(learning_rate > 0.0 && learning_rate <= 0.1) {
            return Err(Error::bad_input("learningRate must be above 0, at most 0.1"));
        }
        if !(0.0..=100.0).contains(&self.lambda_t2i) {
            return Err(Error::bad_input("lambdaT2i must be 0 to 100"));
        }
        if !(0.0..=1.0).contains(&self.token_drop) {
            return Err(Error::bad_input("tokenDrop must be 0 to 1"));
        }
        let (method, lambda_t2i) = (self.method, self.lambda_t2i);
        let condition = ConditionConfig { token_drop: self.token_drop, ..ConditionConfig::default() };
        let mut config = AlignConfig { method, condition, lambda_t2i, ..AlignConfig::default() };
        config.training.steps = steps;
        config.training.batch = batch;
        config.training.learning_rate = learning_rate;
        config.training.optimizer = self.optimizer;
        Ok(config)
    }
}

/// One step's outcome.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct AlignStep {
    /// Steps made, this one included.
    pub step: u64,
    pub loss: f32,
    pub learning_rate: f64,
}

/// Pictures to learn from, read once by the frozen half of the model.
#[wasm_bindgen]
pub struct Pictures {
    base: Rc<Pipeline>,
    images: AlignImages,
    /// What is in it, so that a checkpoint is not taken to other pictures.
    parts: Vec<String>,
}

#[wasm_bindgen]
impl Pictures {
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.images.len()
    }

    /// Adds one picture, an image file.
    pub async fn add(&mut self, file: Vec<u8>) -> Result<()> {
        let picture = image::fit(&image::decode(&file)?, self.base.config.image_size as u32);
        self.images.push(&self.base.umm, &[picture], &AlignConfig::default().condition).await?;
        self.parts.push(FileEntry::of(&file).sha256);
        Ok(())
    }

    /// Adds scenes `from` to `from + count` of a pool and seed, of some nouns or of all; only controls read
    /// what they show. Those of the pool `drawing` are for `lambda_t2i` and get no embeddings.
    #[wasm_bindgen(js_name = addScenes)]
    pub async fn add_scenes(
        &mut self,
        runtime: &Runtime,
        pool: String,
        seed: u64,
        from: u64,
        count: u64,
        nouns: Option<Vec<String>>,
    ) -> Result<()> {
        let of = nouns.as_ref().map_or(String::new(), |nouns| format!(" of {}", nouns.join(", ")));
        let engine = runtime.engine_of(nouns)?;
        let kind = named(&pool)?;
        let two_objects = (kind == Pool::Drawing).then(|| two_objects(self.base.recipe()));
        let percent = two_objects.map_or(0, |share| (100.0 * share) as u8);
        let part = format!("{pool} {seed} {from} {count} {percent}{of}");
        let config = PoolConfig { kind, seed, size: count, two_objects };
        let made = (from..from + count).map(|index| config.sample(&engine, index));
        let (scenes, pictures): (Vec<_>, Vec<_>) = made.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        if config.kind == Pool::Drawing {
            self.images.push_captioned(&self.base.umm, &pictures, scenes).await?;
        } else {
            self.images.push(&self.base.umm, &pictures, &AlignConfig::default().condition).await?;
            self.images.describe(scenes);
        }
        self.parts.push(part);
        Ok(())
    }
}

/// Share of scenes of two objects that a model was taught drawing with: `stages.generation.two_objects` of its
/// recipe. The recipes themselves, and what reads them, would make the build larger.
fn two_objects(recipe: Option<&str>) -> f32 {
    match recipe {
        Some("tiny") => 0.65,
        _ => TWO_OBJECTS,
    }
}

/// An alignment under way. Pausing is not calling [`Alignment::step`], cancelling is `free()`.
#[wasm_bindgen]
pub struct Alignment {
    base: Rc<Pipeline>,
    aligned: Rc<RefCell<Tuned>>,
    trainer: Trainer<AlignStage>,
    /// Names the model, the pictures and the settings.
    run: String,
}

#[wasm_bindgen]
impl Alignment {
    /// One training step: a batch, its loss, an update.
    pub async fn step(&mut self) -> Result<Ts<AlignStep>> {
        let made = self.trainer.step().await?;
        AlignStep { step: made.step, loss: made.loss, learning_rate: made.learning_rate }
            .into_ts()
            .map_err(Error::internal)
    }

    /// Steps made so far.
    #[wasm_bindgen(getter)]
    pub fn made(&self) -> u64 {
        self.trainer.progress().0
    }

    /// Steps in all.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> u64 {
        self.trainer.progress().1
    }

    /// Makes what has been learned so far the runtime's aligned weights.
    pub fn publish(&self) {
        self.aligned.borrow_mut().set(&self.base, self.trainer.result().clone());
    }

    /// All that a later alignment of the same pictures and settings needs to go on.
    pub async fn checkpoint(&self) -> Result<Uint8Array> {
        Ok(Uint8Array::from(self.trainer.checkpoint(&self.run).await?.as_slice()))
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// `bad_input` for one of another run, `weights_format` and `weights_shape` for a damaged one.
    pub fn resume(&mut self, checkpoint: &[u8]) -> Result<()> {
        self.trainer.resume(&self.run, checkpoint)
    }
}

#[wasm_bindgen]
impl Runtime {
    /// Begins an empty collection of pictures to align on.
    #[wasm_bindgen(js_name = pictures)]
    pub fn align_pictures(&self) -> Result<Pictures> {
        Ok(Pictures { base: self.whole()?, images: AlignImages::default(), parts: Vec::new() })
    }

    /// Begins an alignment of the base; the pictures are used up. `captioned` are scenes of the pool
    /// `drawing`, for `lambda_t2i`.
    ///
    /// # Errors
    /// `bad_input` for options out of range, for less than two pictures, and where a control or
    /// `lambda_t2i` needs captions that the pictures lack.
    pub fn align(
        &self,
        pictures: Pictures,
        captioned: Option<Pictures>,
        options: Ts<AlignOptions>,
    ) -> Result<Alignment> {
        let options = options.to_rust().map_err(Error::bad_input)?;
        let config = options.config()?;
        let Pictures { base, images, parts } = pictures;
        let (captioned, own) = captioned.map(|own| (Arc::new(own.images), own.parts)).unzip();
        let run = serde_json::to_string(&(&config, options.seed, &parts, own)).map_err(Error::internal)?;
        let none = Split::new(&[], Default::default());
        let engine = self.world.borrow().clone();
        let split = engine.as_ref().map_or(&none, |engine| engine.split());
        let texts = Texts::new(base.tokenizer.clone());
        let images = Arc::new(images);
        let stage = AlignStage::new(&config, options.seed, images, captioned, texts, split, &base.umm)?;
        let trainer = Trainer::new(stage, base.umm.generation.clone(), config.training);
        Ok(Alignment { base, aligned: self.aligned.clone(), trainer, run })
    }
}
