//! Questions about a scene with answers that are true by construction.

use serde::{Deserialize, Serialize};

use super::caption::{Mention, NUMBERS, describe, stream};
use super::compose::{Scene, SceneObject};
use super::nouns::plural;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuestionKind {
    What,
    Colour,
    Count,
    Where,
    Caption,
}

/// Asked in the tokenizer's own spelling: lower case, a space before the question mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub kind: QuestionKind,
    pub question: String,
    pub answer: String,
}

/// Ways of asking for a caption, in front of each of [`PICTURES`].
const REQUESTS: [&str; 11] = [
    "describe",
    "please describe",
    "caption",
    "write a caption for",
    "explain",
    "tell me about",
    "tell me what you see in",
    "list everything in",
    "give a full description of",
    "show every detail of",
    "what is in",
];

const PICTURES: [&str; 10] = [
    "the image",
    "this image",
    "the picture",
    "this picture",
    "the photo",
    "this photo",
    "the scene",
    "this scene",
    "the drawing",
    "this drawing",
];

/// The 110 ways of asking for a caption; also RecA's template texts.
pub fn caption_requests() -> Vec<String> {
    (0..REQUESTS.len() * PICTURES.len()).map(caption_request).collect()
}

fn caption_request(index: usize) -> String {
    let (request, picture) = (index / PICTURES.len() % REQUESTS.len(), index % PICTURES.len());
    let end = if REQUESTS[request].starts_with("what") { " ?" } else { "" };
    format!("{} {}{end}", REQUESTS[request], PICTURES[picture])
}

/// Ways of asking for the noun of a single object.
pub const OBJECT_REQUESTS: [&str; 2] = ["what is this ?", "what object is this ?"];

/// Four to eight questions. Colours are asked for where one was given, and, for an object that was
/// left as it is, where its natural colour is known.
pub fn questions(scene: &Scene, seed: u64, index: u64) -> Vec<Question> {
    let mut random = stream(seed, index, 3);
    let Some(first) = scene.objects.first() else {
        return Vec::new();
    };
    let mut asked = Vec::new();
    let mut ask = |kind, question: String, answer: &str| {
        asked.push(Question { kind, question, answer: answer.to_owned() });
    };

    let request = random.below(REQUESTS.len() * PICTURES.len());
    for k in 0..2 {
        let mention = Mention { inverse: random.chance(0.5), ..Mention::ALL };
        ask(QuestionKind::Caption, caption_request(request + k), &describe(scene, mention));
    }
    if let (Some(relation), Some(second)) = (scene.relation, scene.objects.get(1)) {
        for (a, b, relation) in [(first, second, relation), (second, first, relation.inverse())] {
            let place = format!("{relation} the {}", b.noun, relation = relation.name());
            ask(QuestionKind::What, format!("what is {place} ?"), &a.noun);
            ask(QuestionKind::Where, format!("where is the {} ?", a.noun), &place);
            if let Some(colour) = visible_colour(a) {
                ask(QuestionKind::Colour, format!("what colour is the {} ?", a.noun), colour);
            }
        }
    } else if let Some(count) = scene.count {
        let things = plural(&first.noun);
        if let Some(number) = NUMBERS.get(count as usize) {
            ask(QuestionKind::Count, format!("how many {things} are there ?"), number);
            ask(QuestionKind::Count, "how many objects are there ?".to_owned(), number);
        }
        ask(QuestionKind::What, "what are these ?".to_owned(), &things);
        if let Some(colour) = visible_colour(first) {
            ask(QuestionKind::Colour, format!("what colour are the {things} ?"), colour);
        }
    } else {
        for request in OBJECT_REQUESTS {
            ask(QuestionKind::What, request.to_owned(), &first.noun);
        }
        if let Some(colour) = visible_colour(first) {
            ask(QuestionKind::Colour, format!("what colour is the {} ?", first.noun), colour);
        }
    }
    asked
}

fn visible_colour(object: &SceneObject) -> Option<&'static str> {
    object.colour.or(object.natural_colour).map(|colour| colour.name())
}
