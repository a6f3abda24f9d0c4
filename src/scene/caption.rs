//! Captions of scenes: dense ones that say all, and sparse ones that leave things out at given rates.

use serde::{Deserialize, Serialize};

use super::compose::{Scene, SceneObject};
use super::nouns::{plural, with_article};
use super::random::Random;
use super::split::{Pool, Split};

/// How often a sparse caption names a thing that it could name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionRates {
    pub colour: f32,
    pub relation: f32,
    pub count: f32,
    pub style: f32,
}

impl CaptionRates {
    /// Name everything.
    pub const ALL: Self = Self { colour: 1.0, relation: 1.0, count: 1.0, style: 1.0 };
}

/// How often a caption starts as GenEval's prompts do.
const PREFIX_RATE: f32 = 0.25;
const PREFIX: &str = "a photo of ";

/// Number words; the index is the number.
pub const NUMBERS: [&str; 5] = ["zero", "one", "two", "three", "four"];

/// What a caption mentions.
#[derive(Clone, Copy, Debug)]
pub struct Mention {
    /// Of `objects[0]` and `objects[1]`.
    pub colours: [bool; 2],
    pub relation: bool,
    pub count: bool,
    /// Name the second object first, with the inverse relation.
    pub inverse: bool,
}

impl Mention {
    pub const ALL: Self = Self { colours: [true, true], relation: true, count: true, inverse: false };
}

/// The word that names a style in captions.
pub fn style_word(style: &str) -> &str {
    if style == "noto-v1" { "blob" } else { style }
}

/// The noun, with its given colour where that is to be named; a natural colour never is.
fn phrase(object: &SceneObject, name_colour: bool, noun: &str) -> String {
    match object.colour {
        Some(colour) if name_colour => format!("{colour} {noun}"),
        _ => noun.to_owned(),
    }
}

/// The bare caption: "a red car left of a dog", "a red car and a dog", "three red cars".
pub fn describe(scene: &Scene, mention: Mention) -> String {
    let Some(first) = scene.objects.first() else {
        return String::new();
    };
    if let Some(count) = scene.count {
        let things = phrase(first, mention.colours[0], &plural(&first.noun));
        return match NUMBERS.get(count as usize) {
            Some(number) if mention.count => format!("{number} {things}"),
            _ => things,
        };
    }
    let one = with_article(&phrase(first, mention.colours[0], &first.noun));
    let Some(second) = scene.objects.get(1) else {
        return one;
    };
    let other = with_article(&phrase(second, mention.colours[1], &second.noun));
    let relation = scene.relation.filter(|_| mention.relation);
    let (head, tail, relation) =
        if mention.inverse { (other, one, relation.map(|r| r.inverse())) } else { (one, other, relation) };
    format!("{head} {} {tail}", relation.map_or("and", |r| r.name()))
}

fn suffix(scene: &Scene) -> String {
    format!(", {} style", style_word(&scene.style))
}

/// The two dense captions: the plain one with its style, and a free variant that starts from the
/// other object.
pub fn dense(scene: &Scene, seed: u64, index: u64) -> Vec<String> {
    let mut random = stream(seed, index, 1);
    let mut variant = describe(scene, Mention { inverse: true, ..Mention::ALL });
    if random.chance(PREFIX_RATE) {
        variant.insert_str(0, PREFIX);
    }
    if random.chance(0.5) {
        variant.push_str(&suffix(scene));
    }
    vec![describe(scene, Mention::ALL) + &suffix(scene), variant]
}

/// `variants` sparse captions, each leaving things out by lot.
pub fn sparse(scene: &Scene, rates: CaptionRates, variants: usize, seed: u64, index: u64) -> Vec<String> {
    let mut random = stream(seed, index, 2);
    (0..variants)
        .map(|_| {
            let mention = Mention {
                colours: [random.chance(rates.colour), random.chance(rates.colour)],
                relation: random.chance(rates.relation),
                count: random.chance(rates.count),
                inverse: random.chance(0.5),
            };
            let mut caption = describe(scene, mention);
            if random.chance(PREFIX_RATE) {
                caption.insert_str(0, PREFIX);
            }
            if random.chance(rates.style) {
                caption.push_str(&suffix(scene));
            }
            caption
        })
        .collect()
}

/// The scene without the colours that captions for drawing never name.
pub fn silent(scene: &Scene, split: &Split) -> Scene {
    let mut scene = scene.clone();
    for object in &mut scene.objects {
        object.colour =
            object.colour.filter(|colour| split.allows_colour(Pool::Drawing, &object.noun, *colour));
    }
    scene
}

/// Numbers for the words about a scene, apart from those that made it.
pub(crate) fn stream(seed: u64, index: u64, purpose: u64) -> Random {
    Random::new(seed, index | purpose << 60)
}
