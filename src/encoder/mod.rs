//! Vision encoders: our own tower, and the official CLIP and SigLIP checkpoints with their text
//! towers, tokenizers and preprocessing.

pub mod config;
pub mod dual;
pub mod limits;
pub mod loading;
pub mod position;
pub mod preprocess;
pub mod resample;
pub mod siglip;
pub mod text;
#[cfg(feature = "encoders")]
pub mod tokenizer;
pub mod vision;
pub mod vit;

pub use self::{
    config::{EncoderConfig, Family},
    dual::DualEncoder,
    loading::{Loading, Parts},
    preprocess::Preprocessor,
};
