//! Answers in words, token by token, over cached keys and values.

use burn::tensor::{ExecutionError, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{Umm, block::KeyValue, context::TextBatch};
use crate::{Error, ErrorCode, Result, random, text::EOS};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decoding {
    /// The likeliest token.
    Greedy,
    /// Drawn from the softmax of the scores divided by `temperature`.
    Sample { temperature: f32, seed: u64 },
}

impl Umm {
    /// Answers a question about one image.
    ///
    /// `visual`: `[1, visual_tokens, hidden]` from [`Umm::embed`]; `question`: token ids.
    /// Returns the answer's token ids without the end token.
    ///
    /// # Errors
    /// `bad_input` if the question leaves no room for an answer.
    pub async fn describe(
        &self,
        visual: Option<Tensor<3>>,
        question: &[u32],
        decoding: Decoding,
    ) -> Result<Vec<u32>> {
        let room = self.understanding.max_length().saturating_sub(question.len());
        if question.is_empty() || room == 0 {
            return Err(Error::bad_input(format!(
                "a question must have 1 to {} tokens, this one has {}",
                self.understanding.max_length() - 1,
                question.len()
            )));
        }
        let hidden = self.understanding.forward(&TextBatch::prompts(&[question.to_vec()]), visual);
        let (mut states, mut cache) = (hidden.states, hidden.layers);
        let mut chooser = Chooser::new(decoding);
        let mut answer = Vec::new();
        for position in question.len()..question.len() + room {
            let [_, tokens, _] = states.dims();
            let scores = self.understanding.logits(states.narrow(1, tokens - 1, 1));
            let next = chooser.choose(read(scores).await?);
            if next == EOS {
                break;
            }
            answer.push(next);
            if position + 1 == self.understanding.max_length() {
                break;
            }
            let hidden = self.understanding.step(&[next], position, &cache);
            cache = cache.iter().zip(&hidden.layers).map(|(a, b): (&KeyValue, _)| a.then(b)).collect();
            states = hidden.states;
        }
        Ok(answer)
    }
}

/// Reads a tensor back from the device.
///
/// # Errors
/// `device_lost` if the device has gone and must be opened anew.
pub async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data: TensorData = tensor.into_data_async().await.map_err(|e| match e {
        ExecutionError::DevicePoisoned { .. } => Error::new(ErrorCode::DeviceLost, e),
        other => Error::internal(other),
    })?;
    data.try_to_vec().map_err(|e| Error::internal(format!("{e:?}")))
}

struct Chooser {
    temperature: f32,
    random: Option<ChaCha8Rng>,
}

impl Chooser {
    fn new(decoding: Decoding) -> Self {
        match decoding {
            Decoding::Greedy => Self { temperature: 1.0, random: None },
            Decoding::Sample { temperature, seed } => {
                Self { temperature: temperature.max(1e-3), random: Some(random::stream(seed, 0)) }
            }
        }
    }

    fn choose(&mut self, scores: Vec<f32>) -> u32 {
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
        let Some(generator) = &mut self.random else {
            return best as u32;
        };
        let weights: Vec<f64> =
            scores.iter().map(|s| f64::from((s - scores[best]) / self.temperature).exp()).collect();
        let mut left = random::uniform(generator) * weights.iter().sum::<f64>();
        for (i, weight) in weights.iter().enumerate() {
            left -= weight;
            if left <= 0.0 {
                return i as u32;
            }
        }
        best as u32
    }
}
