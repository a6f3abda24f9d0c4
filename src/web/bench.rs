//! What the speed comparison of `www/bench` times: parts of the model on inputs that other engines can be given
//! too. Not in the builds that are shipped.

use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use js_sys::Float32Array;
use wasm_bindgen::prelude::*;

use super::Runtime;
use crate::{
    Error, Pipeline, Result,
    flow::loss,
    train::stage::{Stage, Trainer, TrainingConfig},
    umm::{Context, TextBatch, describe::read, generation::Generation},
};

const LEARNING_RATE: f64 = 2e-4;

/// The parts of the base model.
#[wasm_bindgen]
pub struct Parts {
    base: Rc<Pipeline>,
    device: Device,
}

#[wasm_bindgen]
impl Runtime {
    pub fn parts(&self) -> Result<Parts> {
        Ok(Parts { base: self.base()?, device: self.opened.device.clone() })
    }
}

#[wasm_bindgen]
impl Parts {
    /// Understanding embeddings `[batch, tokens, hidden]` of `[batch, 3, side, side]`, values in [-1, 1].
    pub async fn embed(&self, pixels: Vec<f32>) -> Result<Float32Array> {
        Ok(Float32Array::from(read(self.visual(pixels)?).await?.as_slice()))
    }

    /// The generation expert on one batch, drawn from pictures and a text for each that are read once.
    ///
    /// # Shapes
    /// - `pixels`: `[batch, 3, side, side]`
    /// - `text`: `[batch, length]`, token ids
    /// - `clean`, `noise`: `[batch, latent tokens, latent channels]`
    /// - `times`: `[batch]`
    pub fn training(
        &self,
        pixels: Vec<f32>,
        text: Vec<u32>,
        clean: Vec<f32>,
        noise: Vec<f32>,
        times: Vec<f32>,
    ) -> Result<Training> {
        let rows: Vec<Vec<u32>> = text.chunks(text.len() / times.len()).map(<[u32]>::to_vec).collect();
        let context = self.base.umm.context(&TextBatch::prompts(&rows), Some(self.visual(pixels)?));
        let config = &self.base.config;
        let shape = [times.len(), config.latent_tokens(), config.autoencoder.latent_channels];
        let latents = |values| Tensor::from_data(TensorData::new(values, shape), &self.device);
        let batch = Batch { clean: latents(clean), noise: latents(noise), times, context };
        let config = TrainingConfig {
            steps: 1 << 40,
            learning_rate: LEARNING_RATE,
            warmup: 0,
            ..TrainingConfig::default()
        };
        Ok(Training(Trainer::new(batch, self.base.umm.generation.clone(), config)))
    }
}

impl Parts {
    fn visual(&self, pixels: Vec<f32>) -> Result<Tensor<3>> {
        let side = self.base.config.image_size;
        let batch = pixels.len() / (3 * side * side);
        if batch == 0 || pixels.len() != batch * 3 * side * side {
            return Err(Error::bad_input(format!("{} values are no pictures", pixels.len())));
        }
        let pixels = Tensor::from_data(TensorData::new(pixels, [batch, 3, side, side]), &self.device);
        Ok(self.base.umm.embed(pixels))
    }
}

/// The same batch at every step.
struct Batch {
    clean: Tensor<3>,
    noise: Tensor<3>,
    times: Vec<f32>,
    context: Context,
}

impl Stage for Batch {
    type Module = Generation;

    fn loss(&self, generation: &Generation, _: u64) -> Result<Tensor<1>> {
        let clean = self.clean.clone().autodiff();
        let noisy = loss::noisy(clean.clone(), self.noise.clone().autodiff(), &self.times);
        let predicted = generation.forward(noisy, &self.times, &self.context.clone().autodiff());
        Ok(loss::velocity_loss(predicted, clean, &self.times))
    }
}

#[wasm_bindgen]
pub struct Training(Trainer<Batch>);

#[wasm_bindgen]
impl Training {
    /// Forward, backward and update; the loss before it.
    pub async fn step(&mut self) -> Result<f32> {
        Ok(self.0.step().await?.loss)
    }

    /// The estimate of the clean latents.
    pub async fn forward(&self) -> Result<Float32Array> {
        let Batch { clean, noise, times, context } = self.0.stage();
        let noisy = loss::noisy(clean.clone(), noise.clone(), times);
        let predicted = self.0.current().forward(noisy, times, context);
        Ok(Float32Array::from(read(predicted).await?.as_slice()))
    }

    /// What the generation expert draws from: keys `[batch, heads, tokens, head_dim]` and values of each layer in
    /// turn, then the pooled `[batch, hidden]`.
    pub async fn context(&self) -> Result<Vec<Float32Array>> {
        let context = &self.0.stage().context;
        let mut parts = Vec::new();
        for layer in &context.layers {
            for tensor in [&layer.key, &layer.value] {
                parts.push(Float32Array::from(read(tensor.clone()).await?.as_slice()));
            }
        }
        parts.push(Float32Array::from(read(context.pooled.clone()).await?.as_slice()));
        Ok(parts)
    }
}
