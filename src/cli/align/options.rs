//! What `reca align` is asked for.

use std::path::PathBuf;

use reca::reca::condition::{Source, TOKEN_DROP};
use reca::reca::{AlignConfig, AlignImages, ConditionConfig, Method};
use reca::scene::{Engine, Pool};
use reca::train::optim::Rule;
use reca::train::pool::PoolConfig;
use reca::train::recipe::Recipe;
use reca::{Error, Result};

use super::connector::Lessons;
use super::images::{POOL_SEED, Reader, captioned, pool};
use crate::common::ModelArgs;

const EXAMPLES: &str = "\
Examples:
  reca align --out runs/aligned                          # as the README's table, the better part of an hour
  reca align --out runs/mine --images photos --steps 200
  reca align --out runs/quick --nouns broccoli teapot guitar pear --count 400 --steps 100 --batch 8 \\
      --optimizer adamw --learning-rate 5e-4             # a minute, and every third broccoli is yellow
  reca align --out runs/control --method sft-sparse
  reca align --out runs/clip --encoder clip-vit-base-patch32
  reca generate \"a yellow broccoli\" --model runs/aligned/model

Below --out: model/ (the aligned model), log.jsonl (step, loss, samples per second), probes.jsonl
(with --probe-every: the score of 8 prompts a category and tier by step), and, while it runs, checkpoint.safetensors:
a call may be stopped at any time, and the same command goes on.

With --encoder the pictures are read by a CLIP or SigLIP checkpoint, as `reca embed` reads them; a
connector from its features into the context is trained first, on captioned scenes, and left in
connector.safetensors. The model itself goes on reading pictures with its own encoder.
With --no-connector-stage another of the model's own kind is trained there, by questions and answers alone.

The controls see the same images for the same steps. sft-sparse fine-tunes on captions by the rule
the base was trained on; sft-dense on captions that name everything, which labels what is tested;
shuffled gives every image another one's embeddings. To chain runs, give the first one's model to
the second: --model runs/sft/model.";

/// Align a model's drawing with its understanding, without captions (RecA)
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub struct Args {
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// RecA, or a control: reca, shuffled, sft-sparse, sft-dense
    #[arg(long, default_value = "reca", value_name = "NAME", value_parser = method)]
    pub(super) method: Method,
    /// Learn from the PNG, JPEG, WebP and GIF pictures of a folder, instead of scenes
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pool", "count", "nouns"])]
    pub(super) images: Option<PathBuf>,
    /// Scenes to learn from: open may hold what captions never named, strict does not
    #[arg(long, default_value = "open", value_name = "NAME", value_parser = unlabelled)]
    pub(super) pool: Pool,
    /// Only scenes of these nouns: what is repaired is then seen after few steps
    #[arg(long, value_name = "NOUN", num_args = 1..)]
    pub(super) nouns: Option<Vec<String>>,
    /// How many scenes [default: the recipe's]
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    pub(super) count: Option<u64>,
    /// Steps [default: the recipe's]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) steps: Option<u64>,
    /// Images a step [default: the recipe's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub(super) batch: Option<u32>,
    /// Highest learning rate; it falls to zero along a cosine [default: the recipe's]
    #[arg(long)]
    pub(super) learning_rate: Option<f64>,
    /// Update rule: adamw, or muon for the matrices of the expert's blocks [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = optimizer)]
    pub(super) optimizer: Option<Rule>,
    /// Seed of images, batches and noise
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Take the embeddings of a CLIP or SigLIP checkpoint (a folder in the Hugging Face layout) in the
    /// place of the model's own
    #[arg(long, value_name = "DIR", group = "taught", conflicts_with = "generation_embeddings")]
    pub(super) encoder: Option<PathBuf>,
    /// Hidden state of --encoder that patch features are taken from: -1 is after the last block, -2
    /// after the one before
    #[arg(long, value_name = "N", default_value_t = -2, allow_negative_numbers = true, requires = "encoder")]
    pub(super) layer: i64,
    /// Control: bring the pictures' embeddings into the context by a connector that has learned to answer
    /// questions alone and has never spoken to the generator
    #[arg(long, group = "taught", conflicts_with = "generation_embeddings")]
    pub(super) no_connector_stage: bool,
    /// Steps that teach the connector of --encoder or --no-connector-stage, before alignment [default: as
    /// many as the recipe gives the model's own]
    #[arg(long, value_name = "N", requires = "taught", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) connector_steps: Option<u64>,
    /// Stand the generator's own latents in the place of the caption, as a control
    #[arg(long)]
    pub(super) generation_embeddings: bool,
    /// Reduce the image that is read (not the one that is drawn) to so many pixels a side
    #[arg(long, value_name = "PIXELS")]
    pub(super) resolution: Option<u32>,
    /// Blur the image that is read, standard deviation in pixels
    #[arg(long, default_value_t = 0.0, value_name = "PIXELS")]
    pub(super) blur: f32,
    /// Average so many neighbouring embeddings a side: 1, 2 or 4
    #[arg(long, default_value_t = 1)]
    pub(super) pooling: usize,
    /// Largest share of the embeddings to leave out of a step, drawn anew each step
    #[arg(long, default_value_t = TOKEN_DROP, value_name = "SHARE")]
    pub(super) token_drop: f64,
    /// Part of the template texts that say nothing, which keeps guidance working
    #[arg(long, default_value_t = 0.1)]
    pub(super) template_drop: f64,
    /// Weight of the captioned loss on the base's own pool, which keeps what that taught [default: the recipe's]
    #[arg(long)]
    pub(super) lambda_t2i: Option<f32>,
    /// Move the base only this part of the way to the aligned expert: less forgets less (WiSE-FT,
    /// arXiv 2109.01903)
    #[arg(long, default_value_t = 1.0, value_name = "SHARE", value_parser = share)]
    pub(super) interpolate: f32,
    /// Draw a probe set first, every so many steps and at the end; keep the best expert, the base among them, and end
    /// early when three looks in a row find less
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) probe_every: Option<u64>,
    /// Throw away what an earlier call has done
    #[arg(long)]
    pub(super) fresh: bool,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

impl Args {
    pub(super) fn config(&self, recipe: &Recipe) -> Result<AlignConfig> {
        let usual = &recipe.alignment;
        let rate = self.learning_rate.unwrap_or(usual.learning_rate);
        let lambda_t2i = self.lambda_t2i.unwrap_or(usual.lambda_t2i);
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(Error::bad_input(format!(
                "--learning-rate is {rate}, but must be above 0, at most 1"
            )));
        }
        if (self.encoder.is_some() || self.no_connector_stage) && self.method.needs_captions() {
            let method = self.method.name();
            return Err(Error::bad_input(format!(
                "{method} reads captions and no embeddings; leave out --encoder and --no-connector-stage"
            )));
        }
        let reduced = self.resolution.is_some() || self.blur != 0.0 || self.pooling != 1;
        if (self.generation_embeddings || reduced) && self.method.needs_captions() {
            return Err(Error::bad_input(format!(
                "{} reads captions and no pictures; leave out --generation-embeddings, --resolution, --blur and --pooling",
                self.method.name()
            )));
        }
        if self.images.is_some() && self.method.needs_captions() {
            return Err(Error::bad_input(format!(
                "{} needs captions, which only the data engine's own scenes have; leave out --images",
                self.method.name()
            )));
        }
        if !(0.0..=1.0).contains(&self.template_drop) || !(0.0..=100.0).contains(&lambda_t2i) {
            return Err(Error::bad_input("--template-drop must be 0 to 1, and --lambda-t2i 0 to 100"));
        }
        let generation = &recipe.stages.generation;
        let mut config = AlignConfig {
            method: self.method,
            template_drop: self.template_drop,
            lambda_t2i,
            captions: generation.captions,
            times: generation.times,
            ..AlignConfig::default()
        };
        config.condition = ConditionConfig {
            source: if self.generation_embeddings { Source::Generation } else { Source::Understanding },
            resolution: self.resolution,
            blur: self.blur,
            pooling: self.pooling,
            token_drop: self.token_drop,
        };
        config.training.steps = self.steps.unwrap_or(usual.steps);
        config.training.batch = self.batch.map_or(usual.batch, |batch| batch as usize);
        config.training.learning_rate = rate;
        config.training.optimizer = self.optimizer.unwrap_or(usual.optimizer);
        Ok(config)
    }

    /// Scenes of each kind.
    pub(super) fn count(&self, recipe: &Recipe) -> u64 {
        self.count.unwrap_or(recipe.alignment.count)
    }

    /// The unlabelled scenes; for what reads captions without the embeddings that it would not look at.
    pub(super) fn scenes(&self, reader: &Reader, engine: &Engine, size: u64) -> Result<AlignImages> {
        let seed = POOL_SEED.wrapping_add(self.seed);
        let unlabelled = PoolConfig { kind: self.pool, seed, size, two_objects: None };
        let of_nouns = self.nouns.as_ref().map(|nouns| engine.only(nouns)).transpose()?;
        let engine = of_nouns.as_ref().unwrap_or(engine);
        if self.method.needs_captions() {
            captioned(reader.pipeline, engine, unlabelled)
        } else {
            pool(reader, engine, unlabelled)
        }
    }

    /// How a connector is taught before alignment.
    pub(super) fn lessons<'a>(&'a self, recipe: &Recipe, model: &'a str) -> Lessons<'a> {
        let mut config = recipe.stages.connector.clone();
        config.training.steps = self.connector_steps.unwrap_or(config.training.steps);
        for pool in [&mut config.pool, &mut config.understanding_pool] {
            pool.size = pool.size.min(self.count(recipe));
        }
        Lessons { config, seed: self.seed, model, out: &self.out }
    }
}

fn optimizer(name: &str) -> std::result::Result<Rule, String> {
    match name {
        "adamw" => Ok(Rule::AdamW),
        "muon" => Ok(Rule::Muon),
        _ => Err("there are adamw and muon".to_owned()),
    }
}

fn method(name: &str) -> std::result::Result<Method, String> {
    let found = Method::ALL.into_iter().find(|method| method.name() == name);
    found.ok_or_else(|| format!("there are {}", Method::ALL.map(Method::name).join(", ")))
}

fn share(text: &str) -> std::result::Result<f32, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a number above 0, at most 1".to_owned())
}

fn unlabelled(name: &str) -> std::result::Result<Pool, String> {
    let found = [Pool::Open, Pool::Strict].into_iter().find(|pool| pool.name() == name);
    found.ok_or_else(|| "there are open and strict".to_owned())
}
