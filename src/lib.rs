//! A laboratory for unified multimodal models: describe an image, draw from a prompt, redraw an
//! image from its own understanding embeddings, and repair a model by Reconstruction Alignment.

pub mod device;
pub mod encoder;
pub mod error;
pub mod flow;
pub mod image;
pub mod pipeline;
pub mod random;
#[cfg(feature = "scene")]
pub mod scene;
pub mod text;
pub mod umm;
pub mod weights;

pub use error::{Error, ErrorCode, Result};
pub use pipeline::Pipeline;
