//! A probe set: prompts that are drawn while a run goes on, so that it ends when it stops helping.

use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use reca::eval::{Evaluation, Prompt, PromptSet, Scorer};
use reca::scene::Engine;
use reca::umm::generation::Generation;
use reca::{Error, Pipeline, Result};
use serde::{Deserialize, Serialize};

use super::remove;
use crate::drive::write_whole;

/// Seed of the prompts. Of a category's few prompts `reca eval` has the same.
const SEED: u64 = 0x70_0b_e5;
/// Prompts a category and tier.
const PER_CATEGORY: usize = 8;
/// Looks without a better score, after which a run ends.
const PATIENCE: usize = 3;

/// What one look found.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Look {
    step: u64,
    /// GenEval's overall score on the probes, 0 to 1.
    overall: f64,
}

/// What came of a look.
pub struct Outcome {
    pub overall: f64,
    /// No earlier look found as much, the one at the base among them.
    pub best: bool,
    /// So many looks found less that the run may end.
    pub hopeless: bool,
}

impl Outcome {
    /// Of the last look.
    fn of(looks: &[Look]) -> Self {
        let overall = looks.last().map_or(0.0, |look| look.overall);
        let highest = looks.iter().map(|look| look.overall).fold(f64::MIN, f64::max);
        let since = looks.iter().rev().take_while(|look| look.overall < highest).count();
        let as_much = looks.iter().filter(|look| look.overall >= overall).count();
        Self { overall, best: as_much == 1, hopeless: since >= PATIENCE }
    }
}

pub struct Probes {
    pipeline: Pipeline,
    scorer: Scorer,
    prompts: Vec<Prompt>,
    path: PathBuf,
    looks: Vec<Look>,
}

impl Probes {
    /// Keeps the looks in `out/probes.jsonl`; a run that goes on has those that it left there.
    pub fn new(
        pipeline: &Pipeline,
        scorer: Scorer,
        engine: &Engine,
        out: &Path,
        goes_on: bool,
    ) -> Result<Self> {
        let prompts = PromptSet::generate(engine, SEED, PER_CATEGORY);
        let path = out.join("probes.jsonl");
        let mut looks = Vec::new();
        if goes_on {
            let earlier = fs::read_to_string(&path).unwrap_or_default();
            looks.extend(earlier.lines().filter_map(|line| serde_json::from_str(line).ok()));
        } else {
            remove(&path)?;
        }
        Ok(Self { pipeline: pipeline.clone(), scorer, prompts, path, looks })
    }

    /// The step at which most was found, the earliest of several; 0 is the base. `None` if nothing but
    /// the base was looked at.
    pub fn best_step(&self) -> Option<u64> {
        best_step(&self.looks)
    }

    /// Draws the probes with the base's expert, unless an earlier call has.
    pub fn look_at_base(&mut self) -> Result<()> {
        if self.looks.is_empty() {
            let base = self.pipeline.umm.generation.clone();
            let Outcome { overall, .. } = self.look(&base, 0)?;
            eprintln!("base: probes {:.1} %", 100.0 * overall);
        }
        Ok(())
    }

    /// Draws the probes with the expert as it is after `step` steps.
    pub fn look(&mut self, generation: &Generation, step: u64) -> Result<Outcome> {
        self.looks.retain(|look| look.step < step);
        let pipeline = self.pipeline.with_generation(generation.clone());
        let sampler = pipeline.sampling();
        let mut evaluation =
            Evaluation::new(&pipeline, &self.scorer, self.prompts.clone(), SEED, 1, sampler)?;
        while block_on(evaluation.advance())?.is_some() {}
        let overall = evaluation.report().drawing.map_or(0.0, |drawing| drawing.overall.mean);
        self.looks.push(Look { step, overall });
        let lines = self.looks.iter().map(|look| serde_json::to_string(look).map_err(Error::internal));
        write_whole(&self.path, (lines.collect::<Result<Vec<_>>>()?.join("\n") + "\n").as_bytes())?;
        Ok(Outcome::of(&self.looks))
    }
}

fn best_step(looks: &[Look]) -> Option<u64> {
    let first = looks.first().filter(|_| looks.len() > 1)?;
    Some(looks.iter().fold(first, |best, look| if look.overall > best.overall { look } else { best }).step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_of_the_best_steps_is_kept() {
        let best = |scores: &[f64]| {
            let looks = (0..).zip(scores).map(|(step, overall)| Look { step, overall: *overall });
            best_step(&looks.collect::<Vec<_>>())
        };
        assert_eq!(best(&[0.5]), None, "nothing but the base was looked at");
        assert_eq!(best(&[0.5, 0.5]), Some(0));
        assert_eq!(best(&[0.5, 0.6, 0.6]), Some(1));
    }

    #[test]
    fn the_best_look_is_kept_and_three_worse_ones_end_a_run() {
        let outcome = |scores: &[f64]| {
            let looks: Vec<Look> =
                (0..).zip(scores).map(|(step, overall)| Look { step, overall: *overall }).collect();
            let Outcome { best, hopeless, .. } = Outcome::of(&looks);
            (best, hopeless)
        };
        assert_eq!(outcome(&[0.5, 0.6]), (true, false));
        assert_eq!(outcome(&[0.5, 0.5]), (false, false), "no better than the base");
        assert_eq!(outcome(&[0.5, 0.6, 0.5, 0.4]), (false, false));
        assert_eq!(outcome(&[0.5, 0.6, 0.5, 0.4, 0.5]), (false, true));
        assert_eq!(outcome(&[0.5, 0.4, 0.4, 0.4]), (false, true), "less than the base throughout");
        assert_eq!(outcome(&[0.5, 0.4, 0.4, 0.7]), (true, false));
    }
}
