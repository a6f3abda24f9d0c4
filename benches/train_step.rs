//! Throughput of the generation training step: frozen context, denoise, backward, AdamW.
//!
//! `cargo bench --bench train_step` prints one JSON line; `tests/reference/bench.py` prints the same
//! for PyTorch, and `./build.sh bench` runs both in turn and prints the ratio.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::time::Instant;

use burn::{module::Module, optim::GradientsParams, tensor::Device};
use reca::{
    flow::{loss, schedule},
    random,
    train::{optim::Optimizer, stage::TrainingConfig},
    umm::{TextBatch, Umm, UmmConfig},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 32;
const TEXT_TOKENS: usize = 16;
const STEPS: usize = 12;

/// Runs on a thread of the pool, so that parallel operations need no hand-over.
fn main() {
    rayon::ThreadPoolBuilder::new().build().unwrap().install(run);
}

fn run() {
    let recipe: serde_json::Value =
        serde_json::from_str(include_str!("../src/train/recipes/mini.json")).unwrap();
    let mut model = recipe["model"].clone();
    model["understanding"]["vocab_size"] = 64.into();
    let config = UmmConfig::from_json(model.to_string().as_bytes()).unwrap();
    let device = Device::flex();
    let umm = Umm::new(&config, &device);
    let mut generation = umm.generation.clone();
    let mut optimizer = Optimizer::new(&TrainingConfig::default());

    let prompts: Vec<Vec<u32>> = (0..BATCH)
        .map(|row| (0..TEXT_TOKENS - row % 4).map(|i| 3 + (i * 7 + row) as u32 % 60).collect())
        .collect();
    let text = TextBatch::prompts(&prompts);
    let shape = [BATCH, config.latent_tokens(), config.autoencoder.latent_channels];
    let clean = random::noise(&mut random::stream(1, 0), shape, &device);

    let mut phases = [0.0f64; 4];
    let mut seconds = Vec::new();
    let mut last = 0.0f32;
    for step in 0..STEPS {
        let start = Instant::now();
        let mut random = random::stream(2, step as u64);
        let times = schedule::logit_normal(&mut random, BATCH, -0.8, 0.8);
        let noise = random::noise(&mut random, shape, &device);
        let noisy = loss::noisy(clean.clone(), noise, &times).autodiff();
        let context = umm.context(&text, None).autodiff();
        let after_context = start.elapsed().as_secs_f64();
        let training = generation.clone().train();
        let predicted = training.forward(noisy, &times, &context);
        let loss = loss::velocity_loss(predicted, clean.clone().autodiff(), &times);
        let after_forward = start.elapsed().as_secs_f64();
        let gradients = GradientsParams::from_grads(loss.backward(), &training);
        let after_backward = start.elapsed().as_secs_f64();
        generation = optimizer.step(1e-4, generation, gradients);
        last = loss.into_scalar::<f32>();
        let total = start.elapsed().as_secs_f64();
        if step >= 2 {
            seconds.push(total);
            for (phase, time) in phases.iter_mut().zip([
                after_context,
                after_forward - after_context,
                after_backward - after_forward,
                total - after_backward,
            ]) {
                *phase += time;
            }
        }
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let mean = |i: usize| phases[i] / seconds.len() as f64;
    println!(
        "{}",
        serde_json::json!({
            "engine": "burn-flex", "batch": BATCH, "seconds_per_step": median,
            "samples_per_second": BATCH as f64 / median, "loss": last,
            "context": mean(0), "forward": mean(1), "backward": mean(2), "optimizer": mean(3),
        })
    );
}
