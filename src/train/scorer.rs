//! Stage `scorer`: the evaluator's detector learns from freshly rendered scenes, made as soft and
//! as noisy as drawn pictures are, and from pictures that must not count.

use burn::tensor::{
    Int, Tensor, TensorData,
    activation::{log_softmax, sigmoid, softplus},
};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::stage::{Stage, TrainingConfig};
use crate::{
    Error, Result,
    eval::detector::{BOX, CELL, COLOURS, Detector, GRID, row},
    image::to_tensor,
    random,
    scene::{Engine, Kinds, Layout, SIZE, World},
    umm::autoencoder::Autoencoder,
};

mod disturb;

use self::disturb::{Example, Object, Strangers};

const TAG: u64 = u64::from_be_bytes(*b"scorer..");
/// Share of a batch that goes through the model's autoencoder, with up to so much noise on the
/// latents (in their standard deviations): drawn pictures are as soft as that.
const SOFT: f64 = 0.35;
const LATENT_NOISE: f32 = 0.4;
/// Spread of a centre on the nouns' map, cells.
const SPREAD: f32 = 0.9;

/// How a scorer is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScorerTraining {
    #[serde(flatten)]
    pub training: TrainingConfig,
    /// Seed of scenes and disturbances.
    pub seed: u64,
    /// Share of the objects that are things which the world has no word for.
    pub strangers: f64,
}

impl Default for ScorerTraining {
    fn default() -> Self {
        let training = TrainingConfig {
            steps: 4000,
            batch: 48,
            learning_rate: 2e-3,
            weight_decay: 0.02,
            warmup: 100,
            ..TrainingConfig::default()
        };
        Self { training, seed: 77, strangers: 0.25 }
    }
}

/// The stage: scenes of the world as it is, and of the same things placed freely and counted.
pub struct ScorerStage {
    engines: [Engine; 2],
    strangers: Strangers,
    autoencoder: Option<Autoencoder>,
    config: ScorerTraining,
}

impl ScorerStage {
    /// `autoencoder`: that of the model whose drawings are to be scored, plain.
    ///
    /// # Errors
    /// `bad_input` for a world that cannot be.
    pub fn new(world: &World, autoencoder: Option<Autoencoder>, config: &ScorerTraining) -> Result<Self> {
        let two = if world.nouns.len() > 1 { 0.5 } else { 0.0 };
        let free = World {
            layout: Layout::Free,
            kinds: Kinds { single: 0.75 - two, two, count: 0.25 },
            ..world.clone()
        };
        let engines = [Engine::new(world.clone())?, Engine::new(free)?];
        let strangers = Strangers::of(world, config.strangers)?;
        Ok(Self { engines, strangers, autoencoder, config: config.clone() })
    }

    /// The pictures and objects of a step.
    fn examples(&self, step: u64) -> Result<Vec<Example>> {
        let batch = self.config.training.batch as u64;
        (step * batch..(step + 1) * batch)
            .map(|index| disturb::example(&self.engines, &self.strangers, self.config.seed ^ TAG, index))
            .collect()
    }

    /// The first pictures of a batch as the autoencoder would draw them, the others as they are.
    fn soften(&self, images: Tensor<4>, step: u64) -> Tensor<4> {
        let [batch, _, _, _] = images.dims();
        let soft = (batch as f64 * SOFT) as usize;
        let Some(autoencoder) = self.autoencoder.as_ref().filter(|_| soft > 0 && soft < batch) else {
            return images;
        };
        let mut random = random::stream(self.config.seed ^ TAG, step | 1 << 60);
        let latents = autoencoder.encode(images.clone().narrow(0, 0, soft));
        let device = latents.device();
        let noise = random::noise(&mut random, latents.dims(), &device);
        let scale: Vec<f32> = (0..soft).map(|_| random::uniform(&mut random) as f32 * LATENT_NOISE).collect();
        let scale = Tensor::<1>::from_data(TensorData::new(scale, [soft]), &device);
        let scale: Tensor<3> = scale.reshape([soft, 1, 1]);
        let decoded = autoencoder.decode(latents + noise * scale).clamp(-1.0, 1.0);
        Tensor::cat(vec![decoded, images.narrow(0, soft, batch - soft)], 0)
    }
}

impl Stage for ScorerStage {
    type Module = Detector;

    fn loss(&self, module: &Detector, step: u64) -> Result<Tensor<1>> {
        let examples = self.examples(step)?;
        let pictures: Vec<RgbImage> = examples
            .iter()
            .map(|example| {
                RgbImage::from_raw(SIZE as u32, SIZE as u32, example.pixels.clone())
                    .ok_or_else(|| Error::internal("a scene has the wrong number of pixels"))
            })
            .collect::<Result<_>>()?;
        let device = module.head.weight.device();
        let images = self.soften(to_tensor(&pictures, &device.clone().without_autodiff()), step);
        let nouns = self.engines[0].world().nouns.len();
        let cells = module.forward(images.autodiff());
        let targets = Targets::new(&examples, nouns);
        let map = heat_loss(cells.nouns, &targets);
        if targets.rows.is_empty() {
            return Ok(map);
        }
        let count = targets.rows.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(targets.rows, [count]), &device);
        let batch = examples.len();
        let colours: Tensor<2> =
            cells.colours.reshape([batch * GRID * GRID, COLOURS]).select(0, rows.clone());
        let wanted = Tensor::<2>::from_data(TensorData::new(targets.colours, [count, COLOURS]), &device);
        let colour = (log_softmax(colours, 1) * wanted).sum() / -(count as f32);
        let boxes: Tensor<2> = cells.boxes.reshape([batch * GRID * GRID, BOX]).select(0, rows);
        let wanted = Tensor::<2>::from_data(TensorData::new(targets.boxes, [count, BOX]), &device);
        Ok(map + colour + (boxes - wanted).abs().mean())
    }
}

/// What the cells of a batch should say.
struct Targets {
    /// The nouns' map, `[batch, 256, nouns]`: 1 at centres, falling off around them.
    map: Vec<f32>,
    shape: [usize; 3],
    objects: usize,
    /// Rows of cells at and beside a centre, in the whole batch, with their colours and boxes.
    rows: Vec<i32>,
    colours: Vec<f32>,
    boxes: Vec<f32>,
}

impl Targets {
    fn new(examples: &[Example], nouns: usize) -> Self {
        let shape = [examples.len(), GRID * GRID, nouns];
        let mut targets = Self {
            map: vec![0.0; shape.iter().product()],
            shape,
            objects: 0,
            rows: Vec::new(),
            colours: Vec::new(),
            boxes: Vec::new(),
        };
        for (picture, example) in examples.iter().enumerate() {
            for object in &example.objects {
                targets.add(picture, object);
            }
        }
        targets
    }

    fn add(&mut self, picture: usize, object: &Object) {
        let [_, cells, nouns] = self.shape;
        let [x, y] = [object.cx, object.cy].map(|pixel| (pixel / CELL).clamp(0.0, GRID as f32 - 1e-3));
        self.objects += 1;
        for (column, line) in (0..cells).map(|cell| (cell % GRID, cell / GRID)) {
            let (dx, dy) = (x.floor() - column as f32, y.floor() - line as f32);
            let near = dx.abs().max(dy.abs());
            if near > 3.0 {
                continue;
            }
            let cell = picture * cells + row(column, line);
            let value = (-(dx * dx + dy * dy) / (2.0 * SPREAD * SPREAD)).exp();
            let map = &mut self.map[cell * nouns + object.noun];
            *map = map.max(value);
            if near <= 1.0 {
                self.rows.push(cell as i32);
                let mut colour = [0.0; COLOURS];
                colour[object.colour] = 1.0;
                self.colours.extend(colour);
                let offset = |centre: f32, cell: usize| centre - (cell as f32 + 0.5);
                self.boxes.extend([offset(x, column), offset(y, line), object.size / SIZE as f32]);
            }
        }
    }
}

/// CenterNet's focal loss (section 3, equation 1) with α = 2 and β = 4, by object.
fn heat_loss(scores: Tensor<3>, targets: &Targets) -> Tensor<1> {
    let device = scores.device();
    let map = Tensor::<3>::from_data(TensorData::new(targets.map.clone(), targets.shape), &device);
    let centre: Vec<f32> = targets.map.iter().map(|value| f32::from(*value >= 1.0)).collect();
    let centre = Tensor::<3>::from_data(TensorData::new(centre, targets.shape), &device);
    let p = sigmoid(scores.clone());
    let there = softplus(-scores.clone(), 1.0) * (-p.clone() + 1.0).square() * centre.clone();
    // β's power is 0 at centres.
    let away = (-map + 1.0).square().square();
    let not_there = softplus(scores, 1.0) * p.square() * away;
    (there + not_there).sum() / targets.objects.max(1) as f32
}
