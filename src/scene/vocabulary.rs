//! The closed vocabulary of a world, and its tokenizer in Hugging Face's format.

use serde_json::json;

use super::caption::{NUMBERS, style_word};
use super::layout::Relation;
use super::nouns::plural;
use super::question::{OBJECT_REQUESTS, caption_requests};
use super::recolour::Colour;
use super::world::World;
use crate::text::NULL_CAPTION;

/// Padding, start and end of a text: ids 0, 1, 2.
pub const SPECIAL: [&str; 3] = ["<pad>", "<bos>", "<eos>"];

/// Every token in the order of its id. A noun or its plural is one token, however many words.
pub fn vocabulary(world: &World) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut add = |token: &str| {
        if !tokens.iter().any(|known| known == token) {
            tokens.push(token.to_owned());
        }
    };
    SPECIAL.into_iter().for_each(&mut add);
    [NULL_CAPTION, "a", "an", "and", "photo", "of", "style", "?"].into_iter().for_each(&mut add);
    Relation::ALL.into_iter().flat_map(|relation| relation.name().split(' ')).for_each(&mut add);
    NUMBERS[1..].iter().copied().for_each(&mut add);
    caption_requests().iter().flat_map(|request| request.split(' ')).for_each(&mut add);
    OBJECT_REQUESTS.into_iter().flat_map(|request| request.split(' ')).for_each(&mut add);
    ["colour", "where", "how", "many", "are", "there", "these", "objects"].into_iter().for_each(&mut add);
    Colour::ALL.into_iter().for_each(|colour| add(colour.name()));
    world.styles.iter().for_each(|style| add(style_word(style)));
    for noun in &world.nouns {
        add(noun);
        add(&plural(noun));
    }
    tokens
}

/// `tokenizer.json`: a WordLevel model over [`vocabulary`], lower-cased, punctuation dropped except
/// the question mark, nouns of several words as added tokens. A word outside the vocabulary is an
/// error of the tokenizer, not an unknown token.
pub fn tokenizer_json(world: &World) -> String {
    let tokens = vocabulary(world);
    let added: Vec<_> = tokens
        .iter()
        .enumerate()
        .filter(|(id, token)| *id < SPECIAL.len() || token.contains(' '))
        .map(|(id, token)| {
            let special = id < SPECIAL.len();
            json!({
                "id": id, "content": token, "single_word": !special, "lstrip": false,
                "rstrip": false, "normalized": !special, "special": special,
            })
        })
        .collect();
    let vocab: serde_json::Map<_, _> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Lowercase" },
            { "type": "Replace", "pattern": { "Regex": "[^a-z0-9?]+" }, "content": " " },
        ] },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    });
    format!("{tokenizer:#}\n")
}
