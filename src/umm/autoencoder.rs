//! The convolutional autoencoder: 64×64 pixels ⇄ 4×4 latents of 64 channels (16 image tokens).

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, activation::silu},
};

use super::config::{NORM_GROUPS, UmmConfig};
use crate::{
    layers::{Conv2d, GroupNorm, constant},
    ops::Geometry,
};

/// `autoencoder` in a checkpoint.
#[derive(Module, Debug)]
pub struct Autoencoder {
    pub encoder: LatentEncoder,
    pub decoder: LatentDecoder,
    /// Per-channel mean of the raw latents over the training pool; not trained.
    pub latent_mean: Param<Tensor<1>>,
    /// Per-channel standard deviation of the raw latents; not trained.
    pub latent_std: Param<Tensor<1>>,
}

impl Autoencoder {
    pub fn new(config: &UmmConfig, device: &Device) -> Self {
        let latent = config.autoencoder.latent_channels;
        Self {
            encoder: LatentEncoder::new(config, device),
            decoder: LatentDecoder::new(config, device),
            latent_mean: constant(0.0, [latent], device).set_require_grad(false),
            latent_std: constant(1.0, [latent], device).set_require_grad(false),
        }
    }

    /// Images to normalised latents.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, image_size, image_size]` in [-1, 1]
    /// - returns `[batch, latent_tokens, latent_channels]`, row by row
    pub fn encode(&self, images: Tensor<4>) -> Tensor<3> {
        let raw: Tensor<3> = self.encoder.forward(images).flatten(2, 3);
        let raw = raw.swap_dims(1, 2);
        (raw - self.latent_mean.val().unsqueeze()) / self.latent_std.val().unsqueeze()
    }

    /// The inverse of [`Autoencoder::encode`]; values may leave [-1, 1] a little.
    pub fn decode(&self, latents: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, channels] = latents.dims();
        let side = tokens.isqrt();
        let raw = latents * self.latent_std.val().unsqueeze() + self.latent_mean.val().unsqueeze();
        self.decoder.forward(raw.swap_dims(1, 2).reshape([batch, channels, side, side]))
    }
}

/// `x + conv(silu(norm(conv(silu(norm x)))))`.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    pub norm1: GroupNorm,
    pub conv1: Conv2d,
    pub norm2: GroupNorm,
    pub conv2: Conv2d,
}

impl ResidualBlock {
    fn new(channels: usize, device: &Device) -> Self {
        Self {
            norm1: GroupNorm::new(NORM_GROUPS, channels, device),
            conv1: conv3(channels, channels, 1, device),
            norm2: GroupNorm::new(NORM_GROUPS, channels, device),
            conv2: conv3(channels, channels, 1, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self.conv1.forward(silu(self.norm1.forward(x.clone())));
        x + self.conv2.forward(silu(self.norm2.forward(h)))
    }
}

/// Image to raw latents.
#[derive(Module, Debug)]
pub struct LatentEncoder {
    pub conv_in: Conv2d,
    pub res0: ResidualBlock,
    pub down1: Conv2d,
    pub res1: ResidualBlock,
    pub down2: Conv2d,
    pub res2: ResidualBlock,
    pub norm: GroupNorm,
    pub conv_out: Conv2d,
}

impl LatentEncoder {
    fn new(config: &UmmConfig, device: &Device) -> Self {
        let [_, c1, c2, c3] = config.autoencoder.channels;
        Self {
            conv_in: conv3(3 * 16, c1, 1, device),
            res0: ResidualBlock::new(c1, device),
            down1: conv3(c1, c2, 2, device),
            res1: ResidualBlock::new(c2, device),
            down2: conv3(c2, c3, 2, device),
            res2: ResidualBlock::new(c3, device),
            norm: GroupNorm::new(NORM_GROUPS, c3, device),
            conv_out: conv1(c3, config.autoencoder.latent_channels, device),
        }
    }

    /// `[batch, 3, side, side]` to `[batch, latent_channels, side / 16, side / 16]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let x = self.res0.forward(self.conv_in.forward(pixel_unshuffle(images, 4)));
        let x = self.res1.forward(self.down1.forward(x));
        let x = self.res2.forward(self.down2.forward(x));
        self.conv_out.forward(silu(self.norm.forward(x)))
    }
}

/// Raw latents to image.
#[derive(Module, Debug)]
pub struct LatentDecoder {
    pub conv_in: Conv2d,
    pub res0: ResidualBlock,
    pub up1: Conv2d,
    pub res1: ResidualBlock,
    pub up2: Conv2d,
    pub res2: ResidualBlock,
    pub up3: Conv2d,
    pub res3: ResidualBlock,
    pub norm: GroupNorm,
    pub conv_out: Conv2d,
}

impl LatentDecoder {
    fn new(config: &UmmConfig, device: &Device) -> Self {
        let [c0, c1, c2, c3] = config.autoencoder.channels;
        Self {
            conv_in: conv3(config.autoencoder.latent_channels, c3, 1, device),
            res0: ResidualBlock::new(c3, device),
            up1: conv1(c3, 4 * c2, device),
            res1: ResidualBlock::new(c2, device),
            up2: conv1(c2, 4 * c1, device),
            res2: ResidualBlock::new(c1, device),
            up3: conv1(c1, 4 * c0, device),
            res3: ResidualBlock::new(c0, device),
            norm: GroupNorm::new(NORM_GROUPS, c0, device),
            conv_out: conv3(c0, 3 * 4, 1, device),
        }
    }

    /// `[batch, latent_channels, side / 16, side / 16]` to `[batch, 3, side, side]`.
    pub fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let x = self.res0.forward(self.conv_in.forward(latents));
        let x = self.res1.forward(pixel_shuffle(self.up1.forward(x), 2));
        let x = self.res2.forward(pixel_shuffle(self.up2.forward(x), 2));
        let x = self.res3.forward(pixel_shuffle(self.up3.forward(x), 2));
        pixel_shuffle(self.conv_out.forward(silu(self.norm.forward(x))), 2)
    }
}

fn conv3(from: usize, to: usize, stride: usize, device: &Device) -> Conv2d {
    Conv2d::new([from, to], 3, Geometry { stride, padding: 1 }, device)
}

fn conv1(from: usize, to: usize, device: &Device) -> Conv2d {
    Conv2d::new([from, to], 1, Geometry { stride: 1, padding: 0 }, device)
}

/// `[b, c·r², h, w]` to `[b, c, h·r, w·r]`.
fn pixel_shuffle(x: Tensor<4>, r: usize) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let c = c / (r * r);
    let x: Tensor<6> = x.reshape([b, c, r, r, h, w]);
    x.permute([0, 1, 4, 2, 5, 3]).reshape([b, c, h * r, w * r])
}

/// `[b, c, h·r, w·r]` to `[b, c·r², h, w]`.
fn pixel_unshuffle(x: Tensor<4>, r: usize) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let (h, w) = (h / r, w / r);
    let x: Tensor<6> = x.reshape([b, c, h, r, w, r]);
    x.permute([0, 1, 3, 5, 2, 4]).reshape([b, c * r * r, h, w])
}
