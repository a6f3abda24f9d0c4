//! A loaded model with its tokenizer and device: describe, draw, redraw. The command line and the
//! browser both stand on this.

use burn::tensor::{Device, Tensor};
use image::RgbImage;
use serde::Deserialize;

use crate::{
    Error, Result,
    flow::sampler::{Denoiser, Method, Sampler, SamplerConfig},
    image::{fit, from_tensor, to_tensor},
    plan, random,
    text::{NULL_CAPTION, Tokenizer},
    umm::{
        Context, Decoding, TextBatch, Umm, UmmConfig, autoencoder::Autoencoder, describe::read,
        generation::Generation,
    },
    weights::ModelFiles,
};

/// The question of a plain description, and the text beside an image to be redrawn.
pub const DESCRIBE: &str = "describe the image";

/// Everything one model needs to work; a clone shares the weights.
#[derive(Clone)]
pub struct Pipeline {
    pub umm: Umm,
    pub config: UmmConfig,
    pub tokenizer: Tokenizer,
    device: Device,
    /// Styles that the model draws in; the first is used where a prompt names none.
    styles: Vec<String>,
    recipe: Option<String>,
    sampling: SamplerConfig,
    plan_layout: bool,
}

/// What `config.json` says beside the sizes.
#[derive(Deserialize)]
struct Trained {
    #[serde(default)]
    styles: Vec<String>,
    recipe: Option<String>,
    #[serde(default)]
    sampling: Sampling,
}

/// How the model is meant to draw; what is left out is [`SamplerConfig`]'s default.
#[derive(Default, Deserialize)]
struct Sampling {
    method: Option<String>,
    steps: Option<usize>,
    guidance_scale: Option<f32>,
    guidance_interval: Option<(f32, f32)>,
    #[serde(default)]
    plan_layout: bool,
}

impl Sampling {
    fn config(self) -> Result<SamplerConfig> {
        let default = SamplerConfig::default();
        let method = match self.method.as_deref() {
            None | Some("euler") => Method::Euler,
            Some("heun") => Method::Heun,
            Some(other) => {
                let message = format!("config.json: sampling method {other:?}, expected euler or heun");
                return Err(Error::weights_format(message));
            }
        };
        Ok(SamplerConfig {
            steps: self.steps.unwrap_or(default.steps),
            guidance_scale: self.guidance_scale.unwrap_or(default.guidance_scale),
            guidance_interval: self.guidance_interval.unwrap_or(default.guidance_interval),
            method,
        })
    }
}

impl Pipeline {
    /// Builds the pipeline of a model directory.
    ///
    /// # Errors
    /// Those of [`ModelFiles::build`].
    pub fn new(files: &ModelFiles, device: &Device) -> Result<Self> {
        let (umm, config, tokenizer) = files.build(device)?;
        let trained: Trained = serde_json::from_slice(&files.config).map_err(Error::weights_format)?;
        Ok(Self {
            umm,
            config,
            tokenizer,
            device: device.clone(),
            styles: trained.styles,
            recipe: trained.recipe,
            plan_layout: trained.sampling.plan_layout,
            sampling: trained.sampling.config()?,
        })
    }

    /// The same model with another generation expert.
    pub fn with_generation(&self, generation: Generation) -> Self {
        let mut other = self.clone();
        other.umm.generation = generation;
        other
    }

    /// The same model, drawing prompts as they are written: without [`plan::layout`], where its
    /// `config.json` asks for that.
    pub fn as_written(&self) -> Self {
        Self { plan_layout: false, ..self.clone() }
    }

    /// Whether two things that a prompt joins by "and" are given places by lot.
    pub fn plans_layout(&self) -> bool {
        self.plan_layout
    }

    /// How the model is meant to draw, by its `config.json`.
    pub fn sampling(&self) -> SamplerConfig {
        self.sampling.clone()
    }

    /// The same, but for what is given.
    pub fn sampler(&self, steps: Option<usize>, guidance_scale: Option<f32>) -> SamplerConfig {
        let own = self.sampling();
        SamplerConfig {
            steps: steps.unwrap_or(own.steps),
            guidance_scale: guidance_scale.unwrap_or(own.guidance_scale),
            ..own
        }
    }

    /// The device that the model lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Styles that the model draws in; the first is used where a prompt names none.
    pub fn styles(&self) -> &[String] {
        &self.styles
    }

    /// The name of the recipe that the model was trained by, which knows its world.
    pub fn recipe(&self) -> Option<&str> {
        self.recipe.as_deref()
    }

    /// The understanding embeddings of a picture of any size, `[1, visual_tokens, hidden]`.
    pub fn embed(&self, image: &RgbImage) -> Tensor<3> {
        let square = fit(image, self.config.image_size as u32);
        self.umm.embed(to_tensor(&[square], &self.device))
    }

    /// Answers a question about a picture.
    ///
    /// # Errors
    /// `bad_input` for unknown words and questions that are too long.
    pub async fn describe(&self, image: &RgbImage, question: &str, decoding: Decoding) -> Result<String> {
        let question = self.tokenizer.encode(question)?;
        let answer = self.umm.describe(Some(self.embed(image)), &question, decoding).await?;
        Ok(self.tokenizer.decode(&answer))
    }

    /// Starts drawing a prompt; one picture a seed.
    ///
    /// # Errors
    /// `bad_input` for unknown words and prompts that are too long.
    pub fn generate(&self, prompt: &str, seeds: &[u64], config: SamplerConfig) -> Result<Drawing> {
        let tokens = self.prompt(prompt)?;
        let rows: Vec<_> = seeds.iter().map(|seed| self.planned(tokens.clone(), *seed)).collect();
        self.draw(&rows, None, seeds, config)
    }

    /// Starts drawing several prompts together, a picture for each prompt and seed of the same place.
    ///
    /// # Errors
    /// `bad_input` for unknown words, prompts that are too long, and where there are not as many
    /// seeds as prompts.
    pub fn generate_many(&self, prompts: &[&str], seeds: &[u64], config: SamplerConfig) -> Result<Drawing> {
        if prompts.len() != seeds.len() {
            let (prompts, seeds) = (prompts.len(), seeds.len());
            return Err(Error::bad_input(format!("{prompts} prompts with {seeds} seeds; each needs one")));
        }
        let rows =
            prompts.iter().zip(seeds).map(|(prompt, seed)| Ok(self.planned(self.prompt(prompt)?, *seed)));
        self.draw(&rows.collect::<Result<Vec<_>>>()?, None, seeds, config)
    }

    /// Starts redrawing a picture from its understanding embeddings (`[1, visual_tokens, hidden]`)
    /// alone.
    ///
    /// # Errors
    /// `bad_input` if the embeddings have another shape.
    pub fn reconstruct(&self, embeddings: Tensor<3>, seed: u64, config: SamplerConfig) -> Result<Drawing> {
        self.reconstruct_many(embeddings, &[seed], config)
    }

    /// The same for several pictures, `[pictures, visual_tokens, hidden]`, with a seed each.
    ///
    /// # Errors
    /// `bad_input` if the embeddings have another shape.
    pub fn reconstruct_many(
        &self,
        embeddings: Tensor<3>,
        seeds: &[u64],
        config: SamplerConfig,
    ) -> Result<Drawing> {
        let expected = [seeds.len(), self.config.visual_tokens(), self.config.vision.hidden_size];
        if embeddings.dims() != expected {
            let found = embeddings.dims();
            return Err(Error::bad_input(format!("embeddings have shape {found:?}, expected {expected:?}")));
        }
        let template = self.tokenizer.encode(DESCRIBE)?;
        self.draw(&vec![template; seeds.len()], Some(embeddings), seeds, config)
    }

    /// Token ids of a prompt, in the first style where it names none.
    ///
    /// # Errors
    /// `bad_input` for unknown words and prompts that are too long.
    pub fn prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(prompt)?;
        let names_style = |style: &String| self.tokenizer.id(style).is_some_and(|id| ids.contains(&id));
        if let Some(first) = self.styles.first()
            && !self.styles.iter().any(names_style)
        {
            ids.extend(self.tokenizer.encode(&format!("{first} style"))?);
        }
        let most = self.umm.understanding.max_length();
        if ids.len() > most {
            return Err(Error::bad_input(format!("the prompt has {} tokens, at most {most} fit", ids.len())));
        }
        Ok(ids)
    }

    /// What is drawn for a prompt and seed; a plan may be a word longer, and is made where there is room.
    fn planned(&self, prompt: Vec<u32>, seed: u64) -> Vec<u32> {
        if self.plan_layout && prompt.len() < self.umm.understanding.max_length() {
            plan::layout(prompt, &self.tokenizer, seed)
        } else {
            prompt
        }
    }

    fn draw(
        &self,
        prompts: &[Vec<u32>],
        visual: Option<Tensor<3>>,
        seeds: &[u64],
        config: SamplerConfig,
    ) -> Result<Drawing> {
        if seeds.is_empty() {
            return Err(Error::bad_input("no seeds: ask for at least one picture"));
        }
        if config.steps == 0 || config.steps > 1000 || !config.guidance_scale.is_finite() {
            return Err(Error::bad_input("steps must be 1 to 1000 and the guidance scale a number"));
        }
        let image_tokens = self.config.latent_tokens();
        let nothing = vec![self.tokenizer.encode(NULL_CAPTION)?; seeds.len()];
        let conditional = self.umm.context(&TextBatch::prompts(prompts), visual);
        let unconditional = self.umm.context(&TextBatch::prompts(&nothing), None);
        let both = conditional.clone().stack(unconditional, image_tokens);
        let shape = [1, image_tokens, self.config.autoencoder.latent_channels];
        let noise =
            seeds.iter().map(|seed| random::noise(&mut random::stream(*seed, 0), shape, &self.device));
        let noise = Tensor::cat(noise.collect(), 0);
        let guided = Guided { generation: self.umm.generation.clone(), conditional, both };
        Ok(Drawing {
            autoencoder: self.umm.autoencoder.clone(),
            sampler: Sampler::new(guided, noise, config),
        })
    }
}

/// Pictures being drawn, a step a call; may be dropped at any time. Holds the weights it began with
/// (tensors are shared, not copied), so that the pipeline is free meanwhile.
pub struct Drawing {
    autoencoder: Autoencoder,
    sampler: Sampler<Guided>,
}

impl Drawing {
    /// One denoising step; false once the last has been made.
    pub fn advance(&mut self) -> bool {
        self.sampler.advance()
    }

    /// Steps made and steps in all.
    pub fn progress(&self) -> (usize, usize) {
        self.sampler.progress()
    }

    /// Resolves when the device has made all steps asked for so far.
    pub async fn settled(&self) -> Result<()> {
        read(self.sampler.latents().narrow(0, 0, 1).narrow(1, 0, 1).narrow(2, 0, 1)).await.map(drop)
    }

    /// The pictures as the model now expects them to become.
    pub async fn preview(&self) -> Result<Vec<RgbImage>> {
        self.decode(self.sampler.clean_estimate()).await
    }

    /// The pictures at the current step; the result once [`Drawing::advance`] is false.
    pub async fn images(&self) -> Result<Vec<RgbImage>> {
        self.decode(self.sampler.latents()).await
    }

    async fn decode(&self, latents: Tensor<3>) -> Result<Vec<RgbImage>> {
        from_tensor(self.autoencoder.decode(latents)).await
    }
}

/// The generation expert with both of guidance's branches in one batch.
struct Guided {
    generation: Generation,
    conditional: Context,
    both: Context,
}

impl Denoiser for Guided {
    fn denoise(&self, noisy: &Tensor<3>, time: f32, unconditional: bool) -> (Tensor<3>, Option<Tensor<3>>) {
        let batch = noisy.dims()[0];
        if !unconditional {
            return (self.generation.forward(noisy.clone(), &vec![time; batch], &self.conditional), None);
        }
        let twice = Tensor::cat(vec![noisy.clone(), noisy.clone()], 0);
        let clean = self.generation.forward(twice, &vec![time; 2 * batch], &self.both);
        (clean.clone().narrow(0, 0, batch), Some(clean.narrow(0, batch, batch)))
    }
}
