//! A CLIP or SigLIP checkpoint on its way into memory. The caller reads its files, wherever they are,
//! and hands over the bytes of one tensor at a time; `free()` cancels.

use std::hint::black_box;

use js_sys::Uint8Array;
use serde::Serialize;
use tsify::{Ts, Tsify};
use wasm_bindgen::prelude::*;

use super::{
    encoder::Encoder,
    types::{Backend, FileRecord, RuntimeInfo, file, optional},
};
use crate::{
    Error, ErrorCode, Result,
    device::Opened,
    encoder::{EncoderConfig, Loading, Parts, Preprocessor, tokenizer::TextTokenizer},
    weights::{Header, streaming},
};

/// Bytes that the memory of a wasm instance can have.
const ADDRESSABLE: u64 = 1 << 32;
/// Bytes of it that are left for pictures and for what comes between layers.
const ROOM: u64 = 256 << 20;
/// Largest block that is asked of the browser at once, bytes.
const BLOCK: u64 = 1 << 30;

/// A device that encoders are loaded to.
#[wasm_bindgen]
pub struct Encoders(Opened);

#[wasm_bindgen]
impl Encoders {
    /// Opens a device.
    ///
    /// # Errors
    /// `no_webgpu` if WebGPU is asked for and cannot be had.
    pub async fn create(backend: Ts<Backend>) -> Result<Encoders> {
        Ok(Self(Backend::open(backend).await?))
    }

    /// Which device this is, and why.
    pub fn info(&self) -> Result<Ts<RuntimeInfo>> {
        RuntimeInfo::of(&self.0)
    }

    /// Plans a load. `files`: config.json and, as far as the checkpoint has them, tokenizer.json,
    /// tokenizer_config.json and preprocessor_config.json. `names`, `headers` and `sizes` of each weight
    /// file: the header is its JSON, the size in bytes. Without tokenizer.json only the vision tower is
    /// loaded.
    ///
    /// # Errors
    /// `weights_format`, `weights_shape`; `out_of_memory` with the figures if it will not fit.
    pub fn load(
        &self,
        files: &FileRecord,
        names: Vec<String>,
        headers: Vec<Uint8Array>,
        sizes: Vec<f64>,
    ) -> Result<EncoderLoading> {
        let config = EncoderConfig::from_json(&file(files, "config.json")?)?;
        let preprocessor = match optional(files, "preprocessor_config.json") {
            Some(json) => Preprocessor::from_json(&json, &config)?,
            None => Preprocessor::default_of(&config),
        };
        let settings = optional(files, "tokenizer_config.json");
        let tokenizer = optional(files, "tokenizer.json")
            .filter(|_| config.text.is_some())
            .map(|json| TextTokenizer::new(&json, settings.as_deref(), &config))
            .transpose()?;
        let headers = names
            .iter()
            .zip(headers.iter().zip(sizes))
            .map(|(name, (json, size))| Header::parse(&json.to_vec(), size as u64).map_err(|e| e.at(name)))
            .collect::<Result<Vec<_>>>()?;
        let parts = if tokenizer.is_some() { Parts::All } else { Parts::Vision };
        let loading = Loading::new(&config, &headers, parts, &self.0.device)?;
        if self.0.backend == "cpu" {
            claim(&loading)?;
        }
        let device = self.0.device.clone();
        Ok(EncoderLoading { loading, config, preprocessor, tokenizer, device })
    }
}

/// Takes the memory of a load from the browser at once, for the allocator to give out: what cannot be
/// had is known before anything is read.
fn claim(loading: &Loading) -> Result<()> {
    let used = core::arch::wasm32::memory_size(0) as u64 * (64 << 10);
    loading.check_fits(ADDRESSABLE.saturating_sub(used + ROOM))?;
    let mut left = loading.memory();
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    while left > 0 {
        let size = left.min(BLOCK);
        let mut block = Vec::new();
        block.try_reserve_exact(size as usize).map_err(|_| {
            let megabytes = loading.memory() as f64 / 1e6;
            Error::new(
                ErrorCode::OutOfMemory,
                format!(
                    "the weights need {megabytes:.0} MB of memory, which the browser does not give; \
                     close other tabs or take a smaller model"
                ),
            )
        })?;
        blocks.push(block);
        left -= size;
    }
    // The compiler may not leave out what is given back at once.
    black_box(&blocks);
    Ok(())
}

/// Bytes of a weight file to hand over next.
#[derive(Serialize, Tsify)]
pub struct EncoderPiece {
    /// Which file, counted as the headers were given.
    pub file: usize,
    /// First byte, counted from the file's beginning.
    pub from: f64,
    /// The byte after the last.
    pub to: f64,
}

/// How far a load has come.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct EncoderProgress {
    pub bytes: f64,
    pub bytes_total: f64,
    pub tensors: usize,
    pub tensors_total: usize,
}

/// A load under way.
#[wasm_bindgen]
pub struct EncoderLoading {
    loading: Loading,
    config: EncoderConfig,
    preprocessor: Preprocessor,
    tokenizer: Option<TextTokenizer>,
    device: burn::tensor::Device,
}

#[wasm_bindgen]
impl EncoderLoading {
    /// What to hand over next; nothing when all is there. Pieces come in the files' own order.
    pub fn next(&self) -> Result<Option<Ts<EncoderPiece>>> {
        let piece = self.loading.next().map(|piece| EncoderPiece {
            file: piece.file,
            from: piece.range.start as f64,
            to: piece.range.end as f64,
        });
        piece.map(|piece| piece.into_ts().map_err(Error::internal)).transpose()
    }

    /// Takes the bytes that [`EncoderLoading::next`] asked for.
    ///
    /// # Errors
    /// `weights_format` for too few bytes and for values that are not finite.
    pub fn accept(&mut self, bytes: &[u8]) -> Result<()> {
        self.loading.accept(bytes)
    }

    pub fn progress(&self) -> Result<Ts<EncoderProgress>> {
        let progress = self.loading.progress();
        EncoderProgress {
            bytes: progress.bytes as f64,
            bytes_total: progress.bytes_total as f64,
            tensors: progress.tensors,
            tensors_total: progress.tensors_total,
        }
        .into_ts()
        .map_err(Error::internal)
    }

    /// The encoder, when all its weights are there.
    pub fn finish(self) -> Result<Encoder> {
        let Self { loading, config, preprocessor, tokenizer, device } = self;
        Ok(Encoder { model: loading.finish()?, config, preprocessor, tokenizer, device })
    }
}

/// The length of the JSON header that follows the first 8 bytes of a weight file, bytes; `size` is the
/// file's.
///
/// # Errors
/// `weights_format` if this is no safetensors file.
#[wasm_bindgen(js_name = headerLength)]
pub fn header_length(name: &str, prefix: &[u8], size: f64) -> Result<f64> {
    Ok(Header::length(prefix, size as u64).map_err(|e| e.at(name))? as f64)
}

/// The names of the weight files that `model.safetensors.index.json` lists.
///
/// # Errors
/// `weights_format` for another kind of file.
#[wasm_bindgen]
pub fn shards(index: &[u8]) -> Result<Vec<String>> {
    streaming::shards(index).map_err(|e| e.at("model.safetensors.index.json"))
}
