//! Losses that several stages share.

use burn::{
    nn::loss::CrossEntropyLossConfig,
    tensor::{Device, Int, Tensor, TensorData, activation::softplus},
};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    flow::{loss, schedule},
    random,
    umm::{Context, TextBatch, generation::Generation, understanding::Understanding},
};

/// Where training times lie: `sigmoid(time_std · n + time_mean)` for standard normal `n`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeConfig {
    #[serde(rename = "time_mean")]
    pub mean: f32,
    #[serde(rename = "time_std")]
    pub std: f32,
}

/// The flow loss at times and noise drawn from `random`.
///
/// # Shapes
/// - `clean`: `[batch, latent_tokens, latent_channels]`
///
/// `generation`, `clean` and `context` are all inside a graph, or all outside.
pub fn flow_loss(
    generation: &Generation,
    clean: Tensor<3>,
    context: &Context,
    times: TimeConfig,
    random: &mut ChaCha8Rng,
) -> Tensor<1> {
    let shape = clean.dims();
    let times = schedule::logit_normal(random, shape[0], times.mean, times.std);
    let noise = random::noise(random, shape, &clean.device());
    let noisy = loss::noisy(clean.clone(), noise, &times);
    loss::velocity_loss(generation.forward(noisy, &times, context), clean, &times)
}

/// A prompt and the answer to be learned, token ids.
pub type Exchange = (Vec<u32>, Vec<u32>);

/// Mean cross-entropy of the answers' tokens, each predicted from the position before it.
///
/// `visual`: `[exchanges, visual_tokens, hidden]`, before each prompt.
pub fn answer_loss(
    understanding: &Understanding,
    exchanges: &[Exchange],
    visual: Option<Tensor<3>>,
) -> Tensor<1> {
    let rows = exchanges.iter().map(|(prompt, answer)| (prompt.as_slice(), answer.as_slice()));
    let before = visual.as_ref().map_or(0, |visual| visual.dims()[1]);
    let states = understanding.forward(&TextBatch::with_answers(rows), visual).states;
    answer_loss_from(understanding, states, exchanges, before)
}

/// The same from the last states of exchanges that have been read already, `visual` tokens before
/// each prompt.
///
/// # Shapes
/// - `states`: `[exchanges, visual + text_tokens, hidden]`
pub fn answer_loss_from(
    understanding: &Understanding,
    states: Tensor<3>,
    exchanges: &[Exchange],
    visual: usize,
) -> Tensor<1> {
    let [_, tokens, _] = states.dims();
    let device = states.device();
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (row, (prompt, answer)) in exchanges.iter().enumerate() {
        let before = row * tokens + visual + prompt.len() - 1;
        positions.extend(before..before + answer.len());
        targets.extend(answer.iter().map(|id| *id as i32));
    }
    let scores = scores_at(understanding, states, &positions);
    CrossEntropyLossConfig::new().init(&device).forward(scores, integers(targets, &device))
}

/// What the language head says at some positions of `states`, counted row by row.
///
/// # Shapes
/// - `states`: `[batch, tokens, hidden]`
/// - returns `[positions, vocab_size]`
pub fn scores_at(understanding: &Understanding, states: Tensor<3>, positions: &[usize]) -> Tensor<2> {
    let [_, _, hidden] = states.dims();
    let positions = integers(positions.iter().map(|at| *at as i32).collect(), &states.device());
    let [count] = positions.dims();
    let states: Tensor<2> = states.flatten(0, 1);
    understanding.logits(states.select(0, positions).reshape([1, count, hidden])).squeeze_dim(0)
}

fn integers(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// Binary cross-entropy of sigmoid(`scores`), summed over columns and averaged over rows
/// (SigLIP, section 3.2).
///
/// # Shapes
/// - `scores`, `shown`: `[rows, columns]`; `shown` is 1 where a row's picture shows the column's text
pub fn sigmoid_loss(scores: Tensor<2>, shown: Tensor<2>) -> Tensor<1> {
    let rows = scores.dims()[0] as f32;
    (softplus(scores.clone(), 1.0) - scores * shown).sum() / rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmoid_loss_by_hand() {
        let device = Device::flex();
        let scores = Tensor::<2>::from_floats([[0.0, 2.0], [-1.0, 0.0]], &device);
        let shown = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let bce = |x: f32| (1.0 + x.exp()).ln();
        let expected = (bce(-0.0) + bce(2.0) + bce(-1.0) + bce(0.0)) / 2.0;
        let found = sigmoid_loss(scores, shown).into_scalar::<f32>();
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}
