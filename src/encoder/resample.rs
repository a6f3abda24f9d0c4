//! Pillow's `Image.resize`, byte for byte: separable, antialiased when it makes an image smaller,
//! in fixed-point numbers and over bytes between the two passes (Pillow's `Resample.c`). A plain
//! bicubic filter gives visibly other pictures, and a checkpoint other embeddings.

use image::{Rgb, RgbImage};

/// Fractional bits of the coefficients.
const PRECISION: u32 = 22;

/// The interpolation, `resample` in `preprocessor_config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Bilinear,
    Bicubic,
}

impl Filter {
    /// Half the filter's width, in source pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic => 0.0,
        }
    }
}

/// The image at another size.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    // From 13 on, Pillow begins with the pass that takes away much more; earlier ones never began
    // with the vertical one. Between the passes values are rounded, so the order shows.
    let [lost_width, lost_height] =
        [(image.width(), width), (image.height(), height)].map(|(from, to)| i64::from(from) - i64::from(to));
    if lost_height > 0 && lost_height > 2 * lost_width {
        horizontal(&vertical(image, height, filter), width, filter)
    } else {
        vertical(&horizontal(image, width, filter), height, filter)
    }
}

fn horizontal(image: &RgbImage, width: u32, filter: Filter) -> RgbImage {
    if image.width() == width {
        return image.clone();
    }
    let taps = taps(image.width(), width, filter);
    RgbImage::from_fn(width, image.height(), |x, y| taps[x as usize].apply(|at| image.get_pixel(at, y)))
}

fn vertical(image: &RgbImage, height: u32, filter: Filter) -> RgbImage {
    if image.height() == height {
        return image.clone();
    }
    let taps = taps(image.height(), height, filter);
    RgbImage::from_fn(image.width(), height, |x, y| taps[y as usize].apply(|at| image.get_pixel(x, at)))
}

/// What one output pixel takes from which source pixels.
struct Taps {
    first: u32,
    weights: Vec<i32>,
}

impl Taps {
    fn apply<'a>(&self, pixel: impl Fn(u32) -> &'a Rgb<u8>) -> Rgb<u8> {
        let mut sums = [1i32 << (PRECISION - 1); 3];
        for (at, weight) in (self.first..).zip(&self.weights) {
            for (sum, level) in sums.iter_mut().zip(pixel(at).0) {
                *sum += i32::from(level) * weight;
            }
        }
        Rgb(sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8))
    }
}

fn taps(from: u32, to: u32, filter: Filter) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    // Making smaller widens the filter, so that every source pixel counts.
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (0..to)
        .map(|i| {
            let centre = (f64::from(i) + 0.5) * scale;
            let first = ((centre - support + 0.5) as u32).min(from - 1);
            let last = ((centre + support + 0.5) as u32).clamp(first + 1, from);
            let weights: Vec<f64> =
                (first..last).map(|at| filter.at((f64::from(at) - centre + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            let one = f64::from(1u32 << PRECISION);
            Taps { first, weights: weights.iter().map(|w| (w / sum * one).round() as i32).collect() }
        })
        .collect()
}
