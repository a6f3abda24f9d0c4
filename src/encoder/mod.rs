//! Vision encoders: image to patch features.

pub mod siglip;
pub mod vit;
