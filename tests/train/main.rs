//! The five stages on the nano recipe.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod align;
mod command;
mod lab;

use std::collections::BTreeSet;

use burn::tensor::Device;
use pollster::block_on;
use reca::{
    Pipeline, Result,
    encoder::Family,
    flow::sampler::SamplerConfig,
    image::to_tensor,
    scene::Engine,
    train::{
        autoencoder, checkpoint, export, generation,
        optim::Rule,
        recipe::{Recipe, StageName},
        stage::{Stage, Trainer},
    },
    umm::Umm,
    weights::safetensors::{Precision, load, save},
};
use safetensors::SafeTensors;

use self::lab::{Lab, changed, names, tensors, train};

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
