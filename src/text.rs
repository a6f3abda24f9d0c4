//! Words to token ids and back, by a Hugging Face `tokenizer.json` with a WordLevel model.

use std::collections::HashMap;

use serde::Deserialize;

use crate::{Error, Result};

/// Padding.
pub const PAD: u32 = 0;
/// Start of a text; in the vocabulary for compatibility, not used by this model.
pub const BOS: u32 = 1;
/// End of an answer.
pub const EOS: u32 = 2;
/// The caption of guidance's unconditional branch.
pub const NULL_CAPTION: &str = "nothing";

/// A closed vocabulary of words; nouns of several words are one token.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    /// Most words in one token.
    longest: usize,
}

#[derive(Deserialize)]
struct TokenizerFile {
    model: WordLevel,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct WordLevel {
    #[serde(rename = "type")]
    kind: String,
    vocab: HashMap<String, u32>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// `weights_format` if it is not a WordLevel tokenizer with ids 0..n.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let bad = |what: String| Error::weights_format(format!("tokenizer.json: {what}"));
        let file: TokenizerFile = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        if file.model.kind != "WordLevel" {
            return Err(bad(format!("model type is {:?}, expected \"WordLevel\"", file.model.kind)));
        }
        let mut ids = file.model.vocab;
        ids.extend(file.added_tokens.into_iter().map(|t| (t.content, t.id)));
        let mut words = vec![String::new(); ids.len()];
        for (word, id) in &ids {
            match words.get_mut(*id as usize) {
                Some(slot) if slot.is_empty() => slot.clone_from(word),
                _ => return Err(bad(format!("id {id} of {word:?} is taken or not below {}", ids.len()))),
            }
        }
        let longest = words.iter().map(|w| w.split(' ').count()).max().unwrap_or(1);
        Ok(Self { words, ids, longest })
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.words.len()
    }

    /// All tokens in the order of their ids.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The id of one token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Token ids of a text; case and punctuation (but for "?") do not matter.
    ///
    /// # Errors
    /// `bad_input` for an empty text, and for words outside the vocabulary, with the nearest ones.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let words = split(text);
        if words.is_empty() {
            return Err(Error::bad_input("the text is empty; write a few words, for example \"a red car\""));
        }
        let (ids, unknown) = self.look_up(&words);
        if unknown.is_empty() { Ok(ids) } else { Err(self.unknown(&unknown)) }
    }

    /// The words of a text that are outside the vocabulary.
    pub fn unknown_words(&self, text: &str) -> Vec<String> {
        self.look_up(&split(text)).1.into_iter().map(str::to_owned).collect()
    }

    /// The ids of the words that are in the vocabulary, the longest tokens first, and the other words.
    fn look_up<'a>(&self, words: &'a [String]) -> (Vec<u32>, Vec<&'a str>) {
        let (mut ids, mut unknown, mut at) = (Vec::new(), Vec::new(), 0);
        while at < words.len() {
            let most = self.longest.min(words.len() - at);
            let found =
                (1..=most).rev().find_map(|n| self.id(&words[at..at + n].join(" ")).map(|id| (id, n)));
            match found {
                Some((id, n)) => {
                    ids.push(id);
                    at += n;
                }
                None => {
                    unknown.push(words[at].as_str());
                    at += 1;
                }
            }
        }
        (ids, unknown)
    }

    /// The text of token ids, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> String {
        let words = ids.iter().filter(|id| **id > EOS).filter_map(|id| self.words.get(*id as usize));
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn unknown(&self, words: &[&str]) -> Error {
        let described: Vec<String> = words
            .iter()
            .map(|word| {
                let near = self.near(word);
                if near.is_empty() {
                    format!("\"{word}\"")
                } else {
                    format!("\"{word}\" (did you mean {}?)", near.join(" or "))
                }
            })
            .collect();
        let verb = if words.len() == 1 { "is not a word" } else { "are not words" };
        Error::bad_input(format!("{} {verb} of this model's vocabulary", described.join(", ")))
    }

    fn near(&self, word: &str) -> Vec<String> {
        let known = self.words.get(EOS as usize + 1..).unwrap_or_default();
        let mut scored: Vec<(f64, &String)> = known
            .iter()
            .map(|known| (strsim::jaro_winkler(word, known), known))
            .filter(|(score, _)| *score > 0.75)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().take(2).map(|(_, known)| format!("\"{known}\"")).collect()
    }
}

/// Lower-case words, "?" as one of its own, other punctuation dropped.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.chars().flat_map(char::to_lowercase) {
        if c == '?' {
            words.extend(["?".to_owned(), String::new()]);
        } else if c.is_alphanumeric() || c == '-' {
            if let Some(word) = words.last_mut() {
                word.push(c);
            }
        } else {
            words.push(String::new());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        let vocab = r#"{"<pad>":0,"<bos>":1,"<eos>":2,"a":3,"car":4,"hot":5,"dog":6,"red":7,"?":8}"#;
        let json = format!(
            r#"{{"model":{{"type":"WordLevel","vocab":{vocab},"unk_token":"<pad>"}},
                "added_tokens":[{{"id":9,"content":"hot dog"}}]}}"#
        );
        Tokenizer::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn longest_match_case_and_punctuation() {
        let t = tokenizer();
        assert_eq!(t.encode("A RED hot dog, a car?").unwrap(), [3, 7, 9, 3, 4, 8]);
        assert_eq!(t.decode(&[3, 7, 9, 2]), "a red hot dog");
    }

    #[test]
    fn unknown_words_are_named_with_near_ones() {
        let e = tokenizer().encode("a rad carr").unwrap_err().to_string();
        assert!(
            e.contains("\"rad\" (did you mean \"red\"?)") && e.contains("\"carr\" (did you mean \"car\"?)"),
            "{e}"
        );
        assert!(tokenizer().encode("  ,.").unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn a_vocabulary_of_hardly_any_words_has_none_that_are_near() {
        let t = Tokenizer::from_json(br#"{"model":{"type":"WordLevel","vocab":{"a":0}}}"#).unwrap();
        assert!(t.encode("b").unwrap_err().to_string().contains("\"b\" is not a word"));
    }

    #[test]
    fn foreign_files_are_refused() {
        let e = Tokenizer::from_json(br#"{"model":{"type":"BPE","vocab":{}}}"#).unwrap_err();
        assert!(e.to_string().contains("\"BPE\""), "{e}");
        let e = Tokenizer::from_json(br#"{"model":{"type":"WordLevel","vocab":{"a":0,"b":5}}}"#).unwrap_err();
        assert!(e.to_string().contains("id 5"), "{e}");
    }
}
