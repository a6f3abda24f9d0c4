//! The transformer blocks of SigLIP and CLIP vision towers, under their checkpoints' names.

use burn::{
    module::Module,
    nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use crate::ops::gelu;
use crate::umm::attention::{attend, merge_heads, split_heads};

/// Sizes of a stack of blocks.
#[derive(Clone, Debug)]
pub struct BlockConfig {
    pub hidden_size: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub layer_norm_eps: f64,
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

    /// `[batch, tokens, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
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
        let norm = LayerNormConfig::new(config.hidden_size).with_epsilon(config.layer_norm_eps);
        Self {
            layer_norm1: norm.init(device),
            self_attn: SelfAttention::new(config, device),
            layer_norm2: norm.init(device),
            mlp: Mlp::new(config.hidden_size, config.intermediate_size, device),
        }
    }

    /// `[batch, tokens, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x));
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
        let linear = LinearConfig::new(config.hidden_size, config.hidden_size);
        Self {
            q_proj: linear.init(device),
            k_proj: linear.init(device),
            v_proj: linear.init(device),
            out_proj: linear.init(device),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let project = |linear: &Linear| split_heads(linear.forward(x.clone()), self.heads);
        let y = attend(project(&self.q_proj), project(&self.k_proj), project(&self.v_proj), None);
        self.out_proj.forward(merge_heads(y))
    }
}

/// `fc2(gelu(fc1(x)))` with the tanh approximation of GELU.
#[derive(Module, Debug)]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
}

impl Mlp {
    fn new(hidden: usize, intermediate: usize, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(hidden, intermediate).init(device),
            fc2: LinearConfig::new(intermediate, hidden).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(gelu(self.fc1.forward(x)))
    }
}
