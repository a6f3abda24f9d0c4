//! CLIP's and SigLIP's vision towers, `vision_model` in a checkpoint.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};

use super::{
    config::{Family, VisionConfig},
    position,
    vit::{BlockConfig, Encoder, Mlp},
};
use crate::layers::{Conv2d, Embedding, LayerNorm, Linear, constant, normal};
use crate::ops::{Geometry, attention, product};
use crate::umm::attention::{merge_heads, split_heads};

/// Image to patch features and one pooled vector.
#[derive(Module, Debug)]
pub struct VisionTower {
    pub embeddings: Embeddings,
    /// CLIP's; the name is the checkpoints' own.
    pub pre_layrnorm: Option<LayerNorm>,
    pub encoder: Encoder,
    pub post_layernorm: LayerNorm,
    /// SigLIP's, where the checkpoint has it.
    pub head: Option<PoolingHead>,
}

impl VisionTower {
    pub fn new(family: Family, config: &VisionConfig, device: &Device) -> Self {
        let norm = || LayerNorm::new(config.block.hidden_size, config.block.layer_norm_eps, device);
        Self {
            embeddings: Embeddings::new(family, config, device),
            pre_layrnorm: (family == Family::Clip).then(norm),
            encoder: Encoder::new(&config.block, config.num_hidden_layers, device),
            post_layernorm: norm(),
            head: config.use_head.then(|| PoolingHead::new(&config.block, device)),
        }
    }

    /// What `transformers` calls `hidden_states[layer]`: the embeddings for 0, else the output of so
    /// many blocks, before the last norm.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised; at another size than the trained one the
    ///   position embeddings are resized
    /// - returns `[batch, tokens, hidden]`; CLIP's first token is the class token, see
    ///   [`VisionTower::patches`]
    pub fn hidden_state(&self, images: Tensor<4>, layer: usize) -> Tensor<3> {
        let x = self.embeddings.forward(images);
        let x = self.pre_layrnorm.iter().fold(x, |x, norm| norm.forward(x));
        self.encoder.forward_first(x, layer)
    }

    /// The output of the last block.
    pub fn last_hidden_state(&self, images: Tensor<4>) -> Tensor<3> {
        self.hidden_state(images, self.encoder.layers.len())
    }

    /// The tokens of a hidden state that are patches, without the class token.
    pub fn patches(&self, state: Tensor<3>) -> Tensor<3> {
        let first = usize::from(self.embeddings.class_embedding.is_some());
        let tokens = state.dims()[1] - first;
        state.narrow(1, first, tokens)
    }

    /// One vector an image from the last hidden state: CLIP's class token after the last norm, or
    /// SigLIP's attention pooling. `None` for a SigLIP checkpoint without its pooling head.
    ///
    /// # Shapes
    /// `[batch, tokens, hidden]` to `[batch, hidden]`.
    pub fn pool(&self, last: Tensor<3>) -> Option<Tensor<2>> {
        if self.embeddings.class_embedding.is_some() {
            return Some(self.post_layernorm.forward(last.narrow(1, 0, 1)).squeeze_dim(1));
        }
        let head = self.head.as_ref()?;
        Some(head.forward(self.post_layernorm.forward(last)))
    }

    /// One vector a patch in the space of [`VisionTower::pool`]'s: CLIP's patch tokens after the last
    /// norm, as its class token goes, or what SigLIP's attention pooling makes of each patch alone.
    ///
    /// # Shapes
    /// `[batch, tokens, hidden]` to `[batch, patches, hidden]`.
    pub fn pool_patches(&self, last: Tensor<3>) -> Option<Tensor<3>> {
        let patches = self.post_layernorm.forward(self.patches(last));
        if self.embeddings.class_embedding.is_some() {
            return Some(patches);
        }
        let shape = patches.dims();
        let [batch, count, hidden] = shape;
        let alone = self.head.as_ref()?.forward(patches.reshape([batch * count, 1, hidden]));
        Some(alone.reshape(shape))
    }
}

/// Patches, class token, positions.
#[derive(Module, Debug)]
pub struct Embeddings {
    pub class_embedding: Option<Param<Tensor<1>>>,
    /// Used as a matrix product over unfolded patches, which is the same and faster.
    pub patch_embedding: Conv2d,
    pub position_embedding: Embedding,
    patch_size: usize,
    grid: usize,
}

impl Embeddings {
    fn new(family: Family, config: &VisionConfig, device: &Device) -> Self {
        let (hidden, patch, grid) = (config.block.hidden_size, config.patch_size, config.grid());
        let is_clip = family == Family::Clip;
        let embedding = Conv2d::new([3, hidden], patch, Geometry { stride: patch, padding: 0 }, device);
        Self {
            class_embedding: is_clip.then(|| normal(0.02, [hidden], device)),
            patch_embedding: if is_clip { embedding.unbiased() } else { embedding },
            position_embedding: Embedding::new(grid * grid + usize::from(is_clip), hidden, device),
            patch_size: patch,
            grid,
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [batch, _, height, width] = images.dims();
        let grid = [height / self.patch_size, width / self.patch_size];
        let mut x = self.embed(images, grid);
        if let Some(class) = &self.class_embedding {
            let [hidden] = class.dims();
            let class: Tensor<3> = class.val().reshape([1, 1, hidden]);
            x = Tensor::cat(vec![class.expand([batch, 1, hidden]), x], 1);
        }
        x + self.positions(grid).unsqueeze()
    }

    /// `[batch, 3, height, width]` to `[batch, rows · columns, hidden]`. Pixels at the right and below
    /// that do not fill a patch are left out, as by a convolution without padding.
    fn embed(&self, images: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<3> {
        let [batch, channels, height, width] = images.dims();
        let p = self.patch_size;
        let images = if [height, width] == [rows * p, columns * p] {
            images
        } else {
            images.narrow(2, 0, rows * p).narrow(3, 0, columns * p)
        };
        let patches: Tensor<6> = images.reshape([batch, channels, rows, p, columns, p]);
        let patches: Tensor<2> =
            patches.permute([0, 2, 4, 1, 3, 5]).reshape([batch * rows * columns, channels * p * p]);
        let weight = self.patch_embedding.weight.val();
        let hidden = weight.dims()[0];
        let weight: Tensor<2> = weight.reshape([hidden, channels * p * p]);
        // A transposed view must not be reshaped, which would copy the weight for each image.
        let x = product(patches, weight.transpose());
        let x = match &self.patch_embedding.bias {
            Some(bias) => x + bias.val().unsqueeze(),
            None => x,
        };
        x.reshape([batch, rows * columns, hidden])
    }

    /// `[tokens, hidden]`.
    fn positions(&self, grid: [usize; 2]) -> Tensor<2> {
        let table = self.position_embedding.weight.val();
        if grid == [self.grid; 2] {
            return table;
        }
        let [tokens, _] = table.dims();
        let class = tokens - self.grid * self.grid;
        let patches = table.clone().narrow(0, class, tokens - class);
        let patches = position::resize(patches, self.grid, grid);
        if class == 0 { patches } else { Tensor::cat(vec![table.narrow(0, 0, class), patches], 0) }
    }
}

/// SigLIP's pooling: a learned query attends to all tokens, then an MLP.
#[derive(Module, Debug)]
pub struct PoolingHead {
    pub probe: Param<Tensor<3>>,
    pub attention: PoolingAttention,
    pub layernorm: LayerNorm,
    pub mlp: Mlp,
}

impl PoolingHead {
    fn new(config: &BlockConfig, device: &Device) -> Self {
        let hidden = config.hidden_size;
        Self {
            probe: normal(0.02, [1, 1, hidden], device),
            attention: PoolingAttention::new(config, device),
            layernorm: LayerNorm::new(hidden, config.layer_norm_eps, device),
            mlp: Mlp::new(config, device),
        }
    }

    /// `[batch, tokens, hidden]` to `[batch, hidden]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let x = self.attention.forward(self.probe.val(), x);
        let x = x.clone() + self.mlp.forward(self.layernorm.forward(x));
        x.squeeze_dim(1)
    }
}

/// PyTorch's `MultiheadAttention`: the three projections' weights in one tensor.
#[derive(Module, Debug)]
pub struct PoolingAttention {
    pub in_proj_weight: Param<Tensor<2>>,
    pub in_proj_bias: Param<Tensor<1>>,
    pub out_proj: Linear,
    heads: usize,
}

impl PoolingAttention {
    fn new(config: &BlockConfig, device: &Device) -> Self {
        let hidden = config.hidden_size;
        let std = (hidden as f64).powf(-0.5);
        Self {
            in_proj_weight: normal(std, [3 * hidden, hidden], device),
            in_proj_bias: constant(0.0, [3 * hidden], device),
            out_proj: Linear::new(hidden, hidden, device),
            heads: config.num_attention_heads,
        }
    }

    /// `probe`: `[1, 1, hidden]`, `x`: `[batch, tokens, hidden]`; returns `[batch, 1, hidden]`.
    fn forward(&self, probe: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
        let [batch, _, hidden] = x.dims();
        let project = |x: Tensor<3>, part: usize| {
            let weight: Tensor<3> = self.in_proj_weight.val().narrow(0, part * hidden, hidden).unsqueeze();
            let bias = self.in_proj_bias.val().narrow(0, part * hidden, hidden);
            split_heads(product(x, weight.swap_dims(1, 2)) + bias.unsqueeze(), self.heads)
        };
        let query = project(probe, 0).expand([batch as i64, -1, -1, -1]);
        let (key, value) = (project(x.clone(), 1), project(x, 2));
        self.out_proj.forward(merge_heads(attention(query, key, value, None)))
    }
}
