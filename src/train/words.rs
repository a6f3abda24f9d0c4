//! The words that are true of an object.

use crate::{
    Error, Result,
    scene::{Scene, SceneObject},
    text::Tokenizer,
};

/// For each object of a scene its noun, its colour and the first word of its relation to the other.
///
/// # Errors
/// `bad_input` for a word outside the vocabulary.
pub fn words_of(scene: &Scene, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
    let id = |word: &str| {
        tokenizer.id(word).ok_or_else(|| Error::bad_input(format!("{word:?} is not in the vocabulary")))
    };
    let words = |(index, object): (usize, &SceneObject)| {
        let mut words = vec![id(&object.noun)?];
        if let Some(colour) = object.colour.or(object.natural_colour) {
            words.push(id(colour.name())?);
        }
        if let Some(relation) = scene.relation {
            let relation = if index == 0 { relation } else { relation.inverse() };
            words.extend(relation.name().split(' ').next().map(id).transpose()?);
        }
        Ok(words)
    };
    scene.objects.iter().enumerate().map(words).collect()
}
