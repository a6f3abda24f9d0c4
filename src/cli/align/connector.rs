//! Connectors that are trained before alignment: another encoder's, and, as a control, the model's own
//! without the stage that teaches it to speak to the generator.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use pollster::block_on;
use reca::image::to_tensor;
use reca::scene::{Engine, Scene};
use reca::train::cache::Cache;
use reca::train::checkpoint;
use reca::train::connector::{ConnectorConfig, ConnectorData, ConnectorStage, Projector};
use reca::train::stage::Trainer;
use reca::train::texts::Texts;
use reca::umm::connector::Connector;
use reca::{Error, Pipeline, Result, random};
use serde_json::{Value, json};

use super::images::scenes;
use crate::drive::{Job, drive, go_on, write_whole};
use crate::log::Log;

/// How a connector is taught, and where it is left.
pub struct Lessons<'a> {
    pub config: ConnectorConfig,
    pub seed: u64,
    /// The sha256 of the model's weights.
    pub model: &'a str,
    pub out: &'a Path,
}

impl Lessons<'_> {
    /// The connector, and its checkpoint while it is trained.
    pub fn files(out: &Path) -> [PathBuf; 2] {
        ["connector.safetensors", "connector.checkpoint.safetensors"].map(|name| out.join(name))
    }

    /// Names what a connector is trained on and how.
    pub fn run(&self, what: Value) -> String {
        let mut run = json!({
            "stage": "connector", "model": self.model, "settings": self.config, "seed": self.seed,
        });
        if let (Value::Object(run), Value::Object(what)) = (&mut run, what) {
            run.extend(what);
        }
        run.to_string()
    }

    /// Trains a connector, or finds it trained.
    ///
    /// # Errors
    /// Those of training and of `data`; `bad_input` for a connector of other settings.
    pub fn teach<P: Projector>(
        &self,
        fresh: P,
        run: &str,
        pipeline: &Pipeline,
        data: impl FnOnce() -> Result<ConnectorData>,
    ) -> Result<P> {
        let [path, checkpoint] = Self::files(self.out);
        let anew = |e: Error| e.at(format!("{} (--fresh trains it anew)", path.display()));
        if !path.exists() {
            let texts = Texts::new(pipeline.tokenizer.clone());
            let stage = ConnectorStage::new(&self.config, self.seed, data()?, texts, &pipeline.umm);
            let job = Job {
                stage: "connector",
                run: run.to_owned(),
                checkpoint: checkpoint.clone(),
                anew: "--fresh".to_owned(),
                log: Log::new(self.out),
                look_every: None,
            };
            let trainer = Trainer::new(stage, fresh.clone(), self.config.training.clone());
            let trained = drive(trainer, &job, |_, _| Ok(go_on(())))?;
            write_whole(&path, &block_on(checkpoint::save_part(&trained, run, 0))?)?;
            fs::remove_file(&checkpoint).map_err(|e| Error::bad_input(e).at(checkpoint.display()))?;
        }
        let bytes = fs::read(&path).map_err(|e| anew(Error::bad_input(e)))?;
        Ok(checkpoint::load_part(fresh, run, &bytes).map_err(anew)?.no_grad())
    }

    /// The model's own connector from nothing, by answers alone: it says what it sees as well as the
    /// model's, and the generator has never been spoken to by it.
    ///
    /// # Errors
    /// Those of [`Self::teach`].
    pub fn answers(&self, pipeline: &Pipeline, engine: &Engine) -> Result<Connector> {
        let device = pipeline.umm.connector.position_embedding.device();
        let fresh = random::seeded(&device, self.seed, || Connector::new(&pipeline.config, &device));
        self.teach(fresh, &self.run(json!({ "learns": "answers" })), pipeline, || {
            let (mut told, mut read) = (Vec::new(), Cache::default());
            scenes(engine, self.config.understanding_pool, |scenes: Vec<Scene>, pictures| {
                told.extend(scenes);
                let features: Tensor<3> = pipeline.umm.vision_model.forward(to_tensor(&pictures, &device));
                block_on(read.push(features))
            })?;
            Ok(ConnectorData { drawn: None, understood: (told.into(), read) })
        })
    }
}
