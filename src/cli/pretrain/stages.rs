//! The stages with their data: what is rendered, what is cached, what the sample sheets show.

use burn::tensor::Tensor;
use image::RgbImage;
use pollster::block_on;
use rayon::prelude::*;
use reca::flow::sampler::SamplerConfig;
use reca::image::{from_tensor, to_tensor};
use reca::pipeline::Drawing;
use reca::scene::caption;
use reca::train::autoencoder::{AutoencoderStage, NORMALISED_OVER, normalise};
use reca::train::cache::Cache;
use reca::train::connector::{ConnectorData, ConnectorStage};
use reca::train::encoder::{EncoderModule, EncoderStage};
use reca::train::export;
use reca::train::generation::GenerationStage;
use reca::train::pool::PoolConfig;
use reca::train::recipe::StageName;
use reca::train::stage::Trainer;
use reca::train::understanding::{UnderstandingModule, UnderstandingStage};
use reca::umm::{Umm, autoencoder::Autoencoder, connector::Connector, generation::Generation};
use reca::{Pipeline, Result};

use super::{Samples, Session};
use crate::common::{sheet, write_picture};
use crate::drive::{Job, bar, drive, go_on};
use crate::log::Log;

/// Pictures that a frozen part reads at once, and scenes rendered between two looks at the bar.
const CHUNK: usize = 128;
/// Pictures of a sample sheet, and steps that each is drawn in.
const SAMPLES: usize = 8;
const SAMPLE_STEPS: usize = 16;

impl Session {
    pub(super) fn encoder(&mut self) -> Result<EncoderModule> {
        let config = self.recipe.stages.encoder.clone();
        let (scenes, images) = self.samples(config.pool)?;
        let stage = EncoderStage::new(&config, self.recipe.seed, &scenes, images, self.texts.tokenizer())?;
        let trainer = Trainer::new(stage, EncoderModule::of(&self.umm), config.training);
        drive(trainer, &self.job(StageName::Encoder)?, |_, _| Ok(go_on(())))
    }

    pub(super) fn autoencoder(&mut self) -> Result<Autoencoder> {
        let config = self.recipe.stages.autoencoder.clone();
        let (_, images) = self.samples(config.pool)?;
        let stage = AutoencoderStage::new(&config, self.recipe.seed, images.clone());
        let trainer = Trainer::new(stage, self.umm.autoencoder.clone(), config.training);
        let originals = &images[..SAMPLES.min(images.len())];
        let trained = drive(trainer, &self.job(StageName::Autoencoder)?, |autoencoder, step| {
            let latents = autoencoder.encode(to_tensor(originals, &self.device));
            let decoded = block_on(from_tensor(autoencoder.decode(latents)))?;
            self.show(StageName::Autoencoder, step, originals, decoded).map(go_on)
        })?;
        block_on(normalise(trained, &images[..NORMALISED_OVER.min(images.len())]))
    }

    pub(super) fn understanding(&mut self) -> Result<UnderstandingModule> {
        let config = self.recipe.stages.understanding.clone();
        let (scenes, images) = self.samples(config.pool)?;
        let features = self.features(&images)?;
        let stage = UnderstandingStage::new(&config, self.recipe.seed, scenes, features, self.texts.clone());
        let trainer = Trainer::new(stage, UnderstandingModule::of(&self.umm), config.training);
        drive(trainer, &self.job(StageName::Understanding)?, |_, _| Ok(go_on(())))
    }

    pub(super) fn generation(&mut self) -> Result<Generation> {
        let config = self.recipe.stages.generation.clone();
        let (scenes, images) = self.samples(config.pool)?;
        let latents = self.latents(&images)?;
        let understanding = self.umm.understanding.clone();
        let prompts: Vec<String> = scenes
            .iter()
            .take(SAMPLES)
            .filter_map(|scene| caption::dense(scene, 0, 0).into_iter().next())
            .collect();
        let stage = GenerationStage::new(
            &config,
            self.recipe.seed,
            scenes,
            latents,
            self.texts.clone(),
            understanding,
        );
        let trainer = Trainer::new(stage, self.umm.generation.clone(), config.training);
        let originals = &images[..prompts.len()];
        drive(trainer, &self.job(StageName::Generation)?, |generation, step| {
            let pipeline = self.pipeline(Umm { generation: generation.clone(), ..self.umm.clone() })?;
            let drawn = prompts.iter().map(|prompt| finish(pipeline.generate(prompt, &[0], sampler())?));
            self.show(StageName::Generation, step, originals, drawn.collect::<Result<_>>()?).map(go_on)
        })
    }

    pub(super) fn connector(&mut self) -> Result<Connector> {
        let config = self.recipe.stages.connector.clone();
        let (scenes, images) = self.samples(config.understanding_pool)?;
        let understood = (scenes, self.features(&images)?);
        let (_, images) = self.samples(config.pool)?;
        let drawn = Some([self.features(&images)?, self.latents(&images)?]);
        let data = ConnectorData { drawn, understood };
        let stage = ConnectorStage::new(&config, self.recipe.seed, data, self.texts.clone(), &self.umm);
        let trainer = Trainer::new(stage, self.umm.connector.clone(), config.training);
        let originals = &images[..SAMPLES.min(images.len())];
        drive(trainer, &self.job(StageName::Connector)?, |connector, step| {
            let pipeline = self.pipeline(Umm { connector: connector.clone(), ..self.umm.clone() })?;
            let redrawn = originals
                .iter()
                .map(|original| finish(pipeline.reconstruct(pipeline.embed(original), 0, sampler())?));
            self.show(StageName::Connector, step, originals, redrawn.collect::<Result<_>>()?).map(go_on)
        })
    }

    pub(super) fn job(&self, stage: StageName) -> Result<Job<'static>> {
        Ok(Job {
            stage: stage.as_str(),
            run: self.recipe.run(stage)?,
            checkpoint: self.checkpoint(stage),
            anew: format!("--fresh --stage {}", stage.as_str()),
            log: Log::new(&self.out),
            look_every: None,
        })
    }

    /// The pool's scenes and pictures, made by all threads.
    pub(super) fn samples(&mut self, pool: PoolConfig) -> Result<Samples> {
        if let Some((_, samples)) = self.pool.as_ref().filter(|(made, _)| *made == pool) {
            return Ok(samples.clone());
        }
        self.pool = None;
        let bar = bar(pool.size, &format!("scenes of the {} pool", pool.kind.name()));
        let made: Vec<_> = (0..pool.size)
            .into_par_iter()
            .map(|index| {
                bar.inc(1);
                pool.sample(&self.engine, index)
            })
            .collect::<Result<_>>()?;
        bar.finish_and_clear();
        let (scenes, images): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let samples: Samples = (scenes.into(), images.into());
        self.pool = Some((pool, samples.clone()));
        Ok(samples)
    }

    fn features(&self, images: &[RgbImage]) -> Result<Cache> {
        self.cache(images, "features", |images| self.umm.vision_model.forward(images))
    }

    fn latents(&self, images: &[RgbImage]) -> Result<Cache> {
        self.cache(images, "latents", |images| self.umm.autoencoder.encode(images))
    }

    fn cache(&self, images: &[RgbImage], what: &str, part: impl Fn(Tensor<4>) -> Tensor<3>) -> Result<Cache> {
        let bar = bar(images.len() as u64, what);
        let mut cache = Cache::default();
        for chunk in images.chunks(CHUNK) {
            block_on(cache.push(part(to_tensor(chunk, &self.device))))?;
            bar.inc(chunk.len() as u64);
        }
        bar.finish_and_clear();
        Ok(cache)
    }

    fn pipeline(&self, umm: Umm) -> Result<Pipeline> {
        Pipeline::new(&block_on(export::model_files(&self.recipe, &umm))?, &self.device)
    }

    /// Writes a sheet with originals above and the model's pictures below.
    fn show(&self, stage: StageName, step: u64, originals: &[RgbImage], made: Vec<RgbImage>) -> Result<()> {
        let columns = originals.len() as u32;
        let path = self.out.join(format!("samples/{}-{step:06}.png", stage.as_str()));
        write_picture(&path, &sheet(&[originals, &made].concat(), columns))
    }
}

fn sampler() -> SamplerConfig {
    SamplerConfig { steps: SAMPLE_STEPS, ..SamplerConfig::default() }
}

/// The one picture of a drawing.
fn finish(mut drawing: Drawing) -> Result<RgbImage> {
    while drawing.advance() {}
    let pictures = block_on(drawing.images())?;
    pictures.into_iter().next().ok_or_else(|| reca::Error::internal("a drawing without a picture"))
}
