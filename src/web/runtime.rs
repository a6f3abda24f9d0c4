//! A device, a model on it, and drawings that the caller pulls step by step.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use burn::{
    module::Module,
    tensor::{Tensor, TensorData},
};
use js_sys::Float32Array;
use tsify::{Ts, Tsify};
use wasm_bindgen::prelude::*;
use web_sys::ImageData;

use super::{
    drawing::Drawing,
    options::{DrawOptions, ModelInfo, Weights, pixels},
    tuned::Tuned,
    types::{Backend, FileRecord, RuntimeInfo, file, picture},
};
use crate::{
    Error, Pipeline, Result,
    device::Opened,
    eval::Scorer,
    image,
    scene::Engine,
    umm::{Decoding, describe::read},
    weights::{
        Manifest, ModelFiles,
        directory::{LATENT_ENCODER, LatentEncoderFile, with_latent_encoder},
    },
};

/// A device and what lives on it: the model as it was loaded, the same with a tuned generation
/// expert, the world that scenes are made of, and the scorer of what is drawn.
#[wasm_bindgen]
pub struct Runtime {
    pub(super) opened: Opened,
    pub(super) base: RefCell<Option<Rc<Pipeline>>>,
    /// Whether the base still lacks what only learning from pictures needs.
    pub(super) incomplete: Cell<bool>,
    pub(super) aligned: Rc<RefCell<Tuned>>,
    pub(super) world: RefCell<Option<Rc<Engine>>>,
    pub(super) scorer: RefCell<Option<Scorer>>,
}

#[wasm_bindgen]
impl Runtime {
    /// Opens a device.
    ///
    /// # Errors
    /// `no_webgpu` if WebGPU is asked for and cannot be had.
    pub async fn create(backend: Ts<Backend>) -> Result<Runtime> {
        let opened = Backend::open(backend).await?;
        Ok(Self {
            opened,
            base: RefCell::default(),
            incomplete: Cell::default(),
            aligned: Rc::default(),
            world: RefCell::default(),
            scorer: RefCell::default(),
        })
    }

    /// Which device this is, and why.
    pub fn info(&self) -> Result<Ts<RuntimeInfo>> {
        RuntimeInfo::of(&self.opened)
    }

    /// Checks the files against their manifest and builds the model; an earlier one is dropped,
    /// with its tuned weights. Files that the manifest lists as `later` may come later, see
    /// [`Runtime::complete`].
    ///
    /// # Errors
    /// `weights_hash`, `weights_format`, `weights_shape`.
    pub fn load(&self, files: &FileRecord) -> Result<Ts<ModelInfo>> {
        let files = ModelFiles::read_first(|name| file(files, name))?;
        let pipeline = Pipeline::new(&files, &self.opened.device)?;
        let info = ModelInfo {
            image_size: pipeline.config.image_size,
            visual_tokens: pipeline.config.visual_tokens(),
            hidden_size: pipeline.config.vision.hidden_size,
            parameters: pipeline.umm.num_params(),
            vocabulary: pipeline.tokenizer.words().to_vec(),
            styles: pipeline.styles().to_vec(),
            plans_layout: pipeline.plans_layout(),
        };
        self.base.replace(Some(Rc::new(pipeline)));
        self.aligned.replace(Tuned::default());
        self.incomplete.set(files.latent_encoder == LatentEncoderFile::Later);
        info.into_ts().map_err(Error::internal)
    }

    /// Whether [`Runtime::complete`] must be called before pictures are learned from, and before
    /// weights are exported.
    #[wasm_bindgen(getter)]
    pub fn incomplete(&self) -> bool {
        self.incomplete.get()
    }

    /// Takes what the loaded model's manifest lists as `later`: `manifest.json` and those files.
    ///
    /// # Errors
    /// `weights_hash`, `weights_format`, `weights_shape`; the model stays as it was.
    pub fn complete(&self, files: &FileRecord) -> Result<()> {
        let [bytes] = Manifest::read([LATENT_ENCODER], |name| file(files, name))?;
        let base = self.base()?;
        let mut whole = Pipeline::clone(&base);
        whole.umm = with_latent_encoder(whole.umm, &bytes)?;
        self.aligned.borrow_mut().apply(&whole);
        self.base.replace(Some(Rc::new(whole)));
        self.incomplete.set(false);
        Ok(())
    }

    /// The likeliest answer to a question about an image.
    ///
    /// # Errors
    /// `bad_input` for files that are no images and for words outside the vocabulary.
    pub async fn describe(&self, image: Vec<u8>, question: String) -> Result<String> {
        let image = image::decode(&image)?;
        self.base()?.describe(&image, &question, Decoding::Greedy).await
    }

    /// The understanding embeddings of an image, `visualTokens × hiddenSize` values row by row.
    pub async fn embed(&self, image: Vec<u8>) -> Result<Float32Array> {
        let embeddings = self.base()?.embed(&image::decode(&image)?);
        Ok(Float32Array::from(read(embeddings).await?.as_slice()))
    }

    /// The centre square of an image in the model's size: what the model sees.
    pub fn fit(&self, image: &[u8]) -> Result<ImageData> {
        let side = self.base()?.config.image_size as u32;
        picture(&image::fit(&image::decode(image)?, side))
    }

    /// Starts drawing a prompt.
    ///
    /// # Errors
    /// `bad_input` for unknown words, prompts that are too long and options out of range.
    pub fn generate(&self, prompt: &str, options: Option<Ts<DrawOptions>>) -> Result<Drawing> {
        let options = DrawOptions::parse(options)?;
        let mut model = self.model(options.weights)?;
        if options.as_written {
            model = Rc::new(model.as_written());
        }
        let sampler = model.sampler(options.steps, options.guidance);
        Ok(Drawing::new(model.generate(prompt, &options.seeds(), sampler)?))
    }

    /// Starts redrawing an image from its understanding embeddings alone; `count` must be 1.
    pub fn reconstruct(&self, image: &[u8], options: Option<Ts<DrawOptions>>) -> Result<Drawing> {
        let options = DrawOptions::parse(options)?;
        let embeddings = self.base()?.embed(&image::decode(image)?);
        self.redraw(embeddings, &options)
    }

    /// Starts drawing from understanding embeddings as [`Runtime::embed`] gives them.
    #[wasm_bindgen(js_name = reconstructEmbeddings)]
    pub fn reconstruct_embeddings(
        &self,
        embeddings: Vec<f32>,
        options: Option<Ts<DrawOptions>>,
    ) -> Result<Drawing> {
        let options = DrawOptions::parse(options)?;
        let config = &self.base()?.config;
        let (tokens, hidden) = (config.visual_tokens(), config.vision.hidden_size);
        if embeddings.len() != tokens * hidden {
            let found = embeddings.len();
            return Err(Error::bad_input(format!("{found} embedding values, expected {tokens} × {hidden}")));
        }
        let data = TensorData::new(embeddings, [1, tokens, hidden]);
        self.redraw(Tensor::from_data(data, &self.opened.device), &options)
    }
}

impl Runtime {
    fn redraw(&self, embeddings: Tensor<3>, options: &DrawOptions) -> Result<Drawing> {
        let model = self.model(options.weights)?;
        let sampler = model.sampler(options.steps, options.guidance);
        Ok(Drawing::new(model.reconstruct(embeddings, options.seed, sampler)?))
    }

    pub(super) fn base(&self) -> Result<Rc<Pipeline>> {
        self.base.borrow().clone().ok_or_else(|| Error::bad_input("no model is loaded yet"))
    }

    /// The base, of which nothing is left to come.
    pub(super) fn whole(&self) -> Result<Rc<Pipeline>> {
        if self.incomplete.get() {
            return Err(Error::bad_input("a part of the model has not been loaded yet; call complete first"));
        }
        self.base()
    }

    pub(super) fn model(&self, weights: Weights) -> Result<Rc<Pipeline>> {
        match weights {
            Weights::Base => self.base(),
            Weights::Aligned => self.aligned.borrow().pipeline().ok_or_else(|| {
                Error::bad_input("there are no aligned weights yet; align or import some first")
            }),
        }
    }
}

/// Peak signal-to-noise ratio of two pictures of one size, dB.
///
/// # Errors
/// `bad_input` if the sizes differ.
#[wasm_bindgen]
pub fn psnr(a: &ImageData, b: &ImageData) -> Result<f64> {
    let (a, b) = (pixels(a)?, pixels(b)?);
    if a.dimensions() != b.dimensions() {
        return Err(Error::bad_input("the pictures differ in size"));
    }
    Ok(image::psnr(&a, &b))
}
