//! A trained model as a model directory.

use serde_json::json;

use super::recipe::Recipe;
use crate::{
    Error, Result,
    scene::{caption::style_word, question::caption_requests, tokenizer_json},
    text::NULL_CAPTION,
    umm::Umm,
    weights::{
        ModelFiles,
        safetensors::{self, Precision},
    },
};

/// The files of a model directory, weights in f16.
pub async fn model_files(recipe: &Recipe, umm: &Umm) -> Result<ModelFiles> {
    let mut config = serde_json::to_value(&recipe.model).map_err(Error::internal)?;
    if let Some(fields) = config.as_object_mut() {
        fields.insert("recipe".into(), json!(recipe.name));
        fields.insert("nouns".into(), json!(recipe.world.nouns));
        // By the words that prompts name them by, which the tokenizer knows.
        let styles: Vec<_> = recipe.world.styles.iter().map(|style| style_word(style)).collect();
        fields.insert("styles".into(), json!(styles));
        fields.insert("templates".into(), json!(caption_requests()));
        fields.insert("sampling".into(), sampling());
    }
    let pretty = |value| serde_json::to_vec_pretty(value).map_err(Error::internal);
    Ok(ModelFiles {
        config: pretty(&config)?,
        weights: safetensors::save(umm, Precision::F16).await?,
        tokenizer: tokenizer_json(&recipe.world).into_bytes(),
        preprocessor: pretty(&preprocessor(recipe.model.image_size))?,
        ..ModelFiles::default()
    })
}

/// How the model is meant to draw.
fn sampling() -> serde_json::Value {
    json!({
        "method": "euler", "steps": 16, "guidance_scale": 3.0, "guidance_interval": [0.0, 1.0],
        "plan_layout": true, "null_caption": NULL_CAPTION,
    })
}

/// Hugging Face's image processor settings: to `side` × `side`, bilinearly, then to [-1, 1].
fn preprocessor(side: usize) -> serde_json::Value {
    json!({
        "do_resize": true, "size": { "height": side, "width": side }, "resample": 2,
        "do_rescale": true, "rescale_factor": 1.0 / 255.0,
        "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::Pipeline;

    #[test]
    fn a_prompt_without_a_style_is_drawn_in_the_first_whatever_its_word() {
        for (style, word) in [("twemoji", "twemoji"), ("noto-v1", "blob")] {
            let mut recipe = Recipe::named("nano").unwrap();
            recipe.world.styles = vec![style.to_owned()];
            let device = Device::flex();
            let files = pollster::block_on(model_files(&recipe, &recipe.init(&device))).unwrap();
            let pipeline = Pipeline::new(&files, &device).unwrap();
            let named = format!("a red car, {word} style");
            let ids = pipeline.tokenizer.encode(&named).unwrap();
            assert_eq!(pipeline.prompt("a red car").unwrap(), ids);
            assert_eq!(pipeline.prompt(&named).unwrap(), ids);
        }
    }
}
