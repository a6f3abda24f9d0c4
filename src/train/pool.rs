//! Which scenes a stage learns from, and batches of their pictures.

use burn::tensor::{Device, Tensor};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    image::to_tensor,
    random,
    scene::{Engine, Pool, SIZE, Scene},
};

/// The first `size` scenes of a pool and seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    pub kind: Pool,
    pub seed: u64,
    pub size: u64,
    /// Share of scenes of two objects; the world's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub two_objects: Option<f32>,
}

impl PoolConfig {
    /// # Errors
    /// `bad_input` naming the field, with its limits.
    pub fn check(&self) -> Result<()> {
        if self.size == 0 {
            return Err(Error::bad_input("size is 0, expected 1 or more"));
        }
        match self.two_objects.filter(|share| !(0.0..=1.0).contains(share)) {
            Some(share) => Err(Error::bad_input(format!("two_objects is {share}, expected 0 to 1"))),
            None => Ok(()),
        }
    }

    /// Scene number `index` and its picture, independent of all others.
    ///
    /// # Errors
    /// `bad_input` if the pool refuses everything the world has.
    pub fn sample(&self, engine: &Engine, index: u64) -> Result<(Scene, RgbImage)> {
        let kinds = engine.world().kinds;
        let kinds = self.two_objects.map_or(kinds, |two| kinds.with_two(two));
        let scene = engine.scene_of_kinds(kinds, self.kind, self.seed, index)?;
        let picture = RgbImage::from_raw(SIZE as u32, SIZE as u32, engine.render(&scene)?)
            .ok_or_else(|| Error::internal("a scene has the wrong number of pixels"))?;
        Ok((scene, picture))
    }

    /// The whole pool, one sample after the other.
    pub fn samples(&self, engine: &Engine) -> Result<(Vec<Scene>, Vec<RgbImage>)> {
        (0..self.size).map(|index| self.sample(engine, index)).collect()
    }
}

/// Scenes of which those with two objects are drawn at a rate of their own: relations are learned last.
pub struct Mixture {
    two_objects: f64,
    /// Indices of the scenes with a relation, and of the others.
    kinds: [Vec<usize>; 2],
}

impl Mixture {
    pub fn new(scenes: &[Scene], two_objects: f64) -> Self {
        let (two, others) = (0..scenes.len()).partition(|index| scenes[*index].relation.is_some());
        Self { two_objects, kinds: [two, others] }
    }

    /// Samples of a batch, with replacement.
    pub fn draw(&self, random: &mut ChaCha8Rng, batch: usize) -> Vec<usize> {
        let one = |_| {
            let two = random::uniform(random) < self.two_objects;
            let wanted = &self.kinds[usize::from(!two)];
            let kind = if wanted.is_empty() { &self.kinds[usize::from(two)] } else { wanted };
            kind[random::below(random, kind.len())]
        };
        (0..batch).map(one).collect()
    }
}

/// Samples of a batch, with replacement.
pub fn draw(random: &mut ChaCha8Rng, batch: usize, size: usize) -> Vec<usize> {
    (0..batch).map(|_| random::below(random, size)).collect()
}

/// The pictures of a batch, `[indices, 3, height, width]` in [-1, 1].
pub fn gather(pictures: &[RgbImage], indices: &[usize], device: &Device) -> Tensor<4> {
    let batch: Vec<RgbImage> = indices.iter().filter_map(|index| pictures.get(*index)).cloned().collect();
    to_tensor(&batch, device)
}

#[cfg(all(test, feature = "svg"))]
mod tests {
    use super::*;
    use crate::train::recipe::Recipe;

    #[test]
    fn a_pool_has_its_share_of_two_objects() {
        let engine = Engine::new(Recipe::named("mini").unwrap().world).unwrap();
        let share = |two_objects| {
            let pool = PoolConfig { kind: Pool::Open, seed: 1, size: 500, two_objects };
            let (scenes, _) = pool.samples(&engine).unwrap();
            scenes.iter().filter(|scene| scene.relation.is_some()).count() as f32 / scenes.len() as f32
        };
        let world = engine.world().kinds.two;
        for (given, expected) in [(None, world), (Some(0.75), 0.75), (Some(0.0), 0.0)] {
            let found = share(given);
            assert!((found - expected).abs() < 0.08, "{found} for {expected}");
        }
    }
}
