//! Training: every stage, and Reconstruction Alignment too, is a [`stage::Stage`] that a
//! [`stage::Trainer`] drives one step a call. Nothing here knows of files, threads or progress bars.

pub mod cache;
pub mod checkpoint;
pub mod ema;
mod muon;
pub mod objective;
pub mod optim;
pub mod schedule;
pub mod stage;

#[cfg(feature = "scene")]
pub mod autoencoder;
#[cfg(feature = "scene")]
pub mod connector;
#[cfg(feature = "scene")]
pub mod contrastive;
#[cfg(feature = "scene")]
pub mod encoder;
#[cfg(feature = "scene")]
pub mod export;
#[cfg(feature = "scene")]
pub mod generation;
#[cfg(feature = "scene")]
pub mod pool;
#[cfg(feature = "scene")]
pub mod recipe;
#[cfg(feature = "svg")]
pub mod scorer;
#[cfg(feature = "scene")]
pub mod texts;
#[cfg(feature = "scene")]
pub mod understanding;
#[cfg(feature = "scene")]
pub mod words;
