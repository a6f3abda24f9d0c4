//! How well a model understands: captions and questions on freshly rendered scenes.

use std::collections::BTreeMap;

use image::RgbImage;

use super::{
    check::picture,
    drawing::Progress,
    prompts::{PromptTier, scenes},
    report::{Report, Shown, UnderstandingScore, interval},
};
use crate::{
    Pipeline, Result,
    image::to_tensor,
    pipeline::DESCRIBE,
    scene::{
        Engine, Question, QuestionKind, Scene,
        caption::{Mention, describe},
        question::questions,
    },
    umm::Decoding,
};

/// Asks about a scene a call.
pub struct Understanding {
    pipeline: Pipeline,
    scenes: Vec<Asked>,
    /// Of every scene, question by question, whether the answer was right.
    answers: Vec<Vec<(QuestionKind, bool)>>,
}

struct Asked {
    tier: PromptTier,
    shows: Shown,
    picture: RgbImage,
    /// A question and the answers that are right.
    questions: Vec<(Question, Vec<String>)>,
}

impl Understanding {
    /// `per_tier` scenes of every tier that the engine's world has.
    ///
    /// # Errors
    /// `bad_input` for a world that cannot be.
    pub fn new(pipeline: &Pipeline, engine: &Engine, seed: u64, per_tier: usize) -> Result<Self> {
        let asked = |(index, (tier, scene)): (usize, (PromptTier, Scene))| {
            let mut captions = 0;
            let once = |question: &Question| {
                captions += usize::from(question.kind == QuestionKind::Caption);
                question.kind != QuestionKind::Caption || captions == 1
            };
            let questions = questions(&scene, seed, index as u64).into_iter().filter(once);
            // Captions are asked for in the words that every model knows.
            let with_answers = |question: Question| match question.kind {
                QuestionKind::Caption => {
                    (Question { question: DESCRIBE.to_owned(), ..question }, captions_of(&scene))
                }
                _ => (question.clone(), vec![question.answer]),
            };
            let questions = questions.map(with_answers).collect();
            Ok(Asked { tier, shows: Shown::of(&scene), picture: picture(engine, &scene)?, questions })
        };
        let scenes = scenes(engine, seed, per_tier)?.into_iter().enumerate().map(asked);
        Ok(Self { pipeline: pipeline.clone(), scenes: scenes.collect::<Result<_>>()?, answers: Vec::new() })
    }

    /// Asks about the next scene; `None` once all are done.
    ///
    /// # Errors
    /// `bad_input` where the world has words that the model does not know.
    pub async fn advance(&mut self) -> Result<Option<Progress>> {
        let Some(Asked { picture, questions, .. }) = self.scenes.get(self.answers.len()) else {
            return Ok(None);
        };
        let images = to_tensor(std::slice::from_ref(picture), self.pipeline.device());
        let embeddings = self.pipeline.umm.embed(images);
        let mut answers = Vec::with_capacity(questions.len());
        for (question, right) in questions {
            let words = self.pipeline.tokenizer.encode(&question.question)?;
            let answer =
                self.pipeline.umm.describe(Some(embeddings.clone()), &words, Decoding::Greedy).await?;
            let answer = self.pipeline.tokenizer.decode(&answer);
            answers.push((question.kind, right.contains(&answer)));
        }
        self.answers.push(answers);
        Ok(Some(Progress { done: self.answers.len() as u64, total: self.scenes.len() as u64 }))
    }

    /// The report on the scenes asked about so far.
    pub fn report(&self) -> Report {
        let mut cells: BTreeMap<(QuestionKind, Option<Shown>, PromptTier), Vec<Vec<bool>>> = BTreeMap::new();
        for (scene, answers) in self.scenes.iter().zip(&self.answers) {
            let mut of_scene: BTreeMap<QuestionKind, Vec<bool>> = BTreeMap::new();
            answers.iter().for_each(|(kind, right)| of_scene.entry(*kind).or_default().push(*right));
            for (kind, right) in of_scene {
                // Two things have two colours and a relation to tell, one has a colour at most.
                let shows = (kind == QuestionKind::Caption).then_some(scene.shows);
                cells.entry((kind, shows, scene.tier)).or_default().push(right);
            }
        }
        let score = |((kind, shows, tier), scenes): (_, Vec<Vec<bool>>)| {
            let all: Vec<bool> = scenes.concat();
            UnderstandingScore {
                kind,
                shows,
                tier,
                scenes: scenes.len(),
                questions: all.len(),
                correct: all.iter().filter(|right| **right).count(),
                score: interval(&[scenes]),
            }
        };
        Report { understanding: cells.into_iter().map(score).collect(), ..Report::default() }
    }
}

/// All true captions of a scene: from either object, and with or without a colour that the noun has
/// by nature anyway.
fn captions_of(scene: &Scene) -> Vec<String> {
    let mut captions = Vec::new();
    for bits in 0..8 {
        let mut told = scene.clone();
        for (nth, object) in told.objects.iter_mut().enumerate() {
            // In a scene of several of the same all are told alike.
            let bit = if scene.count.is_some() { 0 } else { nth };
            if bits >> bit & 1 == 1 {
                object.colour = match object.colour {
                    None => object.natural_colour,
                    given if given == object.natural_colour => None,
                    given => given,
                };
            }
        }
        let caption = describe(&told, Mention { inverse: bits & 4 != 0, ..Mention::ALL });
        if !captions.contains(&caption) {
            captions.push(caption);
        }
    }
    captions
}
