//! How far the scorer itself can be trusted: its accuracy on rendered scenes, where the truth is known.

use image::RgbImage;
use serde::Serialize;

use super::{
    prompts::{Category, Prompt, PromptSet, PromptTier},
    scorer::Scorer,
};
use crate::{
    Error, Result,
    scene::{Engine, SIZE, Scene},
};

/// Verdicts on rendered scenes of a category and tier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    pub category: Category,
    pub tier: PromptTier,
    pub pictures: usize,
    /// Pictures that the scorer accepts for their own prompt; all should be.
    pub accepted: usize,
    /// Pictures that it accepts for the next prompt of the category and tier; few should be (a
    /// picture may well show what another prompt asks for).
    pub foreign: usize,
}

/// Measures a scorer on `per_cell` scenes of every category and tier that the engine's world has.
pub async fn accuracy(scorer: &Scorer, engine: &Engine, seed: u64, per_cell: usize) -> Result<Vec<Accuracy>> {
    let staged = PromptSet::staged(engine, seed, per_cell);
    let mut found = Vec::new();
    for cell in staged.chunk_by(|(a, _), (b, _)| (a.category, a.tier) == (b.category, b.tier)) {
        let (prompts, scenes): (Vec<&Prompt>, Vec<&Scene>) = cell.iter().map(|(p, s)| (p, s)).unzip();
        let pictures = scenes.iter().map(|scene| picture(engine, scene)).collect::<Result<Vec<_>>>()?;
        let accepted = |verdicts: Vec<super::Verdict>| verdicts.iter().filter(|v| v.correct).count();
        let own = accepted(scorer.score(&pictures, &prompts).await?);
        let mut others = prompts.clone();
        others.rotate_left(1);
        let foreign = if prompts.len() > 1 { accepted(scorer.score(&pictures, &others).await?) } else { 0 };
        let Prompt { category, tier, .. } = prompts[0];
        found.push(Accuracy {
            category: *category,
            tier: *tier,
            pictures: pictures.len(),
            accepted: own,
            foreign,
        });
    }
    Ok(found)
}

/// A scene as a picture.
pub fn picture(engine: &Engine, scene: &Scene) -> Result<RgbImage> {
    RgbImage::from_raw(SIZE as u32, SIZE as u32, engine.render(scene)?)
        .ok_or_else(|| Error::internal("a scene has the wrong number of pixels"))
}
