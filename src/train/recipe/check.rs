//! What a recipe file may say: fields that are known, with values by which every stage can train.

use serde_json::Value;

use super::Recipe;
use crate::{Error, Result, scene::SIZE, train::understanding::LONGEST_TEXT};

/// Widest model that is made from nothing: its weights have to fit into memory.
const WIDEST: usize = 4096;

impl Recipe {
    /// Refuses fields of the file that nothing was read from. Serde lets them pass where settings are
    /// flattened into a stage's.
    pub(super) fn check_names(&self, file: &Value) -> Result<()> {
        let mut unknown = Vec::new();
        add_unknown(file, &serde_json::to_value(self).map_err(Error::internal)?, "", &mut unknown);
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Error::bad_input(format!(
            "no field of a recipe: {}; check the spelling, and that ema and ema_every are numbers and both there",
            unknown.join(", ")
        )))
    }

    pub(super) fn check_values(&self) -> Result<()> {
        let length = self.model.understanding.max_position_embeddings;
        if length < LONGEST_TEXT {
            return Err(Error::bad_input(format!(
                "model.understanding: max_position_embeddings is {length}, expected {LONGEST_TEXT} or more, \
                 so that a caption, a question and its answer fit"
            )));
        }
        if self.model.image_size != SIZE {
            let message =
                format!("model.image_size is {}, expected {SIZE}, as scenes are", self.model.image_size);
            return Err(Error::bad_input(message));
        }
        let u = &self.model.understanding;
        let wide = [u.hidden_size, u.intermediate_size, self.model.generation.intermediate_size];
        if let Some(wide) = wide.into_iter().find(|size| *size > WIDEST) {
            return Err(Error::bad_input(format!("model: a size of {wide}, expected {WIDEST} or less")));
        }
        let stages = &self.stages;
        let (e, a, u) = (&stages.encoder, &stages.autoencoder, &stages.understanding);
        let (g, n, c) = (&stages.generation, &stages.connector, &stages.contrastive);
        for (stage, training, pool) in [
            ("encoder", &e.training, &e.pool),
            ("autoencoder", &a.training, &a.pool),
            ("understanding", &u.training, &u.pool),
            ("generation", &g.training, &g.pool),
            ("connector", &n.training, &n.pool),
            ("contrastive", &c.training, &c.pool),
        ] {
            let checked = training.check().and_then(|()| pool.check().map_err(|e| e.at("pool")));
            checked.map_err(|e| e.at(format!("stages.{stage}")))?;
        }
        n.understanding_pool.check().map_err(|e| e.at("stages.connector: understanding_pool"))?;
        u.check().map_err(|e| e.at("stages.understanding"))?;
        for (name, value, limits) in [
            ("autoencoder: latent_noise", a.latent_noise, 0.0..=100.0),
            ("understanding: two_objects", u.two_objects as f32, 0.0..=1.0),
            ("generation: two_objects", g.two_objects as f32, 0.0..=1.0),
            ("generation: null_caption", g.null_caption as f32, 0.0..=1.0),
            ("generation: time_mean", g.times.mean, -10.0..=10.0),
            ("generation: time_std", g.times.std, 0.0..=10.0),
            ("generation: captions.colour", g.captions.colour, 0.0..=1.0),
            ("generation: captions.relation", g.captions.relation, 0.0..=1.0),
            ("generation: captions.count", g.captions.count, 0.0..=1.0),
            ("generation: captions.style", g.captions.style, 0.0..=1.0),
            ("connector: understanding_weight", n.understanding_weight, 0.0..=100.0),
            ("connector: pooled_weight", n.pooled_weight, 0.0..=100.0),
            ("connector: null_caption", n.null_caption as f32, 0.0..=1.0),
            ("connector: time_mean", n.times.mean, -10.0..=10.0),
            ("connector: time_std", n.times.std, 0.0..=10.0),
        ] {
            if !limits.contains(&value) {
                let (least, most) = (limits.start(), limits.end());
                let message = format!("stages.{name} is {value}, expected {least} to {most}");
                return Err(Error::bad_input(message));
            }
        }
        self.alignment.check().map_err(|e| e.at("alignment"))
    }
}

/// The paths of what a file says and what was read of it lacks. `null` says nothing.
fn add_unknown(file: &Value, read: &Value, path: &str, unknown: &mut Vec<String>) {
    let (Value::Object(file), Value::Object(read)) = (file, read) else { return };
    for (name, value) in file.iter().filter(|(_, value)| !value.is_null()) {
        match read.get(name) {
            Some(read) => add_unknown(value, read, &format!("{path}{name}."), unknown),
            None => unknown.push(format!("{path}{name}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::train::recipe::RECIPES;

    /// The nano recipe with other fields in one of its objects.
    fn changed(object: &str, fields: Value) -> Result<Recipe> {
        let mut recipe: Value = serde_json::from_str(RECIPES[0].1).unwrap();
        let object = recipe.pointer_mut(object).unwrap().as_object_mut().unwrap();
        object.extend(fields.as_object().unwrap().clone());
        Recipe::from_json(recipe.to_string().as_bytes())
    }

    #[test]
    fn what_is_misspelt_is_named() {
        for (object, fields, said) in [
            ("/stages/encoder", json!({ "cycle": 2 }), "stages.encoder.cycle;"),
            ("/stages/encoder", json!({ "optimiser": "muon" }), "stages.encoder.optimiser;"),
            (
                "/stages/encoder",
                json!({ "ema": 0.9, "ema_evry": 4 }),
                "stages.encoder.ema, stages.encoder.ema_evry;",
            ),
            ("/stages/generation", json!({ "ema_every": null }), "stages.generation.ema;"),
            ("/model/vision", json!({ "layers": 2 }), "model.vision.layers;"),
        ] {
            let error = changed(object, fields).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let pool = json!({ "kind": "drawing", "seed": 2, "size": 64, "two_objects": null });
        assert!(
            changed("/stages/generation", json!({ "ema": null, "ema_every": null, "pool": pool })).is_ok()
        );
    }

    #[test]
    fn what_cannot_train_is_named() {
        for (object, fields, said) in [
            ("/stages/encoder", json!({ "batch": 0 }), "stages.encoder: batch is 0, expected 1"),
            ("/stages/encoder", json!({ "cycles": 0 }), "cycles is 0, expected 1"),
            ("/stages/encoder", json!({ "learning_rate": -1e-3 }), "learning_rate is -0.001, expected"),
            ("/stages/encoder", json!({ "weight_decay": 1e39 }), "weight_decay is inf, expected 0 to 1"),
            ("/stages/generation", json!({ "ema_every": 0 }), "generation: ema_every is 0, expected 1"),
            ("/stages/generation", json!({ "ema": 1.5 }), "ema is 1.5, expected 0 to 1"),
            ("/stages/generation", json!({ "null_caption": 2 }), "null_caption is 2, expected 0 to 1"),
            ("/stages/generation/captions", json!({ "style": -1 }), "captions.style is -1, expected 0 to 1"),
            ("/stages/understanding", json!({ "text_only": 1.5 }), "text_only is 1.5, expected 0 or more"),
            ("/stages/understanding", json!({ "text_only": 0.95 }), "takes all 8 samples"),
            (
                "/stages/connector/understanding_pool",
                json!({ "size": 0 }),
                "connector: understanding_pool: size is 0",
            ),
            ("/stages/encoder/pool", json!({ "two_objects": 1.1 }), "two_objects is 1.1, expected 0 to 1"),
            ("/alignment", json!({ "batch": 1 }), "alignment: batch is 1, expected 2 or more"),
            (
                "/alignment",
                json!({ "learning_rate": 2.0 }),
                "learning_rate is 2, expected above 0, at most 1",
            ),
            ("/model/understanding", json!({ "max_position_embeddings": 29 }), "is 29, expected 30 or more"),
            ("/model", json!({ "image_size": 32 }), "image_size is 32, expected 64"),
            ("/model/understanding", json!({ "intermediate_size": 8192 }), "8192, expected 4096 or less"),
        ] {
            let error = changed(object, fields).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
