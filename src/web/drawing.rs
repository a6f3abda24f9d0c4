//! Pictures that come into being while JavaScript pulls.

use wasm_bindgen::prelude::*;
use web_sys::ImageData;

use super::options::pictures;
use crate::{Result, pipeline};

/// Pictures being drawn, one a seed. Pausing is not calling [`Drawing::advance`], cancelling is `free()`.
#[wasm_bindgen]
pub struct Drawing(pipeline::Drawing);

impl Drawing {
    pub(super) fn new(drawing: pipeline::Drawing) -> Self {
        Self(drawing)
    }
}

#[wasm_bindgen]
impl Drawing {
    /// Makes one denoising step and resolves when the device has made it; false if none was left.
    pub async fn advance(&mut self) -> Result<bool> {
        let made = self.0.advance();
        self.0.settled().await?;
        Ok(made)
    }

    /// Steps made so far.
    #[wasm_bindgen(getter)]
    pub fn step(&self) -> usize {
        self.0.progress().0
    }

    /// Steps in all.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> usize {
        self.0.progress().1
    }

    /// The pictures as the model now expects them to become.
    pub async fn preview(&self) -> Result<Vec<ImageData>> {
        pictures(&self.0.preview().await?)
    }

    /// The pictures at the current step; the result once no step is left.
    pub async fn images(&self) -> Result<Vec<ImageData>> {
        pictures(&self.0.images().await?)
    }
}
