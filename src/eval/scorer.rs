//! The scorer: reads pictures with its own network and judges them by GenEval's rules.

use std::collections::BTreeMap;

use burn::tensor::Device;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{
    detector::{Detection, Detector},
    prompts::Prompt,
    rules,
};
use crate::{
    Error, Result,
    image::{fit, to_tensor},
    scene::{Colour, Engine, SIZE, caption::style_word},
    umm::config::VisionConfig,
    weights::{
        Manifest,
        directory::{CONFIG, WEIGHTS},
        safetensors,
    },
};

/// The folder of a model directory that holds its scorer.
pub const FOLDER: &str = "scorer";
const MODEL_TYPE: &str = "reca-scorer";
/// Pictures read at once; the same whoever asks, so that a picture's verdict never depends on it.
const BATCH: usize = 32;

/// `config.json` of a scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScorerConfig {
    pub model_type: String,
    /// What it can tell apart, in the order of its outputs.
    pub nouns: Vec<String>,
    /// The styles that it knows; a prompt that names none means the first.
    pub styles: Vec<String>,
    /// The colour that a noun has by nature in each style: an object that was not recoloured counts as
    /// being of this one.
    pub natural: BTreeMap<String, BTreeMap<String, Colour>>,
    pub vision: VisionConfig,
}

impl ScorerConfig {
    /// The configuration of an untrained scorer of an engine's world.
    pub fn of(engine: &Engine) -> Self {
        let world = engine.world();
        let natural = |noun: &String| {
            let colour = |style: &String| Some((style.clone(), engine.bank().modal_colour(noun, style)?));
            (noun.clone(), world.styles.iter().filter_map(colour).collect())
        };
        Self {
            model_type: MODEL_TYPE.to_owned(),
            nouns: world.nouns.clone(),
            styles: world.styles.clone(),
            natural: world.nouns.iter().map(natural).collect(),
            vision: VisionConfig {
                stem_channels: [32, 64],
                hidden_size: 128,
                num_hidden_layers: 2,
                num_attention_heads: 4,
                intermediate_size: 384,
                layer_norm_eps: 1e-6,
            },
        }
    }

    /// Parses and checks `config.json`.
    ///
    /// # Errors
    /// `weights_format` where a field is missing or of another kind of model, and for senseless sizes.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let bad = |what: String| Error::weights_format(format!("scorer's config.json: {what}"));
        let config: Self = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        if config.model_type != MODEL_TYPE {
            return Err(bad(format!("model_type is {:?}, expected {MODEL_TYPE:?}", config.model_type)));
        }
        if config.nouns.is_empty() || config.styles.is_empty() {
            return Err(bad("nouns and styles must not be empty".into()));
        }
        config.vision.check().map_err(|e| e.at("scorer"))?;
        Ok(config)
    }

    /// The style that a prompt names, in any case, else the first.
    pub fn style(&self, prompt: &str) -> &str {
        let prompt = prompt.to_lowercase();
        let mut words = prompt.split(|letter: char| !letter.is_alphanumeric());
        let named = words.find_map(|word| self.styles.iter().find(|style| style_word(style) == word));
        named.or(self.styles.first()).map_or("", String::as_str)
    }
}

/// The bytes of a scorer's `config.json` and `model.safetensors`.
#[derive(Clone, Debug, Default)]
pub struct ScorerFiles {
    pub config: Vec<u8>,
    pub weights: Vec<u8>,
}

impl ScorerFiles {
    /// Reads the scorer's manifest by `read`, then its files, checking each.
    ///
    /// # Errors
    /// Those of [`Manifest::read`].
    pub fn read(read: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let [config, weights] = Manifest::read([CONFIG, WEIGHTS], read)?;
        Ok(Self { config, weights })
    }

    /// The files of a trained scorer, weights in f16.
    pub async fn of(config: &ScorerConfig, detector: &Detector) -> Result<Self> {
        Ok(Self {
            config: serde_json::to_vec_pretty(config).map_err(Error::internal)?,
            weights: safetensors::save(detector, safetensors::Precision::F16).await?,
        })
    }

    /// Names and bytes of all files, the manifest last.
    pub fn with_manifest(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        Manifest::seal(&[(CONFIG, &self.config), (WEIGHTS, &self.weights)])
    }
}

/// What is amiss in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A thing is not there, or not often enough.
    Missing,
    /// It is there in another colour.
    Colour,
    /// It stands elsewhere.
    Place,
    /// There is too much of something.
    Excess,
}

impl Fault {
    pub const ALL: [Self; 4] = [Self::Missing, Self::Colour, Self::Place, Self::Excess];
}

/// Whether a picture shows what its prompt asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub correct: bool,
    /// What kind of thing is amiss first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// What is missing or too much; empty if nothing is.
    pub reason: String,
}

/// Reads pictures and judges them. Independent of the model that drew them.
#[derive(Clone, Debug)]
pub struct Scorer {
    config: ScorerConfig,
    detector: Detector,
    device: Device,
}

impl Scorer {
    /// Builds the scorer of a scorer's folder.
    ///
    /// # Errors
    /// `weights_format` and `weights_shape`.
    pub fn load(files: &ScorerFiles, device: &Device) -> Result<Self> {
        let config = ScorerConfig::from_json(&files.config)?;
        let detector = Detector::new(&config.vision, config.nouns.len(), device);
        let detector = safetensors::load(detector, &files.weights).map_err(|e| e.at("scorer"))?;
        Ok(Self::new(config, detector, device))
    }

    /// A scorer of a detector at hand.
    pub fn new(config: ScorerConfig, detector: Detector, device: &Device) -> Self {
        Self { config, detector, device: device.clone() }
    }

    pub fn config(&self) -> &ScorerConfig {
        &self.config
    }

    /// Nouns that a prompt asks for and the scorer does not know.
    pub fn unknown<'a>(&self, prompt: &'a Prompt) -> Vec<&'a str> {
        let asked = prompt.record.include.iter().chain(&prompt.record.exclude);
        asked.map(|r| r.class.as_str()).filter(|noun| !self.config.nouns.iter().any(|n| n == noun)).collect()
    }

    /// The objects in pictures of any size, the surest first.
    pub async fn detect(&self, images: &[RgbImage]) -> Result<Vec<Vec<Detection>>> {
        let mut found = Vec::with_capacity(images.len());
        for chunk in images.chunks(BATCH) {
            let squares: Vec<_> = chunk.iter().map(|image| fit(image, SIZE as u32)).collect();
            found.extend(self.detector.detect(to_tensor(&squares, &self.device)).await?);
        }
        Ok(found)
    }

    /// Judges pictures, each by its prompt and the style that it is to have.
    ///
    /// # Errors
    /// `bad_input` if there are not as many prompts as pictures.
    pub async fn score(&self, images: &[RgbImage], prompts: &[(&Prompt, &str)]) -> Result<Vec<Verdict>> {
        if images.len() != prompts.len() {
            let (pictures, prompts) = (images.len(), prompts.len());
            return Err(Error::bad_input(format!("{pictures} pictures for {prompts} prompts")));
        }
        let found = self.detect(images).await?;
        let judged = found.iter().zip(prompts);
        Ok(judged
            .map(|(found, (prompt, style))| rules::judge(&self.config, found, &prompt.record, style))
            .collect())
    }
}

#[cfg(all(test, feature = "svg"))]
mod tests {
    use super::*;
    use crate::train::recipe::Recipe;

    fn config() -> Result<ScorerConfig> {
        let mut world = Recipe::named("mini")?.world;
        world.styles.push("noto-v1".to_owned());
        Ok(ScorerConfig::of(&Engine::new(world)?))
    }

    #[test]
    fn styles_are_known_by_their_words_in_any_case() {
        let config = config().unwrap();
        for (prompt, style) in [
            ("a red car", "noto"),
            ("a red car, twemoji style", "twemoji"),
            ("A red car in Twemoji style", "twemoji"),
            ("a dog, blob style", "noto-v1"),
        ] {
            assert_eq!(config.style(prompt), style);
        }
    }

    #[test]
    fn senseless_sizes_are_named() {
        let good = serde_json::to_value(config().unwrap()).unwrap();
        for (field, value, said) in [
            ("num_hidden_layers", 1_000_000_000, "num_hidden_layers is 1000000000, expected 1 to 256"),
            ("intermediate_size", 0, "intermediate_size is 0, expected 1 to 1048576"),
            ("hidden_size", 1 << 21, "hidden_size is 2097152"),
            ("hidden_size", 20, "20 channels, expected a multiple of 8"),
            ("num_attention_heads", 3, "not a multiple of 3 heads"),
        ] {
            let mut json = good.clone();
            json["vision"][field] = value.into();
            let error = ScorerConfig::from_json(json.to_string().as_bytes()).unwrap_err();
            assert!(error.message.starts_with("scorer: ") && error.message.contains(said), "{error}");
        }
        assert!(ScorerConfig::from_json(good.to_string().as_bytes()).is_ok());
    }
}
