//! CLIP's and SigLIP's text towers, `text_model` in a checkpoint.

use burn::{
    module::Module,
    tensor::{Device, Int, Tensor, TensorData},
};

use super::{
    config::{Family, TextConfig},
    vit::Encoder,
};
use crate::{
    Error, Result,
    layers::{Embedding, LayerNorm, Linear},
};

/// The end token's id in CLIP files that are older than the right one; texts are then pooled at
/// their highest id, which the end token has.
const LEGACY_END: u32 = 2;

/// Token ids to one vector a text.
#[derive(Module, Debug)]
pub struct TextTower {
    pub embeddings: TextEmbeddings,
    pub encoder: Encoder,
    pub final_layer_norm: LayerNorm,
    /// SigLIP's.
    pub head: Option<Linear>,
    #[module(skip)]
    pooling: Pooling,
}

/// Whose output stands for the text.
#[derive(Clone, Copy, Debug)]
enum Pooling {
    /// CLIP's, in a causal tower: the end token with this id.
    End(u32),
    /// SigLIP's, in a tower that sees everything: the last token, mostly padding.
    Last,
}

impl TextTower {
    pub fn new(family: Family, config: &TextConfig, device: &Device) -> Self {
        let hidden = config.block.hidden_size;
        let embedding = |size| Embedding::new(size, hidden, device);
        let is_clip = family == Family::Clip;
        Self {
            embeddings: TextEmbeddings {
                token_embedding: embedding(config.vocab_size),
                position_embedding: embedding(config.max_position_embeddings),
            },
            encoder: Encoder::new(&config.block, config.num_hidden_layers, device),
            final_layer_norm: LayerNorm::new(hidden, config.block.layer_norm_eps, device),
            head: (!is_clip).then(|| Linear::new(hidden, config.projection_size, device)),
            pooling: if is_clip { Pooling::End(config.eos_token_id) } else { Pooling::Last },
        }
    }

    /// The pooled vectors of texts, `[texts, hidden]` (SigLIP's head's outputs).
    ///
    /// `ids`: one row a text, all of one length.
    ///
    /// # Errors
    /// `bad_input` for rows of different lengths, too long ones, unknown ids, or no end token.
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor<2>> {
        let rows = ids.iter().enumerate();
        let pooled = rows.map(|(index, row)| Ok((index * row.len() + self.pooled(row)?) as i32));
        let pooled = pooled.collect::<Result<Vec<_>>>()?;
        let states = self.last_hidden_state(ids)?;
        let pooled = Tensor::<1, Int>::from_data(TensorData::new(pooled, [ids.len()]), &states.device());
        let pooled: Tensor<2> = self.final_layer_norm.forward(states.flatten(0, 1).select(0, pooled));
        Ok(match &self.head {
            Some(head) => head.forward(pooled),
            None => pooled,
        })
    }

    /// The output of the last block, before the last norm, `[texts, tokens, hidden]`.
    ///
    /// # Errors
    /// Those of [`TextTower::forward`].
    pub fn last_hidden_state(&self, ids: &[Vec<u32>]) -> Result<Tensor<3>> {
        let x = self.embeddings.forward(ids)?;
        Ok(match self.pooling {
            Pooling::End(_) => self.encoder.forward_causal(x),
            Pooling::Last => self.encoder.forward(x),
        })
    }

    fn pooled(&self, row: &[u32]) -> Result<usize> {
        let end = match self.pooling {
            Pooling::Last => return Ok(row.len().saturating_sub(1)),
            Pooling::End(LEGACY_END) => row.iter().max().copied(),
            Pooling::End(end) => Some(end),
        };
        row.iter().position(|id| Some(*id) == end).ok_or_else(|| {
            Error::bad_input("a text's token ids hold no end token; tokenizer.json is of another model")
        })
    }
}

/// Tokens and positions.
#[derive(Module, Debug)]
pub struct TextEmbeddings {
    pub token_embedding: Embedding,
    pub position_embedding: Embedding,
}

impl TextEmbeddings {
    fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor<3>> {
        let ([vocabulary, _], [longest, _]) =
            (self.token_embedding.weight.dims(), self.position_embedding.weight.dims());
        let tokens = ids.first().map_or(0, Vec::len);
        if ids.iter().any(|row| row.len() != tokens) || !(1..=longest).contains(&tokens) {
            return Err(Error::bad_input(format!(
                "texts must have one common length of 1 to {longest} tokens"
            )));
        }
        if let Some(id) = ids.iter().flatten().find(|id| **id as usize >= vocabulary) {
            return Err(Error::bad_input(format!(
                "token {id} is outside the model's vocabulary of {vocabulary}; tokenizer.json is of another model"
            )));
        }
        let values: Vec<i32> = ids.iter().flatten().map(|id| *id as i32).collect();
        let device = self.token_embedding.weight.device();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(values, [ids.len(), tokens]), &device);
        let positions = self.position_embedding.weight.val().narrow(0, 0, tokens);
        Ok(self.token_embedding.forward(ids) + positions.unsqueeze())
    }
}
