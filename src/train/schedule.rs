//! The learning rate over a run.

use std::f64::consts::PI;

use super::stage::TrainingConfig;

/// Linear warm-up, then half a cosine down to zero at the last step (SGDR without restarts).
pub fn learning_rate(config: &TrainingConfig, step: u64) -> f64 {
    let warm = ((step + 1) as f64 / config.warmup.max(1) as f64).min(1.0);
    let done = step as f64 / config.steps.max(1) as f64;
    config.learning_rate * warm * (0.5 + 0.5 * (PI * done.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_zero() {
        let config =
            TrainingConfig { steps: 100, learning_rate: 2.0, warmup: 10, ..TrainingConfig::default() };
        let rate = |step| learning_rate(&config, step);
        assert!((rate(0) - 0.2).abs() < 1e-12);
        assert!((rate(50) - 1.0).abs() < 1e-12);
        assert!(rate(99) < 1e-3 && rate(8) < rate(9));
        assert_eq!(rate(100), 0.0);
    }
}
