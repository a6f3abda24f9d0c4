//! The formulas from Burn's own operations, for backends without a kernel here.

use burn::backend::{
    Backend, TensorMetadata,
    tensor::{BoolTensor, FloatTensor},
};
use burn::tensor::Shape;

use super::AdamW;

/// `2 √(2/π)`, so that `(1 + tanh(u)) / 2 = sigmoid(2 u)`.
pub(super) const LINEAR: f32 = 1.595_769;
/// `2 √(2/π) · 0.044715`.
pub(super) const CUBIC: f32 = 0.071_354_814;

/// The factor inside the quick approximation.
pub(super) const QUICK: f32 = 1.702;

pub(super) fn quick_gelu<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let gate = B::sigmoid(B::float_mul_scalar(x.clone(), QUICK.into()));
    B::float_mul(x, gate)
}

pub(super) fn gelu<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let gate = gate::<B>(x.clone());
    B::float_mul(x, gate)
}

/// `gradient · (s + x s (1 − s) (LINEAR + 3 CUBIC x²))` with `s` the gate.
pub(super) fn gelu_backward<B: Backend>(x: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    let gate = gate::<B>(x.clone());
    let square = B::float_mul(x.clone(), x.clone());
    let inner = B::float_add_scalar(B::float_mul_scalar(square, (3.0 * CUBIC).into()), LINEAR.into());
    let closed = B::float_add_scalar(B::float_neg(gate.clone()), 1f32.into());
    let slope = B::float_mul(B::float_mul(x, gate.clone()), B::float_mul(closed, inner));
    B::float_mul(gradient, B::float_add(gate, slope))
}

fn gate<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let square = B::float_mul(x.clone(), x.clone());
    let inner = B::float_add_scalar(B::float_mul_scalar(square, CUBIC.into()), LINEAR.into());
    B::sigmoid(B::float_mul(x, inner))
}

pub(super) fn rms_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let weight = broadcast::<B>(weight, x.rank());
    let scale = inverse_rms::<B>(x.clone(), epsilon);
    B::float_mul(B::float_mul(x, scale), weight)
}

/// With `r = 1 / rms(x)`: by `x`, `r g w − x r³ mean(g w x)`; by `weight`, the sum of `g x r`.
pub(super) fn rms_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (rank, size) = (x.rank(), weight.shape()[0]);
    let scale = inverse_rms::<B>(x.clone(), epsilon);
    let normal = B::float_mul(x.clone(), scale.clone());
    let rows = x.shape().num_elements() / size;
    let by_weight = B::float_mul(gradient.clone(), normal.clone());
    let by_weight = B::float_sum_dim(B::float_reshape(by_weight, Shape::from([rows, size])), 0);
    let by_weight = B::float_reshape(by_weight, Shape::from([size]));
    let weighted = B::float_mul(gradient, broadcast::<B>(weight, rank));
    let projection = B::float_mean_dim(B::float_mul(weighted.clone(), normal.clone()), rank - 1);
    let by_x = B::float_mul(B::float_sub(weighted, B::float_mul(normal, projection)), scale);
    (by_x, by_weight)
}

/// `[size]` as `[1, …, 1, size]`.
fn broadcast<B: Backend>(weight: FloatTensor<B>, rank: usize) -> FloatTensor<B> {
    let mut shape = vec![1; rank];
    shape[rank - 1] = weight.shape()[0];
    B::float_reshape(weight, Shape::from(shape))
}

fn inverse_rms<B: Backend>(x: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    let last = x.rank() - 1;
    let square = B::float_mean_dim(B::float_mul(x.clone(), x), last);
    B::float_recip(B::float_sqrt(B::float_add_scalar(square, epsilon.into())))
}

/// With weights `p` and `d = gradient · valueᵀ`: by the scores, `p (d − Σ p d)`.
pub(super) fn attention_backward<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    hidden: Option<BoolTensor<B>>,
    gradient: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let scale = 1.0 / (query.shape()[3] as f64).sqrt();
    let weights = weights::<B>(query.clone(), key.clone(), hidden, scale);
    let by_value = B::float_matmul(B::float_transpose(weights.clone()), gradient.clone());
    let slopes = B::float_matmul(gradient, B::float_transpose(value));
    let mean = B::float_sum_dim(B::float_mul(weights.clone(), slopes.clone()), 3);
    let by_scores = B::float_mul(weights, B::float_sub(slopes, mean));
    let by_scores = B::float_mul_scalar(by_scores, scale.into());
    let by_key = B::float_matmul(B::float_transpose(by_scores.clone()), query);
    (B::float_matmul(by_scores, key), by_key, by_value)
}

/// `softmax(query · keyᵀ · scale)`, `[batch, heads, queries, keys]`; zeros for a query that sees no key.
fn weights<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    hidden: Option<BoolTensor<B>>,
    scale: f64,
) -> FloatTensor<B> {
    let scores = B::float_mul_scalar(B::float_matmul(query, B::float_transpose(key)), scale.into());
    let scores = match hidden {
        Some(hidden) => B::float_mask_fill(scores, hidden, f32::NEG_INFINITY.into()),
        None => scores,
    };
    let largest = B::float_clamp_min(B::float_max_dim(scores.clone(), 3), f32::MIN.into());
    let powers = B::float_exp(B::float_sub(scores, largest));
    let sum = B::float_clamp_min(B::float_sum_dim(powers.clone(), 3), f32::MIN_POSITIVE.into());
    B::float_div(powers, sum)
}

pub(super) fn adamw<B: Backend>(
    weights: FloatTensor<B>,
    gradient: FloatTensor<B>,
    scale: FloatTensor<B>,
    moment_1: FloatTensor<B>,
    moment_2: FloatTensor<B>,
    update: AdamW,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let gradient = B::float_mul(gradient, broadcast::<B>(scale, weights.rank()));
    let times = |x: FloatTensor<B>, factor: f32| B::float_mul_scalar(x, factor.into());
    let (beta_1, beta_2) = update.betas;
    let square = B::float_mul(gradient.clone(), gradient.clone());
    let moment_1 = B::float_add(times(moment_1, beta_1), times(gradient, 1.0 - beta_1));
    let moment_2 = B::float_add(times(moment_2, beta_2), times(square, 1.0 - beta_2));
    let root = times(B::float_sqrt(moment_2.clone()), update.root());
    let step = B::float_div(moment_1.clone(), B::float_add_scalar(root, update.epsilon.into()));
    let weights = B::float_sub(times(weights, update.decay()), times(step, update.rate()));
    (weights, moment_1, moment_2)
}
