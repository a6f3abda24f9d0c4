//! Stage `encoder`: the vision tower learns by SigLIP's sigmoid loss with single words as texts,
//! against the understanding expert's own word embeddings, so that features lie where the words for
//! what they show lie.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    nn::{Embedding, Initializer},
    tensor::{Tensor, TensorData, activation::softplus},
};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{
    pool::{self, PoolConfig},
    stage::{Stage, TrainingConfig},
};
use crate::{
    Error, Result,
    encoder::siglip::VisionModel,
    random,
    scene::Scene,
    text::Tokenizer,
    umm::{Umm, understanding::tie_head},
};

const TAG: u64 = u64::from_be_bytes(*b"encoder.");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    #[serde(flatten)]
    pub training: TrainingConfig,
    pub pool: PoolConfig,
}

/// What the stage trains.
#[derive(Module, Debug)]
pub struct EncoderModule {
    pub vision_model: VisionModel,
    pub token_embedding: Embedding,
    /// One bias a word; not part of the model.
    pub word_bias: Param<Tensor<1>>,
}

impl EncoderModule {
    pub fn of(umm: &Umm) -> Self {
        let token_embedding = umm.understanding.token_embedding.clone();
        let [vocabulary, _] = token_embedding.weight.dims();
        let device = token_embedding.weight.device();
        Self {
            vision_model: umm.vision_model.clone(),
            word_bias: Initializer::Zeros.init([vocabulary], &device),
            token_embedding,
        }
    }

    /// The model with this part; the language head starts as the word embeddings.
    pub fn put_into(self, mut umm: Umm) -> Umm {
        umm.vision_model = self.vision_model;
        umm.understanding.token_embedding = self.token_embedding;
        umm.understanding = tie_head(umm.understanding);
        umm
    }

    /// How well each word fits each picture: the strongest feature in the word's direction.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, image_size, image_size]`
    /// - returns `[batch, vocab_size]`
    fn word_scores(&self, images: Tensor<4>) -> Tensor<2> {
        let strongest: Tensor<2> = self.vision_model.forward(images).max_dim(1).squeeze_dim(1);
        strongest.matmul(self.token_embedding.weight.val().transpose()) + self.word_bias.val().unsqueeze()
    }
}

/// Pictures and the words that each shows.
pub struct EncoderStage {
    images: Arc<[RgbImage]>,
    words: Vec<Vec<u32>>,
    batch: usize,
    seed: u64,
}

impl EncoderStage {
    /// # Errors
    /// `bad_input` for nouns and colours outside the vocabulary.
    pub fn new(
        config: &EncoderConfig,
        seed: u64,
        scenes: &[Scene],
        images: Arc<[RgbImage]>,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let words = scenes.iter().map(|scene| words(scene, tokenizer)).collect::<Result<_>>()?;
        Ok(Self { images, words, batch: config.training.batch, seed })
    }
}

impl Stage for EncoderStage {
    type Module = EncoderModule;

    fn loss(&self, module: &EncoderModule, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let indices = pool::draw(&mut random, self.batch, self.images.len());
        let device = module.word_bias.device();
        let scores = module.word_scores(pool::gather(&self.images, &indices, &device));
        let [batch, vocabulary] = scores.dims();
        let mut shown = vec![0f32; batch * vocabulary];
        for (row, index) in indices.iter().enumerate() {
            for word in &self.words[*index] {
                shown[row * vocabulary + *word as usize] = 1.0;
            }
        }
        let shown = Tensor::<2>::from_data(TensorData::new(shown, [batch, vocabulary]), &device);
        Ok(sigmoid_loss(scores, shown))
    }
}

/// Binary cross-entropy of sigmoid(`scores`), summed over words and averaged over pictures
/// (SigLIP, section 3.2).
fn sigmoid_loss(scores: Tensor<2>, shown: Tensor<2>) -> Tensor<1> {
    let pictures = scores.dims()[0] as f32;
    (softplus(scores.clone(), 1.0) - scores * shown).sum() / pictures
}

/// The nouns and given colours of a scene.
fn words(scene: &Scene, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let nouns = scene.objects.iter().map(|object| object.noun.as_str());
    let colours = scene.objects.iter().filter_map(|object| object.colour.map(|colour| colour.name()));
    let id = |word: &str| {
        tokenizer.id(word).ok_or_else(|| Error::bad_input(format!("{word:?} is not in the vocabulary")))
    };
    nouns.chain(colours).map(id).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn sigmoid_loss_by_hand() {
        let device = Device::flex();
        let scores = Tensor::<2>::from_floats([[0.0, 2.0], [-1.0, 0.0]], &device);
        let shown = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let bce = |x: f32| (1.0 + x.exp()).ln();
        let expected = (bce(-0.0) + bce(2.0) + bce(-1.0) + bce(0.0)) / 2.0;
        let found = sigmoid_loss(scores, shown).into_scalar::<f32>();
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}
