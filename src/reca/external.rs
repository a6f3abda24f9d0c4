//! An official encoder in the place of the model's own: its patch features, and the small connector
//! that brings them into the understanding expert's space.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, TensorData},
};
use image::RgbImage;

use crate::{
    Result,
    encoder::{DualEncoder, Preprocessor},
    layers::{LayerNorm, Linear, normal},
    ops::{gelu, product},
    train::connector::Projector,
    umm::UmmConfig,
};

/// Of the connector's norm.
const EPSILON: f64 = 1e-5;

/// A frozen CLIP or SigLIP vision tower.
#[derive(Debug)]
pub struct External {
    pub encoder: DualEncoder,
    pub preprocessor: Preprocessor,
    /// Pixels along a patch.
    pub patch_size: usize,
    /// The hidden state that is taken: see [`crate::encoder::vision::VisionTower::hidden_state`].
    pub layer: usize,
}

impl External {
    /// Patch features, averaged onto a square grid of `side` tokens a side.
    ///
    /// # Shapes
    /// - returns `[images, side², hidden]`, row by row
    ///
    /// # Errors
    /// `bad_input` for images that the preprocessor leaves in different sizes.
    pub fn features(&self, images: &[RgbImage], side: usize, device: &Device) -> Result<Tensor<3>> {
        let pixels = self.preprocessor.forward(images, device)?;
        let [_, _, height, width] = pixels.dims();
        let tower = &self.encoder.vision_model;
        let patches = tower.patches(tower.hidden_state(pixels, self.layer));
        Ok(product(averages([height / self.patch_size, width / self.patch_size], side, device), patches))
    }
}

/// From features to understanding embeddings: norm, two layers, position embeddings.
#[derive(Module, Debug)]
pub struct ExternalConnector {
    pub norm: LayerNorm,
    pub fc1: Linear,
    pub fc2: Linear,
    pub position_embedding: Param<Tensor<2>>,
}

impl ExternalConnector {
    /// For features of `size` channels, and the model of `config`.
    pub fn new(size: usize, config: &UmmConfig, device: &Device) -> Self {
        let (inner, hidden) = (config.connector.intermediate_size, config.understanding.hidden_size);
        Self {
            norm: LayerNorm::new(size, EPSILON, device),
            fc1: Linear::new(size, inner, device),
            fc2: Linear::new(inner, hidden, device),
            position_embedding: normal(0.02, [config.visual_tokens(), hidden], device),
        }
    }
}

impl Projector for ExternalConnector {
    fn project(&self, features: Tensor<3>) -> Tensor<3> {
        let inner = gelu(self.fc1.forward(self.norm.forward(features)));
        self.fc2.forward(inner) + self.position_embedding.val().unsqueeze()
    }
}

/// What each of `side`² cells takes from each patch of a grid, `[1, side², rows · columns]`; the cells
/// of `torch.nn.AdaptiveAvgPool2d`, which overlap where the grid is no multiple, and repeat where it is
/// smaller.
fn averages([rows, columns]: [usize; 2], side: usize, device: &Device) -> Tensor<3> {
    let mut values = vec![0f32; side * side * rows * columns];
    let covered = |cell: usize, size: usize| cell * size / side..((cell + 1) * size).div_ceil(side);
    for (cell, row) in values.chunks_exact_mut((rows * columns).max(1)).enumerate() {
        let (down, across) = (covered(cell / side, rows), covered(cell % side, columns));
        let share = 1.0 / (down.len() * across.len()) as f32;
        for at in down.flat_map(|y| across.clone().map(move |x| y * columns + x)) {
            row[at] = share;
        }
    }
    Tensor::from_data(TensorData::new(values, [1, side * side, rows * columns]), device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Int;

    use super::*;

    fn pooled(size: usize, side: usize) -> Vec<f32> {
        let device = Device::flex();
        let grid = Tensor::<1, Int>::arange(0..(size * size) as i64, &device).float();
        let grid: Tensor<3> = grid.reshape([1, size * size, 1]);
        product(averages([size, size], side, &device), grid).into_data().try_to_vec().unwrap()
    }

    /// Against `torch.nn.functional.adaptive_avg_pool2d(torch.arange(n * n).view(1, 1, n, n), side)`.
    #[test]
    fn averages_like_adaptive_pooling() {
        assert_eq!(pooled(4, 2), [2.5, 4.5, 10.5, 12.5]);
        assert_eq!(pooled(3, 2), [2.0, 3.0, 5.0, 6.0]);
        assert_eq!(pooled(1, 2), [0.0; 4]);
    }
}
