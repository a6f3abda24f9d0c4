//! What alignment learns from: scenes of a pool, or a folder of pictures.

use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use pollster::block_on;
use rayon::prelude::*;
use reca::image::fit;
use reca::reca::{AlignImages, ConditionConfig};
use reca::scene::{Engine, Pool, Scene};
use reca::train::pool::PoolConfig;
use reca::{Error, Pipeline, Result};

use crate::common::read_picture;
use crate::drive::bar;

/// Seed of the first run's unlabelled scenes, apart from all that the base was trained on.
pub const POOL_SEED: u64 = 1000;
/// Pictures that the frozen parts read at once.
const CHUNK: usize = 128;

/// The first `count` scenes of a pool and seed.
pub fn pool(
    pipeline: &Pipeline,
    engine: &Engine,
    (kind, seed, size): (Pool, u64, u64),
    condition: &ConditionConfig,
) -> Result<AlignImages> {
    let bar = bar(size, &format!("scenes of the {} pool", kind.name()));
    let pool = PoolConfig { kind, seed, size };
    let mut images = AlignImages::default();
    for start in (0..size).step_by(CHUNK) {
        let indices = start..size.min(start + CHUNK as u64);
        let made: Vec<(Scene, RgbImage)> =
            indices.into_par_iter().map(|index| pool.sample(engine, index)).collect::<Result<_>>()?;
        let (scenes, pictures): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        block_on(images.push(&pipeline.umm, &pictures, condition))?;
        images.describe(scenes);
        bar.inc(pictures.len() as u64);
    }
    bar.finish_and_clear();
    Ok(images)
}

/// The pictures of a folder, in the order of their names.
pub fn folder(pipeline: &Pipeline, path: &Path, condition: &ConditionConfig) -> Result<AlignImages> {
    let failed = |e: std::io::Error| Error::bad_input(e).at(path.display());
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(failed)?;
    files.retain(|file| {
        let extension = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        ["png", "jpg", "jpeg", "webp", "gif"].contains(&extension.as_str())
    });
    files.sort();
    if files.len() < 2 {
        return Err(Error::bad_input(format!(
            "holds {} pictures (PNG, JPEG, WebP or GIF); alignment needs two or more, better hundreds",
            files.len()
        ))
        .at(path.display()));
    }
    let side = pipeline.config.image_size as u32;
    let bar = bar(files.len() as u64, "pictures");
    let mut images = AlignImages::default();
    for chunk in files.chunks(CHUNK) {
        let pictures: Vec<RgbImage> =
            chunk.par_iter().map(|file| Ok(fit(&read_picture(file)?, side))).collect::<Result<_>>()?;
        block_on(images.push(&pipeline.umm, &pictures, condition))?;
        bar.inc(pictures.len() as u64);
    }
    bar.finish_and_clear();
    Ok(images)
}
