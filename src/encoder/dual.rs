//! A whole CLIP or SigLIP model: both towers into one space, and the scores between them.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, activation},
};

use super::{
    config::{EncoderConfig, Family},
    text::TextTower,
    vision::VisionTower,
};
use crate::{
    Error, Result,
    layers::{Linear, constant},
    ops::product,
};

/// Both towers; field names are the checkpoints' tensor names. What a checkpoint lacks is `None`.
#[derive(Module, Debug)]
pub struct DualEncoder {
    pub vision_model: VisionTower,
    pub text_model: Option<TextTower>,
    /// CLIP's projections into the common space.
    pub visual_projection: Option<Linear>,
    pub text_projection: Option<Linear>,
    /// Logarithm of the factor on cosines.
    pub logit_scale: Option<Param<Tensor<1>>>,
    /// SigLIP's.
    pub logit_bias: Option<Param<Tensor<1>>>,
}

impl DualEncoder {
    /// A model with fresh random weights, with its projections.
    pub fn new(config: &EncoderConfig, device: &Device) -> Self {
        let is_clip = config.family == Family::Clip;
        let projection = |size| Linear::unbiased(size, config.projection_dim, device);
        let scalar = |value| constant(value, [1], device);
        let text = config.text.as_ref();
        Self {
            vision_model: VisionTower::new(config.family, &config.vision, device),
            text_model: text.map(|text| TextTower::new(config.family, text, device)),
            visual_projection: is_clip.then(|| projection(config.vision.block.hidden_size)),
            text_projection: text.filter(|_| is_clip).map(|text| projection(text.block.hidden_size)),
            // CLIP starts at ln(1 / 0.07), SigLIP at ln 10 with a bias of -10.
            logit_scale: text.map(|_| scalar(if is_clip { 2.6592 } else { std::f64::consts::LN_10 })),
            logit_bias: text.filter(|_| !is_clip).map(|_| scalar(-10.0)),
        }
    }

    /// The same without what only texts need.
    pub fn vision_only(self) -> Self {
        Self { text_model: None, text_projection: None, logit_scale: None, logit_bias: None, ..self }
    }

    /// The images' vectors in the common space, not normalised: `get_image_features` in
    /// `transformers`.
    ///
    /// # Shapes
    /// `[batch, 3, height, width]` to `[batch, size]`.
    ///
    /// # Errors
    /// `bad_input` for a SigLIP checkpoint without its pooling head.
    pub fn image_embeds(&self, images: Tensor<4>) -> Result<Tensor<2>> {
        self.pooled_embeds(self.vision_model.last_hidden_state(images))
    }

    /// The same from the vision tower's last hidden state, `[batch, tokens, hidden]`.
    ///
    /// # Errors
    /// `bad_input` for a SigLIP checkpoint without its pooling head.
    pub fn pooled_embeds(&self, last: Tensor<3>) -> Result<Tensor<2>> {
        Ok(self.project(self.vision_model.pool(last).ok_or_else(no_head)?))
    }

    /// Each patch's vector in the common space, not normalised; see [`VisionTower::pool_patches`].
    ///
    /// # Shapes
    /// The last hidden state, `[batch, tokens, hidden]`, to `[batch, patches, size]`.
    ///
    /// # Errors
    /// `bad_input` for a SigLIP checkpoint without its pooling head.
    pub fn patch_embeds(&self, last: Tensor<3>) -> Result<Tensor<3>> {
        Ok(self.project(self.vision_model.pool_patches(last).ok_or_else(no_head)?))
    }

    fn project<const D: usize>(&self, pooled: Tensor<D>) -> Tensor<D> {
        match &self.visual_projection {
            Some(projection) => projection.forward(pooled),
            None => pooled,
        }
    }

    /// The texts' vectors in the common space, not normalised, `[texts, size]`.
    ///
    /// # Errors
    /// `bad_input` for a checkpoint of the vision tower alone, and those of [`TextTower::forward`].
    pub fn text_embeds(&self, ids: &[Vec<u32>]) -> Result<Tensor<2>> {
        let tower = self.text_model.as_ref().ok_or_else(no_text)?;
        let pooled = tower.forward(ids)?;
        Ok(match &self.text_projection {
            Some(projection) => projection.forward(pooled),
            None => pooled,
        })
    }

    /// Scaled (and for SigLIP shifted) cosines, `[images, texts]`.
    ///
    /// # Errors
    /// `bad_input` for a checkpoint of the vision tower alone.
    pub fn logits(&self, images: Tensor<2>, texts: Tensor<2>) -> Result<Tensor<2>> {
        let scale = self.logit_scale.as_ref().ok_or_else(no_text)?.val().exp();
        let scaled = cosines(images, texts) * scale.unsqueeze();
        Ok(match &self.logit_bias {
            Some(bias) => scaled + bias.val().unsqueeze(),
            None => scaled,
        })
    }

    /// Scores in [0, 1] from logits: CLIP's softmax over the texts, SigLIP's sigmoid of each.
    pub fn scores(&self, logits: Tensor<2>) -> Tensor<2> {
        if self.logit_bias.is_some() { activation::sigmoid(logits) } else { activation::softmax(logits, 1) }
    }
}

/// Cosines of every row of one with every row of the other, `[images, texts]`.
pub fn cosines(images: Tensor<2>, texts: Tensor<2>) -> Tensor<2> {
    product(normalise(images), normalise(texts).transpose())
}

/// Rows of length 1.
pub fn normalise(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt();
    x / length
}

fn no_head() -> Error {
    Error::bad_input("this checkpoint has no pooling head (vision_use_head is false); use its hidden states")
}

fn no_text() -> Error {
    Error::bad_input(
        "this checkpoint holds the vision tower alone; texts need a whole model (model_type clip or siglip)",
    )
}
