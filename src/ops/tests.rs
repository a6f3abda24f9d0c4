//! Kernels against the formulas that they stand for, and against Burn's own operations.

use burn::{
    backend::Flex,
    tensor::{Device, TensorData},
};

use super::*;
use crate::layers::Linear;

/// Sizes that leave a remainder after every vector width, and cross a chunk's end.
const ROWS: usize = 413;
const SIZE: usize = 43;

fn input(seed: u64) -> Tensor<2> {
    crate::random::noise(&mut crate::random::stream(seed, 0), [ROWS, SIZE], &Device::flex()) * 2.0
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{i}: {a} {b}");
    }
}

/// Every kernel against the same formula from Burn's operations.
#[test]
fn kernels_equal_the_composed_formulas() {
    type Primitive = FloatTensor<Flex>;
    let primitive = |x: Vec<f32>, shape: &[usize]| -> Primitive {
        use burn::backend::ops::FloatTensorOps;
        Flex::float_from_data(TensorData::new(x, shape.to_vec()), &Default::default())
    };
    let read = |x: Primitive| x.as_slice::<f32>().unwrap().to_vec();
    let (shape, epsilon) = ([ROWS, SIZE], 1e-5);
    let x = || primitive(values(input(1)), &shape);
    let gradient = || primitive(values(input(2)), &shape);
    let weight = || primitive(values(input(3).narrow(0, 0, 1)), &[SIZE]);
    close(&read(Flex::gelu_tanh(x())), &read(composed::gelu::<Flex>(x())), 1e-6);
    close(&read(Flex::quick_gelu(x())), &read(composed::quick_gelu::<Flex>(x())), 1e-6);
    let (found, expected) =
        (Flex::gelu_tanh_backward(x(), gradient()), composed::gelu_backward::<Flex>(x(), gradient()));
    close(&read(found), &read(expected), 1e-5);
    let (found, expected) =
        (Flex::rms_norm(x(), weight(), epsilon), composed::rms_norm::<Flex>(x(), weight(), epsilon));
    close(&read(found), &read(expected), 1e-5);
    let found = Flex::rms_norm_backward(x(), weight(), gradient(), epsilon);
    let expected = composed::rms_norm_backward::<Flex>(x(), weight(), gradient(), epsilon);
    close(&read(found.0), &read(expected.0), 1e-4);
    close(&read(found.1), &read(expected.1), 1e-4);
    let scale = || primitive(vec![0.3], &[1]);
    let (square, time) = (|| primitive(values(input(4).square()), &shape), 3);
    let update = AdamW { learning_rate: 0.1, betas: (0.9, 0.95), epsilon: 1e-8, weight_decay: 0.5, time };
    let found = Flex::adamw(x(), gradient(), scale(), primitive(values(input(5)), &shape), square(), update);
    let expected = composed::adamw::<Flex>(
        x(),
        gradient(),
        scale(),
        primitive(values(input(5)), &shape),
        square(),
        update,
    );
    for (found, expected) in [(found.0, expected.0), (found.1, expected.1), (found.2, expected.2)] {
        close(&read(found), &read(expected), 1e-5);
    }
}

/// The gradient of the outputs' sum along a random direction against a central difference.
fn check_gradient(operation: impl Fn(Tensor<2>, Tensor<1>) -> Tensor<2>) {
    let (x, weight) = (input(4), input(5).narrow(0, 0, 1).squeeze_dim::<1>(0));
    let (dx, dw) = (input(6), input(7).narrow(0, 0, 1).squeeze_dim::<1>(0));
    let (leaf_x, leaf_w) = (x.clone().autodiff().require_grad(), weight.clone().autodiff().require_grad());
    let gradients = operation(leaf_x.clone(), leaf_w.clone()).sum().backward();
    let mut slope = 0f64;
    if let Some(gradient) = leaf_x.grad(&gradients) {
        slope += f64::from((gradient * dx.clone()).sum().into_scalar::<f32>());
    }
    let by_weight = leaf_w.grad(&gradients);
    if let Some(gradient) = &by_weight {
        slope += f64::from((gradient.clone() * dw.clone()).sum().into_scalar::<f32>());
    }
    let at = |step: f32| {
        let w = if by_weight.is_some() { weight.clone() + dw.clone() * step } else { weight.clone() };
        values(operation(x.clone() + dx.clone() * step, w)).iter().map(|v| f64::from(*v)).sum::<f64>()
    };
    let step = 1e-3;
    let difference = (at(step) - at(-step)) / (2.0 * f64::from(step));
    assert!((slope - difference).abs() < 5e-3 * difference.abs().max(1.0), "{slope} {difference}");
}

#[test]
fn gradients_equal_finite_differences() {
    check_gradient(|x, _| gelu(x));
    check_gradient(|x, weight| rms_norm(x, weight, 1e-5).square());
}

/// Gradients of the layer against those of Burn's, whatever of it is trained.
#[test]
fn linear_equals_burns_layer() {
    use burn::{module::Module, nn};
    let layer = Linear::new(SIZE, 19, &Device::flex()).train();
    for (layer, tracked) in [(layer.clone(), true), (layer.clone(), false), (layer.no_grad(), true)] {
        let x = || {
            let x = input(8).autodiff();
            if tracked { x.require_grad() } else { x }
        };
        let (ours, theirs) = (x(), x());
        let burns = nn::Linear { weight: layer.weight.clone(), bias: layer.bias.clone() };
        let (y, expected) = (layer.forward(ours.clone()), burns.forward(theirs.clone()));
        close(&values(y.clone()), &values(expected.clone()), 1e-5);
        let (found, expected) = (y.square().sum().backward(), expected.square().sum().backward());
        let by_weight = |gradients| layer.weight.val().grad(gradients);
        let bias = layer.bias.as_ref().unwrap().val();
        for (found, expected) in [
            (ours.grad(&found).map(values), theirs.grad(&expected).map(values)),
            (by_weight(&found).map(values), by_weight(&expected).map(values)),
            (bias.grad(&found).map(values), bias.grad(&expected).map(values)),
        ] {
            assert_eq!(found.is_some(), expected.is_some());
            close(&found.unwrap_or_default(), &expected.unwrap_or_default(), 1e-4);
        }
    }
}

/// Values and gradients of two tensors against those of Burn's operation.
fn check_both<const A: usize, const B: usize, const C: usize>(
    shapes: ([usize; A], [usize; B]),
    ours: impl Fn(Tensor<A>, Tensor<B>) -> Tensor<C>,
    burns: impl Fn(Tensor<A>, Tensor<B>) -> Tensor<C>,
) {
    let random = || crate::random::stream(9, 0);
    let a: Tensor<A> = crate::random::noise(&mut random(), shapes.0, &Device::flex()).autodiff();
    let b: Tensor<B> = crate::random::noise(&mut random(), shapes.1, &Device::flex()).autodiff();
    for tracked in [[true, true], [true, false], [false, true]] {
        let operands = || {
            let (a, b) = (a.clone().detach(), b.clone().detach());
            let a = if tracked[0] { a.require_grad() } else { a };
            let b = if tracked[1] { b.require_grad() } else { b };
            (a, b)
        };
        let run = |f: &dyn Fn(Tensor<A>, Tensor<B>) -> Tensor<C>| {
            let (a, b) = operands();
            let y = f(a.clone(), b.clone());
            let gradients = y.clone().square().sum().backward();
            (values(y), a.grad(&gradients).map(values), b.grad(&gradients).map(values))
        };
        let (found, expected) = (run(&ours), run(&burns));
        close(&found.0, &expected.0, 1e-4);
        for (found, expected) in [(found.1, expected.1), (found.2, expected.2)] {
            assert_eq!(found.is_some(), expected.is_some());
            close(&found.unwrap_or_default(), &expected.unwrap_or_default(), 1e-3);
        }
    }
}

#[test]
fn products_equal_burns() {
    let burns = |a: Tensor<3>, b: Tensor<3>| a.matmul(b);
    check_both(([3, 5, 7], [3, 7, 4]), product, burns);
    check_both(([3, 5, 7], [1, 7, 4]), product, burns);
    check_both(([1, 5, 7], [3, 7, 4]), product, burns);
}

#[test]
fn convolutions_equal_burns() {
    for (side, stride, padding) in [(3, 1, 1), (3, 2, 1), (1, 1, 0), (2, 2, 0)] {
        let geometry = Geometry { stride, padding };
        check_both(
            ([2, 3, 6, 8], [5, 3, side, side]),
            |x, weight| convolution(x, weight, geometry),
            |x, weight| burn::tensor::module::conv2d(x, weight, None, geometry.options()),
        );
    }
}
