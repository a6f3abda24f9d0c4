//! The generation expert: a diffusion transformer that sees the understanding expert's keys and
//! values layer by layer (mixture of transformers, BAGEL section 2).

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, TensorData, activation::silu},
};

use super::{
    block::{Block, BlockConfig},
    config::UmmConfig,
    context::Context,
    norm::RmsNorm,
};
use crate::layers::{Linear, normal};

/// `generation` in a checkpoint.
#[derive(Module, Debug)]
pub struct Generation {
    pub latent_in: Linear,
    pub position_embedding: Param<Tensor<2>>,
    pub time_fc1: Linear,
    pub time_fc2: Linear,
    pub pool_fc1: Linear,
    pub pool_fc2: Linear,
    pub layers: Vec<Block>,
    pub norm: RmsNorm,
    pub latent_out: Linear,
    time_frequencies: usize,
}

impl Generation {
    pub fn new(config: &UmmConfig, device: &Device) -> Self {
        let g = &config.generation;
        let (hidden, latent) = (g.hidden_size, config.autoencoder.latent_channels);
        let block = BlockConfig {
            hidden_size: hidden,
            num_attention_heads: g.num_attention_heads,
            intermediate_size: g.intermediate_size,
            rms_norm_eps: g.rms_norm_eps,
        };
        let layer = |from, to| Linear::new(from, to, device);
        Self {
            latent_in: layer(latent, hidden),
            position_embedding: normal(0.02, [config.latent_tokens(), hidden], device),
            time_fc1: layer(2 * g.time_frequencies, hidden),
            time_fc2: layer(hidden, hidden),
            pool_fc1: layer(hidden, hidden),
            pool_fc2: layer(hidden, hidden),
            layers: (0..g.num_hidden_layers)
                .map(|_| Block::new(&block, device).conditioned(device))
                .collect(),
            norm: RmsNorm::new(hidden, g.rms_norm_eps, device),
            latent_out: Linear::zeros(hidden, latent, device),
            time_frequencies: g.time_frequencies,
        }
    }

    /// The clean latents that noisy ones probably came from.
    ///
    /// # Shapes
    /// - `noisy`: `[batch, latent_tokens, latent_channels]`, `t·clean + (1 − t)·noise`
    /// - `times`: one `t` in [0, 1] a row, 1 being clean
    /// - returns `[batch, latent_tokens, latent_channels]`
    pub fn forward(&self, noisy: Tensor<3>, times: &[f32], context: &Context) -> Tensor<3> {
        let condition = self.condition(times, context);
        let mut x = self.embed(noisy);
        for (layer, before) in self.layers.iter().zip(&context.layers) {
            x = layer.forward_conditioned(x, condition.clone(), before, context.hidden.clone());
        }
        self.latent_out.forward(self.norm.forward(x))
    }

    /// Latents as the first layer sees them, `[batch, latent_tokens, hidden]`.
    pub fn embed(&self, latents: Tensor<3>) -> Tensor<3> {
        self.latent_in.forward(latents) + self.position_embedding.val().unsqueeze()
    }

    /// `silu(time + pooled context)`, `[batch, 1, hidden]`.
    fn condition(&self, times: &[f32], context: &Context) -> Tensor<3> {
        let device = context.pooled.device();
        let features = time_features(times, self.time_frequencies);
        let features = TensorData::new(features, [times.len(), 2 * self.time_frequencies]);
        let time = silu(self.time_fc1.forward(Tensor::<2>::from_data(features, &device)));
        let pooled = silu(self.pool_fc1.forward(context.pooled.clone()));
        silu(self.time_fc2.forward(time) + self.pool_fc2.forward(pooled)).unsqueeze_dim(1)
    }
}

/// `cos` and `sin` of `1000 t · 10000^(−i/n)` for `i < n` (DDPM's sinusoidal features), row by row.
fn time_features(times: &[f32], frequencies: usize) -> Vec<f32> {
    let mut features = Vec::with_capacity(times.len() * 2 * frequencies);
    for t in times {
        let angle = |i: usize| {
            let frequency = (-(1e4f32.ln()) * i as f32 / frequencies as f32).exp();
            t * frequency * 1000.0
        };
        features.extend((0..frequencies).map(|i| angle(i).cos()));
        features.extend((0..frequencies).map(|i| angle(i).sin()));
    }
    features
}
