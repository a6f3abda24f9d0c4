//! How well a model draws: prompts, several pictures each, drawn in batches and scored, a denoising step a call.

use std::collections::BTreeMap;
use std::ops::Range;

use image::{Rgb, RgbImage, imageops};
use serde::Serialize;

use super::{
    prompts::{Category, Prompt},
    report::{DrawingReport, PromptResult, Report, Skipped},
    scorer::{Scorer, Verdict},
};
use crate::{Error, Pipeline, Result, flow::sampler::SamplerConfig, pipeline::Drawing};

/// Pictures drawn together unless told otherwise.
pub const BATCH: usize = 32;
/// Prompts of a category and tier on its contact sheet, and pictures of each.
const SHOWN: usize = 6;
const SHOWN_PICTURES: usize = 4;

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Work done and work in all: denoising steps of pictures, or scenes.
    pub done: u64,
    pub total: u64,
}

/// Draws prompts and scores the pictures. The caller drives it, and may look or stop between steps.
pub struct Evaluation {
    pipeline: Pipeline,
    scorer: Scorer,
    prompts: Vec<Prompt>,
    skipped: Skipped,
    seed: u64,
    /// Of each prompt.
    pictures: usize,
    sampler: SamplerConfig,
    batch: usize,
    /// The batch being drawn: pictures of these numbers, counted through all prompts.
    current: Option<(Range<usize>, Drawing)>,
    steps: u64,
    verdicts: Vec<Verdict>,
    /// Pictures for the contact sheets, by number.
    shown: BTreeMap<usize, RgbImage>,
}

impl Evaluation {
    /// Every prompt is drawn so many times, each picture from noise of its own: the first prompt's with
    /// `seed` and the seeds that follow, the next prompt's with those after them. Prompts with words that
    /// the model or nouns that the scorer does not know are left out, and reported.
    ///
    /// # Errors
    /// `bad_input` for no pictures, or if no prompt is left.
    pub fn new(
        pipeline: &Pipeline,
        scorer: &Scorer,
        prompts: Vec<Prompt>,
        seed: u64,
        pictures: usize,
        sampler: SamplerConfig,
    ) -> Result<Self> {
        let (mut known, mut skipped) = (Vec::new(), Skipped::default());
        for prompt in prompts {
            let mut words = pipeline.tokenizer.unknown_words(&prompt.record.prompt);
            words.extend(scorer.unknown(&prompt).into_iter().map(str::to_owned));
            match pipeline.prompt(&prompt.record.prompt) {
                _ if !words.is_empty() => skipped.add(&prompt, words),
                Ok(_) => known.push(prompt),
                Err(error) => skipped.add(&prompt, vec![error.message]),
            }
        }
        if known.is_empty() || pictures == 0 {
            let words: Vec<_> = skipped.words.keys().cloned().collect();
            return Err(Error::bad_input(format!(
                "nothing to draw: {} prompts left, {} skipped (unknown: {}), {pictures} pictures each",
                known.len(),
                skipped.prompts.len(),
                words.join(", ")
            )));
        }
        Ok(Self {
            pipeline: pipeline.clone(),
            scorer: scorer.clone(),
            prompts: known,
            skipped,
            seed,
            pictures,
            sampler,
            batch: BATCH,
            current: None,
            steps: 0,
            verdicts: Vec::new(),
            shown: BTreeMap::new(),
        })
    }

    /// So many pictures together; the numbers are the same for any.
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch.max(1);
        self
    }

    /// One denoising step of a batch; its last one also scores it. `None` once all is done.
    ///
    /// # Errors
    /// Those of drawing and reading pictures.
    pub async fn advance(&mut self) -> Result<Option<Progress>> {
        let total = self.prompts.len() * self.pictures;
        let (range, mut drawing) = match self.current.take() {
            Some(current) => current,
            None if self.verdicts.len() == total => return Ok(None),
            None => {
                let range = self.verdicts.len()..(self.verdicts.len() + self.batch).min(total);
                let prompts: Vec<_> = range.clone().map(|n| self.prompt(n).record.prompt.as_str()).collect();
                let seeds: Vec<_> = range.clone().map(|n| self.seed_of(n)).collect();
                let drawing = self.pipeline.generate_many(&prompts, &seeds, self.sampler.clone())?;
                (range, drawing)
            }
        };
        drawing.advance();
        self.steps += range.len() as u64;
        let (made, steps) = drawing.progress();
        if made < steps {
            self.current = Some((range, drawing));
        } else {
            let pictures = drawing.images().await?;
            let style = |prompt: &Prompt| self.scorer.config().style(&prompt.record.prompt);
            let prompts = range.clone().map(|n| self.prompt(n));
            let prompts: Vec<_> = prompts.map(|prompt| (prompt, style(prompt))).collect();
            let verdicts = self.scorer.score(&pictures, &prompts).await?;
            self.verdicts.extend(verdicts);
            let shown: Vec<_> = range.zip(pictures).filter(|(n, _)| self.is_shown(*n)).collect();
            self.shown.extend(shown);
        }
        Ok(Some(Progress { done: self.steps, total: (total * self.sampler.steps) as u64 }))
    }

    fn prompt(&self, number: usize) -> &Prompt {
        &self.prompts[number / self.pictures]
    }

    fn seed_of(&self, number: usize) -> u64 {
        self.seed.wrapping_add(number as u64)
    }

    /// Whether the picture of that number is on its category's contact sheet.
    fn is_shown(&self, number: usize) -> bool {
        let (at, nth) = (number / self.pictures, number % self.pictures);
        let own = &self.prompts[at];
        let alike = |prompt: &&Prompt| (prompt.category, prompt.tier) == (own.category, own.tier);
        nth < SHOWN_PICTURES && self.prompts[..at].iter().filter(alike).count() < SHOWN
    }

    /// Prompts that are drawn, not skipped.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Prompts that are finished.
    pub fn finished(&self) -> usize {
        self.verdicts.len() / self.pictures
    }

    /// Verdicts on the prompts that are finished.
    pub fn results(&self) -> Vec<PromptResult> {
        let results = self.prompts.iter().zip(self.verdicts.chunks_exact(self.pictures)).enumerate();
        let result = |(at, (prompt, verdicts)): (usize, (&Prompt, &[Verdict]))| PromptResult {
            prompt: prompt.record.prompt.clone(),
            category: prompt.category,
            tier: prompt.tier,
            seed: self.seed_of(at * self.pictures),
            verdicts: verdicts.to_vec(),
        };
        results.map(result).collect()
    }

    /// The report on the prompts that are finished.
    pub fn report(&self) -> Report {
        let (results, skipped) = (self.results(), self.skipped.clone());
        let drawing =
            DrawingReport::new(results, self.pictures, &self.sampler, self.pipeline.plans_layout(), skipped);
        Report { drawing: Some(drawing), ..Report::default() }
    }

    /// A contact sheet a category: a row a prompt with its pictures; right ones have a green frame,
    /// wrong ones a red one.
    pub fn sheets(&self) -> Vec<(Category, RgbImage)> {
        let sheet = |category: Category| {
            let numbers: Vec<_> =
                self.shown.keys().copied().filter(|n| self.prompt(*n).category == category).collect();
            let side = self.pipeline.config.image_size as u32 * ZOOM + 2 * FRAME;
            let columns = self.pictures.min(SHOWN_PICTURES);
            let rows = numbers.len() / columns.max(1);
            let mut sheet = RgbImage::new(side * columns as u32, side * rows as u32);
            for (place, number) in numbers.iter().enumerate() {
                let colour = if self.verdicts[*number].correct { [40, 160, 70] } else { [210, 50, 45] };
                let mut tile = RgbImage::from_pixel(side, side, Rgb(colour));
                let inner = side - 2 * FRAME;
                let picture = &self.shown[number];
                let large = imageops::resize(picture, inner, inner, imageops::FilterType::CatmullRom);
                imageops::replace(&mut tile, &large, FRAME.into(), FRAME.into());
                let at = |cell: usize| (cell as u32 * side).into();
                imageops::replace(&mut sheet, &tile, at(place % columns), at(place / columns));
            }
            (category, sheet)
        };
        let sheets = Category::ALL.into_iter().map(sheet);
        sheets.filter(|(_, sheet)| sheet.width() > 0 && sheet.height() > 0).collect()
    }
}

/// Magnification of a contact sheet's pictures, and the width of their frames.
const ZOOM: u32 = 2;
const FRAME: u32 = 3;
