//! `reca scene`: writes scenes of a recipe's world, to look at or packed for training.

mod pack;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::{RgbImage, imageops};
use reca::scene::{Engine, Pool, SIZE, Scene, geneval, sheet};
use reca::train::pool::PoolConfig;
use reca::train::recipe::{RECIPES, Recipe};
use reca::{Error, Result};
use serde::Serialize;

/// Make scenes with captions and questions
#[derive(clap::Args)]
pub struct Args {
    /// Recipe: a name that comes with the program, or a file
    #[arg(long, default_value = "mini")]
    recipe: String,
    /// Who the scenes are for: understanding, drawing, open or strict
    #[arg(long, default_value = "open", value_parser = pool)]
    pool: Pool,
    /// Only scenes of these nouns
    #[arg(long, value_name = "NOUN", num_args = 1.., conflicts_with_all = ["pack", "sheet"])]
    nouns: Option<Vec<String>>,
    /// How many scenes
    #[arg(long, default_value_t = 64)]
    count: u64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write to
    #[arg(long)]
    out: PathBuf,
    /// Write pack.safetensors (pictures, tokenised captions and questions, boxes) and tokenizer.json
    /// instead of pictures
    #[arg(long)]
    pack: bool,
    /// Write the world's drawings (sprites.png, world.json), from which a page makes scenes, instead of
    /// pictures
    #[arg(long, conflicts_with = "pack")]
    sheet: bool,
}

fn pool(name: &str) -> std::result::Result<Pool, String> {
    Pool::ALL
        .into_iter()
        .find(|pool| pool.name() == name)
        .ok_or_else(|| format!("there are {}", Pool::ALL.map(Pool::name).join(", ")))
}

/// The recipe of that name, or in that file.
pub fn recipe(name: &str) -> Result<Recipe> {
    if RECIPES.iter().any(|(known, _)| *known == name) {
        return Recipe::named(name);
    }
    let json = fs::read(name).map_err(|e| {
        let known = RECIPES.map(|(known, _)| known).join(", ");
        Error::bad_input(format!("no recipe {name:?} ({e}); there are {known}, or give a file"))
    })?;
    Recipe::from_json(&json).map_err(|e| e.at(name))
}

/// One line of the scenes.jsonl that lies beside pictures.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    metadata: geneval::Metadata,
    scene: Scene,
}

pub fn run(args: Args) -> Result<()> {
    let recipe = recipe(&args.recipe)?;
    let mut engine = Engine::new(recipe.world)?;
    if let Some(nouns) = &args.nouns {
        engine = engine.only(nouns)?;
    }
    fs::create_dir_all(&args.out).map_err(|e| Error::bad_input(e).at(args.out.display()))?;
    if args.sheet {
        drawings(&engine, &args.out)
    } else if args.pack {
        let pool = PoolConfig { kind: args.pool, seed: args.seed, size: args.count, two_objects: None };
        pack::write(&engine, recipe.stages.generation.captions, pool, &args.out)
    } else {
        pictures(&engine, &args)
    }
}

fn drawings(engine: &Engine, folder: &Path) -> Result<()> {
    let world = line(engine.world())?;
    for (name, bytes) in [("sprites.png", sheet::write(engine)?), ("world.json", world.into_bytes())] {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|e| Error::bad_input(e).at(path.display()))?;
    }
    Ok(())
}

fn create(folder: &Path, name: &str) -> Result<BufWriter<fs::File>> {
    let path = folder.join(name);
    let file = fs::File::create(&path).map_err(|e| Error::bad_input(e).at(path.display()))?;
    Ok(BufWriter::new(file))
}

fn line(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string(value).map_err(Error::internal)?;
    Ok(json + "\n")
}

/// Columns and magnification of the contact sheet.
const COLUMNS: u32 = 8;
const ZOOM: u32 = 2;

fn pictures(engine: &Engine, args: &Args) -> Result<()> {
    let side = SIZE as u32;
    let rows = (args.count as u32).div_ceil(COLUMNS).max(1);
    let mut sheet = RgbImage::new(COLUMNS * side * ZOOM, rows * side * ZOOM);
    let mut scenes = create(&args.out, "scenes.jsonl")?;
    let save = |picture: &RgbImage, name: &str| {
        let path = args.out.join(name);
        picture.save(&path).map_err(|e| Error::bad_input(e).at(path.display()))
    };
    for index in 0..args.count {
        let scene = engine.scene(args.pool, args.seed, index)?;
        let picture = RgbImage::from_raw(side, side, engine.render(&scene)?)
            .ok_or_else(|| Error::internal("a scene has the wrong number of pixels"))?;
        save(&picture, &format!("{index:05}.png"))?;
        let tile = imageops::resize(&picture, side * ZOOM, side * ZOOM, imageops::FilterType::Nearest);
        let (column, row) = (index as u32 % COLUMNS, index as u32 / COLUMNS);
        let at = |cell: u32| i64::from(cell * side * ZOOM);
        imageops::replace(&mut sheet, &tile, at(column), at(row));
        let described = Described { metadata: geneval::metadata(&scene), scene };
        scenes
            .write_all(line(&described)?.as_bytes())
            .map_err(|e| Error::bad_input(e).at(args.out.display()))?;
    }
    scenes.flush().map_err(|e| Error::bad_input(e).at(args.out.display()))?;
    save(&sheet, "sheet.png")
}
