//! Preprocessing against Pillow and `transformers`.

use burn::tensor::Device;
use image::RgbImage;
use reca::encoder::{
    EncoderConfig, Preprocessor,
    resample::{Filter, resize},
};
use safetensors::SafeTensors;

use super::{Goldens, WHOLE, config, file, folder, model, picture};

#[test]
fn resizing_equals_pillow_byte_for_byte() {
    let bytes = std::fs::read(folder("pillow.safetensors")).unwrap();
    let goldens = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(goldens.len(), 20);
    for (name, golden) in goldens.iter() {
        let [index, filter, size] = name.split('.').collect::<Vec<_>>().try_into().unwrap();
        let (width, height) = size.split_once('x').unwrap();
        let filter = if filter == "bicubic" { Filter::Bicubic } else { Filter::Bilinear };
        let picture = picture(index.parse().unwrap());
        let found = resize(&picture, width.parse().unwrap(), height.parse().unwrap(), filter);
        assert!(found.as_raw() == golden.data(), "{name}");
    }
}

fn preprocessor(checkpoint: &str, config: &EncoderConfig) -> Preprocessor {
    Preprocessor::from_json(&file(checkpoint, "preprocessor_config.json"), config).unwrap()
}

#[test]
fn preprocessing_equals_transformers() {
    for checkpoint in WHOLE {
        let (preprocessor, goldens) =
            (preprocessor(checkpoint, &config(checkpoint)), Goldens::of(checkpoint));
        for index in 0..2 {
            let found = preprocessor.forward(&[picture(index)], &Device::flex()).unwrap();
            let error = goldens.error(&format!("preprocessed.{index}"), found.squeeze_dim::<3>(0));
            assert!(error < 1e-6, "{checkpoint} {index}: {error}");
        }
    }
}

#[test]
fn swapped_normalisation_filter_or_crop_is_noticed() {
    let goldens = Goldens::of("clip");
    let right = preprocessor("clip", &config("clip"));
    let siglip = preprocessor("siglip", &config("siglip"));
    for wrong in [
        Preprocessor { mean: siglip.mean, std: siglip.std, ..right.clone() },
        Preprocessor { filter: Filter::Bilinear, ..right.clone() },
        Preprocessor { resize: siglip.resize, ..right.clone() },
    ] {
        let found = wrong.forward(&[picture(0)], &Device::flex()).unwrap();
        assert!(goldens.error("preprocessed.0", found.squeeze_dim::<3>(0)) > 0.1, "{wrong:?}");
    }
}

#[test]
fn a_missing_file_means_the_family_s_usual_preprocessing() {
    for checkpoint in ["clip", "siglip"] {
        let config = config(checkpoint);
        let (usual, given) = (Preprocessor::default_of(&config), preprocessor(checkpoint, &config));
        assert_eq!(usual, given);
    }
}

/// openai/clip-vit-base-patch32 has sizes as plain numbers.
#[test]
fn early_files_are_understood() {
    let config = config("clip");
    let early = br#"{"size": 32, "crop_size": 32, "do_center_crop": true, "resample": 3}"#;
    assert_eq!(Preprocessor::from_json(early, &config).unwrap(), Preprocessor::default_of(&config));
}

#[test]
fn what_cannot_be_done_is_named() {
    for (json, said) in [
        (r#"{"resample": 1}"#, "resample is 1, expected 2"),
        (r#"{"size": {"longest_edge": 3}}"#, "size has no width"),
        (r#"{"size": {"shortest_edge": 0}}"#, "expected 1 to 4096"),
        (r#"{"crop_size": {"width": 3}}"#, "crop_size has no height"),
        (r#"{"image_std": [0, 1, 1]}"#, "image_std"),
        (r#"{"image_mean": [0, 1e39, 0]}"#, "expected finite numbers"),
        (r#"{"rescale_factor": 1e39}"#, "expected finite numbers"),
        (r#"{"image_mean": [0.5]}"#, "preprocessor_config.json"),
    ] {
        let error = Preprocessor::from_json(json.as_bytes(), &config("clip")).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn pictures_smaller_than_a_patch_are_refused() {
    for checkpoint in WHOLE {
        let config = config(checkpoint);
        let as_it_is = br#"{"do_resize": false, "do_center_crop": false}"#;
        let preprocessor = Preprocessor::from_json(as_it_is, &config).unwrap();
        let pixels = |width, height| preprocessor.forward(&[RgbImage::new(width, height)], &Device::flex());
        let patch = config.vision.patch_size as u32;
        for (width, height) in [(1, 1), (patch - 1, 4 * patch), (4 * patch, patch - 1)] {
            let error = pixels(width, height).unwrap_err().to_string();
            let said = format!("{width} × {height} pixels do not fill a patch of {patch}; take a larger");
            assert!(error.contains(&said), "{error}");
        }
        model(checkpoint).image_embeds(pixels(patch, 2 * patch).unwrap()).unwrap();
    }
}
