//! What both parts take and give, with TypeScript types.

use image::RgbImage;
use js_sys::{Reflect, Uint8Array, Uint8ClampedArray};
use serde::{Deserialize, Serialize};
use tsify::{Ts, Tsify};
use wasm_bindgen::{JsCast, prelude::*};
use web_sys::ImageData;

use crate::{
    Error, Result,
    device::{self, Choice, Opened},
};

#[wasm_bindgen]
extern "C" {
    /// Files of a model's folder by name.
    #[wasm_bindgen(typescript_type = "Record<string, Uint8Array>")]
    pub type FileRecord;
}

/// One of the files.
///
/// # Errors
/// `weights_format` if it is not there.
pub fn file(files: &FileRecord, name: &str) -> Result<Vec<u8>> {
    optional(files, name)
        .ok_or_else(|| Error::weights_format(format!("{name} is missing from the model's files")))
}

/// One of the files, where it is there.
pub fn optional(files: &FileRecord, name: &str) -> Option<Vec<u8>> {
    Some(Reflect::get(files, &name.into()).ok()?.dyn_ref::<Uint8Array>()?.to_vec())
}

/// What to compute on; `auto` is WebGPU where it can be had, else the CPU.
#[derive(Clone, Copy, Deserialize, Tsify)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    Auto,
    Cpu,
    Webgpu,
}

impl Backend {
    /// Opens a device.
    ///
    /// # Errors
    /// `no_webgpu` if WebGPU is asked for and cannot be had.
    pub async fn open(backend: Ts<Self>) -> Result<Opened> {
        device::open(match backend.to_rust().map_err(Error::bad_input)? {
            Self::Auto => Choice::Auto,
            Self::Cpu => Choice::Cpu,
            Self::Webgpu => Choice::WebGpu,
        })
        .await
    }
}

/// What is computed on, and why.
#[derive(Serialize, Tsify)]
pub struct RuntimeInfo {
    #[tsify(type = "'cpu' | 'webgpu'")]
    pub backend: String,
    pub reason: String,
    pub version: String,
}

impl RuntimeInfo {
    pub fn of(opened: &Opened) -> Result<Ts<Self>> {
        let (backend, reason) = (opened.backend.to_owned(), opened.reason.clone());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { backend, reason, version }.into_ts().map_err(Error::internal)
    }
}

/// An image as canvases take it.
pub fn picture(image: &RgbImage) -> Result<ImageData> {
    let rgba: Vec<u8> = image.pixels().flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    // A copy: `ImageData` made from a Rust slice would be a view of memory that is freed here.
    let rgba = Uint8ClampedArray::from(rgba.as_slice());
    ImageData::new_with_js_u8_clamped_array(&rgba, image.width())
        .map_err(|e| Error::internal(format!("{e:?}")))
}
