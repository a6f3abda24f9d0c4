//! How far the scorer itself can be trusted: its accuracy on rendered scenes, where the truth is known.

use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    prompts::{Category, Prompt, PromptSet, PromptTier},
    scorer::Scorer,
};
use crate::{
    Error, Result, random,
    scene::{Engine, SIZE, Scene},
};

const TAG: u64 = u64::from_be_bytes(*b"strange.");

/// Verdicts on rendered scenes of a category and tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    pub category: Category,
    pub tier: PromptTier,
    pub pictures: usize,
    /// Pictures that the scorer accepts for their own prompt; all should be.
    pub accepted: usize,
    /// Pictures that it accepts for the next prompt of the category and tier; few should be (a
    /// picture may well show what another prompt asks for).
    pub foreign: usize,
    /// Pictures whose first thing was exchanged for one of the same colour that the world has no word
    /// for; fewer than all where it has a word for everything.
    pub exchanged: usize,
    /// Those of them that it accepts all the same; none should be.
    pub strange: usize,
    /// The prompts whose own pictures were refused, each with the reason.
    pub refused: Vec<(String, String)>,
}

/// Measures a scorer on `per_cell` scenes of every category and tier that the engine's world has.
/// `wide`: the engine of the same world with its strangers ([`World::strangers`](crate::scene::World::strangers)).
pub async fn accuracy(
    scorer: &Scorer,
    engine: &Engine,
    wide: &Engine,
    seed: u64,
    per_cell: usize,
) -> Result<Vec<Accuracy>> {
    let staged = PromptSet::staged(engine, seed, per_cell);
    let random = &mut random::stream(seed, TAG);
    let mut found = Vec::new();
    for cell in staged.chunk_by(|(a, _), (b, _)| (a.category, a.tier) == (b.category, b.tier)) {
        let prompts: Vec<(&Prompt, &str)> = cell.iter().map(|(p, scene)| (p, scene.style.as_str())).collect();
        let pictures = cell.iter().map(|(_, scene)| picture(engine, scene)).collect::<Result<Vec<_>>>()?;
        let verdicts = scorer.score(&pictures, &prompts).await?;
        let (mut asked, mut exchanged) = (Vec::new(), Vec::new());
        for (prompt, (_, scene)) in prompts.iter().zip(cell) {
            if let Some(scene) = exchange(engine, wide, scene, random) {
                asked.push(*prompt);
                exchanged.push(picture(wide, &scene)?);
            }
        }
        let strange = scorer.score(&exchanged, &asked).await?;
        let wrong = prompts.iter().zip(&verdicts).filter(|(_, verdict)| !verdict.correct);
        let refused: Vec<_> = wrong
            .map(|((prompt, _), verdict)| (prompt.record.prompt.clone(), verdict.reason.clone()))
            .collect();
        // Another's prompt, the picture's own style.
        let next = prompts.iter().cycle().skip(1);
        let others: Vec<_> =
            prompts.iter().zip(next).map(|((_, style), (other, _))| (*other, *style)).collect();
        let foreign = if prompts.len() > 1 { scorer.score(&pictures, &others).await? } else { Vec::new() };
        let Prompt { category, tier, .. } = prompts[0].0;
        found.push(Accuracy {
            category: *category,
            tier: *tier,
            pictures: pictures.len(),
            accepted: pictures.len() - refused.len(),
            foreign: foreign.iter().filter(|verdict| verdict.correct).count(),
            exchanged: exchanged.len(),
            strange: strange.iter().filter(|verdict| verdict.correct).count(),
            refused,
        });
    }
    Ok(found)
}

/// A scene with its first thing exchanged for a stranger of its colour; `None` if there is none.
fn exchange(engine: &Engine, wide: &Engine, scene: &Scene, random: &mut ChaCha8Rng) -> Option<Scene> {
    let mut scene = scene.clone();
    let object = scene.objects.first_mut()?;
    let fits = |noun: &&String| {
        let pixels = wide.bank().pixels(noun, &object.style, object.colour);
        pixels.is_some() && !engine.world().nouns.contains(noun)
    };
    let fitting: Vec<&String> = wide.world().nouns.iter().filter(fits).collect();
    let noun = fitting.get(random::below(random, fitting.len()))?;
    object.noun = (*noun).clone();
    Some(scene)
}

/// A scene as a picture.
pub fn picture(engine: &Engine, scene: &Scene) -> Result<RgbImage> {
    RgbImage::from_raw(SIZE as u32, SIZE as u32, engine.render(scene)?)
        .ok_or_else(|| Error::internal("a scene has the wrong number of pixels"))
}
