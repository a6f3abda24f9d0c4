//! Products of matrices. A cube of 16 × 16 units computes a square of the result, each unit `EACH` × `EACH` of
//! its values, from slices of both operands that the cube reads together.

use burn::{
    backend::ops::FloatTensorOps,
    tensor::{DType, FloatDType, Shape},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{empty, rows, with_last};

/// Units of a cube along a side, and columns of the left operand in a slice.
const SIDE: usize = 16;
/// From so many values of a matrix on, a unit computes 4 × 4 of them, below 2 × 2: small results would
/// leave most of a graphics card without work.
const LARGE: usize = 1 << 16;

/// The product of matrices in the last two dimensions; the others are of one size, or 1.
pub fn multiply(a: CubeTensor, b: CubeTensor) -> CubeTensor {
    let rank = a.meta.shape().num_dims();
    let (m, n) = (a.meta.shape()[rank - 2], b.meta.shape()[rank - 1]);
    let outer = |i: usize| a.meta.shape()[i].max(b.meta.shape()[i]);
    let shape: Vec<usize> = (0..rank - 2).map(outer).chain([m, n]).collect();
    let y = empty(&a, Shape::from(shape));
    launch(a, b, None, y)
}

/// `x · weight + bias` for `x` of `[…, from]`.
pub fn biased(x: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> CubeTensor {
    let shape = with_last(&x, weight.meta.shape()[1]);
    let x = rows(x);
    let y = empty(&x, Shape::from([x.meta.shape()[0], weight.meta.shape()[1]]));
    CubeBackend::float_reshape(launch(x, weight, Some(bias), y), shape)
}

/// The same matrix the other way round: a view.
pub fn transposed(x: CubeTensor) -> CubeTensor {
    CubeBackend::float_transpose(x)
}

/// A matrix in a buffer, and the next ones: two outer dimensions, rows, columns.
struct Operand {
    tensor: CubeTensor,
    sizes: [usize; 4],
    strides: [usize; 4],
}

impl Operand {
    fn new(tensor: CubeTensor) -> Self {
        let tensor = if tensor.dtype == DType::F32 {
            tensor
        } else {
            CubeBackend::float_cast(tensor, FloatDType::F32)
        };
        // A kernel sees as many values as a tensor has, which a part of a larger one may lie beyond; and more
        // outer dimensions than two have no strides to go by.
        let steps = tensor.meta.shape().iter().zip(tensor.meta.strides().iter());
        let span = 1 + steps.map(|(size, stride)| (size - 1) * stride).sum::<usize>();
        let is_plain = tensor.meta.shape().num_dims() <= 4 && span <= tensor.meta.num_elements();
        let tensor = if is_plain { tensor } else { into_contiguous(tensor) };
        let (shape, step) = (tensor.meta.shape(), tensor.meta.strides());
        let rank = shape.num_dims();
        let mut sizes = [1; 4];
        let mut strides = [0; 4];
        for (i, dim) in (0..rank).rev().take(4).enumerate() {
            (sizes[3 - i], strides[3 - i]) = (shape[dim], step[dim]);
        }
        sizes[0] *= (0..rank.saturating_sub(4)).map(|dim| shape[dim]).product::<usize>();
        // What there is one of goes with all.
        (0..2).filter(|dim| sizes[*dim] == 1).for_each(|dim| strides[dim] = 0);
        Self { tensor, sizes, strides }
    }
}

fn launch(a: CubeTensor, b: CubeTensor, bias: Option<CubeTensor>, y: CubeTensor) -> CubeTensor {
    let (a, b) = (Operand::new(a), Operand::new(b));
    let [_, _, m, k] = a.sizes;
    let n = b.sizes[3];
    let [outer, inner] = [0, 1].map(|dim| a.sizes[dim].max(b.sizes[dim]));
    let each = if m * n >= LARGE { 4 } else { 2 };
    let side = SIDE * each;
    let client = y.client.clone();
    let count = CubeCount::Static(n.div_ceil(side) as u32, m.div_ceil(side) as u32, (outer * inner) as u32);
    let dim = CubeDim::new_2d(SIDE as u32, SIDE as u32);
    let sizes = SizesLaunch::new(m, n, k, inner);
    let steps = |operand: &Operand| {
        let [outer, inner, row, column] = operand.strides;
        StepsLaunch::new(outer, inner, row, column)
    };
    let (a_steps, b_steps) = (steps(&a), steps(&b));
    let runs = (a.strides[3] == 1, b.strides[3] == 1);
    let [a, b, out] = [a.tensor, b.tensor, y.clone()].map(CubeTensor::into_buffer_arg);
    match bias {
        None => {
            product::launch(&client, count, dim, a, b, out, sizes, a_steps, b_steps, each, runs.0, runs.1)
        }
        Some(bias) => {
            let bias = into_contiguous(bias).into_buffer_arg();
            product_biased::launch(
                &client, count, dim, a, b, bias, out, sizes, a_steps, b_steps, each, runs.0, runs.1,
            );
        }
    }
    y
}

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    m: usize,
    n: usize,
    k: usize,
    /// Matrices along the inner of both outer dimensions.
    inner: usize,
}

/// From one index to the next, in values of the buffer.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Steps {
    outer: usize,
    inner: usize,
    row: usize,
    column: usize,
}

/// A unit's sums, row by row. Two units beside each other read values beside each other, along rows or along
/// columns (`runs`): as they lie in memory.
#[cube]
fn sums(
    a: &[f32],
    b: &[f32],
    sizes: Sizes,
    a_steps: Steps,
    b_steps: Steps,
    #[comptime] each: usize,
    #[comptime] a_runs: bool,
    #[comptime] b_runs: bool,
) -> Array<f32> {
    let side = comptime!(SIDE * each);
    let (x, y, z) = (UNIT_POS_X as usize, UNIT_POS_Y as usize, CUBE_POS_Z as usize);
    let (outer, inner) = (z / sizes.inner, z % sizes.inner);
    let a_start = outer * a_steps.outer + inner * a_steps.inner;
    let b_start = outer * b_steps.outer + inner * b_steps.inner;
    let (top, left) = (CUBE_POS_Y as usize * side, CUBE_POS_X as usize * side);
    let mut a_slice = Shared::<[f32]>::new_slice(comptime!(SIDE * SIDE * each));
    let mut b_slice = Shared::<[f32]>::new_slice(comptime!(SIDE * SIDE * each));
    let mut sums = Array::<f32>::new(comptime!(each * each));
    #[unroll]
    for i in 0..comptime!(each * each) {
        sums[i] = 0.0;
    }
    for slice in 0..sizes.k.div_ceil(SIDE) {
        let start = slice * SIDE;
        #[unroll]
        for part in 0..each {
            let (row, at) = if comptime!(a_runs) { (y + part * SIDE, x) } else { (x + part * SIDE, y) };
            let mut value = 0.0f32;
            if top + row < sizes.m && start + at < sizes.k {
                value = a[a_start + (top + row) * a_steps.row + (start + at) * a_steps.column];
            }
            a_slice[at * side + row] = value;
            let (column, at) = if comptime!(b_runs) { (x + part * SIDE, y) } else { (y + part * SIDE, x) };
            let mut value = 0.0f32;
            if left + column < sizes.n && start + at < sizes.k {
                value = b[b_start + (start + at) * b_steps.row + (left + column) * b_steps.column];
            }
            b_slice[at * side + column] = value;
        }
        sync_cube();
        for at in 0..SIDE {
            #[unroll]
            for i in 0..each {
                let factor = a_slice[at * side + y + i * SIDE];
                #[unroll]
                for j in 0..each {
                    sums[i * each + j] += factor * b_slice[at * side + x + j * SIDE];
                }
            }
        }
        sync_cube();
    }
    sums
}

/// Writes what lies inside the result.
#[cube]
fn store(out: &mut [f32], sums: &Array<f32>, m: usize, n: usize, #[comptime] each: usize) {
    let side = comptime!(SIDE * each);
    #[unroll]
    for i in 0..each {
        #[unroll]
        for j in 0..each {
            let row = CUBE_POS_Y as usize * side + UNIT_POS_Y as usize + i * SIDE;
            let column = CUBE_POS_X as usize * side + UNIT_POS_X as usize + j * SIDE;
            if row < m && column < n {
                out[(CUBE_POS_Z as usize * m + row) * n + column] = sums[i * each + j];
            }
        }
    }
}

#[cube(launch)]
fn product(
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    sizes: Sizes,
    a_steps: Steps,
    b_steps: Steps,
    #[comptime] each: usize,
    #[comptime] a_runs: bool,
    #[comptime] b_runs: bool,
) {
    let (m, n) = (sizes.m, sizes.n);
    let sums = sums(a, b, sizes, a_steps, b_steps, each, a_runs, b_runs);
    store(out, &sums, m, n, each);
}

#[cube(launch)]
fn product_biased(
    a: &[f32],
    b: &[f32],
    bias: &[f32],
    out: &mut [f32],
    sizes: Sizes,
    a_steps: Steps,
    b_steps: Steps,
    #[comptime] each: usize,
    #[comptime] a_runs: bool,
    #[comptime] b_runs: bool,
) {
    let (m, n) = (sizes.m, sizes.n);
    let mut sums = sums(a, b, sizes, a_steps, b_steps, each, a_runs, b_runs);
    #[unroll]
    for j in 0..each {
        let column = CUBE_POS_X as usize * comptime!(SIDE * each) + UNIT_POS_X as usize + j * SIDE;
        if column < n {
            #[unroll]
            for i in 0..each {
                sums[i * each + j] += bias[column];
            }
        }
    }
    store(out, &sums, m, n, each);
}
