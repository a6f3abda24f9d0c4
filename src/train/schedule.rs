//! The learning rate over a run.

use std::f64::consts::PI;

use super::stage::TrainingConfig;

/// Linear warm-up, then half a cosine down to zero, as many times as there are cycles (SGDR,
/// arXiv 1608.03983).
pub fn learning_rate(config: &TrainingConfig, step: u64) -> f64 {
    let length = config.steps.max(1) as f64 / config.cycles as f64;
    let step = if step < config.steps { step as f64 % length } else { length };
    let warm = ((step + 1.0) / config.warmup.max(1) as f64).min(1.0);
    let done = step / length;
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
        let twice = TrainingConfig { steps: 200, cycles: 2, ..config.clone() };
        assert_eq!(learning_rate(&twice, 150), rate(50));
    }
}
