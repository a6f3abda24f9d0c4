//! A checkpoint on its way into memory, tensor by tensor.

use burn::tensor::Device;

use super::{config::EncoderConfig, dual::DualEncoder};
use crate::{
    Result,
    weights::{
        Header, Streaming,
        streaming::{Piece, Progress},
    },
};

/// What to load of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// All that the files hold.
    All,
    /// The vision tower with its pooling and projection.
    Vision,
}

/// A checkpoint being loaded. The caller reads what [`Loading::next`] asks for and hands it to
/// [`Loading::accept`], until there is nothing more; dropping it cancels.
pub struct Loading(Streaming<DualEncoder>);

impl Loading {
    /// Plans the load from the headers of the checkpoint's files.
    ///
    /// # Errors
    /// Those of [`Streaming::new`].
    pub fn new(config: &EncoderConfig, headers: &[Header], parts: Parts, device: &Device) -> Result<Self> {
        let names = || headers.iter().flat_map(|header| header.tensors.keys());
        let has = |prefix: &str| names().any(|name| name.starts_with(prefix));
        let mut model = DualEncoder::new(config, device);
        let vision = parts == Parts::Vision || config.text.is_none() || !has("text_model.");
        if vision {
            model = model.vision_only();
        }
        if !has("visual_projection.") && config.text.is_none() {
            model.visual_projection = None;
        }
        // Newer `transformers` write the vision tower alone without its prefix.
        let bare = has("embeddings.patch_embedding.");
        let rename = |name: &str| {
            let text =
                ["text_model.", "text_projection.", "logit_"].iter().any(|part| name.starts_with(part));
            if name.ends_with("position_ids") || (vision && text) {
                return None;
            }
            let part = bare && !name.starts_with("visual_projection.");
            Some(if part { format!("vision_model.{name}") } else { name.to_owned() })
        };
        Ok(Self(Streaming::new(model, headers, rename, device)?))
    }

    /// Refuses a load that would take more memory than `free` bytes.
    ///
    /// # Errors
    /// `out_of_memory` with both figures.
    pub fn check_fits(&self, free: u64) -> Result<()> {
        self.0.check_fits(free)
    }

    /// Bytes of memory that the load takes at most.
    pub fn memory(&self) -> u64 {
        self.0.memory()
    }

    pub fn progress(&self) -> Progress {
        self.0.progress()
    }

    /// The bytes to read next; `None` when all are here.
    pub fn next(&self) -> Option<&Piece> {
        self.0.next()
    }

    /// Takes the bytes that [`Loading::next`] asked for.
    ///
    /// # Errors
    /// Those of [`Streaming::accept`].
    pub fn accept(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.accept(bytes)
    }

    /// The model with all its weights.
    ///
    /// # Errors
    /// Those of [`Streaming::finish`].
    pub fn finish(self) -> Result<DualEncoder> {
        self.0.finish()
    }
}
