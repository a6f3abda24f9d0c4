//! `reca align`: Reconstruction Alignment, and the controls that it is measured against.

mod connector;
mod external;
mod images;
mod options;
mod probes;

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use pollster::block_on;
use reca::eval::{Scorer, scorer::FOLDER};
use reca::reca::AlignStage;
use reca::scene::Engine;
use reca::train::ema::interpolate;
use reca::train::pool::PoolConfig;
use reca::train::recipe::Recipe;
use reca::train::stage::Trainer;
use reca::train::texts::Texts;
use reca::umm::{Umm, generation::Generation};
use reca::weights::safetensors::{self, Precision};
use reca::weights::{ModelFiles, manifest::FileEntry};
use reca::{Error, Pipeline, Result};
use serde_json::json;

use self::connector::Lessons;
use self::external::Guest;
use self::images::{Reader, captioned, folder};
pub use self::options::Args;
use self::probes::{Outcome, Probes};
use crate::common::{print, read_model};
use crate::drive::{Job, drive, write_whole};
use crate::log::Log;
use crate::scene::recipe;
use crate::scorer::read_scorer;

/// Lies in the folder of a run that has not ended.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

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
    if args.fresh {
        Lessons::files(&args.out).iter().chain([&checkpoint]).try_for_each(|path| remove(path))?;
    }
    let engine = Engine::new(recipe.world.clone())?;
    let count = args.count(&recipe);
    let lessons = args.lessons(&recipe, &sha256);
    let mut eyes = pipeline.clone();
    if args.no_connector_stage {
        eyes.umm.connector = lessons.answers(&pipeline, &engine)?;
    }
    let guest =
        args.encoder.as_ref().map(|encoder| Guest::open(encoder, args.layer, &lessons, &pipeline, &engine));
    let reader = Reader { pipeline: &eyes, condition: config.condition, guest: guest.transpose()? };
    // The sha256 of own pictures, if there are any: a run goes on with the same ones alone.
    let (images, shown) = match &args.images {
        Some(path) => {
            let (images, sha256) = folder(&reader, path)?;
            (images, Some(sha256))
        }
        None => (args.scenes(&reader, &engine, count)?, None),
    };
    // What the base was taught to draw, in the proportions in which it was.
    let taught = &recipe.stages.generation;
    let rehearsed = PoolConfig { size: count, two_objects: Some(taught.two_objects as f32), ..taught.pool };
    let rehearsed = (config.lambda_t2i > 0.0).then_some(rehearsed);
    let captioned = rehearsed.map(|pool| captioned(&pipeline, &engine, pool).map(Arc::new)).transpose()?;
    let pictures = images.len();
    let texts = Texts::new(pipeline.tokenizer.clone());
    let images = Arc::new(images);
    let stage = AlignStage::new(&config, args.seed, images, captioned, texts, engine.split(), &pipeline.umm)?;
    let mut run = json!({
        "model": sha256, "config": config, "seed": args.seed, "images": shown, "pool": args.pool.name(),
        "count": pictures, "rehearsed": rehearsed, "connector": reader.guest.as_ref().map(|guest| &guest.run),
        "interpolate": args.interpolate,
    });
    if let Some(nouns) = &args.nouns {
        run["nouns"] = json!(nouns);
    }
    if args.no_connector_stage {
        run["connector_steps"] = json!(lessons.config.training.steps);
    }
    let method = config.method.name();
    let job = Job {
        stage: method,
        run: run.to_string(),
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
            let mut probes = Probes::new(&pipeline, scorer, &engine, &args.out, checkpoint.exists())?;
            probes.look_at_base()?;
            Some(probes)
        }
        None => None,
    };
    let mut steps = config.training.steps;
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
        if hopeless {
            steps = step;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    match probes.as_ref().and_then(Probes::best_step) {
        None => save(&moved(&last))?,
        Some(0) => {
            eprintln!("no look found more than the base has; the model is the base");
            save(&pipeline.umm.generation)?;
        }
        Some(_) => {}
    }
    remove(&checkpoint)?;
    let kept = probes.as_ref().and_then(Probes::best_step).unwrap_or(steps);
    let value =
        json!({ "model": aligned, "method": method, "images": pictures, "steps": steps, "kept_step": kept });
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
