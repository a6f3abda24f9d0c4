//! A trained pair of towers as a folder in the Hugging Face layout.

use burn::{
    module::Param,
    tensor::{Device, Tensor},
};
use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::LARGEST_SCALE;
use crate::{
    Error, Result,
    encoder::{DualEncoder, EncoderConfig, Family, Preprocessor},
    random,
    scene::{SIZE, tokenizer_json, vocabulary},
    train::recipe::Recipe,
    weights::{
        directory::{CONFIG, PREPROCESSOR, TOKENIZER, WEIGHTS},
        safetensors::{self as weights, Precision},
    },
};

/// Longest text, tokens.
const LENGTH: usize = 24;
const UNKNOWN: &str = "<unk>";
/// End of a text and padding behind it, CLIP's name for it. SigLIP's tower pools at the last
/// padding, CLIP's at the first end token, which must not have the id 2: older files have that by
/// mistake, and are pooled at their highest id.
const END: &str = "<|endoftext|>";

/// Sizes of both towers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Towers {
    pub patch_size: usize,
    pub hidden_size: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    /// Blocks of the vision tower and of the text tower.
    pub vision_layers: usize,
    pub text_layers: usize,
}

/// What a pair of towers is, apart from its weights.
#[derive(Clone, Debug)]
pub struct Blueprint {
    pub config: EncoderConfig,
    pub preprocessor: Preprocessor,
    /// The end token's id.
    end: u32,
    /// Files beside the weights: names and JSON.
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Blueprint {
    /// Towers of a recipe's sizes for its world.
    ///
    /// # Errors
    /// `weights_format` for sizes that cannot be.
    pub fn new(family: Family, recipe: &Recipe) -> Result<Self> {
        let pretty = |value: &Value| serde_json::to_vec_pretty(value).map_err(Error::internal);
        let words = vocabulary(&recipe.world).len();
        let end = words as u32 + 1;
        let towers = &recipe.stages.contrastive.towers;
        let config_json = pretty(&config(family, towers, end))?;
        let config = EncoderConfig::from_json(&config_json)?;
        let preprocessor_json = pretty(&preprocessor(family))?;
        let preprocessor = Preprocessor::from_json(&preprocessor_json, &config)?;
        let files = vec![
            (CONFIG, config_json),
            (PREPROCESSOR, preprocessor_json),
            (TOKENIZER, pretty(&tokenizer(&tokenizer_json(&recipe.world), end)?)?),
            ("tokenizer_config.json", pretty(&settings())?),
        ];
        Ok(Self { config, preprocessor, end, files })
    }

    /// Towers with random weights from a seed. SigLIP's bias starts where a batch's one right caption
    /// among `batch` is expected; its -10 is for batches of 32,768, and would take these steps to fall.
    pub fn init(&self, seed: u64, batch: usize, device: &Device) -> DualEncoder {
        let prior = -((batch.max(2) - 1) as f32).ln();
        random::seeded(device, seed, || {
            let mut towers = DualEncoder::new(&self.config, device);
            towers.logit_bias = towers.logit_bias.map(|bias| bias.map(|bias| bias.full_like(prior)));
            towers
        })
    }

    /// Token ids of the world's tokenizer as the text tower wants them, of one length.
    pub fn rows(&self, mut texts: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
        texts.iter_mut().for_each(|row| row.push(self.end));
        let length = match self.config.family {
            Family::Clip => texts.iter().map(Vec::len).max().unwrap_or(0),
            Family::Siglip => LENGTH,
        };
        texts.iter_mut().filter(|row| row.len() < length).for_each(|row| row.resize(length, self.end));
        texts
    }

    /// Names and bytes of all files of trained towers, in single precision.
    pub async fn folder(&self, towers: &DualEncoder) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut towers = towers.clone();
        let limited = |scale: Param<Tensor<1>>| scale.map(|scale| scale.clamp_max(LARGEST_SCALE));
        towers.logit_scale = towers.logit_scale.map(limited);
        let bytes = weights::save(&towers, Precision::F32).await?;
        let bytes =
            if self.config.family == Family::Clip { with_scalar(&bytes, "logit_scale")? } else { bytes };
        let mut files = self.files.clone();
        files.push((WEIGHTS, bytes));
        Ok(files)
    }
}

/// The file with one of its tensors as a scalar, which CLIP's scale is in `transformers`.
fn with_scalar(bytes: &[u8], name: &str) -> Result<Vec<u8>> {
    let file = SafeTensors::deserialize(bytes).map_err(Error::internal)?;
    let views = file.iter().map(|(tensor, view)| {
        let shape = if tensor == name { Vec::new() } else { view.shape().to_vec() };
        TensorView::new(view.dtype(), shape, view.data()).map(|view| (tensor, view))
    });
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(Error::internal)?;
    safetensors::serialize(views, None).map_err(Error::internal)
}

fn config(family: Family, towers: &Towers, end: u32) -> Value {
    let (name, class, activation) = match family {
        Family::Clip => ("clip", "CLIPModel", "quick_gelu"),
        Family::Siglip => ("siglip", "SiglipModel", "gelu_pytorch_tanh"),
    };
    let tower = |part: &str, layers: usize| {
        json!({
            "model_type": format!("{name}_{part}_model"), "hidden_size": towers.hidden_size,
            "intermediate_size": towers.intermediate_size, "num_hidden_layers": layers,
            "num_attention_heads": towers.num_attention_heads, "hidden_act": activation,
            "projection_dim": towers.hidden_size,
        })
    };
    let (mut vision, mut text) = (tower("vision", towers.vision_layers), tower("text", towers.text_layers));
    vision["image_size"] = json!(SIZE);
    vision["patch_size"] = json!(towers.patch_size);
    text["vocab_size"] = json!(end + 1);
    text["max_position_embeddings"] = json!(LENGTH);
    for token in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        text[token] = json!(end);
    }
    json!({
        "model_type": name, "architectures": [class], "projection_dim": towers.hidden_size,
        "vision_config": vision, "text_config": text,
    })
}

/// The families' own settings at the data engine's size.
fn preprocessor(family: Family) -> Value {
    let square = json!({ "height": SIZE, "width": SIZE });
    let common = json!({
        "do_resize": true, "resample": 3, "do_rescale": true, "rescale_factor": 1.0 / 255.0, "do_normalize": true,
    });
    let own = match family {
        Family::Clip => json!({
            "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": SIZE },
            "do_center_crop": true, "crop_size": square,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        }),
        Family::Siglip => json!({
            "image_processor_type": "SiglipImageProcessor", "size": square,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        }),
    };
    let fields = [common, own].into_iter().filter_map(|part| part.as_object().cloned()).flatten();
    Value::Object(fields.collect())
}

/// The world's tokenizer with an end token behind every text, and one for unknown words.
fn tokenizer(world: &str, end: u32) -> Result<Value> {
    let mut file: Value = serde_json::from_str(world).map_err(Error::internal)?;
    for (token, id) in [(UNKNOWN, end - 1), (END, end)] {
        file["model"]["vocab"][token] = json!(id);
        if let Some(added) = file["added_tokens"].as_array_mut() {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
    }
    file["model"]["unk_token"] = json!(UNKNOWN);
    file["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": END, "type_id": 0 } }],
        "pair": [
            { "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } },
            { "SpecialToken": { "id": END, "type_id": 0 } },
        ],
        "special_tokens": { END: { "id": END, "ids": [end], "tokens": [END] } },
    });
    Ok(file)
}

fn settings() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH,
        "eos_token": END, "pad_token": END, "unk_token": UNKNOWN,
    })
}
