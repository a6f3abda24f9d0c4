//! How well towers tell scenes apart by texts alone.

use std::collections::BTreeMap;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::Blueprint;
use crate::{
    Result,
    encoder::{DualEncoder, dual::normalise},
    scene::{
        Colour, Engine, Scene,
        caption::{Mention, describe},
        nouns::with_article,
    },
    text::Tokenizer,
    train::pool::PoolConfig,
    umm::describe::read,
};

/// Pictures and texts that go through a tower at once.
const CHUNK: usize = 128;

/// Shares of scenes for which the right text scores highest, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZeroShot {
    /// Of single things, among all nouns.
    pub nouns: f64,
    /// Of single things in a given colour, among all colours of their noun.
    pub colours: f64,
    /// Of two things, against the caption with the opposite relation: by chance one half.
    pub sides: f64,
}

/// A picture's texts of one kind, the right one first.
struct Choice {
    kind: usize,
    picture: usize,
    texts: Vec<usize>,
}

/// Scenes with texts to choose from.
pub struct ZeroShotSet {
    images: Vec<RgbImage>,
    texts: Vec<Vec<u32>>,
    choices: Vec<Choice>,
}

impl ZeroShotSet {
    /// # Errors
    /// Those of the pool, and `bad_input` for words outside the vocabulary.
    pub fn new(engine: &Engine, pool: PoolConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let (scenes, images) = pool.samples(engine)?;
        let (mut known, mut choices) = (BTreeMap::new(), Vec::new());
        for (picture, scene) in scenes.iter().enumerate() {
            for (kind, texts) in texts(scene, &engine.world().nouns) {
                let mut index = |text: String| {
                    let next = known.len();
                    *known.entry(text).or_insert(next)
                };
                choices.push(Choice { kind, picture, texts: texts.into_iter().map(&mut index).collect() });
            }
        }
        let mut texts = vec![Vec::new(); known.len()];
        for (text, index) in known {
            texts[index] = tokenizer.encode(&text)?;
        }
        Ok(Self { images, texts, choices })
    }

    /// Scores every scene against its texts.
    pub async fn measure(&self, towers: &DualEncoder, blueprint: &Blueprint) -> Result<ZeroShot> {
        let device = towers.vision_model.post_layernorm.weight.device();
        let (mut images, mut texts) = (Vec::new(), Vec::new());
        for chunk in self.images.chunks(CHUNK) {
            let pixels = blueprint.preprocessor.forward(chunk, &device)?;
            images.extend(read(normalise(towers.image_embeds(pixels)?)).await?);
        }
        for chunk in self.texts.chunks(CHUNK) {
            let rows = blueprint.rows(chunk.to_vec());
            texts.extend(read(normalise(towers.text_embeds(&rows)?)).await?);
        }
        let size = images.len() / self.images.len().max(1);
        let score = |picture: usize, text: usize| -> f32 {
            let pair = images[picture * size..][..size].iter().zip(&texts[text * size..][..size]);
            pair.map(|(a, b)| a * b).sum()
        };
        let mut right = [[0usize; 2]; 3];
        for Choice { kind, picture, texts } in &self.choices {
            let best = texts.iter().skip(1).map(|text| score(*picture, *text)).fold(f32::MIN, f32::max);
            right[*kind][0] += usize::from(score(*picture, texts[0]) > best);
            right[*kind][1] += 1;
        }
        let [nouns, colours, sides] = right.map(|[right, all]| right as f64 / all.max(1) as f64);
        Ok(ZeroShot { nouns, colours, sides })
    }
}

/// A scene's texts by kind (an index of [`ZeroShot`]'s fields), the right one first.
fn texts(scene: &Scene, nouns: &[String]) -> Vec<(usize, Vec<String>)> {
    match (scene.objects.as_slice(), scene.relation) {
        ([thing], None) if scene.count.is_none() => {
            let mut kinds = vec![(0, first(&thing.noun, nouns.iter().map(String::as_str), with_article))];
            if let Some(colour) = thing.colour {
                let named = |colour: &str| with_article(&format!("{colour} {}", thing.noun));
                kinds.push((1, first(colour.name(), Colour::ALL.into_iter().map(Colour::name), named)));
            }
            kinds
        }
        ([_, _], Some(relation)) => {
            let opposite = Scene { relation: Some(relation.inverse()), ..scene.clone() };
            vec![(2, [scene, &opposite].map(|scene| describe(scene, Mention::ALL)).into())]
        }
        _ => Vec::new(),
    }
}

/// The phrase of the right word, then those of the others.
fn first<'a>(
    right: &'a str,
    all: impl Iterator<Item = &'a str>,
    phrase: impl Fn(&str) -> String,
) -> Vec<String> {
    let others = all.filter(|word| *word != right);
    std::iter::once(right).chain(others).map(phrase).collect()
}
