//! How well the model draws, counted in the tab: prompts in GenEval's categories, a step a call.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tsify::{Ts, Tsify};
use wasm_bindgen::prelude::*;

use super::{
    Runtime,
    options::{Weights, in_range},
    types::{FileRecord, file},
};
use crate::{
    Error, Result,
    eval::{self, Category, Interval, PromptSet, PromptTier, Scorer, ScorerFiles, report::PromptResult},
};

/// What to evaluate; what is left out has its default.
#[derive(Deserialize, Tsify)]
#[serde(default, rename_all = "camelCase")]
pub struct EvaluateOptions {
    /// Prompts a category, its tiers in turn; fewer where the world has not as many. Default 12.
    pub per_category: u64,
    /// Pictures a prompt, 1 to 4. Default 1.
    pub seeds: u64,
    /// Of prompts and of the first picture's noise: the same seed gives the same numbers. Default 0.
    pub seed: u64,
    /// Default `base`.
    pub weights: Weights,
    /// Denoising steps, 1 to 1000. Default: the model's own.
    pub steps: Option<usize>,
    /// Strength of classifier-free guidance. Default: the model's own.
    pub guidance: Option<f32>,
    /// Draws prompts as they are written: see `DrawOptions`. Default false.
    pub as_written: bool,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            per_category: 12,
            seeds: 1,
            seed: 0,
            weights: Weights::Base,
            steps: None,
            guidance: None,
            as_written: false,
        }
    }
}

/// What an evaluation found in the prompts that it has finished.
#[derive(Serialize, Tsify)]
pub struct Evaluated {
    /// Prompts finished, and prompts in all.
    pub done: usize,
    pub prompts: usize,
    /// Prompts left out because the model or the scorer does not know their words.
    pub skipped: usize,
    /// Mean over the categories, as GenEval's.
    pub overall: Share,
    /// Categories with a prompt, all tiers together.
    pub categories: Vec<Tally>,
    pub tiers: Vec<Tally>,
}

/// A share from 0 to 1 with its 95 % interval, Wilson's over prompts.
#[derive(Serialize, Tsify)]
pub struct Share {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// Pictures of a category, or of a tier of it, and how many show what their prompts ask for.
#[derive(Serialize, Tsify)]
pub struct Tally {
    #[tsify(type = "'single_object' | 'two_object' | 'counting' | 'colors' | 'position' | 'color_attr'")]
    pub category: &'static str,
    /// None where all tiers are counted together.
    #[tsify(optional, type = "'seen' | 'held_pair' | 'natural_only' | 'held_combination' | 'held_count'")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<&'static str>,
    pub prompts: usize,
    pub pictures: usize,
    pub correct: usize,
    pub share: Share,
}

impl Share {
    /// Of so many prompts; the pictures of one prompt count as one.
    fn of(mean: f64, prompts: usize) -> Self {
        let Interval { mean, low, high } = Interval::wilson(mean, prompts);
        Self { mean, low, high }
    }
}

impl Tally {
    /// `None` if no prompt is of the category and tier.
    fn of(results: &[PromptResult], category: Category, tier: Option<PromptTier>) -> Option<Self> {
        let own: Vec<_> = results
            .iter()
            .filter(|result| result.category == category && tier.is_none_or(|tier| tier == result.tier))
            .collect();
        let pictures: usize = own.iter().map(|result| result.verdicts.len()).sum();
        let correct =
            own.iter().flat_map(|result| &result.verdicts).filter(|verdict| verdict.correct).count();
        (!own.is_empty()).then(|| Self {
            category: category.name(),
            tier: tier.map(PromptTier::name),
            prompts: own.len(),
            pictures,
            correct,
            share: Share::of(correct as f64 / pictures.max(1) as f64, own.len()),
        })
    }
}

/// An evaluation under way. Pausing is not calling [`Evaluation::advance`], cancelling is `free()`.
#[wasm_bindgen]
pub struct Evaluation(eval::Evaluation);

#[wasm_bindgen]
impl Evaluation {
    /// Makes one denoising step of a prompt's pictures; false once all prompts are finished.
    pub async fn advance(&mut self) -> Result<bool> {
        Ok(self.0.advance().await?.is_some())
    }

    /// Prompts finished so far.
    #[wasm_bindgen(getter)]
    pub fn done(&self) -> usize {
        self.0.finished()
    }

    /// The counts so far.
    pub fn counts(&self) -> Result<Ts<Evaluated>> {
        let results = self.0.results();
        let categories: Vec<Tally> =
            Category::ALL.into_iter().filter_map(|category| Tally::of(&results, category, None)).collect();
        let cells = Category::ALL
            .into_iter()
            .flat_map(|category| category.tiers().iter().map(move |t| (category, *t)));
        let tiers = cells.filter_map(|(category, tier)| Tally::of(&results, category, Some(tier))).collect();
        let mean =
            categories.iter().map(|tally| tally.share.mean).sum::<f64>() / categories.len().max(1) as f64;
        Evaluated {
            done: results.len(),
            prompts: self.0.prompts().len(),
            skipped: self.0.skipped().prompts.len(),
            overall: Share::of(mean, results.len()),
            categories,
            tiers,
        }
        .into_ts()
        .map_err(Error::internal)
    }
}

#[wasm_bindgen]
impl Runtime {
    /// Opens the scorer of a model directory, its files by name.
    ///
    /// # Errors
    /// `weights_hash`, `weights_format`, `weights_shape`.
    #[wasm_bindgen(js_name = openScorer)]
    pub fn open_scorer(&self, files: &FileRecord) -> Result<()> {
        let files = ScorerFiles::read(|name| file(files, name))?;
        self.scorer.replace(Some(Scorer::load(&files, &self.opened.device)?));
        Ok(())
    }

    /// Begins an evaluation of drawing; the pictures of one prompt are drawn together.
    ///
    /// # Errors
    /// `bad_input` for options out of range, without a world or a scorer, and if no prompt has only
    /// words that model and scorer know.
    pub fn evaluate(&self, options: Ts<EvaluateOptions>) -> Result<Evaluation> {
        let options = options.to_rust().map_err(Error::bad_input)?;
        in_range("perCategory", options.per_category, 1..=1000)?;
        in_range("seeds", options.seeds, 1..=4)?;
        let mut model = self.model(options.weights)?;
        if options.as_written {
            model = Rc::new(model.as_written());
        }
        let scorer = self.scorer.borrow().clone();
        let scorer = scorer.ok_or_else(|| Error::bad_input("no scorer is opened yet"))?;
        let sampler = model.sampler(options.steps, options.guidance);
        let prompts = PromptSet::even(self.engine()?.as_ref(), options.seed, options.per_category as usize);
        let pictures = options.seeds as usize;
        let evaluation = eval::Evaluation::new(&model, &scorer, prompts, options.seed, pictures, sampler)?;
        Ok(Evaluation(evaluation.with_batch(pictures)))
    }
}
