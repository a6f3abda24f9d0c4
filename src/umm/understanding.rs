//! The understanding expert: a prefix language model over [visual tokens ; text].
//!
//! The prompt and the visual tokens attend both ways, so that in "a car left of a house" the word
//! "car" itself knows where it is; answers are read and written causally (PaliGemma, section 3.2).

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData},
};

use super::{
    block::{Block, BlockConfig, KeyValue},
    config::UmmConfig,
    context::{Context, TextBatch},
    norm::RmsNorm,
};
use crate::{
    layers::{Embedding, Linear},
    ops::product,
};

/// `understanding` in a checkpoint.
#[derive(Module, Debug)]
pub struct Understanding {
    pub token_embedding: Embedding,
    pub position_embedding: Embedding,
    pub layers: Vec<Block>,
    pub norm: RmsNorm,
    pub lm_head: Linear,
    latent_tokens: usize,
}

/// Final hidden states and what later tokens need of these.
pub struct Hidden {
    /// `[batch, tokens, hidden]`, after the final norm.
    pub states: Tensor<3>,
    /// One entry a layer.
    pub layers: Vec<KeyValue>,
}

impl Understanding {
    pub fn new(config: &UmmConfig, device: &Device) -> Self {
        let u = &config.understanding;
        let block = BlockConfig {
            hidden_size: u.hidden_size,
            num_attention_heads: u.num_attention_heads,
            intermediate_size: u.intermediate_size,
            rms_norm_eps: u.rms_norm_eps,
        };
        let embedding = |rows| Embedding::new(rows, u.hidden_size, device);
        Self {
            token_embedding: embedding(u.vocab_size),
            position_embedding: embedding(u.max_position_embeddings),
            layers: (0..u.num_hidden_layers).map(|_| Block::new(&block, device)).collect(),
            norm: RmsNorm::new(u.hidden_size, u.rms_norm_eps, device),
            lm_head: Linear::unbiased(u.hidden_size, u.vocab_size, device),
            latent_tokens: config.latent_tokens(),
        }
    }

    /// Longest text, tokens.
    pub fn max_length(&self) -> usize {
        self.position_embedding.weight.dims()[0]
    }

    /// Reads [visual tokens ; text].
    ///
    /// # Shapes
    /// - `visual`: `[batch, visual_tokens, hidden]`
    /// - returns states of `[batch, visual_tokens + text tokens, hidden]`
    pub fn forward(&self, text: &TextBatch, visual: Option<Tensor<3>>) -> Hidden {
        let device = self.norm.weight.device();
        let embedded = self.embed(&text.ids, text.batch(), 0, &device);
        let (x, count) = match visual {
            Some(visual) => {
                let count = visual.dims()[1];
                (Tensor::cat(vec![visual, embedded], 1), count)
            }
            None => (embedded, 0),
        };
        self.run(x, None, text.hidden(count, &device))
    }

    /// Reads one more token a row, after tokens whose keys and values are in `before`.
    ///
    /// `position` is the token's index in the text; `before` must hold no padding.
    pub fn step(&self, ids: &[u32], position: usize, before: &[KeyValue]) -> Hidden {
        let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        let device = self.norm.weight.device();
        self.run(self.embed(&ids, ids.len(), position, &device), Some(before), None)
    }

    /// Scores of the next token, `[batch, tokens, vocab_size]`.
    pub fn logits(&self, states: Tensor<3>) -> Tensor<3> {
        self.lm_head.forward(states)
    }

    /// The context that the generation expert draws from; the whole text is prefix.
    pub fn context(&self, text: &TextBatch, visual: Option<Tensor<3>>) -> Context {
        let hidden = self.forward(text, visual);
        let [batch, tokens, size] = hidden.states.dims();
        let device = hidden.states.device();
        let visual_tokens = tokens - text.length;
        let lengths: Vec<usize> = text.lengths.iter().map(|n| n + visual_tokens).collect();
        let mut weights = Vec::with_capacity(batch * tokens);
        for length in &lengths {
            let share = 1.0 / *length as f32;
            weights.extend((0..tokens).map(|i| if i < *length { share } else { 0.0 }));
        }
        let weights = Tensor::<3>::from_data(TensorData::new(weights, [batch, 1, tokens]), &device);
        Context {
            layers: hidden.layers,
            pooled: product(weights, hidden.states).reshape([batch, size]),
            hidden: Context::padding(&lengths, tokens, self.latent_tokens, &device),
            lengths,
        }
    }

    fn embed(&self, ids: &[i32], batch: usize, position: usize, device: &Device) -> Tensor<3> {
        let length = ids.len() / batch;
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [batch, length]), device);
        let positions = self.position_embedding.weight.val().narrow(0, position, length);
        self.token_embedding.forward(ids) + positions.unsqueeze()
    }

    fn run(
        &self,
        mut x: Tensor<3>,
        before: Option<&[KeyValue]>,
        hidden: Option<Tensor<4, burn::tensor::Bool>>,
    ) -> Hidden {
        let mut layers = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            let earlier = before.and_then(|before| before.get(i));
            let (y, own) = layer.forward(x, earlier, hidden.clone());
            layers.push(own);
            x = y;
        }
        Hidden { states: self.norm.forward(x), layers }
    }
}

/// The token embedding as the output matrix, for the start of training.
pub fn tie_head(mut understanding: Understanding) -> Understanding {
    let weight = understanding.token_embedding.weight.val().transpose();
    understanding.lm_head.weight = Param::from_tensor(weight);
    understanding
}
