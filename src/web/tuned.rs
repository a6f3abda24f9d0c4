//! Tuned weights in and out.

use std::rc::Rc;

use js_sys::Uint8Array;
use tsify::Ts;
use wasm_bindgen::prelude::*;

use super::{Runtime, options::Weights};
use crate::{
    Error, Result,
    weights::safetensors::{self, Precision},
};

#[wasm_bindgen]
impl Runtime {
    /// The whole model with these weights as a safetensors file in half precision; with the other files
    /// of its model directory, Python and the command line open it.
    #[wasm_bindgen(js_name = exportWeights)]
    pub async fn export_weights(&self, weights: Ts<Weights>) -> Result<Uint8Array> {
        let weights = weights.to_rust().map_err(Error::bad_input)?;
        let bytes = safetensors::save(&self.model(weights)?.umm, Precision::F16).await?;
        Ok(Uint8Array::from(bytes.as_slice()))
    }

    /// Takes the generation expert of a file that [`Runtime::export_weights`] wrote as the aligned one.
    ///
    /// # Errors
    /// `weights_format` and `weights_shape` for another model's or a damaged file; what was there stays.
    #[wasm_bindgen(js_name = importWeights)]
    pub fn import_weights(&self, bytes: &[u8]) -> Result<()> {
        let base = self.base()?;
        let umm = safetensors::load(base.umm.clone(), bytes)?;
        self.aligned.replace(Some(Rc::new(base.with_generation(umm.generation))));
        Ok(())
    }

    /// Forgets the aligned weights.
    pub fn reset(&self) {
        self.aligned.replace(None);
    }

    /// Whether there are aligned weights.
    #[wasm_bindgen(getter, js_name = hasAligned)]
    pub fn has_aligned(&self) -> bool {
        self.aligned.borrow().is_some()
    }
}
