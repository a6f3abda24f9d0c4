//! Stages `clip` and `siglip`: small towers of the official architectures learn which caption belongs
//! to which picture, CLIP's by a softmax over the batch (arXiv 2103.00020), SigLIP's by a sigmoid for
//! each pair (arXiv 2303.15343). Both keep the plain patch embedding of their checkpoints.

mod folder;
mod zero_shot;

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, activation::log_softmax};
use image::RgbImage;
use serde::{Deserialize, Serialize};

pub use self::{
    folder::{Blueprint, Towers},
    zero_shot::{ZeroShot, ZeroShotSet},
};
use super::{
    objective::sigmoid_loss,
    pool::{self, PoolConfig},
    stage::{Stage, TrainingConfig},
    texts::Texts,
};
use crate::{
    Error, Result,
    encoder::{DualEncoder, Family, dual::cosines},
    random,
    scene::Scene,
};

const TAG: u64 = u64::from_be_bytes(*b"contrast");

/// CLIP's limit of `logit_scale`: cosines are multiplied by 100 at most.
const LARGEST_SCALE: f32 = 4.605_170_2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContrastiveConfig {
    #[serde(flatten)]
    pub training: TrainingConfig,
    pub towers: Towers,
    pub pool: PoolConfig,
}

/// Pictures and their dense captions.
pub struct ContrastiveStage {
    blueprint: Arc<Blueprint>,
    scenes: Arc<[Scene]>,
    images: Arc<[RgbImage]>,
    texts: Texts,
    batch: usize,
    seed: u64,
}

impl ContrastiveStage {
    /// `images`: one a scene.
    pub fn new(
        config: &ContrastiveConfig,
        seed: u64,
        blueprint: Arc<Blueprint>,
        (scenes, images): (Arc<[Scene]>, Arc<[RgbImage]>),
        texts: Texts,
    ) -> Self {
        Self { blueprint, scenes, images, texts, batch: config.training.batch, seed }
    }
}

impl Stage for ContrastiveStage {
    type Module = DualEncoder;

    fn loss(&self, module: &DualEncoder, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let indices = pool::draw(&mut random, self.batch, self.images.len());
        let pictures: Vec<RgbImage> = indices.iter().map(|index| self.images[*index].clone()).collect();
        let captions = indices
            .iter()
            .map(|index| self.texts.dense(&self.scenes[*index], &mut random))
            .collect::<Result<Vec<_>>>()?;
        let same = same(&captions);
        let scale = module.logit_scale.as_ref().ok_or_else(|| Error::internal("towers without a scale"))?;
        let device = scale.device();
        let images = module.image_embeds(self.blueprint.preprocessor.forward(&pictures, &device)?)?;
        let texts = module.text_embeds(&self.blueprint.rows(captions))?;
        let scale = scale.val().clamp_max(LARGEST_SCALE).exp();
        let logits = cosines(images, texts) * scale.unsqueeze();
        let same = Tensor::from_data(TensorData::new(same, [self.batch, self.batch]), &device);
        Ok(match (self.blueprint.config.family, &module.logit_bias) {
            (Family::Siglip, Some(bias)) => sigmoid_loss(logits + bias.val().unsqueeze(), same),
            _ => softmax_loss(logits, same),
        })
    }
}

/// Which captions of a batch are alike, `[batch · batch]`, 1 or 0: several pictures may have one.
fn same(captions: &[Vec<u32>]) -> Vec<f32> {
    let row = |a| captions.iter().map(move |b| f32::from(a == b));
    captions.iter().flat_map(row).collect()
}

/// CLIP's loss: the cross-entropy of each picture's caption among all captions, and of each caption's
/// picture among all pictures, averaged. Like captions share the target.
///
/// # Shapes
/// - `logits`, `same`: `[pictures, captions]`, as many of each; `same` is symmetric
fn softmax_loss(logits: Tensor<2>, same: Tensor<2>) -> Tensor<1> {
    let rows = logits.dims()[0] as f32;
    let targets = same.clone() / same.sum_dim(1);
    let one_way = |logits: Tensor<2>| (log_softmax(logits, 1) * targets.clone()).sum();
    (one_way(logits.clone()) + one_way(logits.transpose())) / (-2.0 * rows)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn softmax_loss_by_hand() {
        let device = Device::flex();
        let same = same(&[vec![3], vec![4], vec![3]]);
        assert_eq!(same, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        let logits = Tensor::<2>::from_floats([[1.0, 2.0], [0.0, 3.0]], &device);
        let same = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let cross = |right: f32, wrong: f32| (1.0 + (wrong - right).exp()).ln();
        let expected = (cross(1.0, 2.0) + cross(3.0, 0.0) + cross(1.0, 0.0) + cross(3.0, 2.0)) / 4.0;
        let found = softmax_loss(logits.clone(), same).into_scalar::<f32>();
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        // Where all captions are alike nothing can be told apart, and uniform is best.
        let alike = softmax_loss(logits.zeros_like(), logits.ones_like()).into_scalar::<f32>();
        assert!((alike - 2f32.ln()).abs() < 1e-6, "{alike}");
    }
}
