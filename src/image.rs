//! Pictures in and out: decode, fit to the model's square, to tensors and back.

use std::io::Cursor;

use burn::tensor::{Device, Tensor, TensorData};
use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits, RgbImage, imageops::FilterType,
};

use crate::{Error, Result, umm::describe::read};

/// Largest accepted side, pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Largest accepted decoded size, bytes.
const MAX_BYTES: u64 = 512 << 20;

/// Decodes PNG, JPEG, WebP or GIF (its first frame) to 8-bit RGB on white, turned as its EXIF data say.
/// Grey, palettes, 16 bits a channel and CMYK are converted.
///
/// # Errors
/// `bad_input` naming the format, the damage or the limit.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| Error::bad_input(format!("the image cannot be read: {e}")))?;
    if reader.format().is_none() {
        return Err(Error::bad_input("this is not a PNG, JPEG, WebP or GIF image"));
    }
    let image = upright(reader).map_err(|e| match e {
        image::ImageError::Limits(_) => Error::bad_input(format!(
            "the image is too large: at most {MAX_SIDE} pixels a side and {} MiB decoded",
            MAX_BYTES >> 20
        )),
        other => Error::bad_input(format!("the image is damaged or unsupported: {other}")),
    })?;
    Ok(flatten(&image))
}

/// The picture as it is meant to be looked at: cameras store it as the sensor lay.
fn upright(mut reader: ImageReader<Cursor<&[u8]>>) -> ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Puts transparent pixels on white.
fn flatten(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let rgba = image.to_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let alpha = u32::from(from[3]);
        for c in 0..3 {
            to[c] = ((u32::from(from[c]) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
    }
    rgb
}

/// The centre square, resized to `side` × `side`.
pub fn fit(image: &RgbImage, side: u32) -> RgbImage {
    let (w, h) = image.dimensions();
    let square = w.min(h);
    let centre = image::imageops::crop_imm(image, (w - square) / 2, (h - square) / 2, square, square);
    if square == side {
        return centre.to_image();
    }
    image::imageops::resize(&centre.to_image(), side, side, FilterType::CatmullRom)
}

/// Images of one size as `[batch, 3, height, width]` with values in [-1, 1].
pub fn to_tensor(images: &[RgbImage], device: &Device) -> Tensor<4> {
    let (w, h) = images.first().map_or((0, 0), RgbImage::dimensions);
    let mut values = Vec::with_capacity(images.len() * 3 * (w * h) as usize);
    for image in images {
        for c in 0..3 {
            values.extend(image.pixels().map(|p| f32::from(p[c]) / 127.5 - 1.0));
        }
    }
    let shape = [images.len(), 3, h as usize, w as usize];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The inverse of [`to_tensor`]; values are clamped to [-1, 1].
pub async fn from_tensor(images: Tensor<4>) -> Result<Vec<RgbImage>> {
    let [_, _, h, w] = images.dims();
    let values = read(images).await?;
    let plane = h * w;
    Ok(values
        .chunks_exact(3 * plane)
        .map(|image| {
            RgbImage::from_fn(w as u32, h as u32, |x, y| {
                let at = y as usize * w + x as usize;
                let level = |c: usize| ((image[c * plane + at].clamp(-1.0, 1.0) + 1.0) * 127.5).round();
                image::Rgb([level(0) as u8, level(1) as u8, level(2) as u8])
            })
        })
        .collect())
}

/// PNG bytes of an image.
pub fn to_png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(Error::internal)?;
    Ok(bytes.into_inner())
}

/// Peak signal-to-noise ratio of two images of one size, dB over 8-bit levels.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares: f64 = a.iter().zip(b.iter()).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    let mean = squares / a.len().max(1) as f64;
    10.0 * (255.0 * 255.0 / mean.max(1e-10)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_keep_every_level() {
        let image =
            RgbImage::from_fn(16, 16, |x, y| image::Rgb([(16 * y + x) as u8, x as u8, 255 - y as u8]));
        let tensor = to_tensor(std::slice::from_ref(&image), &Device::flex());
        assert_eq!(tensor.dims(), [1, 3, 16, 16]);
        assert_eq!(pollster::block_on(from_tensor(tensor)).unwrap()[0], image);
    }

    #[test]
    fn transparent_pixels_are_white() {
        let rgba = image::RgbaImage::from_pixel(2, 2, image::Rgba([10, 20, 30, 0]));
        assert_eq!(flatten(&rgba.into())[(0, 0)].0, [255; 3]);
    }

    #[test]
    fn psnr_of_one_level() {
        let a = RgbImage::from_pixel(4, 4, image::Rgb([100; 3]));
        let b = RgbImage::from_pixel(4, 4, image::Rgb([101; 3]));
        assert!((psnr(&a, &b) - 48.1308).abs() < 1e-3);
    }

    #[test]
    fn text_is_not_an_image() {
        assert!(decode(b"hello").unwrap_err().to_string().contains("PNG, JPEG, WebP or GIF"));
    }
}
