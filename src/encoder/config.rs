//! `config.json` of a CLIP or SigLIP checkpoint. Official files leave out what equals the defaults
//! of `transformers`, so those defaults are here.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    limits::{LARGEST, bad, check_size, check_transformer},
    vit::{Activation, BlockConfig},
};
use crate::Result;

/// Which of the two architectures a checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Class token, softmax over the texts.
    Clip,
    /// Attention pooling, a sigmoid for each text. SigLIP 2 at a fixed resolution is this too.
    Siglip,
}

/// Sizes of both towers.
#[derive(Clone, Debug)]
pub struct EncoderConfig {
    pub family: Family,
    pub vision: VisionConfig,
    /// `None` for a checkpoint of the vision tower alone.
    pub text: Option<TextConfig>,
    /// Size of CLIP's common space; SigLIP's is the pooled outputs' own.
    pub projection_dim: usize,
}

#[derive(Clone, Debug)]
pub struct VisionConfig {
    pub block: BlockConfig,
    pub num_hidden_layers: usize,
    /// Side of the square image that the position embeddings are for, pixels.
    pub image_size: usize,
    pub patch_size: usize,
    /// Whether SigLIP's attention pooling is there.
    pub use_head: bool,
}

#[derive(Clone, Debug)]
pub struct TextConfig {
    pub block: BlockConfig,
    pub num_hidden_layers: usize,
    pub vocab_size: usize,
    /// Longest text, tokens; SigLIP pads every text to it.
    pub max_position_embeddings: usize,
    pub eos_token_id: u32,
    /// Outputs of SigLIP's text head.
    pub projection_size: usize,
}

impl VisionConfig {
    /// Patches along a side of the trained image size; pixels that do not fill a patch are left out.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

/// A tower as the file has it.
#[derive(Default, Deserialize)]
struct Tower {
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
    num_channels: Option<usize>,
    vision_use_head: Option<bool>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    eos_token_id: Option<u32>,
    projection_size: Option<usize>,
    projection_dim: Option<usize>,
}

impl EncoderConfig {
    /// Parses and checks `config.json`.
    ///
    /// # Errors
    /// `weights_format` for other models and for sizes that contradict one another.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(json).map_err(bad)?;
        let model_type = fields.get("model_type").and_then(Value::as_str).unwrap_or("missing");
        let (family, whole) = match model_type {
            "clip" => (Family::Clip, true),
            "siglip" => (Family::Siglip, true),
            "clip_vision_model" => (Family::Clip, false),
            "siglip_vision_model" => (Family::Siglip, false),
            "siglip2" | "siglip2_vision_model" => {
                return Err(bad(
                    "SigLIP 2 with variable resolution (NaFlex) is not supported; take a checkpoint \
                                of one resolution, for example google/siglip2-base-patch16-224",
                ));
            }
            other => {
                return Err(bad(format!(
                    "model_type is {other:?}, expected clip, siglip, clip_vision_model or siglip_vision_model"
                )));
            }
        };
        let config = if whole {
            let (vision, text) = (part(&fields, "vision_config")?, part(&fields, "text_config")?);
            Self {
                family,
                vision: vision_config(family, &vision)?,
                text: Some(text_config(family, &text)?),
                projection_dim: size(&fields, "projection_dim")?.unwrap_or(512),
            }
        } else {
            let vision: Tower = serde_json::from_value(Value::Object(fields)).map_err(bad)?;
            Self {
                family,
                vision: vision_config(family, &vision)?,
                text: None,
                projection_dim: vision.projection_dim.unwrap_or(512),
            }
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let vision = &self.vision;
        if vision.patch_size == 0 || vision.grid() == 0 || vision.image_size > 4096 {
            let (image, patch) = (vision.image_size, vision.patch_size);
            return Err(bad(format!(
                "vision: image_size {image} and patch_size {patch} give no sensible grid"
            )));
        }
        let tower = |name, block: &BlockConfig, layers| {
            let sizes = [block.hidden_size, block.intermediate_size, block.num_attention_heads];
            check_transformer(name, layers, sizes, block.layer_norm_eps)
        };
        tower("vision", &vision.block, vision.num_hidden_layers)?;
        if let Some(text) = &self.text {
            tower("text", &text.block, text.num_hidden_layers)?;
            check_size("text: vocab_size", text.vocab_size, LARGEST)?;
            check_size("text: max_position_embeddings", text.max_position_embeddings, LARGEST)?;
            check_size("text: projection_size", text.projection_size, LARGEST)?;
        }
        check_size("projection_dim", self.projection_dim, LARGEST)
    }
}

fn size(fields: &Map<String, Value>, name: &str) -> Result<Option<usize>> {
    fields.get(name).map(|value| serde_json::from_value(value.clone()).map_err(bad)).transpose()
}

/// A tower's fields. Early CLIP files have them a second time in `…_config_dict`, which
/// `transformers` lets win, defaults and all.
fn part(fields: &Map<String, Value>, name: &str) -> Result<Tower> {
    let early = fields.get(&format!("{name}_dict")).filter(|value| !value.is_null());
    match early.or(fields.get(name)) {
        None | Some(Value::Null) => Ok(Tower::default()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|e| bad(format!("{name}: {e}"))),
    }
}

fn vision_config(family: Family, tower: &Tower) -> Result<VisionConfig> {
    let channels = tower.num_channels.unwrap_or(3);
    if channels != 3 {
        return Err(bad(format!("vision: num_channels is {channels}; only RGB (3) is supported")));
    }
    let patch = if family == Family::Clip { 32 } else { 16 };
    Ok(VisionConfig {
        block: block(family, tower, [768, 3072, 12])?,
        num_hidden_layers: tower.num_hidden_layers.unwrap_or(12),
        image_size: tower.image_size.unwrap_or(224),
        patch_size: tower.patch_size.unwrap_or(patch),
        use_head: family == Family::Siglip && tower.vision_use_head.unwrap_or(true),
    })
}

fn text_config(family: Family, tower: &Tower) -> Result<TextConfig> {
    let (sizes, vocabulary, length) = match family {
        Family::Clip => ([512, 2048, 8], 49408, 77),
        Family::Siglip => ([768, 3072, 12], 32000, 64),
    };
    let block = block(family, tower, sizes)?;
    Ok(TextConfig {
        num_hidden_layers: tower.num_hidden_layers.unwrap_or(12),
        vocab_size: tower.vocab_size.unwrap_or(vocabulary),
        max_position_embeddings: tower.max_position_embeddings.unwrap_or(length),
        eos_token_id: tower.eos_token_id.unwrap_or(49407),
        projection_size: tower.projection_size.unwrap_or(block.hidden_size),
        block,
    })
}

/// `defaults`: hidden size, intermediate size, heads.
fn block(family: Family, tower: &Tower, defaults: [usize; 3]) -> Result<BlockConfig> {
    let (activation, eps) = match family {
        Family::Clip => (Activation::QuickGelu, 1e-5),
        Family::Siglip => (Activation::GeluTanh, 1e-6),
    };
    Ok(BlockConfig {
        hidden_size: tower.hidden_size.unwrap_or(defaults[0]),
        intermediate_size: tower.intermediate_size.unwrap_or(defaults[1]),
        num_attention_heads: tower.num_attention_heads.unwrap_or(defaults[2]),
        layer_norm_eps: tower.layer_norm_eps.unwrap_or(eps),
        activation: match tower.hidden_act.as_deref() {
            None => activation,
            Some("quick_gelu") => Activation::QuickGelu,
            Some("gelu") => Activation::Gelu,
            Some("gelu_pytorch_tanh" | "gelu_new") => Activation::GeluTanh,
            Some(other) => {
                return Err(bad(format!(
                    "hidden_act is {other:?}, expected quick_gelu, gelu or gelu_pytorch_tanh"
                )));
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<EncoderConfig> {
        EncoderConfig::from_json(json.as_bytes())
    }

    /// google/siglip-base-patch16-224 and openai/clip-vit-base-patch32 say little more than this.
    #[test]
    fn what_is_left_out_is_the_default() {
        let clip = parse(r#"{"model_type": "clip", "text_config": {}, "vision_config": {}}"#).unwrap();
        assert_eq!((clip.vision.grid(), clip.vision.block.activation), (7, Activation::QuickGelu));
        assert_eq!(clip.vision.block.layer_norm_eps, 1e-5);
        let text = clip.text.unwrap();
        assert_eq!((text.vocab_size, text.max_position_embeddings, text.block.hidden_size), (49408, 77, 512));
        let siglip = parse(r#"{"model_type": "siglip", "text_config": null}"#).unwrap();
        assert_eq!((siglip.vision.grid(), siglip.vision.block.activation), (14, Activation::GeluTanh));
        assert_eq!((siglip.vision.block.layer_norm_eps, siglip.vision.use_head), (1e-6, true));
        assert_eq!(siglip.text.unwrap().vocab_size, 32000);
    }

    #[test]
    fn early_fields_win() {
        let config = parse(
            r#"{"model_type": "clip", "vision_config": {"hidden_act": "quick_gelu", "hidden_size": 1024},
                "vision_config_dict": {"hidden_act": "gelu"}, "text_config_dict": null}"#,
        );
        let block = config.unwrap().vision.block;
        assert_eq!((block.activation, block.hidden_size), (Activation::Gelu, 768));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (json, said) in [
            (r#"{"model_type": "bert"}"#, "\"bert\", expected clip, siglip"),
            (r#"{}"#, "\"missing\", expected clip"),
            (r#"{"model_type": "siglip2"}"#, "NaFlex"),
            (r#"{"model_type": "clip", "vision_config": {"hidden_act": "relu"}}"#, "\"relu\""),
            (r#"{"model_type": "clip", "vision_config": {"num_channels": 1}}"#, "only RGB"),
            (r#"{"model_type": "clip", "vision_config": {"num_attention_heads": 7}}"#, "multiple of 7 heads"),
            (r#"{"model_type": "clip", "vision_config": {"patch_size": 0}}"#, "patch_size 0"),
            (
                r#"{"model_type": "siglip", "text_config": {"vocab_size": 0}}"#,
                "vocab_size is 0, expected 1 to 1048576",
            ),
            (r#"{"model_type": "clip", "vision_config": {"num_hidden_layers": 1000}}"#, "expected 1 to 256"),
            (r#"{"model_type": "siglip", "text_config": {"vocab_size": -1}}"#, "text_config"),
            ("[]", "config.json"),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
