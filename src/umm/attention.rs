//! Heads of multi-head attention over tokens, for every transformer of the crate.

use burn::tensor::Tensor;

/// Splits the channels into heads: `[batch, tokens, hidden]` to `[batch, heads, tokens, head_dim]`.
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, hidden] = x.dims();
    x.reshape([batch, tokens, heads, hidden / heads]).swap_dims(1, 2)
}

/// The inverse of [`split_heads`].
pub fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, head_dim] = x.dims();
    x.swap_dims(1, 2).reshape([batch, tokens, heads * head_dim])
}
