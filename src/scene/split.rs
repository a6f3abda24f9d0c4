//! What is held out: pure functions of canonical nouns and sha256, the same everywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::recolour::Colour;
use super::sprites::HELD_STYLE;

/// Who looks at a scene, and so what it may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// Everything, densely captioned, for learning to understand.
    Understanding,
    /// Captioned for learning to draw: nothing that is held out.
    Drawing,
    /// Unlabelled: anything.
    Open,
    /// Unlabelled, and no held pair and no recoloured natural-only noun.
    Strict,
}

impl Pool {
    pub const ALL: [Self; 4] = [Self::Understanding, Self::Drawing, Self::Open, Self::Strict];

    pub fn name(self) -> &'static str {
        match self {
            Self::Understanding => "understanding",
            Self::Drawing => "drawing",
            Self::Open => "open",
            Self::Strict => "strict",
        }
    }
}

/// What captions for drawing have said about a noun in a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// T0: the pair is captioned, or is the noun's natural look.
    Seen,
    /// T1: noun and colour are both captioned, never together.
    HeldPair,
    /// T2: the noun is only ever captioned in its natural colour.
    NaturalOnly,
}

/// One noun combination in `HELD_COMBINATIONS` and one noun's fours in `HELD_COUNTS` are held out;
/// of every noun's colours, one is.
const HELD_COMBINATIONS: u32 = 10;
const HELD_COUNTS: u32 = 5;

/// The split of a world's nouns.
#[derive(Clone, Debug)]
pub struct Split {
    natural_only: BTreeSet<String>,
    /// Colours that a noun has by nature in any of the styles.
    natural: BTreeMap<String, BTreeSet<Colour>>,
}

impl Split {
    pub fn new(natural_only: &[String], natural: BTreeMap<String, BTreeSet<Colour>>) -> Self {
        Self { natural_only: natural_only.iter().cloned().collect(), natural }
    }

    /// T2: whether the noun is captioned for drawing in its natural colour alone.
    pub fn natural_only(&self, noun: &str) -> bool {
        self.natural_only.contains(noun)
    }

    /// The tier of a noun in a colour. A colour that the noun has by nature in some style is no
    /// surprise and counts as seen.
    pub fn tier(&self, noun: &str, colour: Colour) -> Tier {
        if self.natural.get(noun).is_some_and(|natural| natural.contains(&colour)) {
            Tier::Seen
        } else if self.natural_only(noun) {
            Tier::NaturalOnly
        } else if self.held_colour(noun) == Some(colour) {
            Tier::HeldPair
        } else {
            Tier::Seen
        }
    }

    /// T1: the colour that a noun is never captioned in for drawing: of those it has in no style by
    /// nature, the one whose hash is smallest.
    pub fn held_colour(&self, noun: &str) -> Option<Colour> {
        let natural = self.natural.get(noun)?;
        Colour::TARGETS
            .into_iter()
            .filter(|colour| !natural.contains(colour))
            .min_by_key(|colour| hash(&["pair", noun, colour.name()]))
    }

    /// T3: whether the unordered combination of two nouns is never captioned for drawing.
    pub fn held_combination(&self, a: &str, b: &str) -> bool {
        draw(&["combination", a.min(b), a.max(b)], HELD_COMBINATIONS)
    }

    /// T4: whether the style is never trained on.
    pub fn held_style(&self, style: &str) -> bool {
        style == HELD_STYLE
    }

    /// T5: whether so many of the noun are never captioned for drawing; fours of some nouns are.
    pub fn held_count(&self, noun: &str, count: u32) -> bool {
        count == 4 && draw(&["count", noun], HELD_COUNTS)
    }

    /// Whether a pool may show the noun recoloured so.
    pub fn allows_colour(&self, pool: Pool, noun: &str, colour: Colour) -> bool {
        match pool {
            Pool::Understanding | Pool::Open => true,
            Pool::Drawing | Pool::Strict => !self.natural_only(noun) && self.tier(noun, colour) == Tier::Seen,
        }
    }

    /// Whether a pool may show the two nouns together.
    pub fn allows_combination(&self, pool: Pool, a: &str, b: &str) -> bool {
        a != b && (pool != Pool::Drawing || !self.held_combination(a, b))
    }

    /// Whether a pool may show so many of the noun.
    pub fn allows_count(&self, pool: Pool, noun: &str, count: u32) -> bool {
        pool != Pool::Drawing || !self.held_count(noun, count)
    }
}

/// True for one key in `one_in`, by the key's sha256.
fn draw(key: &[&str], one_in: u32) -> bool {
    hash(key).is_multiple_of(one_in)
}

fn hash(key: &[&str]) -> u32 {
    let digest = Sha256::digest(format!("reca/{}", key.join("/")));
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
