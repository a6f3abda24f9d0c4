//! An exponential moving average of weights.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};

use super::stage::EmaConfig;

/// The averaged module; flow models draw much better with it (DDPM, section 4).
#[derive(Clone, Debug)]
pub struct Average<M> {
    pub module: M,
    config: EmaConfig,
}

impl<M: Module> Average<M> {
    pub fn new(module: M, config: EmaConfig) -> Self {
        Self { module, config }
    }

    /// Takes in the weights as they are after `step` updates.
    pub fn update(&mut self, module: &M, step: u64) {
        if !step.is_multiple_of(self.config.every) {
            return;
        }
        let share = 1.0 - decay(step / self.config.every, self.config.decay);
        self.module = interpolate(self.module.clone(), module, share as f32);
    }
}

/// The weights of `module`, moved by `share` of the way to those of `other`, which stems from it.
pub fn interpolate<M: Module>(module: M, other: &M, share: f32) -> M {
    module.map(&mut Mix { current: tensors(other), share })
}

/// Short memory at first, up to `limit` (TensorFlow's `num_updates` rule).
fn decay(update: u64, limit: f64) -> f64 {
    limit.min((1 + update) as f64 / (10 + update) as f64)
}

struct Mix {
    current: GradientsParams,
    share: f32,
}

impl ModuleMapper for Mix {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(current) = self.current.remove::<D>(param.id) else { return param };
        let share = self.share;
        param.map(|average| average.clone() + (current - average) * share)
    }
}

/// The values of a module's float parameters, by parameter.
pub(super) fn tensors<M: Module>(module: &M) -> GradientsParams {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    collector.0
}

#[derive(Default)]
struct Collector(GradientsParams);

impl ModuleVisitor for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val());
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::layers::Linear;

    #[test]
    fn memory_lengthens_to_its_limit() {
        assert!((decay(1, 0.996) - 2.0 / 11.0).abs() < 1e-12);
        assert_eq!(decay(100_000, 0.996), 0.996);
    }

    #[test]
    fn moves_its_share_of_the_way() {
        let mut linear = Linear::new(2, 2, &Device::flex());
        linear.weight = linear.weight.map(|weight| weight.zeros_like());
        let mut average = Average::new(linear.clone(), EmaConfig { decay: 0.996, every: 2 });
        linear.weight = linear.weight.map(|weight| weight.ones_like());
        average.update(&linear, 1);
        assert_eq!(average.module.weight.val().sum().into_scalar::<f32>(), 0.0);
        average.update(&linear, 2);
        assert!((average.module.weight.val().mean().into_scalar::<f32>() - 9.0 / 11.0).abs() < 1e-6);
    }
}
