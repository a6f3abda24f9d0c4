//! Muon's direction: the gradient's momentum made orthogonal (Jordan et al., 2024).

use burn::tensor::Tensor;

use crate::ops::product;

/// Of the quintic iteration.
const COEFFICIENTS: (f32, f32, f32) = (3.4445, -4.775, 2.0315);
const ITERATIONS: usize = 5;
const EPSILON: f32 = 1e-7;

/// A momentum's nearest orthogonal matrix, nearly, by Newton–Schulz, in the size of AdamW's updates:
/// `0.2 √max(rows, columns)` times it (Moonlight, arXiv 2502.16982, section 2.2).
///
/// # Shapes
/// `[rows, columns]` to the same; other numbers of dimensions have no such thing.
pub fn direction<const D: usize>(momentum: Tensor<D>) -> Tensor<D> {
    let (rows, columns) = (momentum.dims()[0], momentum.dims()[1]);
    let is_tall = rows > columns;
    let x = if is_tall { momentum.swap_dims(0, 1) } else { momentum };
    let norm = x.clone().square().sum().sqrt().clamp_min(EPSILON);
    let mut x = x / norm.unsqueeze();
    let (a, b, c) = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let square = product(x.clone(), x.clone().swap_dims(0, 1));
        let fourth = product(square.clone(), square.clone());
        x = x.clone() * a + product(square * b + fourth * c, x);
    }
    let x = if is_tall { x.swap_dims(0, 1) } else { x };
    x * (0.2 * (rows.max(columns) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use burn::{
        optim::{AdjustLrFn, MuonConfig, Optimizer as _, momentum::MomentumConfig},
        tensor::Device,
    };

    use super::*;
    use crate::random;

    /// Wide and tall, and one that is nearly nothing.
    #[test]
    fn equals_burns_muon() {
        let momentum = MomentumConfig { momentum: 0.0, dampening: 0.0, nesterov: false };
        let burns =
            MuonConfig::new().with_momentum(momentum).with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW).build();
        for (shape, scale) in [([6, 18], 1.0), ([20, 7], 1.0), ([8, 8], 1e-9)] {
            let momentum: Tensor<2> =
                random::noise(&mut random::stream(1, 0), shape, &Device::flex()) * scale;
            let (moved, _) = burns.step(1.0, momentum.zeros_like(), momentum.clone(), None);
            let difference = (direction(momentum) + moved).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{shape:?}: {difference}");
        }
    }
}
