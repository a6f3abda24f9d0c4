//! The transformer blocks of SigLIP and CLIP towers, under their checkpoints' names.

use burn::{
    module::Module,
    tensor::{Bool, Device, Tensor, TensorData, activation},
};

use crate::layers::{LayerNorm, Linear};
use crate::ops::{self, attention};
use crate::umm::attention::{merge_heads, split_heads};

/// Sizes of a block.
#[derive(Clone, Debug)]
pub struct BlockConfig {
    pub hidden_size: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub layer_norm_eps: f64,
    pub activation: Activation,
}

/// The non-linearity between the MLP's layers, `hidden_act` in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · Φ(x)`, exactly.
    Gelu,
    /// The tanh approximation of the same.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`, as OpenAI's CLIP has it.
    QuickGelu,
}

impl Activation {
    /// For a tensor of any size.
    pub fn forward(self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Gelu => activation::gelu(x),
            Self::GeluTanh => ops::gelu(x),
            Self::QuickGelu => ops::quick_gelu(x),
        }
    }
}

/// A stack of pre-norm blocks, `encoder.layers.{i}` in a checkpoint.
#[derive(Module, Debug)]
pub struct Encoder {
    pub layers: Vec<EncoderLayer>,
}

impl Encoder {
    pub fn new(config: &BlockConfig, layers: usize, device: &Device) -> Self {
        Self { layers: (0..layers).map(|_| EncoderLayer::new(config, device)).collect() }
    }

    /// `[batch, tokens, hidden]` to the same shape; every token sees every other.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_first(x, self.layers.len())
    }

    /// The same through the first `count` blocks alone.
    pub fn forward_first(&self, x: Tensor<3>, count: usize) -> Tensor<3> {
        self.layers.iter().take(count).fold(x, |x, layer| layer.forward(x, None))
    }

    /// The same with tokens that see themselves and earlier ones.
    pub fn forward_causal(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, tokens, _] = x.dims();
        let later = (0..tokens).flat_map(|query| (0..tokens).map(move |key| key > query)).collect();
        let later = Tensor::from_data(TensorData::new::<bool, _>(later, [1, 1, tokens, tokens]), &x.device());
        self.layers.iter().fold(x, |x, layer| layer.forward(x, Some(later.clone())))
    }
}

/// `x += attention(norm1(x)); x += mlp(norm2(x))`.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    pub layer_norm1: LayerNorm,
    pub self_attn: SelfAttention,
    pub layer_norm2: LayerNorm,
    pub mlp: Mlp,
}

impl EncoderLayer {
    fn new(config: &BlockConfig, device: &Device) -> Self {
        let norm = || LayerNorm::new(config.hidden_size, config.layer_norm_eps, device);
        Self {
            layer_norm1: norm(),
            self_attn: SelfAttention::new(config, device),
            layer_norm2: norm(),
            mlp: Mlp::new(config, device),
        }
    }

    /// # Shapes
    /// - `x`, result: `[batch, tokens, hidden]`
    /// - `hidden`: `[1, 1, tokens, tokens]`, true where a token must not see another
    pub fn forward(&self, x: Tensor<3>, hidden: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x), hidden);
        x.clone() + self.mlp.forward(self.layer_norm2.forward(x))
    }
}

/// Multi-head self-attention with a projection each for query, key, value and output.
#[derive(Module, Debug)]
pub struct SelfAttention {
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub out_proj: Linear,
    heads: usize,
}

impl SelfAttention {
    fn new(config: &BlockConfig, device: &Device) -> Self {
        let linear = || Linear::new(config.hidden_size, config.hidden_size, device);
        Self {
            q_proj: linear(),
            k_proj: linear(),
            v_proj: linear(),
            out_proj: linear(),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, x: Tensor<3>, hidden: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let project = |layer: &Linear| split_heads(layer.forward(x.clone()), self.heads);
        let [query, key, value] = [&self.q_proj, &self.k_proj, &self.v_proj].map(project);
        self.out_proj.forward(merge_heads(attention(query, key, value, hidden)))
    }
}

/// `fc2(activation(fc1(x)))`.
#[derive(Module, Debug)]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    pub fn new(config: &BlockConfig, device: &Device) -> Self {
        Self {
            fc1: Linear::new(config.hidden_size, config.intermediate_size, device),
            fc2: Linear::new(config.intermediate_size, config.hidden_size, device),
            activation: config.activation,
        }
    }

    /// `[batch, tokens, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(self.activation.forward(self.fc1.forward(x)))
    }
}
