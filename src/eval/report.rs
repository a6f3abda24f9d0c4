//! What an evaluation found: counts, and intervals by the bootstrap over prompts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    check::Accuracy,
    prompts::{Category, Prompt, PromptTier},
    scorer::{Fault, Verdict},
};
use crate::{
    flow::sampler::{Method, SamplerConfig},
    random,
    scene::{QuestionKind, Scene},
};

/// A share from 0 to 1 with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// The interval of a share that `units` independent units have on average (Wilson, 1927). Unlike
    /// the bootstrap's it stays wide where few units are all right or all wrong.
    pub fn wilson(mean: f64, units: usize) -> Self {
        let n = units as f64;
        if units == 0 {
            return Self { mean: 0.0, low: 0.0, high: 1.0 };
        }
        let square = Z * Z / n;
        let centre = (mean + square / 2.0) / (1.0 + square);
        let half = Z / (1.0 + square) * (mean * (1.0 - mean) / n + square / (4.0 * n)).sqrt();
        Self { mean, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }
}

/// Quantile of the normal distribution that leaves 2.5 % on either side.
const Z: f64 = 1.959_964;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// The mean over `groups` of the mean over each group's units of the share of a unit's outcomes that
/// are right, with its [`bootstrap`] interval. A unit is a prompt with its pictures, or a scene with
/// its questions.
pub fn interval(groups: &[Vec<Vec<bool>>]) -> Interval {
    let share =
        |unit: &Vec<bool>| unit.iter().filter(|right| **right).count() as f64 / unit.len().max(1) as f64;
    let groups: Vec<Vec<f64>> = groups.iter().map(|group| group.iter().map(share).collect()).collect();
    bootstrap(&groups)
}

/// The mean over `groups` of each group's mean, and its percentile bootstrap over the groups' units
/// (Efron, 1979), the same for the same values. Empty groups do not count.
pub fn bootstrap(groups: &[Vec<f64>]) -> Interval {
    let groups: Vec<&Vec<f64>> = groups.iter().filter(|group| !group.is_empty()).collect();
    if groups.is_empty() {
        return Interval::default();
    }
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
    let over_groups = |of_group: &mut dyn FnMut(&Vec<f64>) -> f64| {
        groups.iter().map(|group| of_group(group)).sum::<f64>() / groups.len() as f64
    };
    let random = &mut random::stream(0, 0);
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            over_groups(&mut |group| {
                let mut drawn = (0..group.len()).map(|_| group[random::below(random, group.len())]);
                mean(&mut drawn, group.len())
            })
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    Interval {
        mean: over_groups(&mut |group| mean(&mut group.iter().copied(), group.len())),
        low: resampled[RESAMPLES / 40],
        high: resampled[RESAMPLES - 1 - RESAMPLES / 40],
    }
}

/// All that was measured; what was not is empty.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub drawing: Option<DrawingReport>,
    pub understanding: Vec<UnderstandingScore>,
    pub reconstruction: Vec<ReconstructionScore>,
    /// The scorer's own accuracy on rendered scenes.
    pub scorer: Vec<Accuracy>,
}

impl Report {
    /// Both reports in one; where both measured a thing the other's stands.
    pub fn and(self, other: Self) -> Self {
        let later = |a, b: Vec<_>| if b.is_empty() { a } else { b };
        Self {
            drawing: other.drawing.or(self.drawing),
            understanding: later(self.understanding, other.understanding),
            reconstruction: if other.reconstruction.is_empty() {
                self.reconstruction
            } else {
                other.reconstruction
            },
            scorer: if other.scorer.is_empty() { self.scorer } else { other.scorer },
        }
    }
}

/// Scores of drawing.
#[derive(Clone, Debug, Serialize)]
pub struct DrawingReport {
    /// Unweighted mean over the categories that have prompts, GenEval's overall score.
    pub overall: Interval,
    /// All tiers of a category together.
    pub categories: Vec<Score>,
    /// Category by category and tier by tier.
    pub tiers: Vec<Score>,
    /// Categories without a prompt: the world has no such scenes, or they were not asked for.
    pub absent: Vec<Category>,
    pub skipped: Skipped,
    /// Of each prompt.
    pub pictures: usize,
    pub steps: usize,
    pub guidance_scale: f32,
    pub method: &'static str,
    /// Whether two things joined by "and" were given places: see [`crate::plan`].
    pub plan_layout: bool,
    pub prompts: Vec<PromptResult>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Score {
    pub category: Category,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<PromptTier>,
    pub prompts: usize,
    pub pictures: usize,
    pub correct: usize,
    /// Wrong pictures by what is amiss first.
    pub faults: BTreeMap<Fault, usize>,
    pub score: Interval,
}

/// One prompt's verdicts, in the order of its pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PromptResult {
    pub prompt: String,
    pub category: Category,
    pub tier: PromptTier,
    /// Of the first picture's noise; the others have those that follow.
    pub seed: u64,
    pub verdicts: Vec<Verdict>,
}

/// Prompts that could not be drawn or scored.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Skipped {
    /// Prompts with what is unknown in each.
    pub prompts: Vec<(String, Vec<String>)>,
    /// Unknown words, with the number of prompts that have them.
    pub words: BTreeMap<String, usize>,
}

impl Skipped {
    pub fn add(&mut self, prompt: &Prompt, mut unknown: Vec<String>) {
        unknown.sort();
        unknown.dedup();
        unknown.iter().for_each(|word| *self.words.entry(word.clone()).or_default() += 1);
        self.prompts.push((prompt.record.prompt.clone(), unknown));
    }
}

impl DrawingReport {
    pub fn new(
        prompts: Vec<PromptResult>,
        pictures: usize,
        sampler: &SamplerConfig,
        plan_layout: bool,
        skipped: Skipped,
    ) -> Self {
        let of = |category: Category, tier: Option<PromptTier>| {
            let fits =
                move |p: &&PromptResult| p.category == category && tier.is_none_or(|tier| tier == p.tier);
            prompts.iter().filter(fits)
        };
        let units = |category: Category, tier: Option<PromptTier>| -> Vec<Vec<bool>> {
            let rights = |p: &PromptResult| p.verdicts.iter().map(|verdict| verdict.correct).collect();
            of(category, tier).map(rights).collect()
        };
        let score = |category: Category, tier: Option<PromptTier>| {
            let units = units(category, tier);
            let all: Vec<bool> = units.concat();
            let mut faults = BTreeMap::new();
            let wrong = of(category, tier).flat_map(|p| &p.verdicts).filter_map(|verdict| verdict.fault);
            wrong.for_each(|fault| *faults.entry(fault).or_default() += 1);
            (!units.is_empty()).then(|| Score {
                category,
                tier,
                prompts: units.len(),
                pictures: all.len(),
                correct: all.iter().filter(|right| **right).count(),
                faults,
                score: interval(&[units]),
            })
        };
        let categories: Vec<Score> = Category::ALL.into_iter().filter_map(|c| score(c, None)).collect();
        let tiers = Category::ALL
            .into_iter()
            .flat_map(|category| PromptTier::ALL.map(|tier| (category, tier)))
            .filter_map(|(category, tier)| score(category, Some(tier)))
            .collect();
        let absent = |category: &Category| !categories.iter().any(|score| score.category == *category);
        Self {
            overall: interval(&Category::ALL.map(|category| units(category, None))),
            absent: Category::ALL.into_iter().filter(absent).collect(),
            tiers,
            categories,
            skipped,
            pictures,
            steps: sampler.steps,
            guidance_scale: sampler.guidance_scale,
            method: match sampler.method {
                Method::Euler => "euler",
                Method::Heun => "heun",
            },
            plan_layout,
            prompts,
        }
    }
}

/// What a scene shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    OneThing,
    TwoThings,
    /// Several of one kind.
    SeveralOfAKind,
}

impl Shown {
    pub fn of(scene: &Scene) -> Self {
        match (scene.count, scene.objects.len()) {
            (Some(_), _) => Self::SeveralOfAKind,
            (None, 0 | 1) => Self::OneThing,
            (None, _) => Self::TwoThings,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneThing => "one thing",
            Self::TwoThings => "two things",
            Self::SeveralOfAKind => "several of a kind",
        }
    }
}

/// Answers of one kind on scenes of a tier.
#[derive(Clone, Debug, Serialize)]
pub struct UnderstandingScore {
    pub kind: QuestionKind,
    /// Captions are told apart by what they are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shows: Option<Shown>,
    pub tier: PromptTier,
    pub scenes: usize,
    pub questions: usize,
    pub correct: usize,
    pub score: Interval,
}

/// Scenes of a tier, redrawn from their understanding embeddings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReconstructionScore {
    pub tier: PromptTier,
    pub scenes: usize,
    #[serde(flatten)]
    pub redrawn: Fidelity,
    /// The same scenes through the autoencoder and back: as well as anything can be redrawn.
    pub autoencoder: Fidelity,
}

/// How much pictures of scenes are like their originals.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fidelity {
    /// Means over pictures; dB, and −1 to 1.
    pub psnr: f64,
    pub ssim: f64,
    /// Scenes whose nouns are there; in their colours; and where they were.
    pub nouns: Interval,
    pub colours: Interval,
    pub places: Interval,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_by_hand() {
        // Two prompts of four pictures: shares 1 and 0.5; the second group is wrong throughout.
        let right = vec![vec![true; 4], vec![true, true, false, false]];
        let one = interval(std::slice::from_ref(&right));
        assert_eq!((one.mean, one.low, one.high), (0.75, 0.5, 1.0));
        assert_eq!(interval(&[right, vec![vec![false]; 3]]).mean, 0.375);
        assert_eq!(interval(&[vec![], vec![vec![true]; 9]]), Interval { mean: 1.0, low: 1.0, high: 1.0 });
    }

    #[test]
    fn wilson_by_hand() {
        // (0.7 + 1.9208 / 10 ± 1.96 · √(0.7 · 0.3 / 10 + 0.9604 / 100)) / 1.3841
        let Interval { mean, low, high } = Interval::wilson(0.7, 10);
        assert!(mean == 0.7 && (low - 0.3968).abs() < 1e-4 && (high - 0.8922).abs() < 1e-4, "{low} {high}");
        let none = Interval::wilson(0.0, 4);
        assert!(none.low == 0.0 && (none.high - 0.4899).abs() < 1e-4, "{}", none.high);
    }

    #[test]
    fn an_interval_is_as_wide_as_the_normal_one() {
        let units: Vec<Vec<bool>> = (0..400).map(|n| vec![n % 4 == 0]).collect();
        let Interval { mean, low, high } = interval(&[units]);
        // 1.96 · √(0.25 · 0.75 / 400) = 0.0424
        assert_eq!(mean, 0.25);
        assert!((mean - low - 0.0424).abs() < 0.008 && (high - mean - 0.0424).abs() < 0.008, "{low} {high}");
    }
}
