//! `reca scorer`: trains the evaluator's scorer of a model, and measures it on rendered scenes.

use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use reca::eval::check::{Accuracy, accuracy};
use reca::eval::detector::Detector;
use reca::eval::scorer::FOLDER;
use reca::eval::{Scorer, ScorerConfig, ScorerFiles};
use reca::scene::{Archive, Engine, World};
use reca::train::recipe::Recipe;
use reca::train::scorer::{ScorerStage, ScorerTraining};
use reca::train::stage::Trainer;
use reca::{Error, Result};
use serde::Deserialize;
use serde_json::json;

use crate::common::{ModelArgs, print, read_model};
use crate::drive::{Job, drive, go_on, write_whole};
use crate::log::Log;
use crate::scene::recipe;

const EXAMPLES: &str = "\
Examples:
  reca scorer train                      # for the shipped model, into www/models/mini/scorer
  reca scorer train --model runs/mini/model --steps 3000
  reca scorer check --held tests/openmoji.json.gz

A scorer in training is saved every minute into OUT/scorer.checkpoint.safetensors; the same command
goes on where it was.";

/// Train or measure the evaluator's scorer of a model
#[derive(clap::Subcommand)]
pub enum Command {
    /// Train a scorer for a model's world
    #[command(after_help = EXAMPLES)]
    Train(TrainArgs),
    /// Measure a scorer on rendered scenes, by category and tier
    #[command(after_help = EXAMPLES)]
    Check(CheckArgs),
}

#[derive(clap::Args)]
pub struct TrainArgs {
    /// Folder to write to [default: MODEL/scorer]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[arg(long, default_value_t = ScorerTraining::default().training.steps, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    #[arg(long, default_value_t = ScorerTraining::default().seed)]
    seed: u64,
    /// Share of the objects that are things which the world has no word for, 0 to 0.9
    #[arg(long, value_name = "SHARE", default_value_t = ScorerTraining::default().strangers, value_parser = strangers)]
    strangers: f64,
    /// The model's recipe: a name that comes with the program, or a file [default: the one that the model names]
    #[arg(long)]
    recipe: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(clap::Args)]
pub struct CheckArgs {
    /// Scorer's folder [default: MODEL/scorer]
    #[arg(long, value_name = "DIR")]
    scorer: Option<PathBuf>,
    /// Scenes a category and tier
    #[arg(long, default_value_t = 100)]
    per_category: usize,
    /// Seed of the scenes
    #[arg(long, default_value_t = 4242)]
    seed: u64,
    /// Measure on the styles of this archive of drawings as well
    #[arg(long, value_name = "FILE")]
    held: Option<PathBuf>,
    /// List the scenes that were refused, with the reasons
    #[arg(long, conflicts_with = "json")]
    refused: bool,
    /// Print one line of JSON a category and tier
    #[arg(long)]
    json: bool,
    /// The model's recipe: a name that comes with the program, or a file [default: the one that the model names]
    #[arg(long)]
    recipe: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(args) => train(&args),
        Command::Check(args) => check(&args),
    }
}

fn strangers(text: &str) -> std::result::Result<f64, String> {
    let share = text.parse::<f64>().map_err(|e| e.to_string())?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("expected a share of 0 to 0.9".into()) }
}

fn train(args: &TrainArgs) -> Result<()> {
    let (pipeline, world) = (args.model.open()?, world(&args.model, args.recipe.as_deref())?);
    let out = args.out.clone().map_or_else(|| args.model.folder().map(|folder| folder.join(FOLDER)), Ok)?;
    fs::create_dir_all(&out).map_err(|e| Error::bad_input(e).at(out.display()))?;
    let mut config =
        ScorerTraining { seed: args.seed, strangers: args.strangers, ..ScorerTraining::default() };
    config.training.steps = args.steps;
    let device = pipeline.device();
    device.seed(config.seed);
    let scorer = ScorerConfig::of(&Engine::new(world.clone())?);
    let detector = Detector::new(&scorer.vision, scorer.nouns.len(), device);
    let stage = ScorerStage::new(&world, Some(pipeline.umm.autoencoder.clone()), &config)?;
    let run = json!({ "stage": "scorer", "settings": config, "scorer": scorer, "world": world });
    let job = Job {
        stage: "scorer",
        run: run.to_string(),
        checkpoint: out.join("scorer.checkpoint.safetensors"),
        anew: "removing it".to_owned(),
        log: Log::new(&out),
        look_every: None,
    };
    let save = |detector: &Detector| {
        for (name, bytes) in block_on(ScorerFiles::of(&scorer, detector))?.with_manifest()? {
            write_whole(&out.join(name), &bytes)?;
        }
        Ok(())
    };
    let trained =
        drive(Trainer::new(stage, detector, config.training), &job, |module, _| save(module).map(go_on))?;
    save(&trained)?;
    fs::remove_file(&job.checkpoint).map_err(|e| Error::bad_input(e).at(job.checkpoint.display()))?;
    println!("{}", out.display());
    Ok(())
}

/// Reads and checks a scorer's folder.
pub fn read_scorer(folder: &Path) -> Result<ScorerFiles> {
    ScorerFiles::read(|name| {
        fs::read(folder.join(name)).map_err(|e| {
            Error::bad_input(format!(
                "{name}: {e}; `reca scorer train --model DIR` makes a scorer for a model"
            ))
        })
    })
    .map_err(|e| e.at(folder.display()))
}

/// The world that a model lives in: that of the recipe it names, or of the one asked for.
///
/// # Errors
/// `bad_input` if its recipe is not one that comes with the program.
pub fn world(model: &ModelArgs, name: Option<&str>) -> Result<World> {
    #[derive(Deserialize)]
    struct Trained {
        recipe: Option<String>,
    }
    if let Some(name) = name {
        return Ok(recipe(name)?.world);
    }
    let folder = model.folder()?;
    let remedy = |e: Error| {
        Error::bad_input(format!("{e}; name the model's recipe with --recipe")).at(folder.display())
    };
    let trained: Trained =
        serde_json::from_slice(&read_model(&folder)?.config).map_err(Error::weights_format)?;
    let name = trained.recipe.ok_or_else(|| remedy(Error::bad_input("config.json names no recipe")))?;
    Ok(Recipe::named(&name).map_err(remedy)?.world)
}

fn check(args: &CheckArgs) -> Result<()> {
    let folder =
        args.scorer.clone().map_or_else(|| args.model.folder().map(|folder| folder.join(FOLDER)), Ok)?;
    let scorer = Scorer::load(&read_scorer(&folder)?, &args.model.device()?)?;
    let world = world(&args.model, args.recipe.as_deref())?;
    measure(args, &scorer, &world, Archive::embedded()?, "styles of the world")?;
    if let Some(path) = &args.held {
        let bytes = fs::read(path).map_err(|e| Error::bad_input(e).at(path.display()))?;
        let archive = Archive::from_gzip(&bytes).map_err(|e| e.at(path.display()))?;
        let styles: Vec<_> = archive.sources.iter().map(|source| source.style.clone()).collect();
        measure(args, &scorer, &World { styles: styles.clone(), ..world }, &archive, &styles.join(", "))?;
    }
    Ok(())
}

fn measure(args: &CheckArgs, scorer: &Scorer, world: &World, archive: &Archive, styles: &str) -> Result<()> {
    let engine = Engine::with_archive(world.clone(), archive)?;
    let wide = Engine::with_archive(world.with(&world.strangers()), archive)?;
    for found in block_on(accuracy(scorer, &engine, &wide, args.seed, args.per_category))? {
        let Accuracy { category, tier, pictures, accepted, foreign, exchanged, strange, .. } = found;
        let share = |count: usize| 100.0 * count as f64 / pictures.max(1) as f64;
        let text = format!(
            "{styles}  {:14} {:17} {pictures:4} scenes  right {:5.1} %  by another prompt {:4.1} %  another thing in its place {:4.1} %",
            category.name(),
            tier.name(),
            share(accepted),
            share(foreign),
            100.0 * strange as f64 / exchanged.max(1) as f64
        );
        print(args.json, &text, &json!({ "styles": styles, "accuracy": found }))?;
        for (prompt, reason) in found.refused.iter().filter(|_| args.refused) {
            print(
                args.json,
                &format!("    {prompt}: {reason}"),
                &json!({ "prompt": prompt, "reason": reason }),
            )?;
        }
    }
    Ok(())
}
