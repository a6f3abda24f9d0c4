//! Attention: two products, and between them the softmax of the scores in place; a unit a query.

use burn::backend::ops::FloatTensorOps;
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    Hidden, last,
    product::{multiply, transposed},
    units,
};

/// `softmax(query · keyᵀ / √head_dim)`, `[batch, heads, queries, keys]`; zeros for a query that sees no key.
pub fn weights(query: CubeTensor, key: CubeTensor, hidden: Hidden<CubeBackend>) -> CubeTensor {
    let scale = scale(&query);
    let scores = multiply(query, transposed(key));
    let scores = match hidden.keys() {
        Some(hidden) => CubeBackend::float_mask_fill(scores, hidden, f32::NEG_INFINITY.into()),
        None => scores,
    };
    let (count, dim) = units(&scores, scores.meta.num_elements() / last(&scores));
    softmax::launch(&scores.client, count, dim, scores.clone().into_buffer_arg(), last(&scores), scale);
    scores
}

/// Gradients by query, key and value: with weights `p` and `d = gradient · valueᵀ`, by the scores
/// `p (d − Σ p d)`.
pub fn backward(
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    hidden: Hidden<CubeBackend>,
    gradient: CubeTensor,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let scale = scale(&query);
    let weights = weights(query.clone(), key.clone(), hidden);
    let by_value = multiply(transposed(weights.clone()), gradient.clone());
    let slopes = multiply(gradient, transposed(value));
    let (count, dim) = units(&slopes, slopes.meta.num_elements() / last(&slopes));
    let [p, d] = [weights, slopes.clone()].map(CubeTensor::into_buffer_arg);
    softmax_backward::launch(&slopes.client, count, dim, p, d, last(&slopes), scale);
    let by_key = multiply(transposed(slopes.clone()), query);
    (multiply(slopes, key), by_key, by_value)
}

fn scale(query: &CubeTensor) -> f32 {
    (last(query) as f32).sqrt().recip()
}

/// Scores below this are hidden keys'.
const HIDDEN: f32 = -1e38;

#[cube(launch)]
fn softmax(scores: &mut [f32], keys: usize, scale: f32) {
    let start = ABSOLUTE_POS * keys;
    if start >= scores.len() {
        terminate!();
    }
    let mut largest = f32::new(HIDDEN);
    for i in start..start + keys {
        if scores[i] > largest {
            largest = scores[i];
        }
    }
    let mut sum = 0.0f32;
    for i in start..start + keys {
        let score = scores[i];
        let mut power = 0.0f32;
        if score > HIDDEN {
            power = f32::exp((score - largest) * scale);
        }
        scores[i] = power;
        sum += power;
    }
    if sum > 0.0 {
        let share = 1.0 / sum;
        for i in start..start + keys {
            scores[i] *= share;
        }
    }
}

#[cube(launch)]
fn softmax_backward(weights: &[f32], slopes: &mut [f32], keys: usize, scale: f32) {
    let start = ABSOLUTE_POS * keys;
    if start >= slopes.len() {
        terminate!();
    }
    let mut mean = 0.0f32;
    for i in start..start + keys {
        mean += weights[i] * slopes[i];
    }
    for i in start..start + keys {
        slopes[i] = weights[i] * (slopes[i] - mean) * scale;
    }
}
