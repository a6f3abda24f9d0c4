//! What the laboratory's calls take and give, with TypeScript types.

use std::ops::RangeInclusive;

use image::RgbImage;
use serde::{Deserialize, Serialize};
use tsify::{Ts, Tsify};
use web_sys::ImageData;

use super::types::picture;
use crate::{Error, Result};

/// What a loaded model is.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct ModelInfo {
    /// Side of its square pictures, pixels.
    pub image_size: usize,
    /// Understanding embeddings of a picture.
    pub visual_tokens: usize,
    /// Length of one embedding.
    pub hidden_size: usize,
    pub parameters: usize,
    /// All tokens in the order of their ids, three special ones first.
    pub vocabulary: Vec<String>,
    /// Styles it draws in; the first is used where a prompt names none.
    pub styles: Vec<String>,
    /// Whether two things that a prompt joins by "and" get places by lot, unless [`DrawOptions::as_written`].
    pub plans_layout: bool,
}

/// Whose generation expert draws.
#[derive(Clone, Copy, Default, Deserialize, Tsify)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// The model as it was loaded.
    #[default]
    Base,
    /// The one that alignment made, or that was imported.
    Aligned,
}

/// How to draw; what is left out has its default.
#[derive(Deserialize, Tsify)]
#[serde(default, rename_all = "camelCase")]
pub struct DrawOptions {
    /// The same seed gives the same picture. Default 0.
    pub seed: u64,
    /// Pictures drawn together, with this seed and those that follow, 1 to 16. Default 1.
    pub count: u64,
    /// Default `base`.
    pub weights: Weights,
    /// Denoising steps, 1 to 1000. Default: the model's own.
    pub steps: Option<usize>,
    /// Strength of classifier-free guidance; 1 turns it off. Default: the model's own.
    pub guidance: Option<f32>,
    /// Draws the prompt as it is written; else, if the model's config.json has `plan_layout`, two things
    /// that it joins by "and" get places by lot. Default false.
    pub as_written: bool,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self { seed: 0, count: 1, weights: Weights::Base, steps: None, guidance: None, as_written: false }
    }
}

impl DrawOptions {
    /// Reads the options of a call.
    ///
    /// # Errors
    /// `bad_input` for values of another type or out of range.
    pub fn parse(options: Option<Ts<Self>>) -> Result<Self> {
        let options =
            options.map_or_else(|| Ok(Self::default()), |o| o.to_rust()).map_err(Error::bad_input)?;
        in_range("count", options.count, 1..=MOST_PICTURES)?;
        Ok(options)
    }

    /// One seed a picture.
    pub fn seeds(&self) -> Vec<u64> {
        (0..self.count).map(|offset| self.seed.wrapping_add(offset)).collect()
    }
}

/// Refuses a number that is out of range.
pub fn in_range(name: &str, value: u64, range: RangeInclusive<u64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(Error::bad_input(format!("{name} is {value}, expected {least} to {most}")))
}

/// Most pictures of one drawing.
const MOST_PICTURES: u64 = 16;

/// The inverse of [`picture`]; transparency is ignored.
pub fn pixels(picture: &ImageData) -> Result<RgbImage> {
    let rgb = picture.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    RgbImage::from_raw(picture.width(), picture.height(), rgb)
        .ok_or_else(|| Error::bad_input("a picture's data does not match its size"))
}

/// Images as canvases take them.
pub fn pictures(images: &[RgbImage]) -> Result<Vec<ImageData>> {
    images.iter().map(picture).collect()
}
