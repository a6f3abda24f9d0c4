//! A laboratory for unified multimodal models: describe an image, draw from a prompt, redraw an
//! image from its own understanding embeddings, and repair a model by Reconstruction Alignment.

// Tests run natively, where a synchronous read is fine.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod device;
pub mod encoder;
pub mod error;
#[cfg(feature = "scene")]
pub mod eval;
pub mod flow;
pub mod image;
pub mod layers;
pub mod ops;
pub mod pipeline;
pub mod plan;
pub mod random;
#[cfg(feature = "scene")]
pub mod reca;
#[cfg(feature = "scene")]
pub mod scene;
pub mod text;
pub mod train;
pub mod umm;
#[cfg(target_arch = "wasm32")]
pub mod web;
pub mod weights;

pub use error::{Error, ErrorCode, Result};
pub use pipeline::Pipeline;
