//! The layers that Burn has too, over this crate's operations. Burn's own bring along whatever could be
//! asked of them (an orthogonal start needs a QR decomposition, that needs products of matrices), and a
//! build for the browser then carries a second library of kernels. Initial weights are PyTorch's, drawn
//! when they are first used: those that are loaded never are.

use burn::{
    module::{Module, Param, ParamId},
    tensor::{Device, Distribution, Int, Tensor, module::layer_norm},
};

use crate::ops::{Geometry, affine, convolution};

/// A parameter with a start.
fn parameter<const D: usize>(
    shape: [usize; D],
    device: &Device,
    start: impl Fn([usize; D], &Device) -> Tensor<D> + Clone + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    let draw = move |device: &Device, require_grad: bool| {
        let start = start.clone();
        device.memory_persistent_allocations((), move |()| {
            let tensor = start(shape, device);
            if require_grad { tensor.require_grad() } else { tensor }
        })
    };
    Param::uninitialized(ParamId::new(), draw, device.clone(), true, shape.into())
}

/// A parameter of one value.
pub fn constant<const D: usize>(value: f64, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    parameter(shape, device, move |shape, device| Tensor::full(shape, value, device))
}

/// A parameter drawn from `N(0, std²)`.
pub fn normal<const D: usize>(std: f64, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    parameter(shape, device, move |shape, device| {
        Tensor::random(shape, Distribution::Normal(0.0, std), device)
    })
}

/// A parameter drawn from `U(-k, k)` with `k = 1 / √inputs`.
fn uniform<const D: usize>(inputs: usize, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let k = (inputs as f64).sqrt().recip();
    parameter(shape, device, move |shape, device| Tensor::random(shape, Distribution::Uniform(-k, k), device))
}

/// `x · weight + bias`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[from, to]`; the other way round in a checkpoint.
    pub weight: Param<Tensor<2>>,
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    pub fn new(from: usize, to: usize, device: &Device) -> Self {
        Self { weight: uniform(from, [from, to], device), bias: Some(uniform(from, [to], device)) }
    }

    /// Without a bias.
    pub fn unbiased(from: usize, to: usize, device: &Device) -> Self {
        Self { bias: None, ..Self::new(from, to, device) }
    }

    /// One whose output starts as zeros.
    pub fn zeros(from: usize, to: usize, device: &Device) -> Self {
        Self { weight: constant(0.0, [from, to], device), bias: Some(constant(0.0, [to], device)) }
    }

    /// `[…, from]` to `[…, to]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let weight = self.weight.val();
        let bias = match &self.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([weight.dims()[1]], &weight.device()),
        };
        affine(x, weight, bias)
    }
}

/// A convolution with a square kernel.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[to, from, side, side]`
    pub weight: Param<Tensor<4>>,
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    geometry: Geometry,
}

impl Conv2d {
    pub fn new([from, to]: [usize; 2], side: usize, geometry: Geometry, device: &Device) -> Self {
        let inputs = from * side * side;
        Self {
            weight: uniform(inputs, [to, from, side, side], device),
            bias: Some(uniform(inputs, [to], device)),
            geometry,
        }
    }

    /// The same without a bias.
    pub fn unbiased(self) -> Self {
        Self { bias: None, ..self }
    }

    /// See [`convolution`].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = convolution(x, self.weight.val(), self.geometry);
        match &self.bias {
            Some(bias) => y + along_channels(bias.val()),
            None => y,
        }
    }
}

/// `[channels]` as `[1, channels, 1, 1]`.
fn along_channels(x: Tensor<1>) -> Tensor<4> {
    let [channels] = x.dims();
    x.reshape([1, channels, 1, 1])
}

/// A row of a table for every index.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[rows, size]`
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    pub fn new(rows: usize, size: usize, device: &Device) -> Self {
        Self { weight: normal(0.02, [rows, size], device) }
    }

    /// `[batch, length]` to `[batch, length, size]`.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, length] = ids.dims();
        self.weight.val().select(0, ids.reshape([batch * length])).reshape([batch as i32, length as i32, -1])
    }
}

/// `weight · (x − mean) / √(variance + epsilon) + bias` over the last dimension (Ba et al., 2016).
#[derive(Module, Debug)]
pub struct LayerNorm {
    pub weight: Param<Tensor<1>>,
    pub bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    pub fn new(size: usize, epsilon: f64, device: &Device) -> Self {
        Self { weight: constant(1.0, [size], device), bias: constant(0.0, [size], device), epsilon }
    }

    /// `[…, size]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        layer_norm(x, self.weight.val(), Some(self.bias.val()), self.epsilon)
    }
}

/// The same over groups of neighbouring channels and all pixels (Wu and He, 2018).
#[derive(Module, Debug)]
pub struct GroupNorm {
    pub weight: Param<Tensor<1>>,
    pub bias: Param<Tensor<1>>,
    groups: usize,
}

/// PyTorch's.
const GROUP_EPSILON: f64 = 1e-5;

impl GroupNorm {
    pub fn new(groups: usize, channels: usize, device: &Device) -> Self {
        Self { weight: constant(1.0, [channels], device), bias: constant(0.0, [channels], device), groups }
    }

    /// `[batch, channels, height, width]` to the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shape = x.dims();
        let x: Tensor<3> = x.reshape([shape[0] as i32, self.groups as i32, -1]);
        let x = x.clone() - x.mean_dim(2);
        let x = x.clone() / (x.square().mean_dim(2) + GROUP_EPSILON).sqrt();
        x.reshape(shape) * along_channels(self.weight.val()) + along_channels(self.bias.val())
    }
}
