//! The scorer's own small network: a dense detector of nouns, colours and boxes.
//!
//! A picture is read on a grid of 16×16 cells, four pixels each. A cell says for every noun whether
//! an object's centre lies in it, and for the object there its colour, its exact centre and its
//! size. Objects are the local peaks of the nouns' map, as in CenterNet ("Objects as Points", Zhou et
//! al., 2019). It shares its kind of tower with the model, but no weight and no training.

use burn::{
    module::Module,
    tensor::{Device, Tensor, activation::sigmoid},
};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    encoder::siglip::VisionModel,
    layers::Linear,
    scene::{Colour, SIZE, layout::Place},
    umm::{
        config::{STEM_STRIDE, VisionConfig},
        describe::read,
    },
};

/// Side of the grid of cells.
pub const GRID: usize = 16;
/// Side of a cell, pixels.
pub const CELL: f32 = (SIZE / GRID) as f32;
/// Every token of the tower speaks for 2×2 cells.
const SPLIT: usize = 2;
const TOKENS: usize = (SIZE / STEM_STRIDE).pow(2);
/// The ten named colours, and the colour that the noun has by nature.
pub const COLOURS: usize = Colour::TARGETS.len() + 1;
/// Centre (across, down) and size.
pub const BOX: usize = 3;
/// Where the nouns' scores start: almost everywhere there is nothing.
const PRIOR: f32 = -4.0;

/// The network; field names are the prefixes of the checkpoint's tensor names.
#[derive(Module, Debug)]
pub struct Detector {
    pub vision_model: VisionModel,
    pub head: Linear,
    nouns: usize,
}

/// What every cell says, cells in the order of [`row`].
pub struct Cells {
    /// Scores before the sigmoid, `[batch, 256, nouns]`.
    pub nouns: Tensor<3>,
    /// Scores before the softmax, `[batch, 256, 11]`.
    pub colours: Tensor<3>,
    /// Offset of the centre from the cell's, in cells, and the size, in pictures: `[batch, 256, 3]`.
    pub boxes: Tensor<3>,
}

/// The row of [`Cells`] that the cell at (x, y) is: tokens row by row, four cells a token.
pub fn row(x: usize, y: usize) -> usize {
    let token = (y / SPLIT) * (GRID / SPLIT) + x / SPLIT;
    token * SPLIT * SPLIT + (y % SPLIT) * SPLIT + x % SPLIT
}

impl Detector {
    /// A detector of so many nouns with fresh random weights.
    pub fn new(vision: &VisionConfig, nouns: usize, device: &Device) -> Self {
        let outputs = SPLIT * SPLIT * (nouns + COLOURS + BOX);
        Self {
            vision_model: VisionModel::sized(vision, TOKENS, device),
            head: Linear::new(vision.hidden_size, outputs, device),
            nouns,
        }
    }

    /// What every cell says about images `[batch, 3, 64, 64]` in [-1, 1].
    pub fn forward(&self, images: Tensor<4>) -> Cells {
        let tokens = self.head.forward(self.vision_model.forward(images));
        let [batch, _, _] = tokens.dims();
        let cells = tokens.reshape([batch, GRID * GRID, self.nouns + COLOURS + BOX]);
        Cells {
            nouns: cells.clone().narrow(2, 0, self.nouns) + PRIOR,
            colours: cells.clone().narrow(2, self.nouns, COLOURS),
            boxes: cells.narrow(2, self.nouns + COLOURS, BOX),
        }
    }

    /// The objects in images `[batch, 3, 64, 64]`, the surest first.
    pub async fn detect(&self, images: Tensor<4>) -> Result<Vec<Vec<Detection>>> {
        let cells = self.forward(images);
        let nouns = read(sigmoid(cells.nouns)).await?;
        let colours = read(cells.colours).await?;
        let boxes = read(cells.boxes).await?;
        let count = GRID * GRID;
        let pictures = nouns
            .chunks_exact(count * self.nouns.max(1))
            .zip(colours.chunks_exact(count * COLOURS))
            .zip(boxes.chunks_exact(count * BOX));
        Ok(pictures.map(|((nouns, colours), boxes)| self.peaks(nouns, colours, boxes)).collect())
    }

    /// Cells whose best noun is above the threshold and above that of all eight neighbours.
    fn peaks(&self, nouns: &[f32], colours: &[f32], boxes: &[f32]) -> Vec<Detection> {
        let best: Vec<(usize, f32)> = nouns.chunks_exact(self.nouns.max(1)).map(largest).collect();
        let mut found = Vec::new();
        for (x, y) in (0..GRID * GRID).map(|cell| (cell % GRID, cell / GRID)) {
            let own = row(x, y);
            let (noun, score) = best[own];
            let neighbours = (y.saturating_sub(1)..(y + 2).min(GRID))
                .flat_map(|y| (x.saturating_sub(1)..(x + 2).min(GRID)).map(move |x| row(x, y)));
            // Of equal neighbours the one with the smaller row is the peak.
            let beaten = |other: usize| best[other].1 > score || best[other].1 == score && other < own;
            if score < THRESHOLD || neighbours.into_iter().any(|other| other != own && beaten(other)) {
                continue;
            }
            let (colour, _) = largest(&colours[own * COLOURS..][..COLOURS]);
            let at = &boxes[own * BOX..][..BOX];
            let pixel = |cell: usize, offset: f32| (cell as f32 + 0.5 + offset) * CELL;
            found.push(Detection {
                noun,
                score,
                colour: Colour::TARGETS.get(colour).copied(),
                cx: pixel(x, at[0]),
                cy: pixel(y, at[1]),
                size: at[2] * SIZE as f32,
            });
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found
    }
}

/// Least score of an object that counts: that of GenEval, which asks 0.9 where things are counted.
pub const THRESHOLD: f32 = 0.3;

/// An object found in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Index of the noun in the scorer's list.
    pub noun: usize,
    /// How sure the detector is, 0 to 1.
    pub score: f32,
    /// `None` for the colour that the noun has by nature.
    pub colour: Option<Colour>,
    /// Centre and side, pixels.
    pub cx: f32,
    pub cy: f32,
    pub size: f32,
}

impl Detection {
    /// Its place in whole pixels, for the rule of relations.
    pub fn place(&self) -> Place {
        let whole = |value: f32| value.round() as i32;
        Place { cx: whole(self.cx), cy: whole(self.cy), size: whole(self.size) }
    }
}

fn largest(values: &[f32]) -> (usize, f32) {
    let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or((0, 0.0), |(index, value)| (index, *value))
}
