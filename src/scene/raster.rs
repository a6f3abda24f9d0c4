//! Pixels: SVG to sprite, sprite to a smaller sprite, sprite onto a scene.

use std::f32::consts::PI;
use std::sync::OnceLock;

#[cfg(feature = "svg")]
use resvg::{tiny_skia, usvg};

use super::SIZE;
#[cfg(feature = "svg")]
use crate::{Error, Result};

/// Renders an SVG document into straight RGBA bytes `[SIZE, SIZE, 4]`, aspect kept, centred.
///
/// Fails when the document does not parse.
#[cfg(feature = "svg")]
pub fn render_svg(svg: &str) -> Result<Vec<u8>> {
    let tree = usvg::Tree::from_str(svg, &usvg::Options::default())
        .map_err(|e| Error::internal(format!("sprite is not readable SVG: {e}")))?;
    let mut pixmap = tiny_skia::Pixmap::new(SIZE as u32, SIZE as u32)
        .ok_or_else(|| Error::internal("no memory for a sprite"))?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let side = SIZE as f32;
    let scale = side / width.max(height);
    let transform = tiny_skia::Transform::from_scale(scale, scale)
        .post_translate((side - width * scale) / 2.0, (side - height * scale) / 2.0);
    resvg::render(&tree, transform, &mut pixmap.as_mut());
    Ok(pixmap
        .pixels()
        .iter()
        .flat_map(|p| {
            let c = p.demultiply();
            [c.red(), c.green(), c.blue(), c.alpha()]
        })
        .collect())
}

/// Lanczos-3 weights from `SIZE` samples to `size`: for every output its first input and its taps.
struct Kernel(Vec<(usize, Vec<f32>)>);

static KERNELS: [OnceLock<Kernel>; SIZE + 1] = [const { OnceLock::new() }; SIZE + 1];

fn kernel(size: usize) -> &'static Kernel {
    KERNELS[size].get_or_init(|| {
        let scale = SIZE as f32 / size as f32;
        let rows = (0..size).map(|i| {
            let centre = (i as f32 + 0.5) * scale;
            let first = (centre - 3.0 * scale).round().max(0.0) as usize;
            let last = ((centre + 3.0 * scale).round() as usize).min(SIZE);
            let mut taps: Vec<f32> =
                (first..last).map(|x| lanczos3((x as f32 + 0.5 - centre) / scale)).collect();
            let total: f32 = taps.iter().sum();
            taps.iter_mut().for_each(|tap| *tap /= total);
            (first, taps)
        });
        Kernel(rows.collect())
    })
}

fn lanczos3(x: f32) -> f32 {
    if x.abs() < 1e-6 {
        1.0
    } else if x.abs() >= 3.0 {
        0.0
    } else {
        let a = PI * x;
        3.0 * a.sin() * (a / 3.0).sin() / (a * a)
    }
}

/// Draws a sprite, resized to `size` pixels, with its top left corner at (x, y), onto an RGB canvas
/// `[SIZE, SIZE, 3]`; what falls outside is cut off.
pub fn draw(canvas: &mut [f32], sprite: &[u8], size: usize, x: i32, y: i32) {
    let size = size.clamp(1, SIZE);
    let Kernel(rows) = kernel(size);
    let premultiplied: Vec<[f32; 4]> = sprite
        .chunks_exact(4)
        .map(|p| {
            let alpha = f32::from(p[3]) / 255.0;
            [f32::from(p[0]) * alpha, f32::from(p[1]) * alpha, f32::from(p[2]) * alpha, alpha]
        })
        .collect();
    let add = |sum: &mut [f32; 4], p: &[f32; 4], tap: f32| {
        sum.iter_mut().zip(p).for_each(|(s, p)| *s += p * tap);
    };
    // Vertically first: whole rows are added up, which vectorises.
    let mut narrow = vec![[0f32; 4]; size * SIZE];
    for ((first, taps), out) in rows.iter().zip(narrow.chunks_exact_mut(SIZE)) {
        for (tap, source) in taps.iter().zip(premultiplied.chunks_exact(SIZE).skip(*first)) {
            out.iter_mut().zip(source).for_each(|(sum, p)| add(sum, p, *tap));
        }
    }
    for (row, line) in (y..).zip(narrow.chunks_exact(SIZE)) {
        for (column, (first, taps)) in (x..).zip(rows) {
            if !(0..SIZE as i32).contains(&row) || !(0..SIZE as i32).contains(&column) {
                continue;
            }
            let mut sum = [0f32; 4];
            taps.iter().zip(&line[*first..]).for_each(|(tap, p)| add(&mut sum, p, *tap));
            let alpha = sum[3].clamp(0.0, 1.0);
            let at = (row as usize * SIZE + column as usize) * 3;
            for (pixel, colour) in canvas[at..at + 3].iter_mut().zip(sum) {
                *pixel = *pixel * (1.0 - alpha) + colour.clamp(0.0, 255.0 * alpha);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "svg")]
    #[test]
    fn svg_is_fitted_and_centred() {
        let wide = r##"<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="20" height="10" fill="#ff8000"/></svg>"##;
        let pixels = render_svg(wide).unwrap();
        let at = |x: usize, y: usize| &pixels[(y * SIZE + x) * 4..][..4];
        assert_eq!(at(0, 15), [0, 0, 0, 0]);
        assert_eq!(at(0, 16), [255, 128, 0, 255]);
        assert_eq!(at(63, 47), [255, 128, 0, 255]);
        assert_eq!(at(32, 48), [0, 0, 0, 0]);
    }

    #[test]
    fn full_size_copies_and_smaller_keeps_flat_colour() {
        let sprite = [10u8, 200, 30, 255].repeat(SIZE * SIZE);
        let mut canvas = vec![255f32; SIZE * SIZE * 3];
        draw(&mut canvas, &sprite, SIZE, 0, 0);
        assert!(canvas.chunks_exact(3).all(|p| (p[0] - 10.0).abs() < 0.1 && (p[1] - 200.0).abs() < 0.1));
        let mut canvas = vec![255f32; SIZE * SIZE * 3];
        draw(&mut canvas, &sprite, 16, -8, 56);
        let painted = canvas.chunks_exact(3).filter(|p| p[0] < 128.0).count();
        assert_eq!(painted, 8 * 8);
    }
}
