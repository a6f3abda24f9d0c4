//! Stage `understanding`: questions about images, and, for a part of the batch, about their
//! captions, so that text and image contexts become one language. The vision tower is frozen.
//!
//! Nouns in a caption are also scored against the words that are true of them, as boxes are in the
//! encoder stage: so a noun's keys and values say its colour and side, as those of the visual tokens
//! in its place do. Without it, directions in texts stay a guess (`docs/recipe.md`).

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Tensor, TensorData},
};
use serde::{Deserialize, Serialize};

use super::{
    cache::Cache,
    objective::{Exchange, answer_loss, answer_loss_from, scores_at, sigmoid_loss},
    pool::{Mixture, PoolConfig},
    stage::{Stage, TrainingConfig},
    texts::Texts,
    words::words_of,
};
use crate::{
    Error, Result,
    layers::constant,
    random,
    scene::Scene,
    umm::{TextBatch, Umm, connector::Connector, understanding::Understanding},
};

const TAG: u64 = u64::from_be_bytes(*b"understa");

/// Tokens of the longest text that the stage reads: a dense caption (13), a request (8), and the answer (8)
/// with its end.
pub const LONGEST_TEXT: usize = 30;

/// Where the words' biases start: few of them are true of a noun.
const TAG_BIAS: f64 = -4.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnderstandingConfig {
    #[serde(flatten)]
    pub training: TrainingConfig,
    /// Part of the batch, and of the loss, that reads a caption instead of an image.
    pub text_only: f32,
    /// Part of the batch that shows two objects: relations are learned last.
    pub two_objects: f64,
    pub pool: PoolConfig,
}

impl UnderstandingConfig {
    /// # Errors
    /// `bad_input` naming the field, with its limits.
    pub fn check(&self) -> Result<()> {
        let (share, batch) = (self.text_only, self.training.batch);
        if !(0.0..=1.0).contains(&share) || self.captions() >= batch {
            return Err(Error::bad_input(format!(
                "text_only is {share}, expected 0 or more, and less than what takes all {batch} samples of a step"
            )));
        }
        Ok(())
    }

    /// Samples of a step that read a caption.
    fn captions(&self) -> usize {
        (self.text_only * self.training.batch as f32).round() as usize
    }
}

/// What the stage trains.
#[derive(Module, Debug)]
pub struct UnderstandingModule {
    pub connector: Connector,
    pub understanding: Understanding,
    /// One bias a word for what is true of a noun; not part of the model.
    pub tag_bias: Param<Tensor<1>>,
}

impl UnderstandingModule {
    pub fn of(umm: &Umm) -> Self {
        let [vocabulary, _] = umm.understanding.token_embedding.weight.dims();
        let device = umm.understanding.token_embedding.weight.device();
        Self {
            connector: umm.connector.clone(),
            understanding: umm.understanding.clone(),
            tag_bias: constant(TAG_BIAS, [vocabulary], &device),
        }
    }

    pub fn put_into(self, mut umm: Umm) -> Umm {
        umm.connector = self.connector;
        umm.understanding = self.understanding;
        umm
    }
}

pub struct UnderstandingStage {
    scenes: Arc<[Scene]>,
    /// Of the vision tower, one entry a scene.
    features: Cache,
    texts: Texts,
    config: UnderstandingConfig,
    mixture: Mixture,
    seed: u64,
}

impl UnderstandingStage {
    pub fn new(
        config: &UnderstandingConfig,
        seed: u64,
        scenes: Arc<[Scene]>,
        features: Cache,
        texts: Texts,
    ) -> Self {
        let mixture = Mixture::new(&scenes, config.two_objects);
        Self { scenes, features, texts, config: config.clone(), mixture, seed }
    }
}

impl Stage for UnderstandingStage {
    type Module = UnderstandingModule;

    fn loss(&self, module: &UnderstandingModule, step: u64) -> Result<Tensor<1>> {
        let mut random = random::stream(self.seed ^ TAG, step);
        let text_only = self.config.text_only;
        let indices = self.mixture.draw(&mut random, self.config.training.batch);
        let (read, seen) = indices.split_at(self.config.captions());
        let captions = read
            .iter()
            .map(|index| self.texts.dense(&self.scenes[*index], &mut random))
            .collect::<Result<Vec<_>>>()?;
        let told: Vec<Exchange> = read
            .iter()
            .zip(&captions)
            .map(|(index, caption)| {
                let (question, answer) = self.texts.question(&self.scenes[*index], &mut random)?;
                Ok(([caption.clone(), question].concat(), answer))
            })
            .collect::<Result<_>>()?;
        let asked: Vec<Exchange> = seen
            .iter()
            .map(|index| self.texts.question(&self.scenes[*index], &mut random))
            .collect::<Result<_>>()?;
        let device = module.understanding.position_embedding.weight.device();
        let visual = module.connector.forward(self.features.gather(seen, &device));
        let from_image = answer_loss(&module.understanding, &asked, Some(visual));
        if read.is_empty() {
            return Ok(from_image);
        }
        let rows = told.iter().map(|(prompt, answer)| (prompt.as_slice(), answer.as_slice()));
        let states = module.understanding.forward(&TextBatch::with_answers(rows), None).states;
        let from_text = answer_loss_from(&module.understanding, states.clone(), &told, 0);
        let tagged = self.tagged(module, states, read, &captions)?;
        Ok(from_image * (1.0 - text_only) + (from_text + tagged) * text_only)
    }
}

impl UnderstandingStage {
    /// The loss of what is true of each noun that a caption names once, from the noun's own state.
    ///
    /// # Shapes
    /// - `states`: `[captions, text_tokens, hidden]`, captions first in each row
    fn tagged(
        &self,
        module: &UnderstandingModule,
        states: Tensor<3>,
        indices: &[usize],
        captions: &[Vec<u32>],
    ) -> Result<Tensor<1>> {
        let ([_, tokens, _], device) = (states.dims(), states.device());
        let [vocabulary] = module.tag_bias.dims();
        let (mut positions, mut shown) = (Vec::new(), Vec::new());
        for (row, (index, caption)) in indices.iter().zip(captions).enumerate() {
            for words in words_of(&self.scenes[*index], self.texts.tokenizer())? {
                let mut places = (0..caption.len()).filter(|at| caption[*at] == words[0]);
                if let (Some(place), None) = (places.next(), places.next()) {
                    positions.push(row * tokens + place);
                    let mut row = vec![0f32; vocabulary];
                    words[1..].iter().for_each(|word| row[*word as usize] = 1.0);
                    shown.extend(row);
                }
            }
        }
        if positions.is_empty() {
            return Ok(Tensor::zeros([1], &device));
        }
        let scores = scores_at(&module.understanding, states, &positions) + module.tag_bias.val().unsqueeze();
        let shown = TensorData::new(shown, [positions.len(), vocabulary]);
        Ok(sigmoid_loss(scores, Tensor::from_data(shown, &device)))
    }
}

#[cfg(all(test, feature = "svg"))]
mod tests {
    use super::LONGEST_TEXT;
    use crate::{
        scene::{Engine, Pool, caption, question},
        train::recipe::Recipe,
    };

    #[test]
    fn no_text_is_longer_than_the_longest() {
        let recipe = Recipe::named("nano").unwrap();
        let (engine, tokenizer) = (Engine::new(recipe.world.clone()).unwrap(), recipe.tokenizer().unwrap());
        let length = |text: &str| tokenizer.encode(text).unwrap().len();
        let (mut captions, mut exchanges) = (Vec::new(), Vec::new());
        for index in 0..500 {
            let scene = engine.scene(Pool::Understanding, 1, index).unwrap();
            captions.extend(caption::dense(&scene, 2, index).iter().map(|text| length(text)));
            let asked = question::questions(&scene, 2, index);
            exchanges.extend(asked.iter().map(|q| length(&q.question) + length(&q.answer) + 1));
        }
        assert_eq!(captions.iter().max().unwrap() + exchanges.iter().max().unwrap(), LONGEST_TEXT);
    }
}
