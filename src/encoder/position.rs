//! Position embeddings for other image sizes than the trained one.

use burn::tensor::{Device, Tensor, TensorData};

use crate::ops::product;

/// Coefficient of PyTorch's bicubic interpolation (Pillow's is −0.5).
const A: f64 = -0.75;

/// Resizes a square grid of position embeddings bicubically, as
/// `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)` does.
///
/// # Shapes
/// - `table`: `[side², hidden]`, row by row
/// - returns `[rows · columns, hidden]`
pub fn resize(table: Tensor<2>, side: usize, [rows, columns]: [usize; 2]) -> Tensor<2> {
    let [_, hidden] = table.dims();
    let device = table.device();
    let down = product(weights(side, rows, &device), table.reshape([side, side * hidden]));
    let across: Tensor<3> = weights(side, columns, &device).unsqueeze();
    product(across, down.reshape([rows, side, hidden])).reshape([rows * columns, hidden])
}

/// What each of `to` values takes from each of `from`, `[to, from]`.
fn weights(from: usize, to: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0f32; to * from];
    for (i, row) in values.chunks_exact_mut(from).enumerate() {
        let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        for tap in -1..=2i64 {
            let at = centre.floor() as i64 + tap;
            let clamped = at.clamp(0, from as i64 - 1) as usize;
            row[clamped] += cubic((centre - at as f64).abs()) as f32;
        }
    }
    Tensor::from_data(TensorData::new(values, [to, from]), device)
}

fn cubic(x: f64) -> f64 {
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * A - 4.0 * A
    } else {
        0.0
    }
}
