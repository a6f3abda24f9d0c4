//! Towers, pooling, logits; and that the goldens notice every detail that could be swapped.

use reca::encoder::{DualEncoder, EncoderConfig, Parts};

use super::{Goldens, TOLERANCE, WHOLE, build, config, file, model, weights};

#[test]
fn vision_towers_equal_transformers() {
    for checkpoint in WHOLE {
        let (model, goldens) = (model(checkpoint), Goldens::of(checkpoint));
        let tower = &model.vision_model;
        let layers = tower.encoder.layers.len();
        for layer in 0..=layers {
            let state = tower.hidden_state(goldens.tensor("pixel_values"), layer);
            goldens.assert(&format!("hidden.{layer}"), state);
        }
        let last = tower.last_hidden_state(goldens.tensor("pixel_values"));
        goldens.assert("pooled", tower.pool(last.clone()).unwrap());
        goldens.assert("patch_embeds", model.patch_embeds(last).unwrap());
        goldens.assert("image_embeds", model.image_embeds(goldens.tensor("pixel_values")).unwrap());
    }
}

/// Position embeddings are resized for images that are not the trained square.
#[test]
fn other_image_sizes_equal_transformers() {
    for checkpoint in WHOLE {
        let (model, goldens) = (model(checkpoint), Goldens::of(checkpoint));
        goldens.assert("wide.image_embeds", model.image_embeds(goldens.tensor("wide.pixel_values")).unwrap());
    }
}

#[test]
fn text_towers_and_logits_equal_transformers() {
    for checkpoint in WHOLE {
        let (model, goldens) = (model(checkpoint), Goldens::of(checkpoint));
        let tower = model.text_model.as_ref().unwrap();
        let last = tower.encoder.layers.len();
        goldens.assert(&format!("text.hidden.{last}"), tower.last_hidden_state(&goldens.ids()).unwrap());
        goldens.assert("text.pooled", tower.forward(&goldens.ids()).unwrap());
        let texts = model.text_embeds(&goldens.ids()).unwrap();
        goldens.assert("text_embeds", texts.clone());
        let images = model.image_embeds(goldens.tensor("pixel_values")).unwrap();
        let logits = model.logits(images, texts).unwrap();
        goldens.assert("logits", logits.clone());
        goldens.assert("scores", model.scores(logits));
    }
}

#[test]
fn checkpoints_of_the_vision_tower_alone_load() {
    for checkpoint in ["clip-vision", "siglip-vision"] {
        let (model, goldens) = (model(checkpoint), Goldens::of(checkpoint));
        goldens.assert("image_embeds", model.image_embeds(goldens.tensor("pixel_values")).unwrap());
        let error = model.text_embeds(&[vec![0]]).unwrap_err().to_string();
        assert!(error.contains("vision tower alone"), "{error}");
    }
}

#[test]
fn the_vision_tower_of_a_whole_checkpoint_loads_alone() {
    for checkpoint in WHOLE {
        let model = build(&config(checkpoint), &weights(checkpoint), Parts::Vision).unwrap();
        assert!(model.text_model.is_none() && model.logit_scale.is_none());
        let goldens = Goldens::of(checkpoint);
        goldens.assert("image_embeds", model.image_embeds(goldens.tensor("pixel_values")).unwrap());
    }
}

/// The model under a changed `config.json`.
fn changed(checkpoint: &str, from: &str, to: &str) -> DualEncoder {
    let json = String::from_utf8(file(checkpoint, "config.json")).unwrap();
    assert!(json.contains(from), "{checkpoint} has no {from}");
    let config = EncoderConfig::from_json(json.replace(from, to).as_bytes()).unwrap();
    build(&config, &weights(checkpoint), Parts::All).unwrap()
}

#[test]
fn a_swapped_activation_or_epsilon_is_noticed() {
    for (checkpoint, from, to) in [
        ("clip", "\"quick_gelu\"", "\"gelu\""),
        ("clip-gelu", "\"gelu\"", "\"quick_gelu\""),
        ("clip-gelu", "\"gelu\"", "\"gelu_pytorch_tanh\""),
        ("siglip", "\"gelu_pytorch_tanh\"", "\"gelu\""),
        ("siglip2", "\"gelu_pytorch_tanh\"", "\"quick_gelu\""),
        ("clip", "1e-05", "1e-06"),
        ("siglip", "1e-06", "1e-05"),
        ("siglip2", "1e-06", "1e-05"),
    ] {
        let (model, goldens) = (changed(checkpoint, from, to), Goldens::of(checkpoint));
        let images =
            goldens.error("image_embeds", model.image_embeds(goldens.tensor("pixel_values")).unwrap());
        let texts = goldens.error("text_embeds", model.text_embeds(&goldens.ids()).unwrap());
        assert!(images > 1.5 * TOLERANCE, "{checkpoint} {from} {to}: images {images}");
        assert!(texts > 1.5 * TOLERANCE, "{checkpoint} {from} {to}: texts {texts}");
    }
}

#[test]
fn swapped_pooling_is_noticed() {
    for checkpoint in WHOLE {
        let (mut model, goldens) = (model(checkpoint), Goldens::of(checkpoint));
        let last = model.vision_model.last_hidden_state(goldens.tensor("pixel_values"));
        let mean = model.vision_model.post_layernorm.forward(last).mean_dim(1).squeeze_dim::<2>(1);
        assert!(goldens.error("pooled", mean) > 0.1, "{checkpoint}");
        // The probe's part alone, without the MLP behind it; or CLIP's class token from before the norm.
        let other = changed_pooling(&mut model, &goldens);
        assert!(goldens.error("pooled", other) > 0.01, "{checkpoint}");
    }
    let (model, goldens) = (changed("clip-gelu", "\"eos_token_id\"", "\"unused\""), Goldens::of("clip-gelu"));
    let error = model.text_embeds(&goldens.ids()).unwrap_err().to_string();
    assert!(error.contains("no end token"), "{error}");
}

fn changed_pooling(model: &mut DualEncoder, goldens: &Goldens) -> burn::tensor::Tensor<2> {
    let tower = &mut model.vision_model;
    let last = tower.last_hidden_state(goldens.tensor("pixel_values"));
    match &mut tower.head {
        Some(head) => {
            let plain = head.probe.val().zeros_like();
            head.probe = burn::module::Param::from_tensor(plain);
            tower.pool(last).unwrap()
        }
        None => last.narrow(1, 0, 1).squeeze_dim(1),
    }
}

/// Pixels that do not fill a patch are left out, as so400m's 384 pixels at patch 14 need.
#[test]
fn pixels_beyond_the_last_patch_do_not_count() {
    let (model, goldens) = (model("siglip"), Goldens::of("siglip"));
    let pixels = goldens.tensor::<4>("pixel_values");
    let wider = burn::tensor::Tensor::cat(vec![pixels.clone(), pixels.narrow(3, 0, 5) + 9.0], 3);
    goldens.assert("image_embeds", model.image_embeds(wider).unwrap());
}
