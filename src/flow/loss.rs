//! The training loss.

use burn::tensor::{Tensor, TensorData};

/// Smallest `1 − t` in the loss's weight.
pub const MIN_REMAINING: f32 = 0.1;

/// `t·clean + (1 − t)·noise` for one `t` a row, `[batch, tokens, channels]`.
pub fn noisy(clean: Tensor<3>, noise: Tensor<3>, times: &[f32]) -> Tensor<3> {
    let t = column(times, &clean);
    clean * t.clone() + noise * (t * -1.0 + 1.0)
}

/// Velocity loss of a clean-latents prediction: the mean of `((predicted − clean) / max(1 − t, 0.1))²`.
///
/// The velocity is `(clean − noisy) / (1 − t)`, so this is its squared error, bounded near `t` = 1.
pub fn velocity_loss(predicted: Tensor<3>, clean: Tensor<3>, times: &[f32]) -> Tensor<1> {
    let weights: Vec<f32> = times.iter().map(|t| 1.0 / (1.0 - t).max(MIN_REMAINING)).collect();
    let weights = column(&weights, &predicted);
    ((predicted - clean) * weights).square().mean()
}

fn column(values: &[f32], like: &Tensor<3>) -> Tensor<3> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1, 1]), &like.device())
}
