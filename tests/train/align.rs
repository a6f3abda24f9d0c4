//! Reconstruction Alignment and its captioned control on the nano recipe.

use std::collections::BTreeSet;
use std::sync::Arc;

use pollster::block_on;
use reca::{
    reca::{AlignConfig, AlignImages, AlignStage, ConditionConfig, Method, condition::TOKEN_DROP},
    scene::Engine,
    train::stage::{Trainer, TrainingConfig},
    umm::Umm,
};

use super::{
    assert_resumes,
    lab::{Lab, train},
    without_gradient,
};

/// What is aligned, with the weight of the captioned loss on the base's own pool beside it.
const RUNS: [(Method, f32); 3] = [(Method::Reca, 0.0), (Method::Reca, 1.0), (Method::SftSparse, 1.0)];

fn trainer(lab: &Lab, method: Method, lambda_t2i: f32, umm: &Umm) -> Trainer<AlignStage> {
    let config = AlignConfig {
        training: TrainingConfig { ema: None, ..lab.recipe.stages.generation.training.clone() },
        method,
        condition: ConditionConfig { token_drop: TOKEN_DROP, ..ConditionConfig::default() },
        lambda_t2i,
        ..AlignConfig::default()
    };
    let (mut images, mut own) = (AlignImages::default(), AlignImages::default());
    let (scenes, pictures) = &lab.understanding;
    block_on(images.push(umm, pictures, &config.condition)).unwrap();
    images.describe(scenes.clone());
    let (scenes, pictures) = &lab.drawing;
    block_on(own.push_captioned(umm, pictures, scenes.clone())).unwrap();
    let (images, own) = (Arc::new(images), Some(Arc::new(own)));
    let engine = Engine::new(lab.recipe.world.clone()).unwrap();
    let stage = AlignStage::new(&config, 0, images, own, lab.texts(), engine.split(), umm).unwrap();
    Trainer::new(stage, umm.generation.clone(), config.training)
}

#[test]
fn alignment_and_its_control_learn() {
    let lab = Lab::new(60);
    let umm = lab.recipe.init(&lab.device);
    for (method, lambda_t2i) in RUNS {
        train(method.name(), &mut trainer(&lab, method, lambda_t2i, &umm), 0.95);
    }
}

#[test]
fn a_resumed_alignment_is_the_straight_one_bit_for_bit_and_gradients_reach_every_parameter() {
    let lab = Lab::new(40);
    let start = lab.recipe.init(&lab.device);
    let mut elsewhere = start.clone();
    elsewhere.generation = Umm::new(&lab.recipe.model, &lab.device).generation;
    for (method, lambda_t2i) in RUNS {
        let end = assert_resumes(|umm| trainer(&lab, method, lambda_t2i, umm), &start, &elsewhere);
        assert_eq!(without_gradient(&end), BTreeSet::new(), "{} {lambda_t2i}", method.name());
    }
}
