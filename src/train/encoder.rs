//! Stage `encoder`: the vision tower learns by SigLIP's sigmoid loss with single words as texts,
//! against the understanding expert's own word embeddings, so that features lie where the words for
//! what they show lie. Pictures are scored whole, and so is each object's box: noun, colour, and
//! which side of the other object it is on. Without the boxes nothing ties words to places, and the
//! understanding expert does not learn directions (`docs/recipe.md`).

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Tensor, TensorData},
};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{
    objective::sigmoid_loss,
    pool::{self, PoolConfig},
    stage::{Stage, TrainingConfig},
    words::words_of,
};
use crate::{
    Result,
    encoder::siglip::VisionModel,
    layers::{Embedding, constant},
    ops::product,
    random,
    scene::{SIZE, Scene, SceneObject},
    text::Tokenizer,
    umm::{Umm, understanding::tie_head},
};

const TAG: u64 = u64::from_be_bytes(*b"encoder.");

/// Side of the grid of features of a picture of the data engine; the stem divides by 8.
const FEATURE_GRID: usize = SIZE / 8;

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
    /// The same for the scores of boxes.
    pub region_bias: Param<Tensor<1>>,
}

impl EncoderModule {
    pub fn of(umm: &Umm) -> Self {
        let token_embedding = umm.understanding.token_embedding.clone();
        let [vocabulary, _] = token_embedding.weight.dims();
        let device = token_embedding.weight.device();
        Self {
            vision_model: umm.vision_model.clone(),
            word_bias: constant(0.0, [vocabulary], &device),
            region_bias: constant(0.0, [vocabulary], &device),
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
    /// - `features`: `[batch, cells, hidden]`
    /// - returns `[batch, vocab_size]`
    fn picture_scores(&self, features: Tensor<3>) -> Tensor<2> {
        let strongest: Tensor<2> = features.max_dim(1).squeeze_dim(1);
        product(strongest, self.words()) + self.word_bias.val().unsqueeze()
    }

    /// How well each word fits each box: the mean feature of its cells.
    ///
    /// # Shapes
    /// - `features`: `[batch, cells, hidden]`
    /// - `shares`: `[regions, batch · cells]`, rows that sum to one
    /// - returns `[regions, vocab_size]`
    fn region_scores(&self, features: Tensor<3>, shares: Tensor<2>) -> Tensor<2> {
        let means = product(shares, features.flatten(0, 1));
        product(means, self.words()) + self.region_bias.val().unsqueeze()
    }

    fn words(&self) -> Tensor<2> {
        self.token_embedding.weight.val().transpose()
    }
}

/// A part of a picture, and the words that are true of it.
struct Region {
    /// Of the features' grid.
    cells: Vec<usize>,
    words: Vec<u32>,
}

/// Pictures and the words that each object in them shows.
pub struct EncoderStage {
    images: Arc<[RgbImage]>,
    regions: Vec<Vec<Region>>,
    batch: usize,
    seed: u64,
}

impl EncoderStage {
    /// # Errors
    /// `bad_input` for nouns, colours and sides outside the vocabulary.
    pub fn new(
        config: &EncoderConfig,
        seed: u64,
        scenes: &[Scene],
        images: Arc<[RgbImage]>,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let regions = scenes.iter().map(|scene| regions(scene, tokenizer)).collect::<Result<_>>()?;
        Ok(Self { images, regions, batch: config.training.batch, seed })
    }
}

impl Stage for EncoderStage {
    type Module = EncoderModule;

    fn loss(&self, module: &EncoderModule, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let indices = pool::draw(&mut random, self.batch, self.images.len());
        let device = module.word_bias.device();
        let features = module.vision_model.forward(pool::gather(&self.images, &indices, &device));
        let [batch, cells, _] = features.dims();
        let [vocabulary, _] = module.token_embedding.weight.dims();
        let (mut of_pictures, mut of_regions) = (vec![0f32; batch * vocabulary], Vec::new());
        let (mut shares, mut count) = (Vec::new(), 0);
        for (row, index) in indices.iter().enumerate() {
            for region in &self.regions[*index] {
                shares.resize((count + 1) * batch * cells, 0f32);
                of_regions.resize((count + 1) * vocabulary, 0f32);
                for cell in &region.cells {
                    shares[(count * batch + row) * cells + cell] = 1.0 / region.cells.len() as f32;
                }
                for word in &region.words {
                    of_pictures[row * vocabulary + *word as usize] = 1.0;
                    of_regions[count * vocabulary + *word as usize] = 1.0;
                }
                count += 1;
            }
        }
        let tensor =
            |values: Vec<f32>, shape| Tensor::<2>::from_data(TensorData::new(values, shape), &device);
        let pictures = module.picture_scores(features.clone());
        let regions = module.region_scores(features, tensor(shares, [count, batch * cells]));
        Ok(sigmoid_loss(pictures, tensor(of_pictures, [batch, vocabulary]))
            + sigmoid_loss(regions, tensor(of_regions, [count, vocabulary])))
    }
}

/// Each object's box with the words that are true of it.
fn regions(scene: &Scene, tokenizer: &Tokenizer) -> Result<Vec<Region>> {
    let words = words_of(scene, tokenizer)?;
    Ok(scene
        .objects
        .iter()
        .zip(words)
        .map(|(object, words)| Region { cells: cells(object), words })
        .collect())
}

/// The cells of the features' grid whose middles lie in the object's square.
fn cells(object: &SceneObject) -> Vec<usize> {
    let cell = SIZE as f32 / FEATURE_GRID as f32;
    let inside = |index: usize, centre: i32| {
        ((index as f32 + 0.5) * cell - centre as f32).abs() <= object.size as f32 / 2.0
    };
    (0..FEATURE_GRID * FEATURE_GRID)
        .filter(|at| inside(at / FEATURE_GRID, object.cy) && inside(at % FEATURE_GRID, object.cx))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_covers_the_cells_whose_middles_it_holds() {
        let (noun, style) = ("dog".to_owned(), "noto".to_owned());
        let object =
            SceneObject { noun, style, colour: None, natural_colour: None, cx: 16, cy: 40, size: 20 };
        assert_eq!(cells(&object), [33, 34, 41, 42]);
    }
}
