//! A loaded CLIP or SigLIP checkpoint: pictures to embeddings, scores of labels, cosines of patches.

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use js_sys::{Float32Array, Uint32Array};
use serde::Serialize;
use tsify::{Ts, Tsify};
use wasm_bindgen::prelude::*;
use web_sys::ImageData;

use super::types::picture;
use crate::{
    Error, Result,
    encoder::{DualEncoder, EncoderConfig, Family, Preprocessor, dual::normalise, tokenizer::TextTokenizer},
    image,
    ops::product,
    umm::describe::read,
};

/// What a loaded encoder is.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct EncoderInfo {
    #[tsify(type = "'clip' | 'siglip'")]
    pub family: String,
    /// Side of the square pictures that it was trained on, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Blocks of the vision tower.
    pub layers: usize,
    pub parameters: usize,
    /// Whether it can score labels: the text tower and its tokenizer are there.
    pub labels: bool,
}

/// How well labels fit a picture, in their order.
#[derive(Serialize, Tsify)]
pub struct LabelScores {
    /// `softmax`: they sum to 1 over the labels; `sigmoid`: each stands for itself.
    #[tsify(type = "'softmax' | 'sigmoid'")]
    pub kind: String,
    /// 0 to 1.
    pub scores: Vec<f32>,
    /// What the scores are made of: scaled, for SigLIP shifted cosines.
    pub logits: Vec<f32>,
}

/// Cosines of a picture's patches with one vector.
#[derive(Serialize, Tsify)]
pub struct CosineMap {
    pub rows: usize,
    pub columns: usize,
    /// -1 to 1, row by row.
    pub values: Vec<f32>,
}

/// A picture as a tower expects it.
#[wasm_bindgen]
pub struct Pixels {
    values: Vec<f32>,
    width: usize,
}

#[wasm_bindgen]
impl Pixels {
    /// `values`: 3 planes of normalised values, row by row; `width` pixels a row.
    ///
    /// # Errors
    /// `bad_input` if they do not fill 3 planes.
    #[wasm_bindgen(constructor)]
    pub fn new(values: Vec<f32>, width: usize) -> Result<Pixels> {
        if width == 0 || values.is_empty() || !values.len().is_multiple_of(3 * width) {
            return Err(Error::bad_input(format!(
                "{} values are no 3 planes of width {width}",
                values.len()
            )));
        }
        Ok(Self { values, width })
    }

    #[wasm_bindgen(getter)]
    pub fn values(&self) -> Float32Array {
        Float32Array::from(self.values.as_slice())
    }

    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.width
    }
}

/// A picture that went through the vision tower.
#[wasm_bindgen]
pub struct EncodedPicture {
    /// `[1, tokens, hidden]`
    last: Tensor<3>,
    columns: usize,
}

/// A loaded checkpoint.
#[wasm_bindgen]
pub struct Encoder {
    pub(super) model: DualEncoder,
    pub(super) config: EncoderConfig,
    pub(super) preprocessor: Preprocessor,
    pub(super) tokenizer: Option<TextTokenizer>,
    pub(super) device: Device,
}

#[wasm_bindgen]
impl Encoder {
    pub fn info(&self) -> Result<Ts<EncoderInfo>> {
        let vision = &self.config.vision;
        EncoderInfo {
            family: if self.config.family == Family::Clip { "clip" } else { "siglip" }.to_owned(),
            image_size: vision.image_size,
            patch_size: vision.patch_size,
            layers: vision.num_hidden_layers,
            parameters: self.model.num_params(),
            labels: self.model.text_model.is_some() && self.tokenizer.is_some(),
        }
        .into_ts()
        .map_err(Error::internal)
    }

    /// An image resized and cropped: what the encoder sees.
    pub fn fit(&self, image: &[u8]) -> Result<ImageData> {
        picture(&self.preprocessor.fit(&image::decode(image)?))
    }

    /// The same, normalised.
    pub async fn preprocess(&self, image: Vec<u8>) -> Result<Pixels> {
        let pixels = self.preprocessor.forward(&[image::decode(&image)?], &self.device)?;
        let [.., width] = pixels.dims();
        Ok(Pixels { values: read(pixels).await?, width })
    }

    /// Runs the vision tower.
    ///
    /// # Errors
    /// `bad_input` for pictures smaller than a patch.
    pub fn encode(&self, pixels: &Pixels) -> Result<EncodedPicture> {
        let columns = pixels.width / self.config.vision.patch_size;
        Ok(EncodedPicture { last: self.model.vision_model.last_hidden_state(self.tensor(pixels)?), columns })
    }

    /// `hidden_states[layer]` of `transformers`, token by token.
    ///
    /// # Errors
    /// `bad_input` for a layer that is not there.
    #[wasm_bindgen(js_name = hiddenState)]
    pub async fn hidden_state(&self, pixels: &Pixels, layer: usize) -> Result<Float32Array> {
        let layers = self.config.vision.num_hidden_layers;
        if layer > layers {
            return Err(Error::bad_input(format!("layer is {layer}, expected 0 to {layers}")));
        }
        values(self.model.vision_model.hidden_state(self.tensor(pixels)?, layer)).await
    }

    /// The picture's vector in the common space, not normalised.
    pub async fn embed(&self, picture: &EncodedPicture) -> Result<Float32Array> {
        values(self.model.pooled_embeds(picture.last.clone())?).await
    }

    /// Token ids as the text tower gets them, one row a text.
    pub fn tokens(&self, texts: Vec<String>) -> Result<Vec<Uint32Array>> {
        let rows = self.tokenizer()?.encode(&texts)?;
        Ok(rows.iter().map(|row| Uint32Array::from(row.as_slice())).collect())
    }

    /// How well labels fit the picture; each goes where `template` has `{}`.
    ///
    /// # Errors
    /// `bad_input` for no or empty labels, and where the text tower or its tokenizer is missing.
    #[wasm_bindgen(js_name = zeroShot)]
    pub async fn zero_shot(
        &self,
        picture: &EncodedPicture,
        labels: Vec<String>,
        template: String,
    ) -> Result<Ts<LabelScores>> {
        let texts = self.texts(&labels, &template)?;
        let logits = self.model.logits(self.model.pooled_embeds(picture.last.clone())?, texts)?;
        let scores = read(self.model.scores(logits.clone())).await?;
        let kind = if self.config.family == Family::Clip { "softmax" } else { "sigmoid" }.to_owned();
        LabelScores { kind, scores, logits: read(logits).await? }.into_ts().map_err(Error::internal)
    }

    /// Cosines of the picture's patches, each in the common space by itself, with the whole picture's
    /// vector, or with a label's.
    ///
    /// # Errors
    /// Those of [`Encoder::zero_shot`], and `bad_input` for a checkpoint without pooling head.
    #[wasm_bindgen(js_name = cosineMap)]
    pub async fn cosine_map(
        &self,
        picture: &EncodedPicture,
        label: Option<String>,
        template: String,
    ) -> Result<Ts<CosineMap>> {
        let patches: Tensor<2> = self.model.patch_embeds(picture.last.clone())?.squeeze_dim(0);
        let target = match label {
            Some(label) => self.texts(&[label], &template)?,
            None => self.model.pooled_embeds(picture.last.clone())?,
        };
        let values = read(product(normalise(patches), normalise(target).transpose())).await?;
        let columns = picture.columns;
        CosineMap { rows: values.len() / columns, columns, values }.into_ts().map_err(Error::internal)
    }
}

impl Encoder {
    /// `[1, 3, height, width]`
    fn tensor(&self, pixels: &Pixels) -> Result<Tensor<4>> {
        let height = pixels.values.len() / 3 / pixels.width;
        self.preprocessor.check_size(pixels.width, height)?;
        let data = TensorData::new(pixels.values.clone(), [1, 3, height, pixels.width]);
        Ok(Tensor::from_data(data, &self.device))
    }

    /// `[labels, size]`
    fn texts(&self, labels: &[String], template: &str) -> Result<Tensor<2>> {
        if labels.is_empty() || labels.iter().any(|label| label.trim().is_empty()) {
            return Err(Error::bad_input("a label is empty; write them like this: a cat, a dog"));
        }
        if !template.contains("{}") {
            return Err(Error::bad_input("the template must hold {}, where the label goes"));
        }
        let texts: Vec<String> = labels.iter().map(|label| template.replace("{}", label.trim())).collect();
        self.model.text_embeds(&self.tokenizer()?.encode(&texts)?)
    }

    fn tokenizer(&self) -> Result<&TextTokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::bad_input(
                "labels need the text tower and its tokenizer.json; load a whole checkpoint, with that file",
            )
        })
    }
}

/// All values of a tensor.
async fn values<const D: usize>(x: Tensor<D>) -> Result<Float32Array> {
    Ok(Float32Array::from(read(x).await?.as_slice()))
}
