//! Model directories in Hugging Face style: safetensors, configuration, tokenizer, manifest.

pub mod directory;
pub mod header;
pub mod manifest;
pub mod safetensors;
pub mod streaming;

pub use self::{directory::ModelFiles, header::Header, manifest::Manifest, streaming::Streaming};
