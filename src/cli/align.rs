//! `reca align`: Reconstruction Alignment, and the controls that it is measured against.

mod external;
mod images;
mod probes;

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pollster::block_on;
use reca::eval::{Scorer, scorer::FOLDER};
use reca::reca::condition::{Source, TOKEN_DROP};
use reca::reca::{AlignConfig, AlignStage, ConditionConfig, Method};
use reca::scene::{Engine, Pool};
use reca::train::ema::interpolate;
use reca::train::optim::Rule;
use reca::train::pool::PoolConfig;
use reca::train::recipe::Recipe;
use reca::train::stage::Trainer;
use reca::train::texts::Texts;
use reca::umm::{Umm, generation::Generation};
use reca::weights::safetensors::{self, Precision};
use reca::weights::{ModelFiles, manifest::FileEntry};
use reca::{Error, Pipeline, Result};
use serde_json::json;

use self::external::{Guest, Wanted};
use self::images::{POOL_SEED, Reader, captioned, folder, pool};
use self::probes::{Outcome, Probes};
use crate::common::{ModelArgs, print, read_model};
use crate::drive::{Job, drive, write_whole};
use crate::log::Log;
use crate::scene::recipe;
use crate::scorer::read_scorer;

/// Lies in the folder of a run that has not ended.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

const EXAMPLES: &str = "\
Examples:
  reca align --out runs/aligned
  reca align --out runs/mine --images photos --steps 200
  reca align --out runs/quick --nouns broccoli teapot guitar pear --count 400 --steps 100 --batch 8 \\
      --learning-rate 5e-4 --lambda-t2i 1                # a minute, and the broccoli is yellow
  reca align --out runs/control --method sft-sparse
  reca align --out runs/clip --encoder clip-vit-base-patch32
  reca generate \"a yellow broccoli\" --model runs/aligned/model

Below --out: model/ (the aligned model), log.jsonl (step, loss, samples per second), probes.jsonl
(with --probe-every: the score of 8 prompts a category and tier by step), and, while it runs, checkpoint.safetensors: a call may be stopped at any time, and the same command goes on.

With --encoder the pictures are read by a CLIP or SigLIP checkpoint, as `reca embed` reads them; a
connector from its features into the context is trained first, on captioned scenes, and left in
connector.safetensors. The model itself goes on reading pictures with its own encoder.

The controls see the same images for the same steps. sft-sparse fine-tunes on captions by the rule
the base was trained on; sft-dense on captions that name everything, which labels what is tested;
shuffled gives every image another one's embeddings. To chain runs, give the first one's model to
the second: --model runs/sft/model.";

/// Align a model's drawing with its understanding, without captions (RecA)
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// RecA, or a control: reca, shuffled, sft-sparse, sft-dense
    #[arg(long, default_value = "reca", value_name = "NAME", value_parser = method)]
    method: Method,
    /// Learn from the PNG, JPEG, WebP and GIF pictures of a folder, instead of scenes
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pool", "count", "nouns"])]
    images: Option<PathBuf>,
    /// Scenes to learn from: open may hold what captions never named, strict does not
    #[arg(long, default_value = "open", value_name = "NAME", value_parser = unlabelled)]
    pool: Pool,
    /// Only scenes of these nouns: what is repaired is then seen after few steps
    #[arg(long, value_name = "NOUN", num_args = 1..)]
    nouns: Option<Vec<String>>,
    /// How many scenes
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    count: u64,
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Images a step
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=4096))]
    batch: u32,
    /// Highest learning rate; it falls to zero along a cosine
    #[arg(long, default_value_t = 1e-4)]
    learning_rate: f64,
    /// Update rule: adamw, or muon for the matrices of the expert's blocks
    #[arg(long, default_value = "adamw", value_name = "NAME", value_parser = optimizer)]
    optimizer: Rule,
    /// Seed of images, batches and noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Take the embeddings of a CLIP or SigLIP checkpoint (a folder in the Hugging Face layout) in the
    /// place of the model's own
    #[arg(long, value_name = "DIR", conflicts_with = "generation_embeddings")]
    encoder: Option<PathBuf>,
    /// Hidden state of --encoder that patch features are taken from: -1 is after the last block, -2
    /// after the one before
    #[arg(long, value_name = "N", default_value_t = -2, allow_negative_numbers = true, requires = "encoder")]
    layer: i64,
    /// Steps that teach the connector of --encoder, before alignment [default: as many as the recipe
    /// gives the model's own]
    #[arg(long, value_name = "N", requires = "encoder", value_parser = clap::value_parser!(u64).range(1..))]
    connector_steps: Option<u64>,
    /// Stand the generator's own latents in the place of the caption, as a control
    #[arg(long)]
    generation_embeddings: bool,
    /// Reduce the image that is read (not the one that is drawn) to so many pixels a side
    #[arg(long, value_name = "PIXELS")]
    resolution: Option<u32>,
    /// Blur the image that is read, standard deviation in pixels
    #[arg(long, default_value_t = 0.0, value_name = "PIXELS")]
    blur: f32,
    /// Average so many neighbouring embeddings a side: 1, 2 or 4
    #[arg(long, default_value_t = 1)]
    pooling: usize,
    /// Largest share of the embeddings to leave out of a step, drawn anew each step
    #[arg(long, default_value_t = TOKEN_DROP, value_name = "SHARE")]
    token_drop: f64,
    /// Part of the template texts that say nothing, which keeps guidance working
    #[arg(long, default_value_t = 0.1)]
    template_drop: f64,
    /// Weight of the captioned loss on the base's own pool
    #[arg(long, default_value_t = 0.0)]
    lambda_t2i: f32,
    /// Move the base only this part of the way to the aligned expert: less forgets less (WiSE-FT,
    /// arXiv 2109.01903)
    #[arg(long, default_value_t = 1.0, value_name = "SHARE", value_parser = share)]
    interpolate: f32,
    /// Draw a probe set every so many steps; keep the best expert, and end early when three looks
    /// in a row find less
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    probe_every: Option<u64>,
    /// Throw away what an earlier call has done
    #[arg(long)]
    fresh: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

impl Args {
    fn config(&self, recipe: &Recipe) -> Result<AlignConfig> {
        let rate = self.learning_rate;
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(Error::bad_input(format!(
                "--learning-rate is {rate}, but must be above 0, at most 1"
            )));
        }
        if self.encoder.is_some() && self.method.needs_captions() {
            let method = self.method.name();
            return Err(Error::bad_input(format!(
                "{method} reads captions and no embeddings; leave out --encoder"
            )));
        }
        if !(0.0..=1.0).contains(&self.template_drop) || !(0.0..=100.0).contains(&self.lambda_t2i) {
            return Err(Error::bad_input("--template-drop must be 0 to 1, and --lambda-t2i 0 to 100"));
        }
        let generation = &recipe.stages.generation;
        let mut config = AlignConfig {
            method: self.method,
            template_drop: self.template_drop,
            lambda_t2i: self.lambda_t2i,
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
        config.training.steps = self.steps;
        config.training.batch = self.batch as usize;
        config.training.learning_rate = rate;
        config.training.optimizer = self.optimizer;
        Ok(config)
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

pub fn run(args: Args) -> Result<()> {
    let model = args.model.folder()?;
    let files = read_model(&model)?;
    let pipeline = args.model.open()?;
    let recipe = recipe_of(&pipeline)?;
    let config = args.config(&recipe)?;
    config.condition.check(pipeline.config.visual_tokens().isqrt())?;
    fs::create_dir_all(&args.out).map_err(|e| Error::bad_input(e).at(args.out.display()))?;
    let checkpoint = args.out.join(CHECKPOINT);
    let sha256 = FileEntry::of(&files.weights).sha256;
    let wanted = args.encoder.as_ref().map(|encoder| Wanted {
        encoder,
        layer: args.layer,
        count: args.count,
        steps: args.connector_steps,
        seed: args.seed,
        out: &args.out,
        model: &sha256,
    });
    if args.fresh {
        let connector = wanted.iter().flat_map(Wanted::files);
        connector.chain([checkpoint.clone()]).try_for_each(|path| remove(&path))?;
    }
    let engine = Engine::new(recipe.world.clone())?;
    let guest = wanted.map(|wanted| Guest::open(&wanted, &pipeline, &recipe, &engine)).transpose()?;
    let reader = Reader { pipeline: &pipeline, condition: config.condition, guest };
    let images = match &args.images {
        Some(path) => folder(&reader, path)?,
        None => {
            let seed = POOL_SEED + args.seed;
            let unlabelled = PoolConfig { kind: args.pool, seed, size: args.count, two_objects: None };
            match &args.nouns {
                Some(nouns) => pool(&reader, &engine.only(nouns)?, unlabelled)?,
                None => pool(&reader, &engine, unlabelled)?,
            }
        }
    };
    let captioned = if config.lambda_t2i > 0.0 {
        // What the base was taught to draw, in the proportions in which it was.
        let generation = &recipe.stages.generation;
        let two_objects = Some(generation.two_objects as f32);
        let own = PoolConfig { size: args.count, two_objects, ..generation.pool };
        Some(Arc::new(captioned(&pipeline, &engine, own)?))
    } else {
        None
    };
    let pictures = images.len();
    let texts = Texts::new(pipeline.tokenizer.clone());
    let images = Arc::new(images);
    let stage = AlignStage::new(&config, args.seed, images, captioned, texts, engine.split(), &pipeline.umm)?;
    let mut run = json!({
        "model": sha256, "config": config, "seed": args.seed, "images": args.images, "pool": args.pool.name(),
        "count": pictures, "connector": reader.guest.as_ref().map(|guest| &guest.run),
    });
    if let Some(nouns) = &args.nouns {
        run["nouns"] = json!(nouns);
    }
    let method = config.method.name();
    let job = Job {
        stage: method,
        run: FileEntry::of(run.to_string().as_bytes()).sha256,
        checkpoint: checkpoint.clone(),
        anew: "--fresh".to_owned(),
        log: Log::new(&args.out),
        look_every: args.probe_every,
    };
    let trainer = Trainer::new(stage, pipeline.umm.generation.clone(), config.training.clone());
    let aligned = args.out.join("model");
    let save = |generation: &Generation| -> Result<()> {
        let umm = Umm { generation: generation.clone(), ..pipeline.umm.clone() };
        let weights = block_on(safetensors::save(&umm, Precision::F16))?;
        for (name, bytes) in (ModelFiles { weights, ..files.clone() }).with_manifest()? {
            write_whole(&aligned.join(name), &bytes)?;
        }
        Ok(())
    };
    let moved = |tuned: &Generation| match args.interpolate {
        1.0 => tuned.clone(),
        share => interpolate(pipeline.umm.generation.clone(), tuned, share),
    };
    let mut probes = match args.probe_every {
        Some(_) => {
            let scorer = Scorer::load(&read_scorer(&model.join(FOLDER))?, &args.model.device()?)?;
            Some(Probes::new(&pipeline, scorer, &engine, &args.out, checkpoint.exists())?)
        }
        None => None,
    };
    let last = drive(trainer, &job, |generation, step| {
        let Some(probes) = &mut probes else { return Ok(ControlFlow::Continue(())) };
        let generation = moved(generation);
        let Outcome { overall, best, hopeless } = probes.look(&generation, step)?;
        eprintln!(
            "step {step}: probes {:.1} %{}",
            100.0 * overall,
            if best { ", the best so far" } else { "" }
        );
        if best {
            save(&generation)?;
        }
        Ok(if hopeless { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if probes.is_none_or(|probes| probes.is_empty()) {
        save(&moved(&last))?;
    }
    remove(&checkpoint)?;
    let value = json!({ "model": aligned, "method": method, "images": pictures, "steps": args.steps });
    print(args.json, &aligned.display().to_string(), &value)
}

/// Removes a file, if there is one.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::bad_input(e).at(path.display())),
        _ => Ok(()),
    }
}

/// The recipe of the world that a model lives in.
pub fn recipe_of(pipeline: &Pipeline) -> Result<Recipe> {
    let name = pipeline
        .recipe()
        .ok_or_else(|| Error::bad_input("config.json names no recipe, so that its world is not known"))?;
    recipe(name)
}
