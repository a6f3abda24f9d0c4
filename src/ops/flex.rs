//! The CPU backend's kernels.

use burn::{
    backend::{Flex, TensorMetadata, ops::FloatTensorOps, tensor::FloatTensor},
    tensor::{DType, Shape, TensorData},
};

use super::{AdamW, Operations, composed, kernels};

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
