//! Whether a device computes what it should. Drivers exist that compute wrongly and say nothing; this
//! asks for something small whose answer is known before a model is trusted to them.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};

use crate::{
    Error, Result,
    ops::{Geometry, convolution, product},
    umm::describe::read,
};

/// Side of the picture, pixels; a token is a patch of 2×2.
const SIDE: usize = 16;
const GRID: usize = SIDE / STRIDE;
const TOKENS: usize = GRID * GRID;
const CHANNELS: usize = 32;
const COLOURS: usize = 3;
const KERNEL: usize = 3;
const STRIDE: usize = 2;
const PADDING: usize = 1;
/// Largest difference that rounding may make; values are in [-1, 1].
const TOLERANCE: f32 = 1e-3;

/// Compares a device's answer with one computed by plain loops: a convolution, tanh, and attention of
/// the tokens to each other, which is what the model is made of.
///
/// # Errors
/// `internal` if they differ, `device_lost` if the device has gone.
pub async fn check(device: &Device) -> Result<()> {
    let found = read(on_device(device)).await?;
    let expected = on_host();
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE;
    if found.len() == expected.len() && found.iter().zip(&expected).all(near) {
        return Ok(());
    }
    Err(Error::internal("the graphics device computes wrongly; its driver may be out of date"))
}

/// A fixed number in [-1, 1) for every index.
fn number(index: usize) -> f32 {
    (index * 7919 % 2003) as f32 / 1001.5 - 1.0
}

fn numbers(count: usize, scale: f32) -> Vec<f32> {
    (0..count).map(|index| number(index) * scale).collect()
}

fn picture() -> Vec<f32> {
    numbers(COLOURS * SIDE * SIDE, 1.0)
}

fn kernels() -> Vec<f32> {
    numbers(CHANNELS * COLOURS * KERNEL * KERNEL, 0.2)
}

/// `[1, tokens, channels]`
fn on_device(device: &Device) -> Tensor<3> {
    let picture = Tensor::from_data(TensorData::new(picture(), [1, COLOURS, SIDE, SIDE]), device);
    let kernels = TensorData::new(kernels(), [CHANNELS, COLOURS, KERNEL, KERNEL]);
    let geometry = Geometry { stride: STRIDE, padding: PADDING };
    let patches = convolution(picture, Tensor::from_data(kernels, device), geometry);
    let tokens: Tensor<3> = patches.reshape([1, CHANNELS, TOKENS]).swap_dims(1, 2).tanh();
    let scores = product(tokens.clone(), tokens.clone().swap_dims(1, 2));
    product(softmax(scores, 2), tokens)
}

/// The same, token by token.
fn on_host() -> Vec<f32> {
    let (picture, kernels) = (picture(), kernels());
    let patch = |token: usize, channel: usize| -> f32 {
        let mut sum = 0.0;
        for (colour, dy, dx) in
            (0..COLOURS).flat_map(|c| (0..KERNEL).flat_map(move |y| (0..KERNEL).map(move |x| (c, y, x))))
        {
            let (y, x) = (token / GRID * STRIDE + dy, token % GRID * STRIDE + dx);
            // Outside there are zeros.
            if (PADDING..SIDE + PADDING).contains(&y) && (PADDING..SIDE + PADDING).contains(&x) {
                let pixel = picture[(colour * SIDE + y - PADDING) * SIDE + x - PADDING];
                sum += pixel * kernels[((channel * COLOURS + colour) * KERNEL + dy) * KERNEL + dx];
            }
        }
        sum.tanh()
    };
    let tokens: Vec<Vec<f32>> =
        (0..TOKENS).map(|token| (0..CHANNELS).map(|channel| patch(token, channel)).collect()).collect();
    let attend = |query: &Vec<f32>| {
        let dot = |key: &Vec<f32>| query.iter().zip(key).map(|(a, b)| a * b).sum::<f32>();
        let weights: Vec<f32> = tokens.iter().map(|key| dot(key).exp()).collect();
        let total: f32 = weights.iter().sum();
        let mean = |channel: usize| -> f32 {
            tokens.iter().zip(&weights).map(|(token, weight)| token[channel] * weight / total).sum()
        };
        (0..CHANNELS).map(mean).collect::<Vec<_>>()
    };
    tokens.iter().flat_map(attend).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_rightly() {
        pollster::block_on(check(&Device::flex())).unwrap();
    }

    #[test]
    fn the_answer_is_no_triviality() {
        let answer = on_host();
        let largest = answer.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        assert!(answer.len() == TOKENS * CHANNELS && largest > 0.1, "{largest}");
    }
}
