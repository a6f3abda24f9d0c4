//! What alignment learns from: scenes of a pool, or a folder of pictures.

use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use pollster::block_on;
use rayon::prelude::*;
use reca::image::fit;
use reca::reca::{AlignImages, ConditionConfig};
use reca::scene::{Engine, Scene};
use reca::train::pool::PoolConfig;
use reca::weights::manifest::FileEntry;
use reca::{Error, Pipeline, Result};

use super::external::Guest;
use crate::common::read_picture;
use crate::drive::bar;

/// Seed of the first run's unlabelled scenes, apart from all that the base was trained on.
pub const POOL_SEED: u64 = 1000;
/// Pictures that the frozen parts read at once.
const CHUNK: usize = 128;

/// What makes conditions of pictures.
pub struct Reader<'a> {
    pub pipeline: &'a Pipeline,
    pub condition: ConditionConfig,
    /// In the place of the model's own encoder.
    pub guest: Option<Guest>,
}

impl Reader<'_> {
    /// Adds pictures of the model's size.
    fn push(&self, images: &mut AlignImages, pictures: &[RgbImage]) -> Result<()> {
        let (umm, condition) = (&self.pipeline.umm, &self.condition);
        match &self.guest {
            None => block_on(images.push(umm, pictures, condition)),
            Some(guest) => {
                let tokens = guest.embed(&condition.reduced(pictures))?;
                block_on(images.push_with(umm, pictures, condition.pooled(tokens)))
            }
        }
    }
}

/// Hands on the scenes of a pool and their pictures, some at a time.
pub fn scenes(
    engine: &Engine,
    pool: PoolConfig,
    mut take: impl FnMut(Vec<Scene>, Vec<RgbImage>) -> Result<()>,
) -> Result<()> {
    let bar = bar(pool.size, &format!("scenes of the {} pool", pool.kind.name()));
    for start in (0..pool.size).step_by(CHUNK) {
        let indices = start..pool.size.min(start + CHUNK as u64);
        let count = indices.end - indices.start;
        let made: Vec<(Scene, RgbImage)> =
            indices.into_par_iter().map(|index| pool.sample(engine, index)).collect::<Result<_>>()?;
        let (scenes, pictures) = made.into_iter().unzip();
        take(scenes, pictures)?;
        bar.inc(count);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The scenes of a pool.
pub fn pool(reader: &Reader, engine: &Engine, pool: PoolConfig) -> Result<AlignImages> {
    let mut images = AlignImages::default();
    scenes(engine, pool, |scenes, pictures| {
        reader.push(&mut images, &pictures)?;
        images.describe(scenes);
        Ok(())
    })?;
    Ok(images)
}

/// The scenes of a pool, without embeddings.
pub fn captioned(pipeline: &Pipeline, engine: &Engine, pool: PoolConfig) -> Result<AlignImages> {
    let mut images = AlignImages::default();
    scenes(engine, pool, |scenes, pictures| {
        block_on(images.push_captioned(&pipeline.umm, &pictures, scenes))
    })?;
    Ok(images)
}

/// The pictures of a folder, in the order of their names, and the sha256 of theirs.
pub fn folder(reader: &Reader, path: &Path) -> Result<(AlignImages, String)> {
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
    let side = reader.pipeline.config.image_size as u32;
    let bar = bar(files.len() as u64, "pictures");
    let (mut images, mut shown) = (AlignImages::default(), Vec::new());
    for chunk in files.chunks(CHUNK) {
        let pictures: Vec<RgbImage> =
            chunk.par_iter().map(|file| Ok(fit(&read_picture(file)?, side))).collect::<Result<_>>()?;
        reader.push(&mut images, &pictures)?;
        shown.extend(pictures.iter().map(|picture| FileEntry::of(picture.as_raw()).sha256));
        bar.inc(pictures.len() as u64);
    }
    bar.finish_and_clear();
    Ok((images, FileEntry::of(shown.concat().as_bytes()).sha256))
}
