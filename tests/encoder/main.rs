//! The CLIP and SigLIP checkpoints of tests/goldens/encoders, written by `transformers`, against the
//! outputs that it stored beside them (tests/reference/encoders.py).
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod command;
mod damage;
mod formats;
mod fuzz;
mod fuzz_settings;
mod meter;
mod models;
mod pictures;
mod texts;
mod trained;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use reca::encoder::{DualEncoder, EncoderConfig, Loading, Parts};
use reca::weights::{Header, header, streaming::shards};
use reca::{Error, Result};
use safetensors::{Dtype, SafeTensors};

/// Largest error allowed, in the outputs' own units.
const TOLERANCE: f32 = 1e-4;
const COSINE: f64 = 0.99999;

const WHOLE: [&str; 4] = ["clip", "clip-gelu", "siglip", "siglip2"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/encoders").join(name)
}

fn file(checkpoint: &str, name: &str) -> Vec<u8> {
    std::fs::read(folder(checkpoint).join(name)).unwrap()
}

fn picture(index: usize) -> RgbImage {
    image::open(folder(&format!("picture-{index}.png"))).unwrap().to_rgb8()
}

fn config(checkpoint: &str) -> EncoderConfig {
    EncoderConfig::from_json(&file(checkpoint, "config.json")).unwrap()
}

/// The bytes of a checkpoint's weight files.
fn weights(checkpoint: &str) -> Vec<Vec<u8>> {
    let names = match std::fs::read(folder(checkpoint).join("model.safetensors.index.json")) {
        Ok(index) => shards(&index).unwrap(),
        Err(_) => vec!["model.safetensors".to_owned()],
    };
    names.iter().map(|name| file(checkpoint, name)).collect()
}

fn header(bytes: &[u8]) -> Result<Header> {
    let size = bytes.len() as u64;
    let start = header::PREFIX as usize;
    let length = Header::length(&bytes[..start.min(bytes.len())], size)? as usize;
    Header::parse(&bytes[start..start + length], size)
}

fn build(config: &EncoderConfig, files: &[Vec<u8>], parts: Parts) -> Result<DualEncoder> {
    let headers = files.iter().map(|file| header(file)).collect::<Result<Vec<_>>>()?;
    let mut loading = Loading::new(config, &headers, parts, &Device::flex())?;
    while let Some(piece) = loading.next() {
        let range = piece.range.start as usize..piece.range.end as usize;
        let bytes = files[piece.file].get(range).ok_or_else(|| Error::internal("outside the file"))?;
        loading.accept(bytes)?;
    }
    let progress = loading.progress();
    assert_eq!((progress.tensors, progress.bytes), (progress.tensors_total, progress.bytes_total));
    loading.finish()
}

fn model(checkpoint: &str) -> DualEncoder {
    build(&config(checkpoint), &weights(checkpoint), Parts::All).unwrap()
}

/// What `transformers` computed.
struct Goldens(Vec<u8>);

impl Goldens {
    fn of(checkpoint: &str) -> Self {
        Self(file(checkpoint, "golden.safetensors"))
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    fn values(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.values(name), self.shape(name)), &Device::flex())
    }

    fn ids(&self) -> Vec<Vec<u32>> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor("input_ids").unwrap();
        let ids: Vec<u32> = view.data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        ids.chunks(view.shape()[1]).map(<[u32]>::to_vec).collect()
    }

    /// The largest error of `found`, which must have the golden's shape.
    #[track_caller]
    fn error<const D: usize>(&self, name: &str, found: Tensor<D>) -> f32 {
        assert_eq!(found.dims().to_vec(), self.shape(name), "{name}");
        largest_error(&values(found), &self.values(name))
    }

    #[track_caller]
    fn assert<const D: usize>(&self, name: &str, found: Tensor<D>) {
        let error = self.error(name, found.clone());
        let cosine = cosine(&values(found), &self.values(name));
        assert!(error <= TOLERANCE && cosine >= COSINE, "{name}: error {error}, cosine {cosine}");
    }
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

fn largest_error(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
