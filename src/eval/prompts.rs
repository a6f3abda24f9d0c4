//! Prompts to evaluate drawing with: our own from a seed, or anyone's in GenEval's format.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, random,
    scene::{
        Colour, Engine, Pool, Relation, Scene, Tier,
        geneval::{Metadata, metadata},
    },
};

/// GenEval's six tasks, under its own tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    SingleObject,
    TwoObject,
    Counting,
    Colors,
    Position,
    ColorAttr,
}

impl Category {
    pub const ALL: [Self; 6] =
        [Self::SingleObject, Self::TwoObject, Self::Counting, Self::Colors, Self::Position, Self::ColorAttr];

    pub fn name(self) -> &'static str {
        match self {
            Self::SingleObject => "single_object",
            Self::TwoObject => "two_object",
            Self::Counting => "counting",
            Self::Colors => "colors",
            Self::Position => "position",
            Self::ColorAttr => "color_attr",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.name() == name)
    }

    /// The tiers that the category's prompts can be in.
    pub fn tiers(self) -> &'static [PromptTier] {
        use PromptTier::*;
        match self {
            Self::SingleObject => &[Seen],
            Self::TwoObject | Self::Position => &[Seen, HeldCombination],
            Self::Counting => &[Seen, HeldCount],
            Self::Colors => &[Seen, HeldPair, NaturalOnly],
            Self::ColorAttr => &[Seen, HeldPair, NaturalOnly, HeldCombination],
        }
    }
}

/// What captions for drawing have never said of what a prompt asks for; see [`crate::scene::Split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptTier {
    /// T0: nothing is held out.
    Seen,
    /// T1: a noun in a colour that it was never captioned in.
    HeldPair,
    /// T2: a noun that was only ever captioned in its natural colour, in another one.
    NaturalOnly,
    /// T3: two nouns that were never captioned together.
    HeldCombination,
    /// T5: so many of a noun were never captioned.
    HeldCount,
}

impl PromptTier {
    pub const ALL: [Self; 5] =
        [Self::Seen, Self::HeldPair, Self::NaturalOnly, Self::HeldCombination, Self::HeldCount];

    pub fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::HeldPair => "held_pair",
            Self::NaturalOnly => "natural_only",
            Self::HeldCombination => "held_combination",
            Self::HeldCount => "held_count",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// The tier of things shown or asked for together. Of several the rarest counts: a natural-only
    /// noun, then a held pair, a held combination, a held count.
    pub fn of(engine: &Engine, things: &[(&str, Option<Colour>)], count: u32) -> Self {
        let split = engine.split();
        let tiers: Vec<Tier> =
            things.iter().filter_map(|(noun, colour)| Some(split.tier(noun, (*colour)?))).collect();
        let nouns: Vec<&str> = things.iter().map(|(noun, _)| *noun).collect();
        let combination = |nouns: &[&str]| {
            nouns.len() > 1 && nouns[0] != nouns[1] && split.held_combination(nouns[0], nouns[1])
        };
        if tiers.contains(&Tier::NaturalOnly) {
            Self::NaturalOnly
        } else if tiers.contains(&Tier::HeldPair) {
            Self::HeldPair
        } else if combination(&nouns) {
            Self::HeldCombination
        } else if nouns.first().is_some_and(|noun| split.held_count(noun, count)) {
            Self::HeldCount
        } else {
            Self::Seen
        }
    }

    /// The tier of a scene.
    pub fn of_scene(engine: &Engine, scene: &Scene) -> Self {
        let things: Vec<_> = scene.objects.iter().map(|o| (o.noun.as_str(), o.colour)).take(2).collect();
        Self::of(engine, &things, scene.count.unwrap_or(1))
    }
}

/// One prompt with what its picture must show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    #[serde(flatten)]
    pub record: Metadata,
    pub tier: PromptTier,
    #[serde(skip_serializing, default = "single")]
    pub category: Category,
}

fn single() -> Category {
    Category::SingleObject
}

/// Makes and reads sets of prompts.
pub struct PromptSet;

/// A line of a prompt file; ours have a tier, GenEval's have none.
#[derive(Deserialize)]
struct Line {
    #[serde(flatten)]
    record: Metadata,
    tier: Option<PromptTier>,
}

impl PromptSet {
    /// `per_cell` different prompts for every category and tier, fewer where the world has not as
    /// many; a category that the world has no scenes of has no prompts.
    pub fn generate(engine: &Engine, seed: u64, per_cell: usize) -> Vec<Prompt> {
        Self::staged(engine, seed, per_cell).into_iter().map(|(prompt, _)| prompt).collect()
    }

    /// The same, each with a scene that shows what it asks for.
    pub fn staged(engine: &Engine, seed: u64, per_cell: usize) -> Vec<(Prompt, Scene)> {
        let source = Source::new(engine);
        let cells =
            Category::ALL.iter().flat_map(|category| category.tiers().iter().map(|t| (*category, *t)));
        let mut all = Vec::new();
        for (stream, (category, tier)) in (0..).zip(cells) {
            let random = &mut random::stream(seed, stream);
            let mut taken = BTreeSet::new();
            for attempt in 0..(ATTEMPTS + ATTEMPTS_EACH * per_cell as u64) {
                if taken.len() == per_cell {
                    break;
                }
                let scene = source.scene(category, tier, seed, attempt << 8 | stream, random);
                all.extend(scene.and_then(|scene| {
                    let record = metadata(&scene);
                    taken.insert(record.prompt.clone()).then_some((Prompt { record, tier, category }, scene))
                }));
            }
        }
        all
    }

    /// `per_category` different prompts for every category, its tiers in turn; the categories take turns
    /// too, so that the first so many of them are as even as all.
    pub fn even(engine: &Engine, seed: u64, per_category: usize) -> Vec<Prompt> {
        let mut cells = ranked(Self::generate(engine, seed, per_category), |p| (p.category, p.tier));
        cells.sort_by_key(|(rank, prompt)| (prompt.category, *rank, prompt.tier));
        let mut all = ranked(cells.into_iter().map(|(_, prompt)| prompt), |p| p.category);
        all.retain(|(rank, _)| *rank < per_category);
        all.sort_by_key(|(rank, _)| *rank);
        all.into_iter().map(|(_, prompt)| prompt).collect()
    }

    /// Reads a file in GenEval's format, one JSON object a line. A line without a `tier` of its own
    /// is put into the world's.
    ///
    /// # Errors
    /// `bad_input` naming the line.
    pub fn parse(text: &str, engine: &Engine) -> Result<Vec<Prompt>> {
        let parse = |(index, line): (usize, &str)| {
            let bad = |what: String| {
                Error::bad_input(format!(
                    "line {}: {what}; every line must be like {{\"tag\": \"colors\", \"include\": [{{\"class\": \
                     \"car\", \"count\": 1, \"color\": \"red\"}}], \"prompt\": \"a photo of a red car\"}}",
                    index + 1
                ))
            };
            let Line { record, tier } = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            let category = Category::from_name(&record.tag)
                .ok_or_else(|| bad(format!("{:?} is none of GenEval's six tags", record.tag)))?;
            let things: Vec<_> = record.include.iter().map(|r| (r.class.as_str(), r.color)).collect();
            let count = record.include.first().map_or(1, |required| required.count);
            let tier = tier.unwrap_or_else(|| PromptTier::of(engine, &things, count));
            Ok(Prompt { tier, category, record })
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let prompts: Vec<Prompt> = lines.map(parse).collect::<Result<_>>()?;
        if prompts.is_empty() {
            return Err(Error::bad_input("the file has no prompts"));
        }
        Ok(prompts)
    }
}

/// Each prompt with the number of those before it that have the same key.
fn ranked<K: Ord>(
    prompts: impl IntoIterator<Item = Prompt>,
    key: impl Fn(&Prompt) -> K,
) -> Vec<(usize, Prompt)> {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    let mut rank = |prompt: &Prompt| {
        let count = counts.entry(key(prompt)).or_default();
        *count += 1;
        *count - 1
    };
    prompts.into_iter().map(|prompt| (rank(&prompt), prompt)).collect()
}

/// Draws of a cell before its world is called exhausted.
const ATTEMPTS: u64 = 2000;
const ATTEMPTS_EACH: u64 = 40;

/// What prompts are drawn from.
struct Source<'a> {
    engine: &'a Engine,
    seen: Vec<(String, Colour)>,
    held: Vec<(String, Colour)>,
    natural_only: Vec<(String, Colour)>,
}

type Thing<'a> = (&'a str, Option<Colour>);

impl<'a> Source<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            seen: engine.pairs(Tier::Seen),
            held: engine.pairs(Tier::HeldPair),
            natural_only: engine.pairs(Tier::NaturalOnly),
        }
    }

    /// A scene whose prompt is in the category and tier, by lot; `None` if the lot fell badly.
    fn scene(
        &self,
        category: Category,
        tier: PromptTier,
        seed: u64,
        index: u64,
        random: &mut ChaCha8Rng,
    ) -> Option<Scene> {
        let kinds = self.engine.world().kinds;
        let (mut relation, mut count) = (None, None);
        let things: Vec<Thing> = match category {
            Category::SingleObject => vec![(self.noun(random)?, None)],
            Category::Colors => vec![self.pair(tier, random)?],
            Category::Counting if kinds.count > 0.0 => {
                count = Some(2 + random::below(random, 3) as u32);
                vec![(self.noun(random)?, None)]
            }
            _ if kinds.two == 0.0 || category == Category::Counting => return None,
            Category::ColorAttr => vec![self.pair(tier, random)?, self.pair(PromptTier::Seen, random)?],
            Category::TwoObject | Category::Position => {
                vec![(self.noun(random)?, None), (self.noun(random)?, None)]
            }
            Category::Counting => return None,
        };
        let mut things = things;
        if category == Category::Position {
            relation = Some(Relation::ALL[random::below(random, Relation::ALL.len())]);
        }
        if let [(a, colour), (b, other)] = things[..]
            && (a == b || colour.is_some() && colour == other)
        {
            return None;
        }
        if random::below(random, 2) == 1 {
            things.reverse();
        }
        if PromptTier::of(self.engine, &things, count.unwrap_or(1)) != tier {
            return None;
        }
        self.engine.scene_of(&things, relation, count, seed, index)
    }

    fn noun(&self, random: &mut ChaCha8Rng) -> Option<&'a str> {
        let nouns = &self.engine.world().nouns;
        nouns.get(random::below(random, nouns.len())).map(String::as_str)
    }

    /// A noun in a colour of the tier; combinations are of seen ones.
    fn pair(&self, tier: PromptTier, random: &mut ChaCha8Rng) -> Option<Thing<'_>> {
        let pairs = match tier {
            PromptTier::HeldPair => &self.held,
            PromptTier::NaturalOnly => &self.natural_only,
            _ => &self.seen,
        };
        let (noun, colour) = pairs.get(random::below(random, pairs.len()))?;
        Some((noun, Some(*colour)))
    }
}

/// Scenes for measuring understanding and reconstruction: `per_tier` of every tier that the world
/// has, of the understanding pool, by a seed of their own.
pub fn scenes(engine: &Engine, seed: u64, per_tier: usize) -> Result<Vec<(PromptTier, Scene)>> {
    let mut found: Vec<(PromptTier, Scene)> = Vec::new();
    let mut left = PromptTier::ALL.map(|_| per_tier);
    for index in 0..(ATTEMPTS + ATTEMPTS_EACH * per_tier as u64) {
        if left.iter().all(|left| *left == 0) {
            break;
        }
        let scene = engine.scene(Pool::Understanding, seed, index)?;
        let tier = PromptTier::of_scene(engine, &scene);
        if let Some(left) = left.get_mut(tier as usize).filter(|left| **left > 0) {
            *left -= 1;
            found.push((tier, scene));
        }
    }
    Ok(found)
}
