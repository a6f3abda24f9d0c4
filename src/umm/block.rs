//! The transformer block of both experts: RMSNorm, attention with normalised queries and keys, MLP.

use burn::{
    module::Module,
    tensor::{Bool, Device, Tensor},
};

use super::{
    attention::{merge_heads, split_heads},
    norm::RmsNorm,
};
use crate::{
    layers::Linear,
    ops::{attention, gelu},
};

/// Sizes of a block.
#[derive(Clone, Debug)]
pub struct BlockConfig {
    pub hidden_size: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub rms_norm_eps: f64,
}

/// Keys and values of one layer, `[batch, heads, tokens, head_dim]` each.
#[derive(Clone, Debug)]
pub struct KeyValue {
    pub key: Tensor<4>,
    pub value: Tensor<4>,
}

impl KeyValue {
    /// These tokens, then `after`'s.
    pub fn then(&self, after: &Self) -> Self {
        Self {
            key: Tensor::cat(vec![self.key.clone(), after.key.clone()], 2),
            value: Tensor::cat(vec![self.value.clone(), after.value.clone()], 2),
        }
    }
}

/// Of an [`Block::attentive`] block's residual branches at the start.
const RESIDUAL_SCALE: f32 = 0.1;

/// A block of either expert.
#[derive(Module, Debug)]
pub struct Block {
    /// Scale, shift and gate for attention, then for the MLP; only where a condition modulates
    /// the block (adaLN-zero, DiT section 3.2).
    pub adaln: Option<Linear>,
    pub norm1: RmsNorm,
    /// Queries, keys and values in one projection, stacked in this order.
    pub qkv: Linear,
    pub q_norm: RmsNorm,
    pub k_norm: RmsNorm,
    pub proj: Linear,
    pub norm2: RmsNorm,
    pub fc1: Linear,
    pub fc2: Linear,
    heads: usize,
}

impl Block {
    pub fn new(config: &BlockConfig, device: &Device) -> Self {
        let hidden = config.hidden_size;
        let norm = |size| RmsNorm::new(size, config.rms_norm_eps, device);
        let head_dim = hidden / config.num_attention_heads;
        Self {
            adaln: None,
            norm1: norm(hidden),
            qkv: Linear::new(hidden, 3 * hidden, device),
            q_norm: norm(head_dim),
            k_norm: norm(head_dim),
            proj: Linear::new(hidden, hidden, device),
            norm2: norm(hidden),
            fc1: Linear::new(hidden, config.intermediate_size, device),
            fc2: Linear::new(config.intermediate_size, hidden, device),
            heads: config.num_attention_heads,
        }
    }

    /// The same block before training, with residual branches of a tenth and keys equal to queries:
    /// attention starts by matching like with like (mimetic initialisation, arXiv 2305.09828).
    /// Without both the understanding expert does not learn to bind (`docs/recipe.md`).
    pub fn attentive(mut self) -> Self {
        let [hidden, _] = self.qkv.weight.dims();
        let queries_twice = |values: Tensor<2>| {
            let [rows, _] = values.dims();
            let queries = values.clone().slice([0..rows, 0..hidden]);
            values.slice_assign([0..rows, hidden..2 * hidden], queries)
        };
        self.qkv.weight = self.qkv.weight.map(queries_twice);
        self.qkv.bias =
            self.qkv.bias.map(|bias| bias.map(|values| queries_twice(values.unsqueeze()).squeeze_dim(0)));
        self.proj.weight = self.proj.weight.map(|values| values * RESIDUAL_SCALE);
        self.fc2.weight = self.fc2.weight.map(|values| values * RESIDUAL_SCALE);
        self
    }

    /// The same block with a condition that starts without effect.
    pub fn conditioned(mut self, device: &Device) -> Self {
        // `dims` alone would draw the weight, which a model to be loaded never needs.
        let [hidden, _] = self.qkv.weight.lazy_shape().dims::<2>();
        self.adaln = Some(Linear::zeros(hidden, 6 * hidden, device));
        self
    }

    /// Plain pre-norm block, as the understanding expert uses it.
    ///
    /// # Shapes
    /// - `x`: `[batch, tokens, hidden]`
    /// - `before`: keys and values of earlier tokens, which these tokens see too
    /// - `hidden`: `[batch, 1, tokens, earlier + tokens]`, true where a key must not be seen
    /// - returns the block's output and these tokens' own keys and values
    pub fn forward(
        &self,
        x: Tensor<3>,
        before: Option<&KeyValue>,
        hidden: Option<Tensor<4, Bool>>,
    ) -> (Tensor<3>, KeyValue) {
        let (attention, own) = self.attention(self.norm1.forward(x.clone()), before, hidden);
        let x = x + attention;
        (x.clone() + self.mlp(self.norm2.forward(x)), own)
    }

    /// The block modulated by a condition, as the generation expert uses it.
    ///
    /// # Shapes
    /// - `x`: `[batch, tokens, hidden]`
    /// - `condition`: `[batch, 1, hidden]`
    /// - `before`: the context's keys and values in this layer
    /// - `hidden`: `[batch, 1, tokens, context + tokens]`, true where a key must not be seen
    pub fn forward_conditioned(
        &self,
        x: Tensor<3>,
        condition: Tensor<3>,
        before: &KeyValue,
        hidden: Option<Tensor<4, Bool>>,
    ) -> Tensor<3> {
        let Some(adaln) = &self.adaln else {
            return self.forward(x, Some(before), hidden).0;
        };
        let size = x.dims()[2];
        let modulation = adaln.forward(condition);
        let part = |i: usize| modulation.clone().narrow(2, i * size, size);
        let h = self.norm1.forward(x.clone()) * (part(0) + 1.0) + part(1);
        let x = x + self.attention(h, Some(before), hidden).0 * part(2);
        let h = self.norm2.forward(x.clone()) * (part(3) + 1.0) + part(4);
        x + self.mlp(h) * part(5)
    }

    /// Attention of normalised tokens over earlier keys and their own.
    fn attention(
        &self,
        x: Tensor<3>,
        before: Option<&KeyValue>,
        hidden: Option<Tensor<4, Bool>>,
    ) -> (Tensor<3>, KeyValue) {
        let [query, key, value] = self.project(x);
        let own = KeyValue { key, value };
        let all = before.map_or_else(|| own.clone(), |before| before.then(&own));
        let y = attention(query, all.key, all.value, hidden);
        (self.proj.forward(merge_heads(y)), own)
    }

    /// `fc2(gelu(fc1(x)))` with the tanh approximation of GELU.
    fn mlp(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(gelu(self.fc1.forward(x)))
    }

    fn project(&self, x: Tensor<3>) -> [Tensor<4>; 3] {
        let size = x.dims()[2];
        let qkv = self.qkv.forward(x);
        let part = |i| split_heads(qkv.clone().narrow(2, i * size, size), self.heads);
        [self.q_norm.forward(part(0)), self.k_norm.forward(part(1)), part(2)]
    }
}
