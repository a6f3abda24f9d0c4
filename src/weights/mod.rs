//! Model directories in Hugging Face style: safetensors, configuration, tokenizer, manifest.

pub mod directory;
pub mod manifest;
pub mod safetensors;

pub use self::{directory::ModelFiles, manifest::Manifest};
