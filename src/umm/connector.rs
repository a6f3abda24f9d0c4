//! From patch features to the understanding embeddings.

use burn::{
    module::{Module, Param, ParamId},
    tensor::{Device, Tensor, TensorData},
};

use super::{config::UmmConfig, norm::RmsNorm};
use crate::{
    layers::{Linear, normal},
    ops::gelu,
};

/// Merges each 2×2 block of patch features, then a residual MLP, then visual position embeddings.
#[derive(Module, Debug)]
pub struct Connector {
    pub merge: Linear,
    pub norm: RmsNorm,
    pub fc1: Linear,
    pub fc2: Linear,
    pub position_embedding: Param<Tensor<2>>,
}

impl Connector {
    /// Starts as the average of the four patches, so that merged tokens stay where words lie.
    pub fn new(config: &UmmConfig, device: &Device) -> Self {
        let hidden = config.vision.hidden_size;
        let merge = Linear { weight: average(hidden, device), ..Linear::zeros(4 * hidden, hidden, device) };
        let inner = config.connector.intermediate_size;
        Self {
            merge,
            norm: RmsNorm::new(hidden, config.understanding.rms_norm_eps, device),
            fc1: Linear::new(hidden, inner, device),
            fc2: Linear::zeros(inner, hidden, device),
            position_embedding: normal(0.02, [config.visual_tokens(), hidden], device),
        }
    }

    /// The understanding embeddings of images.
    ///
    /// # Shapes
    /// - `features`: `[batch, vision_tokens, hidden]`, a square grid row by row
    /// - returns `[batch, vision_tokens / 4, hidden]`
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, hidden] = features.dims();
        let half = tokens.isqrt() / 2;
        let blocks: Tensor<6> = features.reshape([batch, half, 2, half, 2, hidden]);
        let merged = self.merge.forward(blocks.swap_dims(2, 3).reshape([batch, half * half, 4 * hidden]));
        let residual = self.fc2.forward(gelu(self.fc1.forward(self.norm.forward(merged.clone()))));
        merged + residual + self.position_embedding.val().unsqueeze()
    }
}

/// A matrix that averages four vectors side by side, `[4 · hidden, hidden]`; made when it is first read,
/// as the starts of other weights are.
fn average(hidden: usize, device: &Device) -> Param<Tensor<2>> {
    let shape = [4 * hidden, hidden];
    let make = move |device: &Device, require_grad: bool| {
        let mut values = vec![0f32; 4 * hidden * hidden];
        for row in 0..4 * hidden {
            values[row * hidden + row % hidden] = 0.25;
        }
        let weight = Tensor::from_data(TensorData::new(values, shape), device);
        if require_grad { weight.require_grad() } else { weight }
    };
    Param::uninitialized(ParamId::new(), make, device.clone(), true, shape.into())
}
