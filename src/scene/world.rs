//! A world: which things exist, in which styles, and how scenes of them are laid out.

use serde::{Deserialize, Serialize};

use super::nouns;
use super::sprites::STYLES;
use crate::{Error, Result};

/// The "world" object of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Nouns of the sprite archive.
    pub nouns: Vec<String>,
    /// Nouns that are only ever captioned for drawing in their natural colour.
    pub natural_only: Vec<String>,
    /// Styles of the sprite archive; every scene is in one of them.
    pub styles: Vec<String>,
    pub kinds: Kinds,
    /// Probability that an object is recoloured, where it can be.
    pub recolour: f32,
    pub layout: Layout,
    #[serde(default)]
    pub grounds: Grounds,
}

/// Probabilities of the kinds of scenes; they add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kinds {
    /// One object.
    pub single: f32,
    /// Two different objects in a spatial relation.
    pub two: f32,
    /// Two to four of the same object.
    #[serde(default)]
    pub count: f32,
}

impl Kinds {
    /// The same with a share `two` of scenes of two objects; the others keep their proportions.
    pub fn with_two(self, two: f32) -> Self {
        let others = self.single + self.count;
        let counted = if others > 0.0 { self.count / others } else { 0.0 };
        Self { single: (1.0 - two) * (1.0 - counted), two, count: (1.0 - two) * counted }
    }
}

/// How objects are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Fixed places and sizes with a little jitter.
    Slots,
    /// Anywhere, in varied sizes, as long as relations stay unambiguous.
    Free,
}

/// What stands behind the objects: a plain colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grounds {
    /// Near white. White things hardly differ from them, so that a model never learns to draw them.
    #[default]
    Light,
    /// These and some of middle brightness, on which all white things stand.
    All,
}

/// Natural-only nouns of the full vocabulary; all of them can be recoloured.
#[rustfmt::skip]
pub const NATURAL_ONLY: [&str; 40] = [
    "broccoli", "teapot", "guitar", "pear", "lobster", "hot dog", "kiwi", "violin", "saxophone",
    "flamingo", "crocodile", "watermelon", "pineapple", "dolphin", "sunflower", "taxi", "pretzel",
    "carrot", "fox", "tiger", "kangaroo", "octopus", "eggplant", "boxing glove", "scarf",
    "suitcase", "frisbee", "couch", "vase", "donut", "palm tree", "tent", "trophy", "yarn",
    "kimono", "clover", "snail", "pencil", "feather", "giraffe",
];

impl World {
    /// Every noun in every training style, freely placed.
    pub fn full() -> Self {
        Self {
            nouns: nouns::all().map(|(noun, _)| noun.to_owned()).collect(),
            natural_only: NATURAL_ONLY.map(str::to_owned).to_vec(),
            styles: STYLES.map(str::to_owned).to_vec(),
            kinds: Kinds { single: 0.4, two: 0.45, count: 0.15 },
            recolour: 0.6,
            layout: Layout::Free,
            grounds: Grounds::All,
        }
    }

    /// Nouns of the archive that this world has no word for, without those that look like one of its
    /// own. Whoever reads its pictures should take none of them for what it knows.
    pub fn strangers(&self) -> Vec<String> {
        nouns::all()
            .map(|(noun, _)| noun)
            .filter(|noun| !self.nouns.iter().any(|own| own == noun || nouns::alike(own, noun)))
            .map(str::to_owned)
            .collect()
    }

    /// The same world with these nouns beside its own.
    pub fn with(&self, nouns: &[String]) -> Self {
        Self { nouns: [&self.nouns, nouns].concat(), ..self.clone() }
    }

    /// Fails with `bad_input` that says which field is wrong and why.
    pub fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::bad_input(format!("world: {message}")));
        if self.nouns.is_empty() || self.styles.is_empty() {
            return fail("nouns and styles must not be empty".into());
        }
        if let Some(noun) = repeated(&self.nouns).or(repeated(&self.styles)) {
            return fail(format!("{noun:?} is listed twice"));
        }
        if let Some(noun) = self.natural_only.iter().find(|noun| !self.nouns.contains(noun)) {
            return fail(format!("natural_only has {noun:?}, which is not among the nouns"));
        }
        let Kinds { single, two, count } = self.kinds;
        let rates = [single, two, count, self.recolour];
        if rates.iter().any(|rate| !(0.0..=1.0).contains(rate)) || (single + two + count - 1.0).abs() > 1e-3 {
            return fail("kinds must be probabilities that add up to 1, recolour one in 0..1".into());
        }
        if two > 0.0 && self.nouns.len() < 2 {
            return fail("scenes of two objects need at least two nouns".into());
        }
        Ok(())
    }
}

fn repeated(names: &[String]) -> Option<&String> {
    names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)).map(|(_, name)| name)
}
