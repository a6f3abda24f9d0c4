//! Shapes of results, which fusion must know before anything is computed.

use burn::tensor::Shape;

use super::Geometry;

/// `x` with another last size.
pub fn with_last(x: &Shape, size: usize) -> Shape {
    let mut shape = x.clone();
    let last = shape.num_dims() - 1;
    shape[last] = size;
    shape
}

/// Of `xᵀ · y`, all but the last sizes being one.
pub fn transposed_product(x: &Shape, y: &Shape) -> Shape {
    Shape::from([x[x.num_dims() - 1], y[y.num_dims() - 1]])
}

/// Of [`super::product`].
pub fn product(a: &Shape, b: &Shape) -> Shape {
    let last = a.num_dims() - 1;
    let mut shape = with_last(a, b[last]);
    (0..last - 1).for_each(|i| shape[i] = a[i].max(b[i]));
    shape
}

/// Of [`super::convolution`].
pub fn convolution(x: &Shape, weight: &Shape, Geometry { stride, padding }: &Geometry) -> Shape {
    let out = |size: usize| (size + 2 * padding - weight[2]) / stride + 1;
    Shape::from([x[0], weight[0], out(x[2]), out(x[3])])
}
