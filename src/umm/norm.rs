//! RMSNorm under PyTorch's parameter name.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};

use crate::{layers::constant, ops::rms_norm};

/// `weight · x / √(mean(x²) + epsilon)` over the last dimension.
#[derive(Module, Debug)]
pub struct RmsNorm {
    pub weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    pub fn new(size: usize, epsilon: f64, device: &Device) -> Self {
        Self { weight: constant(1.0, [size], device), epsilon }
    }

    /// `[…, size]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        rms_norm(x, self.weight.val(), self.epsilon)
    }
}
