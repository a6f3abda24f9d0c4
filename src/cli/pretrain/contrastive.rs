//! The stages `clip` and `siglip`: an encoder in the Hugging Face layout, trained on scenes.

use std::fs;
use std::sync::Arc;

use pollster::block_on;
use reca::encoder::Family;
use reca::train::contrastive::{Blueprint, ContrastiveStage, ZeroShot, ZeroShotSet};
use reca::train::pool::PoolConfig;
use reca::train::recipe::StageName;
use reca::train::stage::Trainer;
use reca::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Session;
use crate::drive::{drive, go_on, write_whole};

/// Scenes that the encoder is measured on, and their seed's distance from those it learns from.
const MEASURED: u64 = 400;
const APART: u64 = 500;

/// A line of `zero-shot.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line {
    stage: String,
    step: u64,
    #[serde(flatten)]
    shares: ZeroShot,
}

impl Session {
    /// Trains one of the encoders, unless that is done, and writes its folder.
    pub(super) fn contrastive(&mut self, name: StageName) -> Result<()> {
        let family = if name == StageName::Clip { Family::Clip } else { Family::Siglip };
        let config = self.recipe.stages.contrastive.clone();
        let blueprint = Arc::new(Blueprint::new(family, &self.recipe)?);
        let fresh = blueprint.init(self.recipe.seed, config.training.batch, &self.device);
        let encoder = self.obtain(name, fresh.clone(), |session| {
            let samples = session.samples(config.pool)?;
            let (seed, texts) = (session.recipe.seed, session.texts.clone());
            let stage = ContrastiveStage::new(&config, seed, blueprint.clone(), samples, texts);
            let pool = PoolConfig { seed: config.pool.seed + APART, size: MEASURED, ..config.pool };
            let set = ZeroShotSet::new(&session.engine, pool, session.texts.tokenizer())?;
            let trainer = Trainer::new(stage, fresh, config.training);
            drive(trainer, &session.job(name)?, |encoder, step| {
                let shares = block_on(set.measure(encoder, &blueprint))?;
                let ZeroShot { nouns, colours, sides } = shares;
                let [nouns, colours, sides] = [nouns, colours, sides].map(|share| 100.0 * share);
                eprintln!(
                    "step {step}: right nouns {nouns:.1} %, colours {colours:.1} %, sides {sides:.1} %"
                );
                session.note(Line { stage: name.as_str().to_owned(), step, shares }).map(go_on)
            })
        })?;
        let Some(encoder) = encoder else { return Ok(()) };
        let folder = self.out.join(name.as_str());
        for (file, bytes) in block_on(blueprint.folder(&encoder))? {
            write_whole(&folder.join(file), &bytes)?;
        }
        println!("{}", folder.display());
        Ok(())
    }

    /// Adds a line to `zero-shot.jsonl`, in the place of those that a resumed run makes again.
    fn note(&self, line: Line) -> Result<()> {
        let path = self.out.join("zero-shot.jsonl");
        let mut text = String::new();
        for earlier in fs::read_to_string(&path).unwrap_or_default().lines() {
            let kept = serde_json::from_str::<Line>(earlier)
                .is_ok_and(|earlier| earlier.stage != line.stage || earlier.step < line.step);
            text.extend(kept.then_some([earlier, "\n"]).into_iter().flatten());
        }
        text += &serde_json::to_string(&line).map_err(Error::internal)?;
        write_whole(&path, (text + "\n").as_bytes())
    }
}
