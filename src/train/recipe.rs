//! A recipe: the model's sizes, the world it lives in, and the stages that train it.

mod check;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    autoencoder::AutoencoderConfig, connector::ConnectorConfig, contrastive::ContrastiveConfig,
    encoder::EncoderConfig, generation::GenerationConfig, optim::Rule, stage::TrainingConfig,
    understanding::UnderstandingConfig,
};
use crate::{
    Error, Result, random,
    scene::{World, tokenizer_json, vocabulary},
    text::Tokenizer,
    umm::{Umm, UmmConfig, block::Block},
};

/// The recipes that come with the crate, by name.
pub const RECIPES: [(&str, &str); 3] = [
    ("nano", include_str!("recipes/nano.json")),
    ("mini", include_str!("recipes/mini.json")),
    ("tiny", include_str!("recipes/tiny.json")),
];

/// A recipe file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub name: String,
    pub seed: u64,
    /// The vocabulary's size is the world's and left out (0) in the file.
    pub model: UmmConfig,
    pub world: World,
    pub stages: Stages,
    pub alignment: AlignmentConfig,
}

/// How a model of the recipe is aligned where nothing else is asked for: what `docs/recipe.md` found best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlignmentConfig {
    pub steps: u64,
    /// Images a step.
    pub batch: usize,
    pub learning_rate: f64,
    pub optimizer: Rule,
    /// Weight of the captioned loss on the base's own pool.
    pub lambda_t2i: f32,
    /// Unlabelled scenes.
    pub count: u64,
}

impl AlignmentConfig {
    /// # Errors
    /// `bad_input` naming the field, with its limits.
    fn check(&self) -> Result<()> {
        let least = [("steps", self.steps, 1), ("batch", self.batch as u64, 2), ("count", self.count, 2)];
        if let Some((name, value, least)) = least.into_iter().find(|(_, value, least)| value < least) {
            return Err(Error::bad_input(format!("{name} is {value}, expected {least} or more")));
        }
        let (rate, lambda) = (self.learning_rate, self.lambda_t2i);
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(Error::bad_input(format!("learning_rate is {rate}, expected above 0, at most 1")));
        }
        if !(0.0..=100.0).contains(&lambda) {
            return Err(Error::bad_input(format!("lambda_t2i is {lambda}, expected 0 to 100")));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    pub encoder: EncoderConfig,
    pub autoencoder: AutoencoderConfig,
    pub understanding: UnderstandingConfig,
    pub generation: GenerationConfig,
    pub connector: ConnectorConfig,
    /// Of the encoders apart from the model, `clip` and `siglip`.
    pub contrastive: ContrastiveConfig,
}

impl Stages {
    /// How long and how fast each is trained.
    pub fn trainings(&mut self) -> [&mut TrainingConfig; 6] {
        [
            &mut self.encoder.training,
            &mut self.autoencoder.training,
            &mut self.understanding.training,
            &mut self.generation.training,
            &mut self.connector.training,
            &mut self.contrastive.training,
        ]
    }
}

/// The stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageName {
    Encoder,
    Autoencoder,
    Understanding,
    Generation,
    Connector,
    Clip,
    Siglip,
}

impl StageName {
    /// Those of the model, in the order in which they are trained.
    pub const ALL: [Self; 5] =
        [Self::Encoder, Self::Autoencoder, Self::Understanding, Self::Generation, Self::Connector];

    /// Those that train an encoder of an official architecture, each apart from all others.
    pub const CONTRASTIVE: [Self; 2] = [Self::Clip, Self::Siglip];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Autoencoder => "autoencoder",
            Self::Understanding => "understanding",
            Self::Generation => "generation",
            Self::Connector => "connector",
            Self::Clip => "clip",
            Self::Siglip => "siglip",
        }
    }

    /// The stages whose results this one stands on.
    pub fn needs(self) -> &'static [Self] {
        match self {
            Self::Encoder | Self::Autoencoder | Self::Clip | Self::Siglip => &[],
            Self::Understanding => &[Self::Encoder],
            Self::Generation => &[Self::Encoder, Self::Autoencoder, Self::Understanding],
            Self::Connector => &[Self::Encoder, Self::Autoencoder, Self::Understanding, Self::Generation],
        }
    }
}

impl Recipe {
    /// Parses a recipe and checks that its parts fit.
    ///
    /// # Errors
    /// `bad_input` naming the field.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let mut recipe: Self = serde_json::from_slice(json).map_err(Error::bad_input)?;
        recipe.check_names(&serde_json::from_slice(json).map_err(Error::bad_input)?)?;
        recipe.world.validate()?;
        recipe.model.understanding.vocab_size = vocabulary(&recipe.world).len();
        let model = serde_json::to_vec(&recipe.model).map_err(Error::internal)?;
        UmmConfig::from_json(&model).map_err(|e| Error::bad_input(e.message).at("model"))?;
        recipe.check_values()?;
        Ok(recipe)
    }

    /// A recipe that comes with the crate.
    ///
    /// # Errors
    /// `bad_input` with the names there are.
    pub fn named(name: &str) -> Result<Self> {
        let found = RECIPES.iter().find(|(known, _)| *known == name);
        let (_, json) = found.ok_or_else(|| {
            let known = RECIPES.map(|(known, _)| known).join(", ");
            Error::bad_input(format!("there is no recipe {name:?}; there are {known}"))
        })?;
        Self::from_json(json.as_bytes()).map_err(|e| e.at(name))
    }

    /// The tokenizer of the recipe's world.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::from_json(tokenizer_json(&self.world).as_bytes())
    }

    /// A model with random weights from the recipe's seed, ready to be trained.
    pub fn init(&self, device: &Device) -> Umm {
        random::seeded(device, self.seed, || {
            let mut umm = Umm::new(&self.model, device);
            // The order of draws is part of what a seed means: these come first.
            umm.generation.layers.iter().for_each(|layer| drop(layer.qkv.weight.val()));
            umm.understanding.layers = umm.understanding.layers.into_iter().map(Block::attentive).collect();
            umm
        })
    }

    /// What a stage trains, on what and how, in one line of JSON; equal for runs that give equal
    /// weights.
    pub fn run(&self, stage: StageName) -> Result<String> {
        let settings = match stage {
            StageName::Encoder => serde_json::to_value(&self.stages.encoder),
            StageName::Autoencoder => serde_json::to_value(&self.stages.autoencoder),
            StageName::Understanding => serde_json::to_value(&self.stages.understanding),
            StageName::Generation => serde_json::to_value(&self.stages.generation),
            StageName::Connector => serde_json::to_value(&self.stages.connector),
            StageName::Clip | StageName::Siglip => serde_json::to_value(&self.stages.contrastive),
        };
        let mut basis = serde_json::to_string(&(&self.model, &self.world)).map_err(Error::internal)?;
        for before in stage.needs() {
            basis += &self.run(*before)?;
        }
        let basis: String = Sha256::digest(basis).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let settings = settings.map_err(Error::internal)?;
        let run = serde_json::json!({
            "stage": stage.as_str(), "seed": self.seed, "settings": settings, "model_world_and_stages_before": basis,
        });
        Ok(run.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_recipes_are_whole() {
        for (name, _) in RECIPES {
            let recipe = Recipe::named(name).unwrap();
            assert_eq!(recipe.name, name);
            assert_eq!(recipe.model.understanding.vocab_size, recipe.tokenizer().unwrap().vocab_size());
        }
        assert!(Recipe::named("huge").unwrap_err().message.contains("mini"));
    }

    #[test]
    fn understanding_starts_by_matching_like_with_like() {
        let umm = Recipe::named("nano").unwrap().init(&Device::flex());
        for layer in &umm.understanding.layers {
            let [hidden, _] = layer.qkv.weight.dims();
            let part = |k: usize| layer.qkv.weight.val().narrow(1, k * hidden, hidden).into_data();
            assert_eq!(part(0), part(1), "queries and keys");
            assert_ne!(part(0), part(2), "queries and values");
            let largest = layer.proj.weight.val().abs().max().into_scalar::<f32>();
            let limit = 0.1 / (hidden as f32).sqrt();
            assert!(largest <= limit && largest > 0.9 * limit, "{largest} of {limit}");
        }
    }

    #[test]
    fn a_run_depends_on_the_stages_before() {
        let recipe = Recipe::named("nano").unwrap();
        let mut other = recipe.clone();
        other.stages.encoder.training.steps += 1;
        for (stage, differs) in [
            (StageName::Encoder, true),
            (StageName::Autoencoder, false),
            (StageName::Understanding, true),
            (StageName::Connector, true),
        ] {
            assert_eq!(recipe.run(stage).unwrap() != other.run(stage).unwrap(), differs, "{stage:?}");
        }
    }
}
