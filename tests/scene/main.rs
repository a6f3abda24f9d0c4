//! What the data engine promises: nothing held out is ever named to the drawing side, captions and
//! answers are true, and the same seed makes the same scene.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "cli")]
mod command;
mod pictures;
mod split;
mod words;

use reca::scene::{CaptionRates, Engine, Pool, Scene, World, caption, geneval, question};

pub const RATES: CaptionRates = CaptionRates { colour: 0.6, relation: 0.7, count: 0.7, style: 0.7 };

pub fn mini() -> Engine {
    let recipe = include_str!("../../src/train/recipes/mini.json");
    let recipe: serde_json::Value = serde_json::from_str(recipe).unwrap();
    Engine::new(serde_json::from_value(recipe["world"].clone()).unwrap()).unwrap()
}

pub fn full() -> Engine {
    Engine::new(World::full()).unwrap()
}

pub fn scenes(engine: &Engine, pool: Pool, count: u64) -> impl Iterator<Item = (u64, Scene)> + '_ {
    (0..count).map(move |index| (index, engine.scene(pool, 7, index).unwrap()))
}

/// Everything that is ever said about a scene.
pub fn texts(scene: &Scene, index: u64) -> Vec<String> {
    let mut texts = caption::dense(scene, 7, index);
    texts.extend(caption::sparse(scene, RATES, 8, 7, index));
    for asked in question::questions(scene, 7, index) {
        texts.extend([asked.question, asked.answer]);
    }
    texts.push(geneval::metadata(scene).prompt);
    texts
}
