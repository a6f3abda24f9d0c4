//! One update of a module: gradients clipped by their common norm, then AdamW, or Muon for the
//! matrices of transformer blocks.
//!
//! AdamW is an operation of [`crate::ops`], one pass over memory. State is kept here, by parameter, because
//! burn-optim reads it back synchronously to save it, which cannot be done on WebGPU in a browser.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

use super::{muon, stage::TrainingConfig};
use crate::ops::{self, AdamW};

/// Norm to which a step's gradients are shortened, all together.
pub const MAX_GRADIENT_NORM: f32 = 1.0;
const BETAS: (f32, f32) = (0.9, 0.95);
const EPSILON: f32 = 1e-8;
/// Muon's momentum, with Nesterov's look-ahead.
const MOMENTUM: f32 = 0.95;
/// Muon's learning rate over AdamW's.
const MUON_FACTOR: f64 = 10.0;

/// The update rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    #[default]
    AdamW,
    /// Muon for matrices inside `layers` but adaLN's, AdamW for all else. Muon's updates are scaled
    /// to AdamW's size (Moonlight, section 2.2), its rate is [`MUON_FACTOR`] times AdamW's.
    Muon,
}

/// Updates a module and remembers the gradients' moments.
#[derive(Debug, Default)]
pub struct Optimizer {
    rule: Rule,
    weight_decay: f32,
    /// Updates made so far.
    pub(super) updates: u64,
    /// AdamW's mean of gradients, or Muon's velocity.
    pub(super) moment_1: GradientsParams,
    /// AdamW's mean of squared gradients.
    pub(super) moment_2: GradientsParams,
}

impl Optimizer {
    pub fn new(config: &TrainingConfig) -> Self {
        Self { rule: config.optimizer, weight_decay: config.weight_decay, ..Self::default() }
    }

    /// Updates every parameter that has a gradient; the others stay as they are, bit for bit.
    ///
    /// `module` must be plain, not in training mode.
    pub fn step<M: Module>(&mut self, learning_rate: f64, module: M, gradients: GradientsParams) -> M {
        let Some(scale) = clip_scale(&module, &gradients) else { return module };
        let adamw = AdamW {
            learning_rate,
            betas: BETAS,
            epsilon: EPSILON,
            weight_decay: self.weight_decay,
            time: self.updates + 1,
        };
        let mut update = Update { optimizer: self, gradients, scale, adamw, path: Vec::new() };
        let module = module.map(&mut update);
        self.updates += 1;
        module
    }
}

struct Update<'a> {
    optimizer: &'a mut Optimizer,
    gradients: GradientsParams,
    scale: Tensor<1>,
    adamw: AdamW,
    /// Names of the enclosing modules.
    path: Vec<String>,
}

impl Update<'_> {
    /// adaLN stays with AdamW: it is a quarter of the weights, and no matrix that attention reads.
    fn is_muons(&self) -> bool {
        self.optimizer.rule == Rule::Muon
            && self.path.iter().any(|name| name == "layers")
            && self.path.last().is_some_and(|name| name != "adaln")
    }
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let (id, scale) = (param.id, self.scale.clone());
        let first = self.optimizer.moment_1.remove::<D>(id).unwrap_or_else(|| gradient.zeros_like());
        if D == 2 && self.is_muons() {
            let gradient = gradient * scale.unsqueeze();
            let velocity = first * MOMENTUM + gradient.clone();
            let ahead = velocity.clone() * MOMENTUM + gradient;
            self.optimizer.moment_1.register(id, velocity);
            let rate = self.adamw.learning_rate * MUON_FACTOR;
            let decay = 1.0 - rate * f64::from(self.adamw.weight_decay);
            return param.map(|weights| weights * decay - muon::direction(ahead) * rate);
        }
        let second = self.optimizer.moment_2.remove::<D>(id).unwrap_or_else(|| gradient.zeros_like());
        param.map(|weights| {
            let (weights, [first, second]) =
                ops::adamw(weights, gradient, scale, [first, second], self.adamw);
            self.optimizer.moment_1.register(id, first);
            self.optimizer.moment_2.register(id, second);
            weights
        })
    }
}

/// The factor that shortens all gradients together to [`MAX_GRADIENT_NORM`], at most 1; computed on
/// the device. `None` without gradients.
///
/// burn-optim's own clipping shortens each tensor by its own norm, which turns the step's direction.
fn clip_scale<M: Module>(module: &M, gradients: &GradientsParams) -> Option<Tensor<1>> {
    let mut squares = Squares { gradients, sums: Vec::new() };
    module.visit(&mut squares);
    if squares.sums.is_empty() {
        return None;
    }
    let norm = Tensor::cat(squares.sums, 0).sum().sqrt();
    Some(((norm + 1e-6).recip() * MAX_GRADIENT_NORM).clamp_max(1.0))
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.sums.extend(self.gradients.get::<D>(param.id).map(|gradient| gradient.square().sum()));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::layers::Linear;

    #[derive(Module, Debug)]
    struct Net {
        layers: Vec<Linear>,
        head: Linear,
    }

    fn net() -> Net {
        let linear = || Linear::new(4, 4, &Device::flex());
        Net { layers: vec![linear()], head: linear() }
    }

    /// `scale · ½|w|²` has the gradient `scale · w` in every parameter.
    fn gradients(net: &Net, scale: f32) -> GradientsParams {
        let net = net.clone().train();
        let square = |linear: &Linear| {
            let bias = linear.bias.as_ref().unwrap().val().square().sum();
            linear.weight.val().square().sum() + bias
        };
        let loss = (square(&net.layers[0]) + square(&net.head)) * (0.5 * scale);
        GradientsParams::from_grads(loss.backward(), &net)
    }

    fn values<const D: usize>(tensor: &Param<Tensor<D>>) -> Vec<f64> {
        tensor.val().into_data().try_to_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    }

    #[test]
    fn clips_by_the_norm_of_all_gradients() {
        let net = net();
        let all = [values(&net.layers[0].weight), values(&net.head.weight)].concat();
        let biases = [&net.layers[0], &net.head].map(|linear| values(linear.bias.as_ref().unwrap())).concat();
        let norm = all.iter().chain(&biases).map(|w| w * w).sum::<f64>().sqrt();
        let scale = |by| clip_scale(&net, &gradients(&net, by)).unwrap().into_scalar::<f32>();
        assert!((f64::from(scale(10.0)) - 0.1 / norm).abs() < 1e-5);
        assert_eq!(scale(1e-3), 1.0);
        assert!(clip_scale(&net, &GradientsParams::new()).is_none());
    }

    #[test]
    fn adamw_by_hand() {
        let config = TrainingConfig { weight_decay: 0.1, ..TrainingConfig::default() };
        let (mut optimizer, mut net, rate) = (Optimizer::new(&config), net(), 0.01);
        let mut expected = values(&net.head.weight);
        let (mut m, mut v) = (vec![0f64; 16], vec![0f64; 16]);
        for step in 1..=3 {
            let gradients = gradients(&net, 0.01);
            net = optimizer.step(rate, net, gradients);
            for i in 0..16 {
                let gradient = 0.01 * expected[i];
                m[i] = 0.9 * m[i] + 0.1 * gradient;
                v[i] = 0.95 * v[i] + 0.05 * gradient * gradient;
                let (m, v) = (m[i] / (1.0 - 0.9f64.powi(step)), v[i] / (1.0 - 0.95f64.powi(step)));
                expected[i] = expected[i] * (1.0 - rate * 0.1) - rate * m / (v.sqrt() + 1e-8);
            }
        }
        for (found, expected) in values(&net.head.weight).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn muon_turns_the_matrices_of_layers_only() {
        let config = TrainingConfig { optimizer: Rule::Muon, ..TrainingConfig::default() };
        let (mut optimizer, before) = (Optimizer::new(&config), net());
        let after = optimizer.step(1.0 / MUON_FACTOR, before.clone(), gradients(&before, 1.0));
        let moved = before.layers[0].weight.val() - after.layers[0].weight.val();
        // An orthogonal 4×4 matrix has norm 2; 0.2·√4 scales it. Newton–Schulz is rough.
        let norm = moved.square().sum().sqrt().into_scalar::<f32>();
        assert!((0.5..1.0).contains(&norm), "{norm}");
        assert!(optimizer.moment_2.get::<2>(before.layers[0].weight.id).is_none());
        assert!(optimizer.moment_2.get::<2>(before.head.weight.id).is_some());
    }
}
