//! Raster recolouring in HSV, and the colour names it is checked with.
//!
//! A sprite's dominant hue cluster moves to the target colour; outlines, windows, tyres and other
//! hues keep theirs. Pixels are straight RGBA bytes, `[SIZE, SIZE, 4]`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A named colour: GenEval's ten, and gray, which is only ever read, never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Brown,
    Black,
    White,
    Gray,
}

use Colour::*;

impl Colour {
    /// The ten colours a sprite is recoloured to, GenEval's.
    pub const TARGETS: [Self; 10] = [Red, Orange, Yellow, Green, Blue, Purple, Pink, Brown, Black, White];

    /// Every name, in the order of the enum.
    pub const ALL: [Self; 11] = [Red, Orange, Yellow, Green, Blue, Purple, Pink, Brown, Black, White, Gray];

    pub fn name(self) -> &'static str {
        match self {
            Red => "red",
            Orange => "orange",
            Yellow => "yellow",
            Green => "green",
            Blue => "blue",
            Purple => "purple",
            Pink => "pink",
            Brown => "brown",
            Black => "black",
            White => "white",
            Gray => "gray",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|colour| colour.name() == name)
    }

    /// Where recolouring puts the cluster's medians: hue in degrees, saturation, value.
    fn target(self) -> [f32; 3] {
        match self {
            Red => [0.0, 0.85, 0.86],
            Orange => [28.0, 0.92, 0.96],
            Yellow => [50.0, 0.88, 0.98],
            Green => [125.0, 0.62, 0.66],
            Blue => [215.0, 0.78, 0.86],
            Purple => [275.0, 0.62, 0.72],
            Pink => [335.0, 0.45, 0.98],
            Brown => [24.0, 0.62, 0.48],
            Black => [0.0, 0.0, 0.16],
            White => [0.0, 0.0, 0.97],
            Gray => [0.0, 0.0, 0.58],
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Hue in degrees [0, 360), saturation and value in [0, 1], of RGB bytes.
pub fn hsv(rgb: [u8; 3]) -> [f32; 3] {
    let [r, g, b] = rgb.map(|c| f32::from(c) / 255.0);
    let max = r.max(g).max(b);
    let delta = max - r.min(g).min(b);
    let hue = if delta < 1e-6 {
        0.0
    } else if max == r {
        ((g - b) / delta).rem_euclid(6.0)
    } else if max == g {
        (b - r) / delta + 2.0
    } else {
        (r - g) / delta + 4.0
    };
    [hue * 60.0, if max > 0.0 { delta / max } else { 0.0 }, max]
}

fn rgb([hue, s, v]: [f32; 3]) -> [f32; 3] {
    let h = hue.rem_euclid(360.0) / 60.0;
    let f = h.fract();
    let (p, q, t) = (v * (1.0 - s), v * (1.0 - s * f), v * (1.0 - s * (1.0 - f)));
    match h as u8 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// The name a pixel's colour goes by.
pub fn name(rgb: [u8; 3]) -> Colour {
    let [h, s, v] = hsv(rgb);
    if v < 0.25 {
        return Black;
    }
    if s < 0.18 {
        return if v >= 0.82 { White } else { Gray };
    }
    // Later rules override earlier ones: dull and dark warm colours are brown, light reds pink.
    if (8.0..45.0).contains(&h) && v < 0.68 || (12.0..45.0).contains(&h) && s < 0.45 && v < 0.85 {
        return Brown;
    }
    if !(20.0..340.0).contains(&h) && s < 0.5 && v > 0.75 {
        return Pink;
    }
    match h {
        h if !(12.0..345.0).contains(&h) => Red,
        h if h < 40.0 => Orange,
        h if h < 66.0 => Yellow,
        h if h < 170.0 => Green,
        h if h < 250.0 => Blue,
        h if h < 300.0 => Purple,
        _ => Pink,
    }
}

/// The most frequent colour name among opaque pixels, and its share of them.
pub fn modal(rgba: &[u8]) -> Option<(Colour, f32)> {
    let mut counts = [0usize; Colour::ALL.len()];
    for p in rgba.chunks_exact(4).filter(|p| p[3] > 128) {
        counts[name([p[0], p[1], p[2]]) as usize] += 1;
    }
    let total: usize = counts.iter().sum();
    let colour = Colour::ALL.into_iter().rev().max_by_key(|&colour| counts[colour as usize])?;
    (total > 0).then(|| (colour, counts[colour as usize] as f32 / total as f32))
}

/// The hue cluster that carries a sprite's colour.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// Centre, degrees.
    pub hue: f32,
    /// Share of the chromatic pixels that lie in it.
    pub of_chromatic: f32,
    /// Share of the opaque pixels that lie in it.
    pub of_opaque: f32,
    median_s: f32,
    median_v: f32,
}

const WINDOW: f32 = 38.0;

/// Signed distance of two hues in degrees, [-180, 180).
fn offset(hue: f32, centre: f32) -> f32 {
    (hue - centre + 180.0).rem_euclid(360.0) - 180.0
}

fn median(values: &mut [f32]) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The ±38 degree window with the most saturation-weighted mass; `None` for a sprite without colour.
pub fn dominant(rgba: &[u8]) -> Option<Cluster> {
    let opaque: Vec<[f32; 3]> =
        rgba.chunks_exact(4).filter(|p| p[3] > 128).map(|p| hsv([p[0], p[1], p[2]])).collect();
    let chromatic: Vec<_> = opaque.iter().filter(|p| p[1] > 0.22 && p[2] > 0.2).collect();
    if chromatic.len() < 8 {
        return None;
    }
    let mut histogram = [0f32; 72];
    for p in &chromatic {
        histogram[(p[0] / 5.0) as usize % 72] += p[1];
    }
    let mass = |bin: usize| -> f32 { (0..15).map(|k| histogram[(bin + 72 + k - 7) % 72]).sum() };
    let bin = (0..72).rev().max_by(|&a, &b| mass(a).total_cmp(&mass(b)))?;
    let hue = bin as f32 * 5.0 + 2.5;
    let inside: Vec<_> = chromatic.iter().filter(|p| offset(p[0], hue).abs() <= WINDOW).collect();
    Some(Cluster {
        hue,
        of_chromatic: inside.len() as f32 / chromatic.len() as f32,
        of_opaque: inside.len() as f32 / opaque.len() as f32,
        median_s: median(&mut inside.iter().map(|p| p[1]).collect::<Vec<_>>()),
        median_v: median(&mut inside.iter().map(|p| p[2]).collect::<Vec<_>>()),
    })
}

/// Whether one hue carries the sprite, so that giving it another colour keeps the object whole.
pub fn recolourable(cluster: &Cluster) -> bool {
    cluster.of_chromatic >= 0.7 && cluster.of_opaque >= 0.5
}

/// Moves the cluster to `colour`, keeping shading and a quarter of the hue's spread.
pub fn recolour(rgba: &[u8], cluster: &Cluster, colour: Colour) -> Vec<u8> {
    let [th, ts, tv] = colour.target();
    let shift_value = matches!(colour, Black | White | Gray);
    let mut out = rgba.to_vec();
    for p in out.chunks_exact_mut(4) {
        let [h, s, v] = hsv([p[0], p[1], p[2]]);
        let d = offset(h, cluster.hue);
        let weight = ((46.0 - d.abs()) / 10.0).clamp(0.0, 1.0)
            * ((s - 0.12) / 0.15).clamp(0.0, 1.0)
            * ((v - 0.12) / 0.12).clamp(0.0, 1.0);
        if weight == 0.0 {
            continue;
        }
        let value =
            if shift_value { tv + (v - cluster.median_v) * 0.6 } else { v / cluster.median_v.max(1e-3) * tv };
        let saturation = s / cluster.median_s.max(1e-3) * ts;
        let new = rgb([th + d.clamp(-46.0, 46.0) * 0.25, saturation.clamp(0.0, 1.0), value.clamp(0.0, 1.0)]);
        for (old, new) in p.iter_mut().zip(new) {
            let blended = f32::from(*old) * (1.0 - weight) + new * 255.0 * weight;
            *old = (blended + 0.5) as u8;
        }
    }
    out
}

/// Whether a recoloured sprite reads as its colour: the modal name, on at least 40 % of the pixels.
pub fn passes(rgba: &[u8], colour: Colour) -> bool {
    modal(rgba).is_some_and(|(name, share)| name == colour && share >= 0.4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hsv_of_known_colours() {
        assert_eq!(hsv([255, 0, 0]), [0.0, 1.0, 1.0]);
        assert_eq!(hsv([0, 0, 255]), [240.0, 1.0, 1.0]);
        assert_eq!(hsv([128, 128, 128])[1], 0.0);
        let [h, s, v] = hsv([51, 102, 76]);
        assert!((h - 149.4).abs() < 0.1 && s == 0.5 && v == 0.4, "{h} {s} {v}");
    }

    #[test]
    fn every_target_goes_by_its_own_name() {
        for colour in Colour::ALL {
            let pixel = rgb(colour.target()).map(|c| (c * 255.0 + 0.5) as u8);
            assert_eq!(name(pixel), colour, "{pixel:?}");
        }
    }

    #[test]
    fn only_the_dominant_hue_moves() {
        // A red square with a blue window and a transparent corner.
        let mut sprite = [[200u8, 30, 30, 255]; 100].concat();
        sprite[..40].copy_from_slice(&[[40, 60, 220, 255]; 10].concat());
        sprite[40..48].fill(0);
        let cluster = dominant(&sprite).unwrap();
        assert_eq!(cluster.hue, 2.5);
        assert!(recolourable(&cluster));
        let green = recolour(&sprite, &cluster, Colour::Green);
        assert_eq!(green[..48], sprite[..48]);
        assert_eq!(name([green[60], green[61], green[62]]), Colour::Green);
        assert!(passes(&green, Colour::Green) && !passes(&green, Colour::Blue));
    }
}
