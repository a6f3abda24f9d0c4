//! Convolutions as products of matrices, over a picture's neighbourhoods side by side.

use burn::{
    backend::{TensorMetadata, ops::FloatTensorOps},
    tensor::Shape,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{
    Geometry, empty,
    product::{multiply, transposed},
    units,
};

/// See [`super::super::convolution`].
pub fn forward(x: CubeTensor, weight: CubeTensor, geometry: Geometry) -> CubeTensor {
    let plan = Plan::new(&x.shape(), &weight, geometry);
    let y = multiply(plan.flat(weight), plan.unfold(x));
    CubeBackend::float_reshape(y, Shape::from([plan.batch, plan.to, plan.rows, plan.columns]))
}

pub fn by_x(x: CubeTensor, weight: CubeTensor, gradient: CubeTensor, geometry: Geometry) -> CubeTensor {
    let plan = Plan::new(&x.shape(), &weight, geometry);
    let by_unfolded = multiply(transposed(plan.flat(weight)), plan.pixels(gradient));
    plan.fold(by_unfolded, x.shape())
}

pub fn by_weight(x: CubeTensor, weight: CubeTensor, gradient: CubeTensor, geometry: Geometry) -> CubeTensor {
    let (plan, shape) = (Plan::new(&x.shape(), &weight, geometry), weight.shape());
    let each = multiply(plan.pixels(gradient), transposed(plan.unfold(x)));
    CubeBackend::float_reshape(CubeBackend::float_sum_dim(each, 0), shape)
}

/// All sizes of one convolution.
struct Plan {
    batch: usize,
    from: usize,
    height: usize,
    width: usize,
    to: usize,
    side: usize,
    rows: usize,
    columns: usize,
    geometry: Geometry,
}

impl Plan {
    fn new(x: &Shape, weight: &CubeTensor, geometry: Geometry) -> Self {
        let ([batch, from, height, width], [to, _, side, _]) = (x.dims(), weight.shape().dims());
        let along = |size: usize| (size + 2 * geometry.padding - side) / geometry.stride + 1;
        let (rows, columns) = (along(height), along(width));
        Self { batch, from, height, width, to, side, rows, columns, geometry }
    }

    /// A kernel as a matrix, `[1, to, from · side²]`.
    fn flat(&self, weight: CubeTensor) -> CubeTensor {
        CubeBackend::float_reshape(weight, Shape::from([1, self.to, self.from * self.side * self.side]))
    }

    /// What belongs to the result, `[batch, to, rows · columns]`.
    fn pixels(&self, y: CubeTensor) -> CubeTensor {
        CubeBackend::float_reshape(y, Shape::from([self.batch, self.to, self.rows * self.columns]))
    }

    fn launch(&self) -> WindowLaunch {
        let Geometry { stride, padding } = self.geometry;
        WindowLaunch::new(self.height, self.width, self.side, self.rows, self.columns, stride, padding)
    }

    /// Every neighbourhood as a column, `[batch, from · side², rows · columns]`.
    fn unfold(&self, x: CubeTensor) -> CubeTensor {
        let shape = [self.batch, self.from * self.side * self.side, self.rows * self.columns];
        if self.side == 1 && self.geometry == (Geometry { stride: 1, padding: 0 }) {
            return CubeBackend::float_reshape(x, Shape::from(shape));
        }
        let (x, y) = (into_contiguous(x), Shape::from(shape));
        let y = empty(&x, y);
        let (count, dim) = units(&y, y.meta.num_elements());
        let [values, out] = [x.clone(), y.clone()].map(CubeTensor::into_buffer_arg);
        unfold::launch(&x.client, count, dim, values, out, self.launch());
        y
    }

    /// The sum of what a pixel was in all neighbourhoods, of the picture's `shape`.
    fn fold(&self, unfolded: CubeTensor, shape: Shape) -> CubeTensor {
        let unfolded = into_contiguous(unfolded);
        let y = empty(&unfolded, shape);
        let (count, dim) = units(&y, y.meta.num_elements());
        let [values, out] = [unfolded, y.clone()].map(CubeTensor::into_buffer_arg);
        fold::launch(&y.client, count, dim, values, out, self.launch());
        y
    }
}

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Window {
    height: usize,
    width: usize,
    side: usize,
    rows: usize,
    columns: usize,
    stride: usize,
    padding: usize,
}

#[cube(launch)]
fn unfold(x: &[f32], out: &mut [f32], window: Window) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let column = ABSOLUTE_POS % window.columns;
    let rest = ABSOLUTE_POS / window.columns;
    let row = rest % window.rows;
    let rest = rest / window.rows;
    let across = column * window.stride + rest % window.side;
    let rest = rest / window.side;
    let down = row * window.stride + rest % window.side;
    let picture = rest / window.side;
    let mut value = 0.0f32;
    if down >= window.padding
        && down < window.padding + window.height
        && across >= window.padding
        && across < window.padding + window.width
    {
        let at = (picture * window.height + down - window.padding) * window.width + across - window.padding;
        value = x[at];
    }
    out[ABSOLUTE_POS] = value;
}

#[cube(launch)]
fn fold(unfolded: &[f32], out: &mut [f32], window: Window) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let across = ABSOLUTE_POS % window.width + window.padding;
    let rest = ABSOLUTE_POS / window.width;
    let down = rest % window.height + window.padding;
    let picture = rest / window.height;
    let mut sum = 0.0f32;
    for dy in 0..window.side {
        for dx in 0..window.side {
            if down >= dy && across >= dx {
                let (y, x) = (down - dy, across - dx);
                let (row, column) = (y / window.stride, x / window.stride);
                if y % window.stride == 0
                    && x % window.stride == 0
                    && row < window.rows
                    && column < window.columns
                {
                    let kernel = (picture * window.side + dy) * window.side + dx;
                    sum += unfolded[(kernel * window.rows + row) * window.columns + column];
                }
            }
        }
    }
    out[ABSOLUTE_POS] = sum;
}
