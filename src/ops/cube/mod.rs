//! The WebGPU backend's kernels: one dispatch in the place of six to sixteen, and products of matrices,
//! without which a build need not carry cubek's. All tensors are f32; all but products want them
//! contiguous. Elementwise kernels have a unit a value, norms a unit a row.

// Kernels know no iterators over slices.
#![allow(clippy::needless_range_loop)]

mod attention;
mod convolution;
mod product;

use burn::{
    backend::{TensorMetadata, ops::FloatTensorOps, tensor::FloatTensor},
    tensor::{DType, Shape},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use self::product::{biased, multiply, transposed};
use super::{
    AdamW, Geometry, Hidden, Operations,
    composed::{self, CUBIC, LINEAR},
};

impl Operations for CubeBackend {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.dtype != DType::F32 {
            return composed::gelu::<Self>(x);
        }
        let x = into_contiguous(x);
        let y = like(&x);
        let (count, dim) = units(&x, x.meta.num_elements());
        gelu::launch(&x.client.clone(), count, dim, x.into_buffer_arg(), y.clone().into_buffer_arg());
        y
    }

    fn gelu_tanh_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.dtype != DType::F32 {
            return composed::gelu_backward::<Self>(x, gradient);
        }
        let (x, gradient) = (into_contiguous(x), into_contiguous(gradient));
        let y = like(&x);
        let (count, dim) = units(&x, x.meta.num_elements());
        let buffers = [x.clone(), gradient, y.clone()].map(CubeTensor::into_buffer_arg);
        let [values, gradient, out] = buffers;
        gelu_backward::launch(&x.client, count, dim, values, gradient, out);
        y
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        if x.dtype != DType::F32 {
            return composed::rms_norm::<Self>(x, weight, epsilon);
        }
        let (x, weight) = (into_contiguous(x), into_contiguous(weight));
        let y = like(&x);
        let (count, dim) = units(&x, x.meta.num_elements() / weight.meta.num_elements());
        let [values, weight, out] = [x.clone(), weight, y.clone()].map(CubeTensor::into_buffer_arg);
        rms_norm::launch(&x.client, count, dim, values, weight, out, epsilon as f32);
        y
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if x.dtype != DType::F32 {
            return composed::rms_norm_backward::<Self>(x, weight, gradient, epsilon);
        }
        let [x, weight, gradient] = [x, weight, gradient].map(into_contiguous);
        let (by_x, by_rows) = (like(&x), like(&x));
        let size = weight.meta.num_elements();
        let rows = x.meta.num_elements() / size;
        let (count, dim) = units(&x, rows);
        let buffers = [x.clone(), weight, gradient, by_x.clone(), by_rows.clone()];
        let [values, weight, gradient, out, out_rows] = buffers.map(CubeTensor::into_buffer_arg);
        let epsilon = epsilon as f32;
        rms_norm_backward::launch(&x.client, count, dim, values, weight, gradient, out, out_rows, epsilon);
        let by_rows = Self::float_reshape(by_rows, Shape::from([rows, size]));
        let by_weight = Self::float_sum_dim(by_rows, 0);
        (by_x, Self::float_reshape(by_weight, Shape::from([size])))
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        biased(x, weight, bias)
    }

    fn affine_by_x(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let to = with_last(&gradient, weight.meta.shape()[0]);
        Self::float_reshape(multiply(rows(gradient), transposed(weight)), to)
    }

    fn affine_by_weight(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        multiply(transposed(rows(x)), rows(gradient))
    }

    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        multiply(a, b)
    }

    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, geometry: Geometry) -> FloatTensor<Self> {
        convolution::forward(x, weight, geometry)
    }

    fn convolve_by_x(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        convolution::by_x(x, weight, gradient, geometry)
    }

    fn convolve_by_weight(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        convolution::by_weight(x, weight, gradient, geometry)
    }

    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        hidden: Hidden<Self>,
    ) -> FloatTensor<Self> {
        multiply(attention::weights(query, key, hidden), value)
    }

    fn attend_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        hidden: Hidden<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        attention::backward(query, key, value, hidden, gradient)
    }

    fn adamw(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        update: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if weights.dtype != DType::F32 {
            return composed::adamw::<Self>(weights, gradient, scale, moment_1, moment_2, update);
        }
        let [weights, gradient, scale] = [weights, gradient, scale].map(into_contiguous);
        // Whoever else has the moments keeps what they were.
        let [moment_1, moment_2] = [moment_1, moment_2]
            .map(|moment| into_contiguous(if moment.can_mut() { moment } else { moment.copy() }));
        let after = like(&weights);
        let (count, dim) = units(&weights, weights.meta.num_elements());
        let buffers = [weights.clone(), gradient, scale, moment_1.clone(), moment_2.clone(), after.clone()];
        let [before, gradient, scale, first, second, out] = buffers.map(CubeTensor::into_buffer_arg);
        adamw::launch(
            &weights.client,
            count,
            dim,
            before,
            gradient,
            scale,
            first,
            second,
            out,
            update.betas.0,
            update.betas.1,
            update.decay(),
            update.rate(),
            update.root(),
            update.epsilon,
        );
        (after, moment_1, moment_2)
    }
}

/// A new tensor of the same shape.
fn like(x: &CubeTensor) -> CubeTensor {
    empty(x, x.shape())
}

/// A new tensor on the same device.
fn empty(x: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, DType::F32)
}

/// `[…, size]` as `[rows, size]`.
fn rows(x: CubeTensor) -> CubeTensor {
    let size = last(&x);
    let count = x.meta.num_elements() / size;
    CubeBackend::float_reshape(x, Shape::from([count, size]))
}

/// The shape of `x` with another last size.
fn with_last(x: &CubeTensor, size: usize) -> Shape {
    let mut sizes = x.meta.shape().as_slice().to_vec();
    let last = sizes.len() - 1;
    sizes[last] = size;
    Shape::from(sizes)
}

fn last(x: &CubeTensor) -> usize {
    x.meta.shape()[x.meta.shape().num_dims() - 1]
}

fn units(x: &CubeTensor, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&x.client, count);
    (calculate_cube_count_elemwise(&x.client, count, dim), dim)
}

/// `(1 + tanh(u)) / 2` for GELU's `u`; beyond ±80 it is 0 or 1 anyway.
#[cube]
fn gate(x: f32) -> f32 {
    let u = x * (LINEAR + CUBIC * x * x);
    1.0 / (1.0 + f32::exp(-clamp(u, -80.0, 80.0)))
}

#[cube(launch)]
fn gelu(x: &[f32], y: &mut [f32]) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let value = x[ABSOLUTE_POS];
    y[ABSOLUTE_POS] = value * gate(value);
}

#[cube(launch)]
fn gelu_backward(x: &[f32], gradient: &[f32], y: &mut [f32]) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let value = x[ABSOLUTE_POS];
    let s = gate(value);
    let slope = s + value * s * (1.0 - s) * (LINEAR + 3.0 * CUBIC * value * value);
    y[ABSOLUTE_POS] = gradient[ABSOLUTE_POS] * slope;
}

#[cube]
fn inverse_rms(x: &[f32], start: usize, size: usize, epsilon: f32) -> f32 {
    let mut sum = 0.0f32;
    for i in start..start + size {
        sum += x[i] * x[i];
    }
    1.0 / f32::sqrt(sum / f32::cast_from(size) + epsilon)
}

#[cube(launch)]
fn rms_norm(x: &[f32], weight: &[f32], y: &mut [f32], epsilon: f32) {
    let size = weight.len();
    let start = ABSOLUTE_POS * size;
    if start >= y.len() {
        terminate!();
    }
    let scale = inverse_rms(x, start, size, epsilon);
    for i in 0..size {
        y[start + i] = x[start + i] * scale * weight[i];
    }
}

#[cube(launch)]
fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    gradient: &[f32],
    by_x: &mut [f32],
    by_rows: &mut [f32],
    epsilon: f32,
) {
    let size = weight.len();
    let start = ABSOLUTE_POS * size;
    if start >= by_x.len() {
        terminate!();
    }
    let scale = inverse_rms(x, start, size, epsilon);
    let mut sum = 0.0f32;
    for i in 0..size {
        sum += gradient[start + i] * weight[i] * x[start + i];
    }
    let projection = sum * scale * scale / f32::cast_from(size);
    for i in 0..size {
        let (value, slope) = (x[start + i], gradient[start + i]);
        by_rows[start + i] = slope * value * scale;
        by_x[start + i] = scale * (slope * weight[i] - value * projection);
    }
}

#[cube(launch)]
fn adamw(
    weights: &[f32],
    gradient: &[f32],
    scale: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    after: &mut [f32],
    beta_1: f32,
    beta_2: f32,
    decay: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
) {
    if ABSOLUTE_POS >= after.len() {
        terminate!();
    }
    let slope = gradient[ABSOLUTE_POS] * scale[0];
    let first = beta_1 * moment_1[ABSOLUTE_POS] + (1.0 - beta_1) * slope;
    let second = beta_2 * moment_2[ABSOLUTE_POS] + (1.0 - beta_2) * slope * slope;
    moment_1[ABSOLUTE_POS] = first;
    moment_2[ABSOLUTE_POS] = second;
    after[ABSOLUTE_POS] =
        decay * weights[ABSOLUTE_POS] - rate * (first / (f32::sqrt(second) * root + epsilon));
}
