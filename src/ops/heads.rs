//! Attention on f32 slices: a head's scores stay in the cache between both products, and the heads are
//! read and written where they lie among the others.

use super::{
    kernels::{exp, flushed},
    product::{Matrix, add_product},
};

/// Independent partial results, so that a reduction vectorises.
const LANES: usize = 8;

/// `[batch, heads, tokens, head_dim]`, each token's values together.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub values: &'a [f32],
    /// From one batch row, head and token to the next.
    pub strides: [usize; 3],
}

impl<'a> Heads<'a> {
    fn matrix(self, batch: usize, head: usize) -> Matrix<'a> {
        let [batches, heads, tokens] = self.strides;
        Matrix::new(&self.values[batch * batches + head * heads..], tokens)
    }
}

/// Which keys are hidden: `[queries, keys]` for every batch row and head, not zero where hidden.
#[derive(Clone, Copy)]
pub(super) struct Mask<'a> {
    pub values: &'a [u8],
    /// From one batch row and head to the next.
    pub strides: [usize; 2],
}

/// What attends to what.
#[derive(Clone, Copy)]
pub(super) struct Attention<'a> {
    pub query: Heads<'a>,
    pub key: Heads<'a>,
    pub value: Heads<'a>,
    pub hidden: Option<Mask<'a>>,
    pub batch: usize,
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub head_dim: usize,
}

impl Attention<'_> {
    /// `[batch, queries, heads, head_dim]`.
    pub fn forward(self) -> Vec<f32> {
        let stride = self.stride();
        let mut out = vec![0f32; self.batch * self.queries * stride];
        let mut weights = vec![0f32; self.queries * self.keys];
        for (batch, head) in self.each() {
            self.weights(batch, head, &mut weights);
            let (left, right) = (Matrix::new(&weights, self.keys), self.value.matrix(batch, head));
            let first = batch * self.queries * stride + head * self.head_dim;
            add_product(left, right, [self.queries, self.head_dim, self.keys], &mut out[first..], stride);
        }
        out
    }

    /// Gradients by query, key and value, `[batch, tokens, heads, head_dim]` each, given that of the
    /// output: with weights `p` and `d = gradient · valueᵀ`, that of the scores is `p (d − Σ p d)`.
    pub fn backward(self, gradient: Heads) -> [Vec<f32>; 3] {
        let Self { queries, keys, head_dim, .. } = self;
        let stride = self.stride();
        let [mut by_query, mut by_key, mut by_value] =
            [queries, keys, keys].map(|tokens| vec![0f32; self.batch * tokens * stride]);
        let [mut weights, mut scores] = [(); 2].map(|()| vec![0f32; queries * keys]);
        for (batch, head) in self.each() {
            let [query, key, value, gradient] =
                [self.query, self.key, self.value, gradient].map(|heads| heads.matrix(batch, head));
            let first = |tokens: usize| batch * tokens * stride + head * head_dim;
            let (by_query, by_key, by_value) =
                (&mut by_query[first(queries)..], &mut by_key[first(keys)..], &mut by_value[first(keys)..]);
            self.weights(batch, head, &mut weights);
            let across = Matrix::new(&weights, keys).transpose();
            add_product(across, gradient, [keys, head_dim, queries], by_value, stride);
            scores.fill(0.0);
            add_product(gradient, value.transpose(), [queries, keys, head_dim], &mut scores, keys);
            for (p, d) in weights.chunks_exact(keys).zip(scores.chunks_exact_mut(keys)) {
                slopes(p, d, self.scale());
            }
            let scores = Matrix::new(&scores, keys);
            add_product(scores, key, [queries, head_dim, keys], by_query, stride);
            add_product(scores.transpose(), query, [keys, head_dim, queries], by_key, stride);
        }
        [by_query, by_key, by_value]
    }

    /// Batch rows and heads.
    fn each(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.batch).flat_map(move |batch| (0..self.heads).map(move |head| (batch, head)))
    }

    /// From one token to the next where heads lie side by side.
    fn stride(self) -> usize {
        self.heads * self.head_dim
    }

    fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// `softmax(query · keyᵀ · scale)` of one head, `[queries, keys]`.
    fn weights(self, batch: usize, head: usize, weights: &mut [f32]) {
        weights.fill(0.0);
        let (query, key) = (self.query.matrix(batch, head), self.key.matrix(batch, head));
        let sizes = [self.queries, self.keys, self.head_dim];
        add_product(query, key.transpose(), sizes, weights, self.keys);
        let rows = weights.chunks_exact_mut(self.keys);
        match self.hidden {
            Some(Mask { values, strides: [batches, heads] }) => {
                let hidden = values[batch * batches + head * heads..].chunks_exact(self.keys);
                rows.zip(hidden).for_each(|(row, hidden)| softmax(row, Some(hidden), self.scale()));
            }
            None => rows.for_each(|row| softmax(row, None, self.scale())),
        }
    }
}

/// Softmax over the keys that are not hidden; of none at all, zeros.
fn softmax(row: &mut [f32], hidden: Option<&[u8]>, scale: f32) {
    if let Some(hidden) = hidden {
        row.iter_mut().zip(hidden).for_each(|(x, hidden)| *x = if *hidden == 0 { *x } else { f32::MIN });
    }
    let largest = fold(row, f32::MIN, |a, b| if a > b { a } else { b });
    row.iter_mut().for_each(|x| *x = flushed(exp((*x - largest) * scale)));
    if let Some(hidden) = hidden {
        row.iter_mut().zip(hidden).for_each(|(x, hidden)| *x = if *hidden == 0 { *x } else { 0.0 });
    }
    let share = 1.0 / fold(row, 0.0, |a, b| a + b).max(f32::MIN_POSITIVE);
    row.iter_mut().for_each(|x| *x *= share);
}

/// Of the scores before scaling, from the weights and the gradients of these.
fn slopes(weights: &[f32], gradient: &mut [f32], scale: f32) {
    let mean: f32 = weights.iter().zip(gradient.iter()).map(|(p, d)| p * d).sum();
    gradient.iter_mut().zip(weights).for_each(|(d, p)| *d = p * (*d - mean) * scale);
}

#[inline(always)]
fn fold(row: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = join(lanes[lane], chunk[lane]);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(start, join)
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::{Flex, ops::ModuleOps, tensor::FloatTensor},
        tensor::{Bool, Device, Tensor, TensorData, ops::AttentionModuleOptions},
    };

    use crate::{
        ops::{Hidden, Operations, attention, composed},
        random,
    };

    /// Batch, heads, queries, keys, head_dim: with and without remainders, one query, more than a tile.
    const SIZES: [[usize; 5]; 4] =
        [[2, 3, 16, 28, 32], [3, 2, 5, 7, 12], [1, 2, 1, 9, 8], [1, 1, 70, 77, 64]];

    /// Heads side by side in each token, as a projection leaves them.
    fn tensor(seed: u64, [batch, heads, tokens, head_dim]: [usize; 4]) -> Tensor<4> {
        let shape = [batch, tokens, heads * head_dim];
        let x = random::noise(&mut random::stream(seed, 0), shape, &Device::flex());
        x.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2)
    }

    fn inputs([batch, heads, queries, keys, head_dim]: [usize; 5]) -> [Tensor<4>; 4] {
        [(1, queries), (2, keys), (3, keys), (4, queries)]
            .map(|(seed, tokens)| tensor(seed, [batch, heads, tokens, head_dim]))
    }

    /// Later keys are hidden, and from the second batch row on some earlier ones too.
    fn mask([batch, _, queries, keys, _]: [usize; 5]) -> Tensor<4, Bool> {
        let hidden = |i: usize| {
            let (row, query, key) = (i / (queries * keys), i / keys % queries, i % keys);
            key > query || (key + row) % 3 < row % 3 && key != query
        };
        let values = (0..batch * queries * keys).map(hidden).collect::<Vec<bool>>();
        Tensor::from_data(TensorData::new(values, [batch, 1, queries, keys]), &Device::flex())
    }

    fn primitive(x: Tensor<4>) -> FloatTensor<Flex> {
        use burn::backend::ops::FloatTensorOps;
        Flex::float_from_data(x.into_data(), &Default::default())
    }

    fn primitive_mask(x: Tensor<4, Bool>) -> FloatTensor<Flex> {
        use burn::backend::ops::BoolTensorOps;
        Flex::bool_from_data(x.into_data(), &Default::default())
    }

    fn close(found: FloatTensor<Flex>, expected: FloatTensor<Flex>) {
        let [found, expected] = [found, expected].map(|x| x.to_contiguous());
        assert_eq!(found.layout().shape(), expected.layout().shape());
        let (found, expected) = (found.as_slice::<f32>().unwrap(), expected.as_slice::<f32>().unwrap());
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{i}: {a} {b}");
        }
    }

    #[test]
    fn heads_equal_the_composed_formula() {
        for sizes in SIZES {
            for hidden in [None, Some(mask(sizes))] {
                let hidden = || hidden.clone().map(primitive_mask);
                let ours = || Hidden::new(hidden());
                let [query, key, value, gradient] = inputs(sizes).map(|x| move || primitive(x.clone()));
                let options = AttentionModuleOptions::default();
                let found = Flex::attend(query(), key(), value(), ours());
                close(found, Flex::attention(query(), key(), value(), hidden(), None, options));
                let found = Flex::attend_backward(query(), key(), value(), ours(), gradient());
                let expected =
                    composed::attention_backward::<Flex>(query(), key(), value(), hidden(), gradient());
                close(found.0, expected.0);
                close(found.1, expected.1);
                close(found.2, expected.2);
            }
        }
    }

    #[test]
    fn a_query_that_sees_nothing_gets_nothing() {
        let [query, key, value, gradient] = inputs(SIZES[1]);
        let all = mask(SIZES[1]).bool_or(mask(SIZES[1]).bool_not());
        let y = attention(query.clone(), key.clone(), value.clone(), Some(all.clone()));
        assert_eq!(y.abs().sum().into_scalar::<f32>(), 0.0);
        let [query, key, value, gradient] = [query, key, value, gradient].map(primitive);
        let by_key = Flex::attend_backward(query, key, value, Hidden::Keys(primitive_mask(all)), gradient).1;
        assert!(by_key.to_contiguous().as_slice::<f32>().unwrap().iter().all(|x| *x == 0.0));
    }

    /// The gradient of a weighted sum along a random direction against a central difference.
    #[test]
    fn gradients_equal_finite_differences() {
        let sizes = SIZES[1];
        let [query, key, value, weight] = inputs(sizes);
        let [dq, dk, dv, _] = inputs(sizes).map(|x| x.flip([2, 3]));
        let hidden = mask(sizes);
        let leaves = [&query, &key, &value].map(|x| x.clone().autodiff().require_grad());
        let [q, k, v] = leaves.clone();
        let y = attention(q, k, v, Some(hidden.clone()));
        let gradients = (y * weight.clone().autodiff()).sum().backward();
        let slope: f32 = leaves
            .iter()
            .zip([&dq, &dk, &dv])
            .map(|(leaf, d)| (leaf.grad(&gradients).unwrap() * d.clone()).sum().into_scalar::<f32>())
            .sum();
        let at = |step: f32| {
            let [q, k, v] =
                [(&query, &dq), (&key, &dk), (&value, &dv)].map(|(x, d)| x.clone() + d.clone() * step);
            let y = attention(q, k, v, Some(hidden.clone())) * weight.clone();
            y.sum().into_scalar::<f32>()
        };
        let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((slope - difference).abs() < 1e-2 * difference.abs().max(1.0), "{slope} {difference}");
    }
}
