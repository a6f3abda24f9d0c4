//! Captions and questions as token ids, drawn anew for every batch.

use rand_chacha::{ChaCha8Rng, rand_core::Rng};

use super::objective::Exchange;
use crate::{
    Error, Result, random,
    scene::{
        CaptionRates, QuestionKind, Scene, caption,
        question::{self, caption_requests},
    },
    text::{EOS, NULL_CAPTION, Tokenizer},
};

/// Makes a batch's words.
#[derive(Clone, Debug)]
pub struct Texts {
    tokenizer: Tokenizer,
    templates: Vec<String>,
}

impl Texts {
    pub fn new(tokenizer: Tokenizer) -> Self {
        // A model of a smaller vocabulary knows only some of them.
        let known = |template: &String| tokenizer.encode(template).is_ok();
        let templates = caption_requests().into_iter().filter(known).collect();
        Self { tokenizer, templates }
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// A caption that says all.
    pub fn dense(&self, scene: &Scene, random: &mut ChaCha8Rng) -> Result<Vec<u32>> {
        let captions = caption::dense(scene, random.next_u64(), 0);
        self.encode(pick(&captions, random)?)
    }

    /// A caption that leaves things out at the given rates.
    pub fn sparse(&self, scene: &Scene, rates: CaptionRates, random: &mut ChaCha8Rng) -> Result<Vec<u32>> {
        self.encode(pick(&caption::sparse(scene, rates, 1, random.next_u64(), 0), random)?)
    }

    /// A question and its answer with the end token; half of the time the whole caption.
    pub fn question(&self, scene: &Scene, random: &mut ChaCha8Rng) -> Result<Exchange> {
        let all = question::questions(scene, random.next_u64(), 0);
        let (captions, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|question| question.kind == QuestionKind::Caption);
        let caption = others.is_empty() || random::uniform(random) < 0.5;
        let chosen = pick(if caption { &captions } else { &others }, random)?;
        let mut answer = self.encode(&chosen.answer)?;
        answer.push(EOS);
        Ok((self.encode(&chosen.question)?, answer))
    }

    /// A request for a caption: the text beside an image that is to be redrawn.
    pub fn template(&self, random: &mut ChaCha8Rng) -> Result<Vec<u32>> {
        self.encode(pick(&self.templates, random)?)
    }

    /// `text`, or the empty caption of guidance at a rate.
    pub fn or_null(&self, text: Vec<u32>, rate: f64, random: &mut ChaCha8Rng) -> Result<Vec<u32>> {
        if random::uniform(random) < rate { self.encode(NULL_CAPTION) } else { Ok(text) }
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text)
    }
}

fn pick<'a, T>(items: &'a [T], random: &mut ChaCha8Rng) -> Result<&'a T> {
    items.get(random::below(random, items.len())).ok_or_else(|| Error::internal("a scene without words"))
}
