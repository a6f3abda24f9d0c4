//! The same prompts from the same noise, before and after.

use image::{RgbImage, imageops};
use pollster::block_on;
use reca::eval::{Category, PromptSet, PromptTier};
use reca::scene::Engine;
use reca::{Pipeline, Result};

use crate::common::sheet;

/// What the flaw is known by, where a world has it.
const FIRST: &str = "a yellow broccoli";
/// Seed of the prompts, apart from the evaluation's.
const SEED: u64 = 12;
/// Enlargement of the pictures.
const SCALE: u32 = 2;
/// Prompts of a category and tier.
const SHARES: [(Category, PromptTier, usize); 5] = [
    (Category::Colors, PromptTier::NaturalOnly, 4),
    (Category::Colors, PromptTier::HeldPair, 3),
    (Category::TwoObject, PromptTier::Seen, 1),
    (Category::Position, PromptTier::Seen, 1),
    (Category::ColorAttr, PromptTier::Seen, 2),
];

/// The first prompts that the seed gives of each tier, none chosen by its picture.
pub fn prompts(engine: &Engine) -> Vec<String> {
    let all = PromptSet::generate(engine, SEED, 5);
    let first =
        engine.world().nouns.iter().any(|noun| FIRST.ends_with(noun.as_str())).then(|| FIRST.to_owned());
    let rest = SHARES.iter().flat_map(|(category, tier, count)| {
        let fits = all.iter().filter(|prompt| prompt.category == *category && prompt.tier == *tier);
        let named = fits.map(|prompt| prompt.record.prompt.clone()).filter(|prompt| !prompt.ends_with(FIRST));
        named.take(*count)
    });
    first.into_iter().chain(rest).collect()
}

/// A column a prompt, the seed of its noise the column's number: above the base's picture, below the
/// aligned model's.
pub fn draw(base: &Pipeline, aligned: &Pipeline, prompts: &[String]) -> Result<RgbImage> {
    let words: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let seeds: Vec<u64> = (0..).take(words.len()).collect();
    let mut pictures = Vec::new();
    for model in [base, aligned] {
        let mut drawing = model.generate_many(&words, &seeds, model.sampling())?;
        while drawing.advance() {}
        pictures.extend(block_on(drawing.images())?);
    }
    let sheet = sheet(&pictures, words.len() as u32);
    let (width, height) = sheet.dimensions();
    Ok(imageops::resize(&sheet, SCALE * width, SCALE * height, imageops::FilterType::CatmullRom))
}
