//! Multi-head attention over tokens, shared by every transformer of the crate.

use burn::tensor::{Bool, Tensor, module::attention, ops::AttentionModuleOptions};

/// `softmax(q kᵀ / √head_dim) v`.
///
/// # Shapes
/// - `query`: `[batch, heads, queries, head_dim]`
/// - `key`, `value`: `[batch, heads, keys, head_dim]`
/// - `hidden`: `[batch, 1, queries, keys]`, true where a key must not be seen
/// - returns `[batch, heads, queries, head_dim]`
pub fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    attention(query, key, value, hidden, None, AttentionModuleOptions::default())
}

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
