//! Times of training and of sampling; `t` runs from 0 (noise) to 1 (clean).

use rand_chacha::ChaCha8Rng;

use crate::random::normal;

/// `n` training times, `sigmoid(std · n + mean)` for standard normal `n` (logit-normal, SD3 section 3.1).
pub fn logit_normal(random: &mut ChaCha8Rng, n: usize, mean: f32, std: f32) -> Vec<f32> {
    (0..n).map(|_| 1.0 / (1.0 + (-(std * normal(random) + mean)).exp())).collect()
}

/// `steps + 1` equally spaced times from 0 to 1.
pub fn linear(steps: usize) -> Vec<f32> {
    (0..=steps).map(|i| i as f32 / steps as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logit_normal_has_its_median() {
        let mut times = logit_normal(&mut crate::random::stream(1, 0), 20_001, -0.8, 0.8);
        times.sort_by(f32::total_cmp);
        let median = 1.0 / (1.0 + 0.8f32.exp());
        assert!((times[10_000] - median).abs() < 0.01, "{}", times[10_000]);
        assert!(times[0] > 0.0 && times[20_000] < 1.0);
    }
}
