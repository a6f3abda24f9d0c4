//! The CPU backend's kernels.

use burn::{
    backend::{
        Flex, TensorMetadata,
        ops::{FloatTensorOps, ModuleOps},
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::{DType, Shape, TensorData, ops::AttentionModuleOptions},
};

use super::{
    AdamW, Hidden, Operations, composed,
    heads::{Attention, Heads, Mask},
    kernels,
    product::{Matrix, add_product},
};

/// Natively Burn's matrix products, with fused multiply-add and threads, are the faster ones; tests are of ours.
const OUR_PRODUCTS: bool = cfg!(any(target_arch = "wasm32", test));

impl Operations for Flex {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.dtype() != DType::F32 {
            return composed::gelu::<Self>(x);
        }
        let x = x.to_contiguous();
        let mut y = vec![0f32; x.shape().num_elements()];
        kernels::gelu(values(&x), &mut y);
        tensor(y, x.shape())
    }

    fn gelu_tanh_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.dtype() != DType::F32 {
            return composed::gelu_backward::<Self>(x, gradient);
        }
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let mut y = vec![0f32; x.shape().num_elements()];
        kernels::gelu_backward(values(&x), values(&gradient), &mut y);
        tensor(y, x.shape())
    }

    fn quick_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.dtype() != DType::F32 {
            return composed::quick_gelu::<Self>(x);
        }
        let x = x.to_contiguous();
        let mut y = vec![0f32; x.shape().num_elements()];
        kernels::quick_gelu(values(&x), &mut y);
        tensor(y, x.shape())
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        if x.dtype() != DType::F32 {
            return composed::rms_norm::<Self>(x, weight, epsilon);
        }
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let mut y = vec![0f32; x.shape().num_elements()];
        kernels::rms_norm(values(&x), values(&weight), epsilon as f32, &mut y);
        tensor(y, x.shape())
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if x.dtype() != DType::F32 {
            return composed::rms_norm_backward::<Self>(x, weight, gradient, epsilon);
        }
        let (x, weight, gradient) = (x.to_contiguous(), weight.to_contiguous(), gradient.to_contiguous());
        let mut by_x = vec![0f32; x.shape().num_elements()];
        let by_weight = kernels::rms_norm_backward(
            values(&x),
            values(&weight),
            values(&gradient),
            epsilon as f32,
            &mut by_x,
        );
        (tensor(by_x, x.shape()), tensor(by_weight, weight.shape()))
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        if !OUR_PRODUCTS || x.dtype() != DType::F32 {
            return Self::linear(x, weight, Some(bias));
        }
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let [from, to] = weight.shape().dims();
        let rows = x.shape().num_elements() / from;
        let mut y = values(&bias).repeat(rows);
        let (left, right) = (Matrix::new(values(&x), from), Matrix::new(values(&weight), to));
        add_product(left, right, [rows, to, from], &mut y, to);
        tensor(y, with_last(x.shape(), to))
    }

    fn affine_by_x(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        if !OUR_PRODUCTS || gradient.dtype() != DType::F32 {
            return Self::linear_x_backward(weight, gradient);
        }
        let (weight, gradient) = (weight.to_contiguous(), gradient.to_contiguous());
        let [from, to] = weight.shape().dims();
        let rows = gradient.shape().num_elements() / to;
        let mut y = vec![0f32; rows * from];
        let (left, right) =
            (Matrix::new(values(&gradient), to), Matrix::new(values(&weight), to).transpose());
        add_product(left, right, [rows, from, to], &mut y, from);
        tensor(y, with_last(gradient.shape(), from))
    }

    fn affine_by_weight(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        if !OUR_PRODUCTS || x.dtype() != DType::F32 {
            return Self::linear_weight_backward(x, gradient);
        }
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let last = x.shape().num_dims() - 1;
        let (from, to) = (x.shape()[last], gradient.shape()[last]);
        let rows = x.shape().num_elements() / from;
        let mut y = vec![0f32; from * to];
        let (left, right) = (Matrix::new(values(&x), from).transpose(), Matrix::new(values(&gradient), to));
        add_product(left, right, [from, to, rows], &mut y, to);
        tensor(y, Shape::from([from, to]))
    }

    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        hidden: Hidden<Self>,
    ) -> FloatTensor<Self> {
        if !OUR_PRODUCTS || query.dtype() != DType::F32 {
            let options = AttentionModuleOptions::default();
            return Self::attention(query, key, value, hidden.keys(), None, options);
        }
        let [query, key, value] = [query, key, value].map(rows);
        let hidden = hidden.keys().map(|hidden| hidden.to_contiguous());
        let attention = describe([&query, &key, &value], hidden.as_ref());
        merged(attention.forward(), query.shape())
    }

    fn attend_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        hidden: Hidden<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !OUR_PRODUCTS || query.dtype() != DType::F32 {
            return composed::attention_backward::<Self>(query, key, value, hidden.keys(), gradient);
        }
        let [query, key, value, gradient] = [query, key, value, gradient].map(rows);
        let hidden = hidden.keys().map(|hidden| hidden.to_contiguous());
        let attention = describe([&query, &key, &value], hidden.as_ref());
        let [by_query, by_key, by_value] = attention.backward(heads(&gradient));
        let tokens = key.shape();
        (merged(by_query, query.shape()), merged(by_key, tokens.clone()), merged(by_value, tokens))
    }

    fn adamw(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        update: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if weights.dtype() != DType::F32 {
            return composed::adamw::<Self>(weights, gradient, scale, moment_1, moment_2, update);
        }
        let (gradient, scale) = (gradient.to_contiguous(), scale.to_contiguous());
        let scale = values(&scale).iter().product();
        let [mut weights, mut moment_1, mut moment_2] =
            [weights, moment_1, moment_2].map(|x| x.to_contiguous());
        let state = [&mut weights, &mut moment_1, &mut moment_2].map(|x| x.storage_mut::<f32>());
        kernels::adamw(state, values(&gradient), scale, update);
        (weights, moment_1, moment_2)
    }
}

/// The values of a contiguous f32 tensor.
fn values(x: &FloatTensor<Flex>) -> &[f32] {
    x.as_slice::<f32>().unwrap_or_default()
}

fn tensor(values: Vec<f32>, shape: Shape) -> FloatTensor<Flex> {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

/// `[…, size]` of the same other dimensions.
fn with_last(mut shape: Shape, size: usize) -> Shape {
    let last = shape.num_dims() - 1;
    shape[last] = size;
    shape
}

/// The tensor itself where the values of its last dimension lie together and no dimension runs backwards,
/// else a copy where they do.
fn rows(x: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let strides = x.layout().strides();
    if strides.last() == Some(&1) && strides.iter().all(|stride| *stride >= 0) {
        x
    } else {
        x.to_contiguous()
    }
}

/// `[batch, heads, tokens, head_dim]` from [`rows`].
fn heads(x: &FloatTensor<Flex>) -> Heads<'_> {
    let strides = x.layout().strides();
    let stride = |i: usize| strides[i].unsigned_abs();
    Heads { values: &x.storage()[x.layout().start_offset()..], strides: [stride(0), stride(1), stride(2)] }
}

fn describe<'a>(
    [query, key, value]: [&'a FloatTensor<Flex>; 3],
    hidden: Option<&'a BoolTensor<Flex>>,
) -> Attention<'a> {
    let [batch, count, queries, head_dim] = query.shape().dims();
    let keys = key.shape()[2];
    let hidden = hidden.map(|hidden| {
        let [batches, heads, ..] = hidden.shape().dims::<4>();
        let step = |size: usize, stride: usize| if size == 1 { 0 } else { stride };
        let strides = [step(batches, heads * queries * keys), step(heads, queries * keys)];
        Mask { values: &hidden.storage::<u8>()[hidden.layout().start_offset()..], strides }
    });
    let [query, key, value] = [query, key, value].map(heads);
    Attention { query, key, value, hidden, batch, heads: count, queries, keys, head_dim }
}

/// `[batch, tokens, heads, head_dim]` seen as `[batch, heads, tokens, head_dim]`, of this shape.
fn merged(values: Vec<f32>, shape: Shape) -> FloatTensor<Flex> {
    let [batch, heads, tokens, head_dim] = shape.dims();
    Flex::float_swap_dims(tensor(values, Shape::from([batch, tokens, heads, head_dim])), 1, 2)
}
