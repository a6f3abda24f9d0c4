//! The step iterator that all stages and Reconstruction Alignment share: loss, gradients, clipped
//! update, average. The caller drives it, and may look, save, stop or drop it between steps.

use burn::{
    module::{Module, ModuleDisplay},
    optim::GradientsParams,
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

use super::{
    checkpoint::{self, State},
    ema::Average,
    optim::{Optimizer, Rule},
    schedule,
};
use crate::{Error, Result, umm::describe::read};

/// What a stage learns from.
pub trait Stage {
    /// The part that is trained, and no more: what is frozen belongs into the stage itself.
    type Module: Module + ModuleDisplay;

    /// The loss of step `step`'s batch, `[1]`.
    ///
    /// The batch and all chance in it must come from the step alone, so that a resumed run is the
    /// run it resumes. `module` is in training mode: what meets it must be inside the graph too.
    ///
    /// # Errors
    /// `bad_input` if the step's data cannot be made.
    fn loss(&self, module: &Self::Module, step: u64) -> Result<Tensor<1>>;
}

/// How long and how fast to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    pub steps: u64,
    /// Samples a step.
    pub batch: usize,
    /// Highest learning rate, after the warm-up; falls to zero along a cosine.
    pub learning_rate: f64,
    /// How many times the learning rate rises and falls.
    #[serde(default = "once")]
    pub cycles: u64,
    pub weight_decay: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    #[serde(default)]
    pub optimizer: Rule,
    /// The weights' average that becomes the result; without it the last weights do.
    #[serde(flatten)]
    pub ema: Option<EmaConfig>,
}

fn once() -> u64 {
    1
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch: 64,
            learning_rate: 1e-3,
            cycles: 1,
            weight_decay: 0.01,
            warmup: 100,
            optimizer: Rule::default(),
            ema: None,
        }
    }
}

impl TrainingConfig {
    /// # Errors
    /// `bad_input` naming the field, with its limits.
    pub fn check(&self) -> Result<()> {
        let bad = |name: &str, value: f64, expected: &str| {
            Err(Error::bad_input(format!("{name} is {value}, expected {expected}")))
        };
        let every = self.ema.map_or(1, |ema| ema.every);
        let counts = [("batch", self.batch as u64), ("steps", self.steps), ("cycles", self.cycles)];
        if let Some((name, _)) = counts.into_iter().chain([("ema_every", every)]).find(|(_, n)| *n == 0) {
            return bad(name, 0.0, "1 or more");
        }
        let rate = self.learning_rate;
        if !(rate > 0.0 && rate <= 1.0) {
            return bad("learning_rate", rate, "a number above 0, at most 1");
        }
        let decay = self.ema.map_or(0.0, |ema| ema.decay);
        let shares = [("weight_decay", f64::from(self.weight_decay)), ("ema", decay)];
        match shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((name, share)) => bad(name, share, "0 to 1"),
            None => Ok(()),
        }
    }
}

/// An exponential moving average of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmaConfig {
    /// Highest share of the average that an update keeps.
    #[serde(rename = "ema")]
    pub decay: f64,
    /// Steps between updates of the average.
    #[serde(rename = "ema_every")]
    pub every: u64,
}

/// One step's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Steps made, this one included.
    pub step: u64,
    pub loss: f32,
    pub learning_rate: f64,
}

/// A stage in training.
pub struct Trainer<S: Stage> {
    stage: S,
    config: TrainingConfig,
    /// Outside any graph.
    module: S::Module,
    optimizer: Optimizer,
    average: Option<Average<S::Module>>,
    step: u64,
}

impl<S: Stage> Trainer<S> {
    /// Starts at step 0. `module` must be plain, not in training mode.
    pub fn new(stage: S, module: S::Module, config: TrainingConfig) -> Self {
        let average = config.ema.map(|ema| Average::new(module.clone(), ema));
        Self { optimizer: Optimizer::new(&config), stage, config, module, average, step: 0 }
    }

    /// One step: loss, gradients, update.
    ///
    /// # Errors
    /// Those of [`Stage::loss`]; `bad_input` if the loss is no number, after which this trainer
    /// must not be used any more.
    pub async fn step(&mut self) -> Result<StepReport> {
        let learning_rate = schedule::learning_rate(&self.config, self.step);
        let training = self.module.clone().train();
        let loss = self.stage.loss(&training, self.step)?;
        let gradients = GradientsParams::from_grads(loss.backward(), &training);
        self.module = self.optimizer.step(learning_rate, self.module.clone(), gradients);
        self.step += 1;
        if let Some(average) = &mut self.average {
            average.update(&self.module, self.step);
        }
        let loss = read(loss.without_autodiff()).await?.into_iter().sum::<f32>();
        if !loss.is_finite() {
            return Err(Error::bad_input(format!(
                "the loss of step {} is {loss}; start again with a lower learning rate",
                self.step
            )));
        }
        Ok(StepReport { step: self.step, loss, learning_rate })
    }

    /// Steps made and steps in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.step, self.config.steps)
    }

    /// Whether all steps have been made.
    pub fn is_finished(&self) -> bool {
        self.step >= self.config.steps
    }

    pub fn config(&self) -> &TrainingConfig {
        &self.config
    }

    pub fn stage(&self) -> &S {
        &self.stage
    }

    /// The weights as the last update left them.
    pub fn current(&self) -> &S::Module {
        &self.module
    }

    /// The weights to use: their average where there is one, else the current ones.
    pub fn result(&self) -> &S::Module {
        self.average.as_ref().map_or(&self.module, |average| &average.module)
    }

    /// All that a later run needs to go on: weights, average, moments and step. The step is also
    /// the data cursor and the random state, see [`Stage::loss`].
    ///
    /// `run` names what is trained, on what and how.
    pub async fn checkpoint(&self, run: &str) -> Result<Vec<u8>> {
        let state = State::new(&self.module, &self.optimizer, self.average.as_ref().map(|a| &a.module));
        checkpoint::save(&state, run, self.step).await
    }

    /// Goes on from a checkpoint of the same run.
    ///
    /// # Errors
    /// `bad_input` for a checkpoint of another run, `weights_format` and `weights_shape` for a
    /// damaged one.
    pub fn resume(&mut self, run: &str, bytes: &[u8]) -> Result<()> {
        let average = self.average.as_ref().map(|a| &a.module);
        let template = State::new(&self.module, &self.optimizer, average);
        let (state, step) = checkpoint::load(template, run, bytes)?;
        state.restore(&mut self.module, &mut self.optimizer, self.average.as_mut().map(|a| &mut a.module));
        self.optimizer.updates = step;
        self.step = step;
        Ok(())
    }
}
