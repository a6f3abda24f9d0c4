//! Every stage on the nano recipe, ready to be trained, and what the tests compare.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::{module::Module, tensor::Device};
use image::RgbImage;
use pollster::block_on;
use reca::{
    encoder::Family,
    image::to_tensor,
    random,
    reca::{External, ExternalConnector},
    scene::{Engine, Scene},
    train::{
        autoencoder::AutoencoderStage,
        cache::Cache,
        connector::{ConnectorData, ConnectorStage},
        contrastive::{Blueprint, ContrastiveStage},
        encoder::{EncoderModule, EncoderStage},
        generation::GenerationStage,
        recipe::Recipe,
        stage::{Stage, Trainer},
        texts::Texts,
        understanding::{UnderstandingModule, UnderstandingStage},
    },
    umm::Umm,
    weights::safetensors::{Precision, save},
};
use safetensors::SafeTensors;

pub struct Lab {
    pub recipe: Recipe,
    pub device: Device,
    pub understanding: (Vec<Scene>, Vec<RgbImage>),
    pub drawing: (Vec<Scene>, Vec<RgbImage>),
}

impl Lab {
    pub fn new(steps: u64) -> Self {
        let mut recipe = Recipe::named("nano").unwrap();
        for training in recipe.stages.trainings() {
            training.steps = steps;
            training.learning_rate = 3e-3;
        }
        let engine = Engine::new(recipe.world.clone()).unwrap();
        let understanding = recipe.stages.encoder.pool.samples(&engine).unwrap();
        let drawing = recipe.stages.generation.pool.samples(&engine).unwrap();
        Self { recipe, device: Device::flex(), understanding, drawing }
    }

    pub fn texts(&self) -> Texts {
        Texts::new(self.recipe.tokenizer().unwrap())
    }

    pub fn features(&self, umm: &Umm, images: &[RgbImage]) -> Cache {
        let mut cache = Cache::default();
        block_on(cache.push(umm.vision_model.forward(to_tensor(images, &self.device)))).unwrap();
        cache
    }

    pub fn latents(&self, umm: &Umm, images: &[RgbImage]) -> Cache {
        let mut cache = Cache::default();
        block_on(cache.push(umm.autoencoder.encode(to_tensor(images, &self.device)))).unwrap();
        cache
    }

    pub fn encoder(&self, umm: &Umm) -> Trainer<EncoderStage> {
        let config = &self.recipe.stages.encoder;
        let (scenes, images) = &self.understanding;
        let tokenizer = self.recipe.tokenizer().unwrap();
        let stage = EncoderStage::new(config, 0, scenes, images.clone().into(), &tokenizer).unwrap();
        Trainer::new(stage, EncoderModule::of(umm), config.training.clone())
    }

    pub fn autoencoder(&self, umm: &Umm) -> Trainer<AutoencoderStage> {
        let config = &self.recipe.stages.autoencoder;
        let stage = AutoencoderStage::new(config, 0, self.understanding.1.clone().into());
        Trainer::new(stage, umm.autoencoder.clone(), config.training.clone())
    }

    pub fn understanding(&self, umm: &Umm) -> Trainer<UnderstandingStage> {
        let config = &self.recipe.stages.understanding;
        let (scenes, images) = &self.understanding;
        let features = self.features(umm, images);
        let stage = UnderstandingStage::new(config, 0, scenes.clone().into(), features, self.texts());
        Trainer::new(stage, UnderstandingModule::of(umm), config.training.clone())
    }

    pub fn generation(&self, umm: &Umm) -> Trainer<GenerationStage> {
        let config = &self.recipe.stages.generation;
        let (scenes, images) = &self.drawing;
        let latents = self.latents(umm, images);
        let frozen = umm.understanding.clone();
        let stage = GenerationStage::new(config, 0, scenes.clone().into(), latents, self.texts(), frozen);
        Trainer::new(stage, umm.generation.clone(), config.training.clone())
    }

    pub fn connector(&self, umm: &Umm) -> Trainer<ConnectorStage> {
        let config = &self.recipe.stages.connector;
        let (scenes, seen) = &self.understanding;
        let (_, drawn) = &self.drawing;
        let data = ConnectorData {
            drawn: Some([self.features(umm, drawn), self.latents(umm, drawn)]),
            understood: (scenes.clone().into(), self.features(umm, seen)),
        };
        let stage = ConnectorStage::new(config, 0, data, self.texts(), umm);
        Trainer::new(stage, umm.connector.clone(), config.training.clone())
    }

    /// The towers of a family, with weights from a seed.
    pub fn towers(&self, family: Family, seed: u64) -> Trainer<ContrastiveStage> {
        let config = &self.recipe.stages.contrastive;
        let (scenes, images) = self.understanding.clone();
        let blueprint = Arc::new(Blueprint::new(family, &self.recipe).unwrap());
        let towers = blueprint.init(seed, config.training.batch, &self.device);
        let samples = (scenes.into(), images.into());
        let stage = ContrastiveStage::new(config, 0, blueprint, samples, self.texts());
        Trainer::new(stage, towers, config.training.clone())
    }

    /// The connector of an encoder that is not the model's own, from a seed.
    pub fn external(&self, umm: &Umm, seed: u64) -> Trainer<ConnectorStage<ExternalConnector>> {
        let config = &self.recipe.stages.connector;
        let (scenes, seen) = &self.understanding;
        let (_, drawn) = &self.drawing;
        let blueprint = Blueprint::new(Family::Clip, &self.recipe).unwrap();
        let external = External {
            encoder: blueprint.init(0, 8, &self.device),
            preprocessor: blueprint.preprocessor,
            patch_size: blueprint.config.vision.patch_size,
            layer: 1,
        };
        let features = |images: &[RgbImage]| {
            let mut cache = Cache::default();
            block_on(cache.push(external.features(images, 4, &self.device).unwrap())).unwrap();
            cache
        };
        let data = ConnectorData {
            drawn: Some([features(drawn), self.latents(umm, drawn)]),
            understood: (scenes.clone().into(), features(seen)),
        };
        let stage = ConnectorStage::new(config, 0, data, self.texts(), umm);
        let size = self.recipe.stages.contrastive.towers.hidden_size;
        let fresh = || ExternalConnector::new(size, &self.recipe.model, &self.device);
        Trainer::new(stage, random::seeded(&self.device, seed, fresh), config.training.clone())
    }
}

/// Makes all steps, and checks that the same eight batches cost at most `to` of what they cost before.
pub fn train<S: Stage>(name: &str, trainer: &mut Trainer<S>, to: f32) {
    let before = loss(trainer);
    while !trainer.is_finished() {
        assert!(block_on(trainer.step()).unwrap().loss.is_finite());
    }
    let after = loss(trainer);
    println!("{name}: {before} to {after}");
    assert!(after < to * before, "{name}: {before} to {after}");
}

pub fn loss<S: Stage>(trainer: &Trainer<S>) -> f32 {
    let module = trainer.result().clone().train();
    (0..8).map(|step| trainer.stage().loss(&module, step).unwrap().into_scalar::<f32>()).sum::<f32>() / 8.0
}

/// Tensor bytes by name.
pub fn tensors<M: Module>(module: &M) -> BTreeMap<String, Vec<u8>> {
    let file = block_on(save(module, Precision::F32)).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

pub fn changed(before: &Umm, after: &Umm) -> BTreeSet<String> {
    let (before, after) = (tensors(before), tensors(after));
    before.into_iter().filter(|(name, data)| after[name] != *data).map(|(name, _)| name).collect()
}

pub fn names(umm: &Umm, prefixes: &[&str]) -> BTreeSet<String> {
    let all = tensors(umm).into_keys();
    all.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect()
}
