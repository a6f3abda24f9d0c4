//! Stage `autoencoder`: images through latents and back.

use std::sync::Arc;

use burn::{
    module::Param,
    tensor::{Device, Tensor, TensorData},
};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{
    pool::{self, PoolConfig},
    stage::{Stage, TrainingConfig},
};
use crate::{
    Result,
    image::to_tensor,
    random,
    umm::{autoencoder::Autoencoder, describe::read},
};

const TAG: u64 = u64::from_be_bytes(*b"autoenco");
/// Pull of the latents towards zero.
const LATENT_PULL: f32 = 1e-3;
/// Pictures over which latents are normalised, and how many at a time.
pub const NORMALISED_OVER: usize = 1024;
const CHUNK: usize = 128;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoencoderConfig {
    #[serde(flatten)]
    pub training: TrainingConfig,
    /// Noise on the latents while training, in their standard deviations; makes the decoder
    /// forgiving of what a generator draws.
    pub latent_noise: f32,
    pub pool: PoolConfig,
}

pub struct AutoencoderStage {
    images: Arc<[RgbImage]>,
    batch: usize,
    latent_noise: f32,
    seed: u64,
}

impl AutoencoderStage {
    pub fn new(config: &AutoencoderConfig, seed: u64, images: Arc<[RgbImage]>) -> Self {
        Self { images, batch: config.training.batch, latent_noise: config.latent_noise, seed }
    }
}

impl Stage for AutoencoderStage {
    type Module = Autoencoder;

    fn loss(&self, module: &Autoencoder, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let indices = pool::draw(&mut random, self.batch, self.images.len());
        let device = module.latent_mean.device().autodiff();
        let images = pool::gather(&self.images, &indices, &device);
        let latents = module.encoder.forward(images.clone());
        let values: Tensor<1> = latents.clone().detach().flatten(0, 3);
        let deviation = values.var(0).sqrt() * self.latent_noise;
        let noise = random::noise(&mut random, latents.dims(), &device) * deviation.unsqueeze();
        let decoded = module.decoder.forward(latents.clone() + noise);
        Ok(reconstruction_loss(decoded, images) + latents.square().mean() * LATENT_PULL)
    }
}

/// L1, twice the squared error, four times that of 4×4 averages (without it colours come out dull),
/// and L1 of the differences between neighbours.
fn reconstruction_loss(decoded: Tensor<4>, images: Tensor<4>) -> Tensor<1> {
    let error = decoded - images;
    let [batch, channels, height, width] = error.dims();
    let blocks: Tensor<6> = error.clone().reshape([batch, channels, height / 4, 4, width / 4, 4]);
    let averages = blocks.mean_dim(3).mean_dim(5);
    let difference = |dim: usize, size: usize| {
        (error.clone().narrow(dim, 1, size - 1) - error.clone().narrow(dim, 0, size - 1)).abs().mean()
    };
    error.clone().abs().mean()
        + error.clone().square().mean() * 2.0
        + averages.square().mean() * 4.0
        + difference(2, height)
        + difference(3, width)
}

/// The autoencoder with its latents' mean and standard deviation over `images`, channel by channel.
pub async fn normalise(mut autoencoder: Autoencoder, images: &[RgbImage]) -> Result<Autoencoder> {
    let device = autoencoder.latent_mean.device();
    let [channels] = autoencoder.latent_mean.dims();
    let (mut sums, mut squares, mut count) = (vec![0f64; channels], vec![0f64; channels], 0f64);
    for chunk in images.chunks(CHUNK) {
        let latents: Tensor<3> = autoencoder.encoder.forward(to_tensor(chunk, &device)).flatten(2, 3);
        for row in read(latents.swap_dims(1, 2)).await?.chunks_exact(channels) {
            for (channel, value) in row.iter().map(|value| f64::from(*value)).enumerate() {
                sums[channel] += value;
                squares[channel] += value * value;
            }
            count += 1.0;
        }
    }
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    let std = sums.iter().zip(&squares).map(|(sum, square)| {
        let variance = (square - sum * sum / count) / (count - 1.0).max(1.0);
        variance.max(1e-12).sqrt() as f32
    });
    let std = std.collect();
    autoencoder.latent_mean = constant(mean, &device);
    autoencoder.latent_std = constant(std, &device);
    Ok(autoencoder)
}

fn constant(values: Vec<f32>, device: &Device) -> Param<Tensor<1>> {
    let size = values.len();
    Param::from_data(TensorData::new(values, [size]), device).set_require_grad(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconstruction_loss_of_a_constant_error_and_of_an_edge() {
        let device = Device::flex();
        let zero = Tensor::<4>::zeros([1, 3, 8, 8], &device);
        let found = reconstruction_loss(zero.clone() + 0.5, zero.clone()).into_scalar::<f32>();
        assert!((found - (0.5 + 2.0 * 0.25 + 4.0 * 0.25)).abs() < 1e-6, "{found}");
        let edge = zero.clone().slice_assign([0..1, 0..3, 0..8, 4..8], Tensor::ones([1, 3, 8, 4], &device));
        let found = reconstruction_loss(edge, zero).into_scalar::<f32>();
        assert!((found - (0.5 + 1.0 + 2.0 + 1.0 / 7.0)).abs() < 1e-6, "{found}");
    }
}
