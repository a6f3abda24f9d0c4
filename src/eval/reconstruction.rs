//! How well a model redraws scenes from their understanding embeddings alone, and its autoencoder from
//! their latents.

use image::RgbImage;

use super::{
    check::picture,
    drawing::{BATCH, Progress},
    prompts::{PromptTier, scenes},
    report::{Fidelity, ReconstructionScore, Report, interval},
    scorer::Scorer,
};
use crate::{
    Pipeline, Result,
    flow::sampler::SamplerConfig,
    image::{from_tensor, psnr, to_tensor},
    pipeline::Drawing,
    scene::{Engine, Scene, geneval},
};

/// Redraws scenes in batches, a denoising step a call.
pub struct Reconstruction {
    pipeline: Pipeline,
    scorer: Scorer,
    scenes: Vec<Staged>,
    sampler: SamplerConfig,
    seed: u64,
    batch: usize,
    current: Option<(usize, Drawing)>,
    steps: u64,
    /// Of each scene, redrawn and through the autoencoder.
    results: Vec<[Likeness; 2]>,
}

/// A scene and its picture.
type Staged = (PromptTier, Scene, RgbImage);

/// One picture against its original.
struct Likeness {
    psnr: f64,
    ssim: f64,
    nouns: bool,
    colours: bool,
    places: bool,
}

impl Reconstruction {
    /// `per_tier` scenes of every tier that the engine's world has.
    ///
    /// # Errors
    /// `bad_input` for a world that cannot be.
    pub fn new(
        pipeline: &Pipeline,
        scorer: &Scorer,
        engine: &Engine,
        seed: u64,
        per_tier: usize,
        sampler: SamplerConfig,
    ) -> Result<Self> {
        let rendered = |(tier, scene): (PromptTier, Scene)| {
            let picture = picture(engine, &scene)?;
            Ok((tier, scene, picture))
        };
        Ok(Self {
            pipeline: pipeline.clone(),
            scorer: scorer.clone(),
            scenes: scenes(engine, seed, per_tier)?.into_iter().map(rendered).collect::<Result<_>>()?,
            sampler,
            seed,
            batch: BATCH,
            current: None,
            steps: 0,
            results: Vec::new(),
        })
    }

    /// So many pictures together; the numbers are the same for any.
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch.max(1);
        self
    }

    /// One denoising step of a batch; its last one also compares it. `None` once all is done.
    ///
    /// # Errors
    /// Those of drawing and reading pictures.
    pub async fn advance(&mut self) -> Result<Option<Progress>> {
        let begin = self.results.len();
        let (count, mut drawing) = match self.current.take() {
            Some(current) => current,
            None if begin == self.scenes.len() => return Ok(None),
            None => {
                let end = (begin + self.batch).min(self.scenes.len());
                let pictures: Vec<_> = self.scenes[begin..end].iter().map(|(_, _, p)| p.clone()).collect();
                let embeddings = self.pipeline.umm.embed(to_tensor(&pictures, self.pipeline.device()));
                let seeds: Vec<_> = (begin..end).map(|n| self.seed.wrapping_add(n as u64)).collect();
                (end - begin, self.pipeline.reconstruct_many(embeddings, &seeds, self.sampler.clone())?)
            }
        };
        drawing.advance();
        self.steps += count as u64;
        let (made, steps) = drawing.progress();
        if made < steps {
            self.current = Some((count, drawing));
        } else {
            let scenes = &self.scenes[begin..begin + count];
            let redrawn = self.compare(scenes, drawing.images().await?).await?;
            let autoencoder = &self.pipeline.umm.autoencoder;
            let originals: Vec<_> = scenes.iter().map(|(_, _, picture)| picture.clone()).collect();
            let latents = autoencoder.encode(to_tensor(&originals, self.pipeline.device()));
            let decoded = self.compare(scenes, from_tensor(autoencoder.decode(latents)).await?).await?;
            self.results.extend(redrawn.into_iter().zip(decoded).map(<[Likeness; 2]>::from));
        }
        Ok(Some(Progress { done: self.steps, total: (self.scenes.len() * self.sampler.steps) as u64 }))
    }

    async fn compare(&self, scenes: &[Staged], pictures: Vec<RgbImage>) -> Result<Vec<Likeness>> {
        let found = self.scorer.detect(&pictures).await?;
        let mut all = Vec::new();
        for (((_, scene, original), picture), found) in scenes.iter().zip(&pictures).zip(&found) {
            let [nouns, colours, places] = records(scene).map(|record| {
                super::rules::judge(self.scorer.config(), found, &record, &scene.style).correct
            });
            let (psnr, ssim) = (psnr(original, picture), ssim(original, picture));
            all.push(Likeness { psnr, ssim, nouns, colours, places });
        }
        Ok(all)
    }

    /// The report on the scenes redrawn so far.
    pub fn report(&self) -> Report {
        let score = |tier: PromptTier| {
            let results = self.scenes.iter().zip(&self.results).filter(|((of, _, _), _)| *of == tier);
            let [redrawn, decoded] =
                [0, 1].map(|k| results.clone().map(|(_, pair)| &pair[k]).collect::<Vec<_>>());
            (!redrawn.is_empty()).then(|| ReconstructionScore {
                tier,
                scenes: redrawn.len(),
                redrawn: fidelity(&redrawn),
                autoencoder: fidelity(&decoded),
            })
        };
        let rows = PromptTier::ALL.into_iter().filter_map(score).collect();
        Report { reconstruction: rows, ..Report::default() }
    }
}

fn fidelity(pictures: &[&Likeness]) -> Fidelity {
    let mean = |value: fn(&Likeness) -> f64| {
        pictures.iter().map(|picture| value(picture)).sum::<f64>() / pictures.len().max(1) as f64
    };
    let share = |value: fn(&Likeness) -> bool| {
        interval(&[pictures.iter().map(|picture| vec![value(picture)]).collect()])
    };
    Fidelity {
        psnr: mean(|p| p.psnr),
        ssim: mean(|p| p.ssim),
        nouns: share(|p| p.nouns),
        colours: share(|p| p.colours),
        places: share(|p| p.places),
    }
}

/// What a redrawn scene must show: its nouns; in their colours; where they were.
fn records(scene: &Scene) -> [geneval::Metadata; 3] {
    let mut all = geneval::metadata(scene);
    // The record of a position has its objects the other way round.
    for required in &mut all.include {
        let object = scene.objects.iter().find(|object| object.noun == required.class);
        required.color = object.and_then(|object| object.colour.or(object.natural_colour));
    }
    let mut colours = all.clone();
    colours.include.iter_mut().for_each(|required| required.position = None);
    let mut nouns = colours.clone();
    nouns.include.iter_mut().for_each(|required| required.color = None);
    [nouns, colours, all]
}

/// Structural similarity of two pictures of one size (Wang et al., 2004), on their luma, over all
/// windows of 8×8 pixels with equal weights.
pub fn ssim(a: &RgbImage, b: &RgbImage) -> f64 {
    const WINDOW: u32 = 8;
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    let (width, height) = a.dimensions();
    let luma = |image: &RgbImage| -> Vec<f64> {
        let grey =
            |p: &image::Rgb<u8>| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]);
        image.pixels().map(grey).collect()
    };
    let (x, y) = (luma(a), luma(b));
    let (mut total, mut windows) = (0.0, 0.0);
    for top in 0..=height.saturating_sub(WINDOW) {
        for left in 0..=width.saturating_sub(WINDOW) {
            let (mut sx, mut sy, mut sxx, mut syy, mut sxy, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
            for row in top..(top + WINDOW).min(height) {
                for at in row * width + left..row * width + (left + WINDOW).min(width) {
                    let (u, v) = (x[at as usize], y[at as usize]);
                    (sx, sy, n) = (sx + u, sy + v, n + 1.0);
                    (sxx, syy, sxy) = (sxx + u * u, syy + v * v, sxy + u * v);
                }
            }
            let (mx, my) = (sx / n, sy / n);
            let (vx, vy, cov) = (sxx / n - mx * mx, syy / n - my * my, sxy / n - mx * my);
            total += (2.0 * mx * my + c1) * (2.0 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2));
            windows += 1.0;
        }
    }
    total / windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssim_of_equal_and_of_flat_pictures() {
        let flat = |level| RgbImage::from_pixel(16, 16, image::Rgb([level; 3]));
        let noisy = RgbImage::from_fn(16, 16, |x, y| image::Rgb([((x * 31 + y * 17) % 256) as u8; 3]));
        assert!((ssim(&noisy, &noisy) - 1.0).abs() < 1e-9);
        // Without variance only the means' term is left: (2·100·150 + C1) / (100² + 150² + C1).
        let expected = (30_000.0 + 6.5025) / (32_500.0 + 6.5025);
        assert!((ssim(&flat(100), &flat(150)) - expected).abs() < 1e-9);
        assert!(ssim(&noisy, &flat(128)) < 0.1);
    }
}
