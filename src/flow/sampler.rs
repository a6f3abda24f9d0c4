//! Drawing as a step iterator: the caller drives it, and may look, stop or drop it at any step.

use burn::tensor::Tensor;

use super::schedule;

/// The integrator of the flow's ordinary differential equation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// One evaluation a step.
    #[default]
    Euler,
    /// Two evaluations a step, second order; the last step is Euler's.
    Heun,
}

/// How to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    pub steps: usize,
    /// Strength of classifier-free guidance; 1 turns it off.
    pub guidance_scale: f32,
    /// Times in which guidance acts; outside, the scale is 1.
    pub guidance_interval: (f32, f32),
    pub method: Method,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self { steps: 20, guidance_scale: 3.0, guidance_interval: (0.0, 1.0), method: Method::Euler }
    }
}

/// A model that estimates clean latents.
pub trait Denoiser {
    /// The clean estimates of `noisy` (`[batch, tokens, channels]`) at one time, with the
    /// condition and, where `unconditional` is asked for, without it.
    fn denoise(&self, noisy: &Tensor<3>, time: f32, unconditional: bool) -> (Tensor<3>, Option<Tensor<3>>);
}

/// Integrates the flow from noise (`t` = 0) to latents (`t` = 1), one step a call.
pub struct Sampler<D> {
    denoiser: D,
    config: SamplerConfig,
    times: Vec<f32>,
    step: usize,
    latents: Tensor<3>,
    estimate: Tensor<3>,
}

impl<D: Denoiser> Sampler<D> {
    /// Starts from standard normal noise, `[batch, tokens, channels]`; `steps` of 0 counts as 1.
    pub fn new(denoiser: D, noise: Tensor<3>, config: SamplerConfig) -> Self {
        let times = schedule::linear(config.steps.max(1));
        Self { denoiser, config, times, step: 0, estimate: noise.clone(), latents: noise }
    }

    /// One step; false once the last has been made.
    pub fn advance(&mut self) -> bool {
        let &[now, next] = &self.times[self.step..(self.step + 2).min(self.times.len())] else {
            return false;
        };
        let (x, dt) = (self.latents.clone(), next - now);
        let first = self.estimate(&x, now);
        let slope = velocity(first.clone(), x.clone(), now);
        self.latents = if self.config.method == Method::Heun && next < 1.0 {
            let ahead = x.clone() + slope.clone() * dt;
            let second = self.estimate(&ahead, next);
            let corrected = velocity(second, ahead, next);
            x + (slope + corrected) * (dt / 2.0)
        } else {
            x + slope * dt
        };
        self.estimate = first;
        self.step += 1;
        true
    }

    /// Steps made and steps in all.
    pub fn progress(&self) -> (usize, usize) {
        (self.step, self.times.len() - 1)
    }

    /// The current clean estimate, for previews; the noise itself before the first step.
    pub fn clean_estimate(&self) -> Tensor<3> {
        self.estimate.clone()
    }

    /// The current state, which is the result once [`Sampler::advance`] is false.
    pub fn latents(&self) -> Tensor<3> {
        self.latents.clone()
    }

    /// `unconditional + scale · (conditional − unconditional)` where guidance acts.
    fn estimate(&self, x: &Tensor<3>, time: f32) -> Tensor<3> {
        let (from, to) = self.config.guidance_interval;
        let scale = self.config.guidance_scale;
        let guided = scale != 1.0 && from <= time && time <= to;
        match self.denoiser.denoise(x, time, guided) {
            (conditional, Some(unconditional)) => {
                unconditional.clone() + (conditional - unconditional) * scale
            }
            (conditional, None) => conditional,
        }
    }
}

/// `(clean − x) / (1 − t)`; a step never starts at `t` = 1.
fn velocity(clean: Tensor<3>, x: Tensor<3>, time: f32) -> Tensor<3> {
    (clean - x) / (1.0 - time)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Data from N(mean, std²): the clean estimate has a closed form, and so has the flow's end,
    /// `mean + std · noise`.
    struct Gaussian {
        mean: f32,
        std: f32,
    }

    impl Denoiser for Gaussian {
        fn denoise(&self, x: &Tensor<3>, t: f32, _: bool) -> (Tensor<3>, Option<Tensor<3>>) {
            let variance = (t * self.std).powi(2) + (1.0 - t).powi(2);
            let gain = t * self.std * self.std / variance;
            ((x.clone() - t * self.mean) * gain + self.mean, None)
        }
    }

    fn error(method: Method, steps: usize) -> f32 {
        let noise = Tensor::<3>::from_floats([[[-1.5], [0.2], [1.0]]], &Device::flex());
        let config = SamplerConfig { steps, method, ..SamplerConfig::default() };
        let mut sampler = Sampler::new(Gaussian { mean: 2.0, std: 0.5 }, noise.clone(), config);
        while sampler.advance() {}
        let exact = noise * 0.5 + 2.0;
        (sampler.latents() - exact).abs().max().into_scalar::<f32>()
    }

    #[test]
    fn reaches_the_closed_form_at_each_method_s_order() {
        let euler = [error(Method::Euler, 40), error(Method::Euler, 80)];
        assert!(euler[1] < 0.03 && (1.6..2.5).contains(&(euler[0] / euler[1])), "{euler:?}");
        let heun = [error(Method::Heun, 20), error(Method::Heun, 40)];
        assert!(heun[1] < 0.005 && heun[0] / heun[1] > 2.5, "{heun:?}");
    }

    #[test]
    fn counts_its_steps() {
        let noise = Tensor::<3>::zeros([1, 1, 1], &Device::flex());
        let config = SamplerConfig { steps: 3, ..SamplerConfig::default() };
        let mut sampler = Sampler::new(Gaussian { mean: 0.0, std: 1.0 }, noise, config);
        let mut made = 0;
        while sampler.advance() {
            made += 1;
            assert_eq!(sampler.progress(), (made, 3));
        }
        assert_eq!(made, 3);
    }
}
