//! Tuned weights: how far they are taken, and in and out.

use std::{collections::HashMap, rc::Rc};

use ::safetensors::SafeTensors;
use js_sys::Uint8Array;
use tsify::Ts;
use wasm_bindgen::prelude::*;

use super::{
    Runtime,
    options::Weights,
    types::{FileRecord, file},
};
use crate::{
    Error, Pipeline, Result,
    train::ema::interpolate,
    umm::generation::Generation,
    weights::{
        Manifest,
        directory::{ALIGNED, with_aligned},
        safetensors::{self, Precision},
    },
};

/// The one metadata field of an exported file: its base's name.
const BASE: &str = "base";

/// A tuned generation expert, and the model that it makes of the base.
pub struct Tuned {
    expert: Option<Generation>,
    /// How far the base is moved to the expert.
    share: f32,
    pipeline: Option<Rc<Pipeline>>,
}

impl Default for Tuned {
    fn default() -> Self {
        Self { expert: None, share: 1.0, pipeline: None }
    }
}

impl Tuned {
    /// The model, where there is an expert.
    pub fn pipeline(&self) -> Option<Rc<Pipeline>> {
        self.pipeline.clone()
    }

    /// Takes another expert; the share stays.
    pub fn set(&mut self, base: &Pipeline, expert: Generation) {
        self.expert = Some(expert);
        self.apply(base);
    }

    /// Makes the model anew, of another base or by another share.
    pub fn apply(&mut self, base: &Pipeline) {
        self.pipeline = self.expert.as_ref().map(|expert| {
            let moved = match self.share {
                1.0 => expert.clone(),
                share => interpolate(base.umm.generation.clone(), expert, share),
            };
            Rc::new(base.with_generation(moved))
        });
    }
}

#[wasm_bindgen]
impl Runtime {
    /// Moves the base this part of the way to the aligned expert, now and whenever there is another one:
    /// less than all forgets less (WiSE-FT, arXiv 2109.01903).
    ///
    /// # Errors
    /// `bad_input` for a share outside 0 to 1.
    pub fn interpolate(&self, share: f32) -> Result<()> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::bad_input(format!("share is {share}, expected 0 (the base) to 1")));
        }
        let mut tuned = self.aligned.borrow_mut();
        tuned.share = share;
        if let Some(base) = self.base.borrow().as_ref() {
            tuned.apply(base);
        }
        Ok(())
    }

    /// The whole model with these weights as a safetensors file in half precision, which names `base`, the
    /// loaded model; with the other files of its model directory, Python and the command line open it.
    #[wasm_bindgen(js_name = exportWeights)]
    pub async fn export_weights(&self, weights: Ts<Weights>, base: String) -> Result<Uint8Array> {
        let weights = weights.to_rust().map_err(Error::bad_input)?;
        self.whole()?;
        let metadata = HashMap::from([(BASE.to_owned(), base)]);
        let bytes = safetensors::save_with(&self.model(weights)?.umm, Precision::F16, Some(metadata)).await?;
        Ok(Uint8Array::from(bytes.as_slice()))
    }

    /// Takes the generation expert of a file that [`Runtime::export_weights`] wrote as the aligned one, all of
    /// the way; `base` names the loaded model.
    ///
    /// # Errors
    /// `bad_input` for a file that names another base, `weights_format` and `weights_shape` for another
    /// model's or a damaged one; what was there stays.
    #[wasm_bindgen(js_name = importWeights)]
    pub fn import_weights(&self, bytes: &[u8], base: &str) -> Result<()> {
        // Those of the command line name none.
        let named = SafeTensors::read_metadata(bytes)
            .ok()
            .and_then(|(_, header)| header.metadata().as_ref()?.get(BASE).cloned());
        if named.is_some_and(|named| named != base) {
            let message = "these weights are of another base than the loaded one; open the model that they were \
                           exported from, and import them there";
            return Err(Error::bad_input(message));
        }
        let base = self.base()?;
        let umm = safetensors::load(base.umm.clone(), bytes)?;
        self.reset();
        self.aligned.borrow_mut().set(&base, umm.generation);
        Ok(())
    }

    /// Takes the aligned weights that come with the model, all of the way: `manifest.json`, which lists them
    /// as `later`, and `aligned.safetensors`.
    ///
    /// # Errors
    /// `weights_hash`, `weights_format`, `weights_shape`; what was there stays.
    #[wasm_bindgen(js_name = takeShipped)]
    pub fn take_shipped(&self, files: &FileRecord) -> Result<()> {
        let [bytes] = Manifest::read([ALIGNED], |name| file(files, name))?;
        let base = self.base()?;
        let umm = with_aligned(base.umm.clone(), &bytes)?;
        self.reset();
        self.aligned.borrow_mut().set(&base, umm.generation);
        Ok(())
    }

    /// Forgets the aligned weights.
    pub fn reset(&self) {
        self.aligned.replace(Tuned::default());
    }

    /// Whether there are aligned weights.
    #[wasm_bindgen(getter, js_name = hasAligned)]
    pub fn has_aligned(&self) -> bool {
        self.aligned.borrow().pipeline.is_some()
    }
}
