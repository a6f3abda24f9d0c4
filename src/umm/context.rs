//! What the understanding expert hands to the generation expert.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::block::KeyValue;

/// A batch of token sequences, padded to one length, with who may see whom.
#[derive(Clone, Debug)]
pub struct TextBatch {
    /// Token ids, row by row, each row padded with zeros to `length`.
    pub ids: Vec<i32>,
    /// Tokens of each row before the padding.
    pub lengths: Vec<usize>,
    /// Leading tokens of each row that attend both ways (the prompt; an answer is causal).
    pub prefixes: Vec<usize>,
    /// Padded length.
    pub length: usize,
}

impl TextBatch {
    /// Prompts: every token is prefix.
    pub fn prompts(rows: &[Vec<u32>]) -> Self {
        Self::with_answers(rows.iter().map(|row| (row.as_slice(), &[][..])))
    }

    /// Prompts that see both ways, each followed by an answer that is read causally.
    pub fn with_answers<'a>(rows: impl IntoIterator<Item = (&'a [u32], &'a [u32])>) -> Self {
        let rows: Vec<_> = rows.into_iter().collect();
        let lengths: Vec<usize> = rows.iter().map(|(p, a)| p.len() + a.len()).collect();
        let length = lengths.iter().copied().max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * length);
        for (prompt, answer) in &rows {
            ids.extend(prompt.iter().chain(*answer).map(|id| *id as i32));
            ids.resize(ids.len().next_multiple_of(length.max(1)), 0);
        }
        let prefixes = rows.iter().map(|(prompt, _)| prompt.len()).collect();
        Self { ids, lengths, prefixes, length }
    }

    pub fn batch(&self) -> usize {
        self.lengths.len()
    }

    /// Which keys each query must not see, for `visual` image tokens before each row's text.
    ///
    /// Key `j` is visible to query `i` if it is not padding and `j <= i` or `j` is in the prefix;
    /// a token always sees itself. `None` if everything is visible.
    pub(super) fn hidden(&self, visual: usize, device: &Device) -> Option<Tensor<4, Bool>> {
        let total = visual + self.length;
        let mut hidden = Vec::with_capacity(self.batch() * total * total);
        for (length, prefix) in self.lengths.iter().zip(&self.prefixes) {
            for query in 0..total {
                hidden.extend((0..total).map(|key| {
                    let visible = key < visual + length && (key <= query || key < visual + prefix);
                    !visible && key != query
                }));
            }
        }
        hidden
            .contains(&true)
            .then(|| Tensor::from_data(TensorData::new(hidden, [self.batch(), 1, total, total]), device))
    }
}

/// Keys and values per layer of `[visual tokens ; text]`, and their pooled summary.
#[derive(Clone, Debug)]
pub struct Context {
    /// One entry a layer.
    pub layers: Vec<KeyValue>,
    /// `[batch, hidden]`: mean of the final hidden states over tokens that are not padding.
    pub pooled: Tensor<2>,
    /// Tokens of each row before the padding, visual ones included.
    pub lengths: Vec<usize>,
    /// Which keys the generation expert must not see, `[batch, 1, image tokens, tokens + image
    /// tokens]`; `None` without padding.
    pub hidden: Option<Tensor<4, Bool>>,
}

impl Context {
    /// Tokens, padding included.
    pub fn tokens(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.key.dims()[2])
    }

    /// The mask of `image_tokens` queries that see all context tokens but the padding, and one
    /// another.
    pub(super) fn padding(
        lengths: &[usize],
        tokens: usize,
        image_tokens: usize,
        device: &Device,
    ) -> Option<Tensor<4, Bool>> {
        if lengths.iter().all(|length| *length == tokens) {
            return None;
        }
        let total = tokens + image_tokens;
        let mut hidden = Vec::with_capacity(lengths.len() * image_tokens * total);
        for length in lengths {
            for _ in 0..image_tokens {
                hidden.extend((0..total).map(|key| key >= *length && key < tokens));
            }
        }
        let shape = [lengths.len(), 1, image_tokens, total];
        Some(Tensor::from_data(TensorData::new(hidden, shape), device))
    }

    /// Both batches in one, padded to the longer context; for guidance's two branches.
    pub fn stack(self, other: Self, image_tokens: usize) -> Self {
        let device = self.pooled.device();
        let tokens = self.tokens().max(other.tokens());
        let join = |a: &Tensor<4>, b: &Tensor<4>| {
            Tensor::cat(vec![pad_tokens(a.clone(), tokens), pad_tokens(b.clone(), tokens)], 0)
        };
        let layers = self
            .layers
            .iter()
            .zip(&other.layers)
            .map(|(a, b)| KeyValue { key: join(&a.key, &b.key), value: join(&a.value, &b.value) });
        let lengths = [self.lengths, other.lengths].concat();
        Self {
            layers: layers.collect(),
            pooled: Tensor::cat(vec![self.pooled, other.pooled], 0),
            hidden: Self::padding(&lengths, tokens, image_tokens, &device),
            lengths,
        }
    }

    /// The same values inside an autodiff graph, as constants.
    pub fn autodiff(self) -> Self {
        let layers = self
            .layers
            .into_iter()
            .map(|layer| KeyValue { key: layer.key.autodiff(), value: layer.value.autodiff() });
        Self {
            layers: layers.collect(),
            pooled: self.pooled.autodiff(),
            lengths: self.lengths,
            hidden: self.hidden,
        }
    }
}

fn pad_tokens(x: Tensor<4>, tokens: usize) -> Tensor<4> {
    let [batch, heads, length, head_dim] = x.dims();
    if length == tokens {
        return x;
    }
    let zeros = Tensor::zeros([batch, heads, tokens - length, head_dim], &x.device());
    Tensor::cat(vec![x, zeros], 2)
}
