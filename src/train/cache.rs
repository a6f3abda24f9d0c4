//! Outputs of a frozen part, computed once and kept on the host as f16.

use burn::tensor::{Device, Tensor, TensorData};
use half::{f16, slice::HalfFloatSliceExt};

use crate::{Result, umm::describe::read};

/// One `[tokens, channels]` matrix for each sample: features, latents or embeddings.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    values: Vec<f16>,
    tokens: usize,
    channels: usize,
}

impl Cache {
    /// Adds samples, `[batch, tokens, channels]`.
    pub async fn push(&mut self, samples: Tensor<3>) -> Result<()> {
        let [_, tokens, channels] = samples.dims();
        (self.tokens, self.channels) = (tokens, channels);
        self.values.extend(read(samples).await?.into_iter().map(f16::from_f32));
        Ok(())
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len() / (self.tokens * self.channels).max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The samples of a batch, `[indices, tokens, channels]`; indices must be below [`Cache::len`].
    pub fn gather(&self, indices: &[usize], device: &Device) -> Tensor<3> {
        let size = self.tokens * self.channels;
        let mut values = vec![0f32; indices.len() * size];
        for (row, index) in values.chunks_exact_mut(size.max(1)).zip(indices) {
            self.values[index * size..][..size].convert_to_f32_slice(row);
        }
        Tensor::from_data(TensorData::new(values, [indices.len(), self.tokens, self.channels]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_rows_in_order() {
        let device = Device::flex();
        let samples = Tensor::<1, burn::tensor::Int>::arange(0..12, &device).float().reshape([3, 2, 2]);
        let mut cache = Cache::default();
        pollster::block_on(cache.push(samples.clone().narrow(0, 0, 1))).unwrap();
        pollster::block_on(cache.push(samples.narrow(0, 1, 2))).unwrap();
        assert_eq!(cache.len(), 3);
        let found = cache.gather(&[2, 0], &device).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(found, [8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0]);
    }
}
