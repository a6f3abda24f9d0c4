//! `reca reconstruct`: redraws pictures from nothing but their understanding embeddings.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use image::RgbImage;
use indicatif::ProgressBar;
use reca::image::{fit, psnr};
use reca::{Pipeline, Result};
use serde_json::json;

use crate::common::{DrawArgs, ModelArgs, print, progress, read_picture, sheet, write_picture};

const EXAMPLES: &str = "\
Examples:
  reca reconstruct car.png
  reca reconstruct photos/*.jpg --out redrawn --steps 40

Writes NAME-redrawn.png, and NAME-pair.png with the original on the left, for every picture.
The PSNR (dB, higher is nearer) compares both at the model's own size.";

/// Redraw pictures from nothing but the model's understanding of them
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The pictures
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Print one line of JSON a picture
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    draw: DrawArgs,
    /// With the aligned weights that the model comes with
    #[arg(long)]
    aligned: bool,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: Args) -> Result<()> {
    let pictures = args.images.iter().map(|path| read_picture(path)).collect::<Result<Vec<_>>>()?;
    let pipeline = args.model.open_with(args.aligned)?;
    let bar = progress((args.draw.sampler(&pipeline).steps * pictures.len()) as u64);
    let mut taken = HashSet::new();
    for (path, picture) in args.images.iter().zip(&pictures) {
        bar.set_message(path.display().to_string());
        let original = fit(picture, pipeline.config.image_size as u32);
        let redrawn = redraw(&pipeline, &original, &args.draw, &bar)?;
        let name = name(path, &mut taken);
        let (alone, pair) =
            (args.out.join(format!("{name}-redrawn.png")), args.out.join(format!("{name}-pair.png")));
        let decibels = psnr(&original, &redrawn);
        let enlarged = [args.draw.enlarge(&original), args.draw.enlarge(&redrawn)];
        write_picture(&alone, &enlarged[1])?;
        write_picture(&pair, &sheet(&enlarged, 2))?;
        let value = json!({ "image": path, "redrawn": alone, "pair": pair, "psnr": decibels });
        let text = format!("{}  PSNR {decibels:.1} dB", pair.display());
        bar.suspend(|| print(args.json, &text, &value))?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn redraw(pipeline: &Pipeline, original: &RgbImage, draw: &DrawArgs, bar: &ProgressBar) -> Result<RgbImage> {
    let mut drawing = pipeline.reconstruct(pipeline.embed(original), draw.seed, draw.sampler(pipeline))?;
    while drawing.advance() {
        bar.inc(1);
    }
    let mut pictures = pollster::block_on(drawing.images())?;
    pictures.pop().ok_or_else(|| reca::Error::internal("no picture was drawn"))
}

/// The picture's name without folder and ending, with a number if another picture has it already.
fn name(path: &Path, taken: &mut HashSet<String>) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let names = std::iter::once(stem.clone()).chain((2..).map(|n| format!("{stem}-{n}")));
    names.into_iter().find(|name| taken.insert(name.clone())).unwrap_or(stem)
}
