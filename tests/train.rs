//! The five stages on the nano recipe.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::Arc;

use burn::{module::Module, tensor::Device};
use image::RgbImage;
use pollster::block_on;
use reca::{
    Pipeline, Result,
    encoder::Family,
    flow::sampler::SamplerConfig,
    image::to_tensor,
    random,
    reca::{External, ExternalConnector},
    scene::{Engine, Scene},
    train::{
        autoencoder::{self, AutoencoderStage},
        cache::Cache,
        checkpoint,
        connector::ConnectorStage,
        contrastive::{Blueprint, ContrastiveStage},
        encoder::{EncoderModule, EncoderStage},
        export,
        generation::{self, GenerationStage},
        optim::Rule,
        recipe::{Recipe, StageName},
        stage::{Stage, Trainer},
        texts::Texts,
        understanding::{UnderstandingModule, UnderstandingStage},
    },
    umm::Umm,
    weights::{
        ModelFiles,
        safetensors::{Precision, load, save},
    },
};
use safetensors::SafeTensors;

struct Lab {
    recipe: Recipe,
    device: Device,
    understanding: (Vec<Scene>, Vec<RgbImage>),
    drawing: (Vec<Scene>, Vec<RgbImage>),
}

impl Lab {
    fn new(steps: u64) -> Self {
        let mut recipe = Recipe::named("nano").unwrap();
        let stages = &mut recipe.stages;
        for training in [
            &mut stages.encoder.training,
            &mut stages.autoencoder.training,
            &mut stages.understanding.training,
            &mut stages.generation.training,
            &mut stages.connector.training,
            &mut stages.contrastive.training,
        ] {
            training.steps = steps;
            training.learning_rate = 3e-3;
        }
        let engine = Engine::new(recipe.world.clone()).unwrap();
        let understanding = recipe.stages.encoder.pool.samples(&engine).unwrap();
        let drawing = recipe.stages.generation.pool.samples(&engine).unwrap();
        Self { recipe, device: Device::flex(), understanding, drawing }
    }

    fn texts(&self) -> Texts {
        Texts::new(self.recipe.tokenizer().unwrap())
    }

    fn features(&self, umm: &Umm, images: &[RgbImage]) -> Cache {
        let mut cache = Cache::default();
        block_on(cache.push(umm.vision_model.forward(to_tensor(images, &self.device)))).unwrap();
        cache
    }

    fn latents(&self, umm: &Umm, images: &[RgbImage]) -> Cache {
        let mut cache = Cache::default();
        block_on(cache.push(umm.autoencoder.encode(to_tensor(images, &self.device)))).unwrap();
        cache
    }

    fn encoder(&self, umm: &Umm) -> Trainer<EncoderStage> {
        let config = &self.recipe.stages.encoder;
        let (scenes, images) = &self.understanding;
        let tokenizer = self.recipe.tokenizer().unwrap();
        let stage = EncoderStage::new(config, 0, scenes, images.clone().into(), &tokenizer).unwrap();
        Trainer::new(stage, EncoderModule::of(umm), config.training.clone())
    }

    fn autoencoder(&self, umm: &Umm) -> Trainer<AutoencoderStage> {
        let config = &self.recipe.stages.autoencoder;
        let stage = AutoencoderStage::new(config, 0, self.understanding.1.clone().into());
        Trainer::new(stage, umm.autoencoder.clone(), config.training.clone())
    }

    fn understanding(&self, umm: &Umm) -> Trainer<UnderstandingStage> {
        let config = &self.recipe.stages.understanding;
        let (scenes, images) = &self.understanding;
        let features = self.features(umm, images);
        let stage = UnderstandingStage::new(config, 0, scenes.clone().into(), features, self.texts());
        Trainer::new(stage, UnderstandingModule::of(umm), config.training.clone())
    }

    fn generation(&self, umm: &Umm) -> Trainer<GenerationStage> {
        let config = &self.recipe.stages.generation;
        let (scenes, images) = &self.drawing;
        let latents = self.latents(umm, images);
        let frozen = umm.understanding.clone();
        let stage = GenerationStage::new(config, 0, scenes.clone().into(), latents, self.texts(), frozen);
        Trainer::new(stage, umm.generation.clone(), config.training.clone())
    }

    fn connector(&self, umm: &Umm) -> Trainer<ConnectorStage> {
        let config = &self.recipe.stages.connector;
        let (scenes, images) = &self.drawing;
        let caches = [self.features(umm, images), self.latents(umm, images)];
        let stage = ConnectorStage::new(config, 0, scenes.clone().into(), caches, self.texts(), umm);
        Trainer::new(stage, umm.connector.clone(), config.training.clone())
    }

    /// The towers of a family, with weights from a seed.
    fn towers(&self, family: Family, seed: u64) -> Trainer<ContrastiveStage> {
        let config = &self.recipe.stages.contrastive;
        let (scenes, images) = self.understanding.clone();
        let blueprint = Arc::new(Blueprint::new(family, &self.recipe).unwrap());
        let towers = blueprint.init(seed, config.training.batch, &self.device);
        let samples = (scenes.into(), images.into());
        let stage = ContrastiveStage::new(config, 0, blueprint, samples, self.texts());
        Trainer::new(stage, towers, config.training.clone())
    }

    /// The connector of an encoder that is not the model's own, from a seed.
    fn external(&self, umm: &Umm, seed: u64) -> Trainer<ConnectorStage<ExternalConnector>> {
        let config = &self.recipe.stages.connector;
        let (scenes, images) = &self.drawing;
        let blueprint = Blueprint::new(Family::Clip, &self.recipe).unwrap();
        let external = External {
            encoder: blueprint.init(0, 8, &self.device),
            preprocessor: blueprint.preprocessor,
            patch_size: blueprint.config.vision.patch_size,
            layer: 1,
        };
        let mut features = Cache::default();
        block_on(features.push(external.features(images, 4, &self.device).unwrap())).unwrap();
        let caches = [features, self.latents(umm, images)];
        let stage = ConnectorStage::new(config, 0, scenes.clone().into(), caches, self.texts(), umm);
        let size = self.recipe.stages.contrastive.towers.hidden_size;
        let fresh = || ExternalConnector::new(size, &self.recipe.model, &self.device);
        Trainer::new(stage, random::seeded(&self.device, seed, fresh), config.training.clone())
    }
}

/// Makes all steps, and checks that the same eight batches cost at most `to` of what they cost before.
fn train<S: Stage>(name: &str, trainer: &mut Trainer<S>, to: f32) {
    let before = loss(trainer);
    while !trainer.is_finished() {
        assert!(block_on(trainer.step()).unwrap().loss.is_finite());
    }
    let after = loss(trainer);
    println!("{name}: {before} to {after}");
    assert!(after < to * before, "{name}: {before} to {after}");
}

fn loss<S: Stage>(trainer: &Trainer<S>) -> f32 {
    let module = trainer.result().clone().train();
    (0..8).map(|step| trainer.stage().loss(&module, step).unwrap().into_scalar::<f32>()).sum::<f32>() / 8.0
}

/// Tensor bytes by name.
fn tensors<M: Module>(module: &M) -> BTreeMap<String, Vec<u8>> {
    let file = block_on(save(module, Precision::F32)).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

fn changed(before: &Umm, after: &Umm) -> BTreeSet<String> {
    let (before, after) = (tensors(before), tensors(after));
    before.into_iter().filter(|(name, data)| after[name] != *data).map(|(name, _)| name).collect()
}

fn names(umm: &Umm, prefixes: &[&str]) -> BTreeSet<String> {
    let all = tensors(umm).into_keys();
    all.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect()
}

#[test]
fn each_stage_learns_and_changes_its_own_part_alone() {
    let lab = Lab::new(80);
    let start = lab.recipe.init(&lab.device);

    let mut trainer = lab.encoder(&start);
    train("encoder", &mut trainer, 0.7);
    let umm = trainer.result().clone().put_into(start.clone());
    let trained = ["vision_model.", "understanding.token_embedding.", "understanding.lm_head."];
    assert_eq!(changed(&start, &umm), names(&umm, &trained));
    let after = tensors(&umm);
    assert_eq!(after["understanding.lm_head.weight"], after["understanding.token_embedding.weight"]);

    let mut trainer = lab.autoencoder(&umm);
    train("autoencoder", &mut trainer, 0.7);
    let before = umm.clone();
    let mut umm = umm;
    umm.autoencoder =
        block_on(autoencoder::normalise(trainer.result().clone(), &lab.understanding.1)).unwrap();
    assert_eq!(changed(&before, &umm), names(&umm, &["autoencoder."]));
    let latents = umm.autoencoder.encode(to_tensor(&lab.understanding.1, &lab.device));
    let (variance, mean) = latents.reshape([64 * 16, 16]).var_mean(0);
    assert!(mean.abs().max().into_scalar::<f32>() < 1e-4);
    assert!((variance - 1.0).abs().max().into_scalar::<f32>() < 1e-3);

    let mut trainer = lab.understanding(&umm);
    train("understanding", &mut trainer, 0.7);
    let before = umm.clone();
    let umm = trainer.result().clone().put_into(umm);
    assert_eq!(changed(&before, &umm), names(&umm, &["connector.", "understanding."]));

    let mut trainer = lab.generation(&umm);
    train("generation", &mut trainer, 0.95);
    let before = umm.clone();
    let mut umm = umm;
    umm.generation = trainer.result().clone();
    assert_eq!(changed(&before, &umm), names(&umm, &["generation."]));
    assert_ne!(tensors(trainer.result()), tensors(trainer.current()), "the result is the average");

    let mut trainer = lab.connector(&umm);
    train("connector", &mut trainer, 1.0);
    let before = umm.clone();
    let mut umm = umm;
    umm.connector = trainer.result().clone();
    assert_eq!(changed(&before, &umm), names(&umm, &["connector."]));

    let files = block_on(export::model_files(&lab.recipe, &umm)).unwrap();
    let pipeline = Pipeline::new(&files, &lab.device).unwrap();
    let config = SamplerConfig { steps: 2, ..SamplerConfig::default() };
    let mut drawing = pipeline.generate("a red car", &[0, 1], config).unwrap();
    while drawing.advance() {}
    assert_eq!(block_on(drawing.images()).unwrap().len(), 2);
}

/// Five steps in one go, and two, a checkpoint, and three by a trainer that starts elsewhere.
fn assert_resumes<S: Stage>(make: impl Fn(&Umm) -> Trainer<S>, start: &Umm, elsewhere: &Umm) -> Vec<u8> {
    let mut straight = make(start);
    for _ in 0..5 {
        block_on(straight.step()).unwrap();
    }
    let mut first = make(start);
    for _ in 0..2 {
        block_on(first.step()).unwrap();
    }
    let saved = block_on(first.checkpoint("run")).unwrap();
    let mut second = make(elsewhere);
    second.resume("run", &saved).unwrap();
    assert_eq!(second.progress().0, 2);
    for _ in 0..3 {
        block_on(second.step()).unwrap();
    }
    let (straight, resumed) = [&straight, &second].map(|t| block_on(t.checkpoint("run")).unwrap()).into();
    let (straight, resumed): (Vec<u8>, Vec<u8>) = (straight, resumed);
    for (name, view) in SafeTensors::deserialize(&straight).unwrap().iter() {
        let other = SafeTensors::deserialize(&resumed).unwrap();
        assert!(view.data() == other.tensor(name).unwrap().data(), "{name} differs");
    }
    straight
}

/// Parameters without any gradient in five steps.
fn without_gradient(checkpoint: &[u8]) -> BTreeSet<String> {
    let file = SafeTensors::deserialize(checkpoint).unwrap();
    let moments =
        file.iter().filter_map(|(name, view)| Some((name.strip_prefix("moment_1.")?.to_owned(), view)));
    let silent = moments.filter(|(_, view)| view.data().iter().all(|byte| *byte == 0));
    silent.map(|(name, _)| name).collect()
}

#[test]
fn a_resumed_run_is_the_straight_run_bit_for_bit_and_gradients_reach_every_parameter() {
    let mut lab = Lab::new(40);
    let start = lab.recipe.init(&lab.device);
    // The parts that a stage needs frozen are the same in both; what it trains is not.
    let other = Umm::new(&lab.recipe.model, &lab.device);

    let mut elsewhere = start.clone();
    elsewhere.vision_model = other.vision_model.clone();
    let end = assert_resumes(|umm| lab.encoder(umm), &start, &elsewhere);
    assert_eq!(without_gradient(&end), BTreeSet::new());

    let mut elsewhere = start.clone();
    elsewhere.autoencoder = other.autoencoder.clone();
    let end = assert_resumes(|umm| lab.autoencoder(umm), &start, &elsewhere);
    assert_eq!(without_gradient(&end), BTreeSet::from(["latent_mean", "latent_std"].map(String::from)));

    let mut elsewhere = start.clone();
    elsewhere.understanding = other.understanding.clone();
    let end = assert_resumes(|umm| lab.understanding(umm), &start, &elsewhere);
    assert_eq!(without_gradient(&end), BTreeSet::new());

    let mut elsewhere = start.clone();
    elsewhere.generation = other.generation.clone();
    let end = assert_resumes(|umm| lab.generation(umm), &start, &elsewhere);
    assert_eq!(without_gradient(&end), BTreeSet::new());

    // A generator that has learned nothing is blind to its context.
    let mut learned = start.clone();
    let mut trainer = lab.generation(&start);
    train("generation", &mut trainer, 1.0);
    learned.generation = trainer.result().clone();
    let mut elsewhere = learned.clone();
    elsewhere.connector = other.connector.clone();
    let end = assert_resumes(|umm| lab.connector(umm), &learned, &elsewhere);
    assert_eq!(without_gradient(&end), BTreeSet::new());

    lab.recipe.stages.generation.training.optimizer = Rule::Muon;
    assert_resumes(|umm| lab.generation(umm), &start, &start);
}

#[test]
fn both_kinds_of_encoders_learn_captions_and_resume_bit_for_bit() {
    let lab = Lab::new(150);
    let umm = lab.recipe.init(&lab.device);
    for family in [Family::Clip, Family::Siglip] {
        let mut trainer = lab.towers(family, 0);
        train("towers", &mut trainer, 0.6);
        let scale = trainer.result().logit_scale.as_ref().unwrap().val().into_scalar::<f32>();
        assert!(scale.exp() < 100.0 && scale != 2.6592, "{scale}");
        let seed = |of: &Umm| u64::from(!std::ptr::eq(of, &umm));
        let end = assert_resumes(|of| lab.towers(family, seed(of)), &umm, &umm.clone());
        assert_eq!(without_gradient(&end), BTreeSet::new());
    }
}

#[test]
fn another_encoder_gets_a_connector_of_its_own() {
    let lab = Lab::new(60);
    let start = lab.recipe.init(&lab.device);
    let mut learned = start.clone();
    let mut trainer = lab.generation(&start);
    train("generation", &mut trainer, 1.0);
    learned.generation = trainer.result().clone();
    train("external connector", &mut lab.external(&learned, 0), 0.98);
    let seed = |of: &Umm| u64::from(!std::ptr::eq(of, &learned));
    let end = assert_resumes(|of| lab.external(of, seed(of)), &learned, &learned.clone());
    assert_eq!(without_gradient(&end), BTreeSet::new());
}

#[test]
fn foreign_and_damaged_checkpoints_are_refused() {
    let lab = Lab::new(4);
    let umm = lab.recipe.init(&lab.device);
    let mut trainer = lab.generation(&umm);
    let run = lab.recipe.run(StageName::Generation).unwrap();
    let saved = block_on(trainer.checkpoint(&run)).unwrap();
    assert_eq!(checkpoint::describe(&saved).unwrap(), (run.clone(), 0));
    let error = trainer.resume("another", &saved).unwrap_err();
    assert!(error.code.as_str() == "bad_input" && error.message.contains("other settings"), "{error}");
    let error = trainer.resume(&run, &saved[..saved.len() / 2]).unwrap_err();
    assert_eq!(error.code.as_str(), "weights_format", "{error}");
    let part = block_on(checkpoint::save_part(trainer.result(), &run, 4)).unwrap();
    let error = trainer.resume(&run, &part).unwrap_err();
    assert!(error.code.as_str() == "weights_shape" && error.message.contains("missing: average."), "{error}");
    let back = checkpoint::load_part(umm.generation.clone(), &run, &part).unwrap();
    assert_eq!(tensors(&back), tensors(trainer.result()));
}

#[test]
fn an_untrained_stage_steps() -> Result<()> {
    let recipe = Recipe::named("nano")?;
    let mut trainer = {
        let engine = Engine::new(recipe.world.clone())?;
        block_on(generation::untrained(&recipe, &engine, 16, &Device::flex()))?
    };
    let report = block_on(trainer.step())?;
    // Nothing is drawn yet, so the loss is the weighted mean square of the latents.
    assert!(report.step == 1 && report.loss > 0.0);
    let weights = block_on(save(trainer.current(), Precision::F32))?;
    load(trainer.current().clone(), &weights)?;
    Ok(())
}

fn reca(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_reca")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_command_line_trains_a_model_folder_and_goes_on_where_it_was() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("new");
    let out = folder.to_str().unwrap();
    let base = ["pretrain", "--recipe", "nano", "--device", "cpu", "--steps", "12", "--out", out];
    let call = |more: &[&str]| reca(&[&base, more].concat());
    let path = |name: &str| folder.join(name);

    let (success, message) = call(&["--stage", "understanding"]);
    assert!(
        !success && message.contains("encoder.safetensors") && message.contains("--stage encoder"),
        "{message}"
    );
    let (success, message) = call(&["--stage", "encoder", "autoencoder"]);
    assert!(success && message.contains("understanding, generation, connector"), "{message}");
    assert!(!path("model").exists() && !path("encoder.checkpoint.safetensors").exists());
    let encoder = fs::read(path("encoder.safetensors")).unwrap();
    let (success, message) = call(&[]);
    assert!(success, "{message}");
    assert_eq!(fs::read(path("encoder.safetensors")).unwrap(), encoder);

    let read = |name: &str| Ok(fs::read(path("model").join(name)).unwrap());
    let pipeline = Pipeline::new(&ModelFiles::read(read).unwrap(), &Device::flex()).unwrap();
    assert_eq!(pipeline.config.understanding.hidden_size, 32);
    let log = fs::read_to_string(path("log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps =
        |stage| lines.iter().filter(|l| l["stage"] == stage).map(|l| l["step"].as_u64().unwrap()).collect();
    let (first, last): (Vec<u64>, Vec<u64>) = (steps("encoder"), steps("connector"));
    assert_eq!((first, last), (vec![10, 12], vec![10, 12]));
    for sheet in ["autoencoder", "generation", "connector"] {
        let sheet = image::open(path(&format!("samples/{sheet}-000012.png"))).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (8 * 64, 2 * 64));
    }

    let mut recipe = Recipe::named("nano").unwrap();
    recipe.set_steps(12);
    let run = recipe.run(StageName::Connector).unwrap();
    let finished = fs::read(path("connector.safetensors")).unwrap();
    assert_eq!(checkpoint::describe(&finished).unwrap().0, run);
    fs::remove_file(path("connector.safetensors")).unwrap();
    fs::write(path("connector.checkpoint.safetensors"), b"half a file").unwrap();
    let (success, message) = call(&[]);
    assert!(
        !success && message.contains("connector.checkpoint.safetensors") && message.contains("--fresh"),
        "{message}"
    );
    let (success, message) = call(&["--fresh", "--stage", "connector"]);
    assert!(success, "{message}");
    let again = fs::read(path("connector.safetensors")).unwrap();
    assert!(again == finished, "the same seed gives the same bits");
    assert_eq!(fs::read_to_string(path("log.jsonl")).unwrap().lines().count(), 10);

    let (success, message) = reca(&[&base[..5], &["--steps", "13", "--out", out]].concat());
    assert!(!success && message.contains("other settings"), "{message}");
}
