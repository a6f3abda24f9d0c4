//! What stands in the place of a caption: the image's own embeddings, behind a bottleneck.

use burn::tensor::{Int, Tensor};
use image::{RgbImage, imageops};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, image::to_tensor, random, umm::Umm};

/// The token drop to align with: what it gives is measured in `docs/recipe.md`.
pub const TOKEN_DROP: f64 = 0.75;

/// Which embeddings of an image the condition is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Understanding embeddings: dense and semantic.
    #[default]
    Understanding,
    /// The generator's own latents through its input layer: a control, since they leave nothing to
    /// be understood (table 7 of the paper: drawing from text falls).
    Generation,
}

/// The condition and its bottleneck. Without one the model learns to copy (the paper's guide): the
/// connector already leaves a quarter of the encoder's tokens; these options leave less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionConfig {
    pub source: Source,
    /// Side that the condition image is reduced to before it is read, pixels; the target stays
    /// whole. `None` leaves it as it is.
    pub resolution: Option<u32>,
    /// Standard deviation of a Gaussian blur of the condition image, pixels; 0 is none.
    pub blur: f32,
    /// Average so many neighbouring tokens a side into one: 1, 2 or 4 of the grid's 4.
    pub pooling: usize,
    /// Largest share of the embeddings that a step leaves out. How many, up to it, and which are drawn anew
    /// each step: what is left still says what is there, but no longer all of where, as a prompt does.
    pub token_drop: f64,
}

impl Default for ConditionConfig {
    fn default() -> Self {
        Self { source: Source::Understanding, resolution: None, blur: 0.0, pooling: 1, token_drop: 0.0 }
    }
}

impl ConditionConfig {
    /// # Errors
    /// `bad_input` with the limits.
    pub fn check(&self, grid: usize) -> Result<()> {
        if self.pooling == 0 || !grid.is_multiple_of(self.pooling) {
            return Err(Error::bad_input(format!(
                "condition pooling is {}, but must divide the grid of {grid} tokens a side",
                self.pooling
            )));
        }
        if !(0.0..=16.0).contains(&self.blur) {
            return Err(Error::bad_input(format!(
                "condition blur is {}, but must be 0 to 16 pixels",
                self.blur
            )));
        }
        if !(0.0..=1.0).contains(&self.token_drop) {
            return Err(Error::bad_input(format!("token drop is {}, but must be 0 to 1", self.token_drop)));
        }
        if self.resolution.is_some_and(|side| !(4..=1024).contains(&side)) {
            return Err(Error::bad_input("condition resolution must be 4 to 1024 pixels"));
        }
        Ok(())
    }

    /// The condition tokens of images of the model's size, `[images, tokens, hidden]`.
    pub fn tokens(&self, umm: &Umm, images: &[RgbImage]) -> Tensor<3> {
        let device = umm.connector.position_embedding.device();
        let pixels = to_tensor(&self.reduced(images), &device);
        let tokens = match self.source {
            Source::Understanding => umm.embed(pixels),
            Source::Generation => umm.generation.embed(umm.autoencoder.encode(pixels)),
        };
        self.pooled(tokens)
    }

    /// The images as they are read, behind the bottleneck's first half.
    pub fn reduced(&self, images: &[RgbImage]) -> Vec<RgbImage> {
        images.iter().map(|image| self.reduce(image)).collect()
    }

    /// Tokens of a square grid, row by row, behind its second half.
    pub fn pooled(&self, tokens: Tensor<3>) -> Tensor<3> {
        pool(tokens, self.pooling)
    }

    /// Tokens as one step sees them, `[images, kept, hidden]`, at least one of each image.
    pub fn dropped(&self, tokens: Tensor<3>, random: &mut ChaCha8Rng) -> Tensor<3> {
        if self.token_drop == 0.0 {
            return tokens;
        }
        let [_, count, _] = tokens.dims();
        let dropped = (random::uniform(random) * self.token_drop * count as f64).round() as usize;
        let kept = random::subset(random, count, count.saturating_sub(dropped).max(1));
        let kept: Vec<i32> = kept.into_iter().map(|index| index as i32).collect();
        let kept = Tensor::<1, Int>::from_ints(kept.as_slice(), &tokens.device());
        tokens.select(1, kept)
    }

    fn reduce(&self, image: &RgbImage) -> RgbImage {
        let (width, height) = image.dimensions();
        let mut reduced = image.clone();
        if let Some(side) = self.resolution.filter(|side| *side < width) {
            let small = imageops::resize(&reduced, side, side, imageops::FilterType::Triangle);
            reduced = imageops::resize(&small, width, height, imageops::FilterType::CatmullRom);
        }
        if self.blur > 0.0 {
            reduced = imageops::blur(&reduced, self.blur);
        }
        reduced
    }
}

/// Means of `factor` × `factor` neighbours on the square grid of tokens, row by row.
fn pool(tokens: Tensor<3>, factor: usize) -> Tensor<3> {
    if factor == 1 {
        return tokens;
    }
    let [batch, count, hidden] = tokens.dims();
    let side = count.isqrt();
    let small = side / factor;
    let grid = tokens.reshape([batch * small, factor, small, factor * hidden]).mean_dim(1);
    grid.reshape([batch * small * small, factor, hidden]).mean_dim(1).reshape([batch, small * small, hidden])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn pools_squares_of_neighbours() {
        let tokens = Tensor::<1, Int>::arange(0..16, &Device::flex()).float().reshape([1, 16, 1]);
        let found = pool(tokens, 2).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(found, [2.5, 4.5, 10.5, 12.5]);
    }

    #[test]
    fn drops_up_to_a_share_of_the_tokens() {
        let tokens = Tensor::<1, Int>::arange(0..32, &Device::flex()).float().reshape([2, 16, 1]);
        let config = ConditionConfig { token_drop: 0.75, ..ConditionConfig::default() };
        let mut counts = [0; 17];
        for step in 0..400 {
            let kept = config.dropped(tokens.clone(), &mut random::stream(1, step));
            let [_, count, _] = kept.dims();
            counts[count] += 1;
            let kept = kept.into_data().try_to_vec::<f32>().unwrap();
            assert!(kept[..count].is_sorted_by(|a, b| a < b));
            assert!(kept[..count].iter().zip(&kept[count..]).all(|(one, other)| one + 16.0 == *other));
        }
        assert!(counts[..4].iter().all(|count| *count == 0));
        assert!(
            counts[4] > 0 && counts[16] > 0 && counts[5..16].iter().all(|count| *count > 10),
            "{counts:?}"
        );
        let all = config.dropped(tokens.narrow(1, 0, 1), &mut random::stream(1, 0));
        assert_eq!(all.dims(), [2, 1, 1]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let config = ConditionConfig { pooling: 3, ..ConditionConfig::default() };
        assert!(config.check(4).unwrap_err().message.contains("divide the grid of 4"));
        assert!(ConditionConfig { token_drop: 1.5, ..ConditionConfig::default() }.check(4).is_err());
        assert!(ConditionConfig { blur: f32::NAN, ..ConditionConfig::default() }.check(4).is_err());
        assert!(ConditionConfig::default().check(4).is_ok());
    }
}
