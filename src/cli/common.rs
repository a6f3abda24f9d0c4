//! What the subcommands share: the model to open, how to draw, and what goes to which stream.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use image::{RgbImage, imageops};
use indicatif::{ProgressBar, ProgressStyle};
use reca::flow::sampler::{Method, SamplerConfig};
use reca::weights::directory::{ALIGNED, MANIFEST, with_aligned};
use reca::weights::{ModelFiles, manifest::Manifest};
use reca::{Error, Pipeline, Result, device};
use serde::Serialize;

/// Where the model that comes with the program lies, below the repository.
const SHIPPED: &str = "www/models/mini";

/// The model to work with.
#[derive(Args)]
pub struct ModelArgs {
    /// Model folder [default: www/models/mini, here or beside the program]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    device: Device,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Device {
    /// WebGPU if this build and machine have it, else the CPU
    Auto,
    Cpu,
    Webgpu,
}

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    /// `no_webgpu` with the remedy.
    pub fn open(self) -> Result<burn::tensor::Device> {
        let choice = match self {
            Self::Auto => device::Choice::Auto,
            Self::Cpu => device::Choice::Cpu,
            Self::Webgpu => device::Choice::WebGpu,
        };
        let opened = pollster::block_on(device::open(choice)).map_err(|mut error| {
            error.message += "; use --device cpu";
            error
        })?;
        Ok(opened.device)
    }
}

impl ModelArgs {
    /// Loads the model onto the device.
    ///
    /// # Errors
    /// `bad_input` if there is no such model, `no_webgpu`, and those of [`Pipeline::new`].
    pub fn open(&self) -> Result<Pipeline> {
        let folder = self.folder()?;
        Pipeline::new(&read_model(&folder)?, &self.device.open()?).map_err(|e| e.at(folder.display()))
    }

    /// The same; if `aligned`, with the aligned weights that it comes with.
    ///
    /// # Errors
    /// Those of [`Self::open`], and `bad_input` if it comes with none.
    pub fn open_with(&self, aligned: bool) -> Result<Pipeline> {
        let mut pipeline = self.open()?;
        if aligned {
            let folder = self.folder()?;
            let umm = with_aligned(pipeline.umm, &read_aligned(&folder)?);
            pipeline.umm = umm.map_err(|e| e.at(folder.display()))?;
        }
        Ok(pipeline)
    }

    /// Opens the device that was asked for.
    ///
    /// # Errors
    /// `no_webgpu` with the remedy.
    pub fn device(&self) -> Result<burn::tensor::Device> {
        self.device.open()
    }

    /// The model's folder: the one asked for, else the shipped one.
    pub fn folder(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.model {
            return Ok(folder.clone());
        }
        let program = std::env::current_exe().unwrap_or_default();
        let shipped =
            std::iter::once(Path::new("")).chain(program.ancestors()).map(|base| base.join(SHIPPED));
        shipped.into_iter().find(|folder| folder.join(MANIFEST).is_file()).ok_or_else(|| {
            Error::bad_input(format!(
                "there is no model in {SHIPPED}, neither here nor beside the program; name one with --model DIR"
            ))
        })
    }
}

/// Reads and checks a model folder's files.
pub fn read_model(folder: &Path) -> Result<ModelFiles> {
    ModelFiles::read(|name| {
        fs::read(folder.join(name)).map_err(|e| {
            Error::bad_input(format!(
                "{name}: {e}; a model folder holds config.json, model.safetensors, tokenizer.json, \
                 preprocessor_config.json and manifest.json"
            ))
        })
    })
    .map_err(|e| e.at(folder.display()))
}

/// Reads and checks the aligned weights beside a model.
fn read_aligned(folder: &Path) -> Result<Vec<u8>> {
    let read = |name: &str| fs::read(folder.join(name)).map_err(|e| Error::bad_input(e).at(name));
    let manifest = read(MANIFEST).and_then(|json| Manifest::from_json(&json));
    if !manifest.map_err(|e| e.at(folder.display()))?.later.contains_key(ALIGNED) {
        let message = format!("comes with no {ALIGNED}; `reca align` makes an aligned model of its own");
        return Err(Error::bad_input(message).at(folder.display()));
    }
    let [aligned] = Manifest::read([ALIGNED], read).map_err(|e| e.at(folder.display()))?;
    Ok(aligned)
}

/// How to draw.
#[derive(Args)]
pub struct DrawArgs {
    /// Seed of the first picture's noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Denoising steps [default: the model's own]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: Option<u16>,
    /// Classifier-free guidance scale; 1 turns it off [default: the model's own]
    #[arg(long, value_parser = guidance)]
    guidance: Option<f32>,
    /// Integrator; heun costs twice as much a step and is more exact
    #[arg(long, value_enum, default_value_t = Integrator::Euler)]
    method: Integrator,
    /// Enlarge the written pictures so many times, bicubically; 1 keeps the model's own pixels
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    scale: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Integrator {
    Euler,
    Heun,
}

/// A guidance scale as typed.
pub fn guidance(text: &str) -> std::result::Result<f32, String> {
    match text.parse() {
        Ok(scale) if (0.0..=100.0).contains(&scale) => Ok(scale),
        _ => Err("expected a number from 0 to 100".to_owned()),
    }
}

impl DrawArgs {
    pub fn sampler(&self, pipeline: &Pipeline) -> SamplerConfig {
        let method = match self.method {
            Integrator::Euler => Method::Euler,
            Integrator::Heun => Method::Heun,
        };
        SamplerConfig { method, ..pipeline.sampler(self.steps.map(usize::from), self.guidance) }
    }

    /// The picture at the size it is written in.
    pub fn enlarge(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let filter = imageops::FilterType::CatmullRom;
        imageops::resize(picture, width * self.scale, height * self.scale, filter)
    }
}

/// Reads a picture of any size in PNG, JPEG, WebP or GIF.
pub fn read_picture(path: &Path) -> Result<RgbImage> {
    let bytes = fs::read(path).map_err(|e| Error::bad_input(e).at(path.display()))?;
    reca::image::decode(&bytes).map_err(|e| e.at(path.display()))
}

/// Writes a file, and its folder where that is missing.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let failed = |e| Error::bad_input(format!("{e}; --out names a folder to write to"));
    fs::create_dir_all(folder).map_err(|e| failed(e).at(folder.display()))?;
    fs::write(path, bytes).map_err(|e| failed(e).at(path.display()))
}

/// Writes a picture as PNG.
pub fn write_picture(path: &Path, picture: &RgbImage) -> Result<()> {
    write(path, &reca::image::to_png(picture)?)
}

/// Pictures of one size side by side, `columns` a row.
pub fn sheet(pictures: &[RgbImage], columns: u32) -> RgbImage {
    let (width, height) = pictures.first().map_or((0, 0), RgbImage::dimensions);
    let rows = (pictures.len() as u32).div_ceil(columns.max(1));
    let mut sheet = RgbImage::from_pixel(columns * width, rows * height, image::Rgb([255; 3]));
    for (picture, cell) in pictures.iter().zip(0..) {
        let at = |cell: u32, side: u32| i64::from(cell * side);
        imageops::replace(&mut sheet, picture, at(cell % columns, width), at(cell / columns, height));
    }
    sheet
}

/// A file name for a picture of `text`: its letters and digits, cut to a sensible length.
pub fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_lowercase).collect::<Vec<_>>().join("-");
    slug.chars().take(60).collect()
}

/// A progress bar on standard error; hidden where that is no terminal.
pub fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {eta} left  {wide_msg}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Prints results: `text`, or `value` as one line of JSON where `--json` asked for that.
pub fn print(json: bool, text: &str, value: &impl Serialize) -> Result<()> {
    let line = if json { serde_json::to_string(value).map_err(Error::internal)? } else { text.to_owned() };
    writeln!(std::io::stdout(), "{line}").map_err(|e| Error::bad_input(e).at("standard output"))
}
