//! Layout planning: places for two things, drawn by lot before they are drawn in pixels.
//!
//! "A dog and a fish" leaves it to the first denoising steps who goes where. They decide it at each place
//! by itself, and often for one thing in both places, or for one colour. Told where, the same model draws
//! both.

use rand_chacha::ChaCha8Rng;

use crate::{random, text::Tokenizer};

const TAG: u64 = u64::from_be_bytes(*b"layoutpl");

/// What stands between two things whose places are known, and words that tell of places already.
const RELATIONS: [&str; 4] = ["left of", "right of", "above", "below"];
const PLACES: [&str; 4] = ["left", "right", "above", "below"];

/// Token ids of a prompt in which the "and" between two things has become one of four relations, by lot
/// from `seed` and the words: "a dog and a fish" may become "a dog left of a fish". Prompts without such an
/// "and", with several, or with a place already, stay as they are.
pub fn layout(ids: Vec<u32>, tokenizer: &Tokenizer, seed: u64) -> Vec<u32> {
    let is = |id: u32, words: &[&str]| words.iter().any(|word| tokenizer.id(word) == Some(id));
    let ands: Vec<usize> = (0..ids.len()).filter(|at| is(ids[*at], &["and"])).collect();
    let relations: Vec<Vec<u32>> =
        RELATIONS.iter().filter_map(|relation| tokenizer.encode(relation).ok()).collect();
    let &[and] = ands.as_slice() else { return ids };
    let two_things = ids.get(and + 1).is_some_and(|id| is(*id, &["a", "an"]));
    if !two_things || relations.is_empty() || ids.iter().any(|id| is(*id, &PLACES)) {
        return ids;
    }
    // FNV-1a: other words, another lot, or all prompts of a seed would have one relation.
    let words = ids
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, id| (hash ^ u64::from(*id)).wrapping_mul(0x100_0000_01b3));
    let mut lot: ChaCha8Rng = random::stream(seed ^ TAG, words);
    let relation = &relations[random::below(&mut lot, relations.len())];
    [&ids[..and], relation, &ids[and + 1..]].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn tokenizer() -> Tokenizer {
        let words = "<pad> <bos> <eos> a an and dog fish orange left right of above below";
        let vocab: Vec<String> =
            words.split(' ').enumerate().map(|(id, word)| format!("{word:?}:{id}")).collect();
        let json = format!(
            r#"{{"model":{{"type":"WordLevel","vocab":{{{}}},"unk_token":"<pad>"}}}}"#,
            vocab.join(",")
        );
        Tokenizer::from_json(json.as_bytes()).unwrap()
    }

    fn planned(prompt: &str, seed: u64) -> String {
        let t = tokenizer();
        t.decode(&layout(t.encode(prompt).unwrap(), &t, seed))
    }

    fn place(planned: &str) -> usize {
        RELATIONS.iter().position(|relation| planned.contains(relation)).unwrap()
    }

    #[test]
    fn two_things_get_each_of_four_places_by_lot() {
        let found: BTreeSet<String> = (0..40).map(|seed| planned("a dog and an orange fish", seed)).collect();
        let expected = RELATIONS.map(|relation| format!("a dog {relation} an orange fish"));
        assert_eq!(found, expected.into());
        assert_eq!(planned("a dog and a fish", 3), planned("a dog and a fish", 3));
        let nouns = ["dog", "fish", "orange"];
        let prompts = nouns.iter().flat_map(|a| nouns.map(|b| format!("a {a} and a {b}")));
        let places: BTreeSet<usize> = prompts.map(|prompt| place(&planned(&prompt, 1))).collect();
        assert!(places.len() > 2, "one seed, one place: {places:?}");
    }

    #[test]
    fn other_prompts_stay_as_they_are() {
        for prompt in ["a dog", "a dog left of a fish", "a dog and a fish and a dog", "an orange and dog"] {
            assert_eq!(planned(prompt, 1), prompt);
        }
        assert_eq!(planned("a dog and a fish above a dog", 1), "a dog and a fish above a dog");
    }
}
