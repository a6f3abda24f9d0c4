//! From a picture to what a tower expects, as `preprocessor_config.json` says.

use burn::tensor::{Device, Tensor, TensorData};
use image::{RgbImage, imageops};
use serde::Deserialize;
use serde_json::Value;

use super::{
    config::{EncoderConfig, Family},
    resample::{Filter, resize},
};
use crate::{Error, Result};

/// Largest side that a preprocessor may ask for, pixels.
const LARGEST: u32 = 4096;

/// Resize, crop, scale, normalise.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor {
    pub resize: Option<Resize>,
    pub filter: Filter,
    /// Width and height of the centre that is kept; what a smaller image lacks is black.
    pub crop: Option<[u32; 2]>,
    /// Factor on levels of 0 to 255.
    pub scale: f32,
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// Side of the tower's patches, pixels.
    pub patch_size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side to so many pixels, the aspect kept.
    ShortestEdge(u32),
    /// To this width and height, whatever the aspect.
    To([u32; 2]),
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default = "yes")]
    do_resize: bool,
    size: Option<Value>,
    resample: Option<u32>,
    do_center_crop: Option<bool>,
    crop_size: Option<Value>,
    #[serde(default = "yes")]
    do_rescale: bool,
    rescale_factor: Option<f32>,
    #[serde(default = "yes")]
    do_normalize: bool,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

fn yes() -> bool {
    true
}

impl Preprocessor {
    /// What checkpoints of this kind use; for those without a `preprocessor_config.json`.
    pub fn default_of(config: &EncoderConfig) -> Self {
        let side = config.vision.image_size as u32;
        let common = Self {
            resize: Some(Resize::To([side, side])),
            filter: Filter::Bicubic,
            crop: None,
            scale: 1.0 / 255.0,
            mean: [0.5; 3],
            std: [0.5; 3],
            patch_size: config.vision.patch_size,
        };
        match config.family {
            Family::Siglip => common,
            Family::Clip => Self {
                resize: Some(Resize::ShortestEdge(side)),
                crop: Some([side, side]),
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
                ..common
            },
        }
    }

    /// Parses `preprocessor_config.json`; what it leaves out is as in [`Preprocessor::default_of`].
    ///
    /// # Errors
    /// `weights_format` naming the field.
    pub fn from_json(json: &[u8], config: &EncoderConfig) -> Result<Self> {
        let fields: Fields = serde_json::from_slice(json).map_err(bad)?;
        let usual = Self::default_of(config);
        let filter = match fields.resample {
            None => usual.filter,
            Some(2) => Filter::Bilinear,
            Some(3) => Filter::Bicubic,
            Some(other) => {
                return Err(bad(format!("resample is {other}, expected 2 (bilinear) or 3 (bicubic)")));
            }
        };
        let resize = fields.size.as_ref().map(|size| resize_to(size, config.family)).transpose()?;
        let crop = fields.crop_size.as_ref().map(|size| sides(size, "crop_size")).transpose()?;
        let normalised = fields.do_normalize;
        let std =
            fields.image_std.filter(|_| normalised).unwrap_or(if normalised { usual.std } else { [1.0; 3] });
        if std.iter().any(|value| !value.is_normal()) {
            return Err(bad(format!("image_std is {std:?}")));
        }
        let mean = fields.image_mean.filter(|_| normalised).unwrap_or(if normalised {
            usual.mean
        } else {
            [0.0; 3]
        });
        let scale = if fields.do_rescale { fields.rescale_factor.unwrap_or(usual.scale) } else { 1.0 };
        if !mean.iter().chain([&scale]).all(|value| value.is_finite()) {
            return Err(bad(format!(
                "image_mean is {mean:?} and rescale_factor {scale}, expected finite numbers"
            )));
        }
        let made = Self {
            resize: if fields.do_resize { resize.or(usual.resize) } else { None },
            filter,
            crop: if fields.do_center_crop.unwrap_or(usual.crop.is_some()) {
                crop.or(usual.crop)
            } else {
                None
            },
            scale,
            mean,
            std,
            patch_size: usual.patch_size,
        };
        let resized = made.resize.as_ref().map(|to| match to {
            Resize::To(sides) => *sides,
            Resize::ShortestEdge(edge) => [*edge; 2],
        });
        match made.crop.or(resized) {
            Some([width, height]) if (width.min(height) as usize) < made.patch_size => {
                Err(bad(format!("{width} × {height} pixels do not fill a patch of {}", made.patch_size)))
            }
            _ => Ok(made),
        }
    }

    /// Pictures as `[pictures, 3, height, width]`.
    ///
    /// # Errors
    /// `bad_input` for pictures that come out in different sizes or smaller than a patch, and for none.
    pub fn forward(&self, pictures: &[RgbImage], device: &Device) -> Result<Tensor<4>> {
        let fitted: Vec<RgbImage> = pictures.iter().map(|picture| self.fit(picture)).collect();
        let (width, height) = fitted.first().map_or((0, 0), RgbImage::dimensions);
        if width == 0 || height == 0 || fitted.iter().any(|picture| picture.dimensions() != (width, height)) {
            return Err(Error::bad_input("pictures must have one common size here, and at least one pixel"));
        }
        self.check_size(width as usize, height as usize)?;
        let mut values = Vec::with_capacity(fitted.len() * 3 * (width * height) as usize);
        for picture in &fitted {
            for channel in 0..3 {
                let (mean, std) = (self.mean[channel], self.std[channel]);
                values.extend(picture.pixels().map(|p| (f32::from(p[channel]) * self.scale - mean) / std));
            }
        }
        let shape = [fitted.len(), 3, height as usize, width as usize];
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// Refuses a picture that the tower has no patch of.
    ///
    /// # Errors
    /// `bad_input` with both sizes.
    pub fn check_size(&self, width: usize, height: usize) -> Result<()> {
        let patch = self.patch_size;
        if width >= patch && height >= patch {
            return Ok(());
        }
        Err(Error::bad_input(format!(
            "{width} × {height} pixels do not fill a patch of {patch}; take a larger picture"
        )))
    }

    /// The picture resized and cropped, still in bytes.
    pub fn fit(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        if width == 0 || height == 0 {
            return picture.clone();
        }
        let resized = match self.resize {
            None => picture.clone(),
            Some(Resize::To([to_width, to_height])) => resize(picture, to_width, to_height, self.filter),
            Some(Resize::ShortestEdge(edge)) => {
                let longer = |side: u32, short: u32| {
                    (u64::from(edge) * u64::from(side) / u64::from(short)).min(u64::from(LARGEST) * 64) as u32
                };
                let (w, h) = if width <= height {
                    (edge, longer(height, width))
                } else {
                    (longer(width, height), edge)
                };
                resize(picture, w, h, self.filter)
            }
        };
        self.crop.map_or(resized.clone(), |[width, height]| centre(&resized, width, height))
    }
}

/// The centre of an image; where that is smaller, in the middle of black.
fn centre(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let at = |side: u32, wanted: u32| {
        if side >= wanted { -i64::from((side - wanted) / 2) } else { i64::from((wanted - side).div_ceil(2)) }
    };
    let mut cut = RgbImage::new(width, height);
    imageops::replace(&mut cut, image, at(image.width(), width), at(image.height(), height));
    cut
}

/// `size`: an object, or a number as early files have it.
fn resize_to(size: &Value, family: Family) -> Result<Resize> {
    match (size, size.get("shortest_edge")) {
        (_, Some(edge)) => Ok(Resize::ShortestEdge(side(edge, "size")?)),
        (Value::Number(_), _) if family == Family::Clip => Ok(Resize::ShortestEdge(side(size, "size")?)),
        _ => Ok(Resize::To(sides(size, "size")?)),
    }
}

/// Width and height.
fn sides(size: &Value, name: &str) -> Result<[u32; 2]> {
    if size.is_number() {
        return Ok([side(size, name)?; 2]);
    }
    let part =
        |key| size.get(key).ok_or_else(|| bad(format!("{name} has no {key}"))).and_then(|v| side(v, name));
    Ok([part("width")?, part("height")?])
}

fn side(value: &Value, name: &str) -> Result<u32> {
    let pixels = value.as_u64().filter(|n| (1..=u64::from(LARGEST)).contains(n));
    pixels.map(|n| n as u32).ok_or_else(|| bad(format!("{name} is {value}, expected 1 to {LARGEST} pixels")))
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::weights_format(format!("preprocessor_config.json: {what}"))
}
