//! The reference's numbers, and the model that they belong to.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use reca::{
    umm::{TextBatch, Umm},
    weights::ModelFiles,
};
use safetensors::{Dtype, SafeTensors};

pub const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens");

/// Largest error allowed, relative to the expected tensor's largest value.
pub const TOLERANCE: f32 = 5e-5;
/// The same for gradients, which sum over many terms.
pub const GRADIENT_TOLERANCE: f32 = 2e-4;

pub struct Goldens(Vec<u8>);

impl Goldens {
    pub fn open() -> Self {
        Self(std::fs::read(Path::new(GOLDENS).join("nano.safetensors")).unwrap())
    }

    pub fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.0).unwrap().names().into_iter().map(str::to_owned).collect()
    }

    pub fn raw(&self, name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap_or_else(|_| panic!("{name} is not stored"));
        (view.dtype(), view.shape().to_vec(), view.data().to_vec())
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        let (dtype, _, bytes) = self.raw(name);
        match dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect(),
            Dtype::U8 => bytes.iter().map(|b| f32::from(*b)).collect(),
            other => panic!("{name} has dtype {other:?}"),
        }
    }

    pub fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (_, shape, _) = self.raw(name);
        Tensor::from_data(TensorData::new(self.values(name), shape), &Device::flex())
    }

    /// A padded batch of token ids, whose first `prefix` tokens are prompt; all of them if `None`.
    pub fn text(&self, name: &str, prefix: Option<&str>) -> TextBatch {
        let (_, shape, _) = self.raw(name);
        let rows: Vec<Vec<u32>> = self
            .values(name)
            .chunks(shape[1])
            .map(|row| row.iter().map(|id| *id as u32).filter(|id| *id != 0).collect())
            .collect();
        let prefixes: Vec<usize> = match prefix {
            Some(prefix) => self.values(prefix).iter().map(|n| *n as usize).collect(),
            None => rows.iter().map(Vec::len).collect(),
        };
        TextBatch::with_answers(rows.iter().zip(&prefixes).map(|(row, n)| row.split_at(*n)))
    }

    #[track_caller]
    pub fn assert<const D: usize>(&self, name: &str, found: Tensor<D>) {
        let (_, shape, _) = self.raw(name);
        assert_eq!(found.dims().to_vec(), shape, "{name}");
        close(name, &found.into_data().try_to_vec::<f32>().unwrap(), &self.values(name), TOLERANCE);
    }
}

#[track_caller]
pub fn close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-2f32, |m, v| m.max(v.abs()));
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    assert!(error <= tolerance * scale, "{name}: error {error} at scale {scale}");
}

pub fn umm() -> Umm {
    let files =
        ModelFiles::read(|name| Ok(std::fs::read(Path::new(GOLDENS).join("nano").join(name)).unwrap()));
    files.unwrap().build(&Device::flex()).unwrap().0
}
