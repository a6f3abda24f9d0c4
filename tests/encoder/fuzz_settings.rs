//! `config.json`, `preprocessor_config.json`, the index and the tokenizer, and our own model's, with values that make no sense, by
//! chance: each is refused by name, or what it says can be done.

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use reca::encoder::{EncoderConfig, Loading, Parts, Preprocessor, preprocess::Resize};
use reca::random::{below, stream};
use reca::text::Tokenizer;
use reca::weights::{ModelFiles, streaming::shards};
use reca::{ErrorCode, Pipeline, Result};
use serde_json::{Value, json};

use super::{Goldens, config, file, fuzz::pick, header, meter, picture, weights};

const CASES: u64 = 1000;

/// Puts something senseless somewhere into a value, or takes something out.
fn spoil(random: &mut ChaCha8Rng, value: &mut Value) {
    let deeper = below(random, 4) > 0;
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let name = fields.keys().nth(below(random, fields.len())).unwrap().clone();
            match below(random, 12) {
                0 => drop(fields.remove(&name)),
                1 => {
                    let moved = fields.remove(&name).unwrap();
                    fields.insert(pick(random, &["", "size", "vision_config_dict", "a/b"]).to_owned(), moved);
                }
                _ => spoil(random, &mut fields[&name]),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = below(random, items.len());
            spoil(random, &mut items[at]);
        }
        _ => *value = senseless(random),
    }
}

fn senseless(random: &mut ChaCha8Rng) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(""),
        json!("../x"),
        json!("gelu"),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(16),
        json!(64),
        json!(255),
        json!(-1),
        json!(0.5),
        json!(1e-30),
        json!(1e39),
        json!(4096),
        json!(1 << 20),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!({}),
        json!([0, 0, 0]),
        json!({ "shortest_edge": 9 }),
        json!("clip"),
        json!("siglip_vision_model"),
    ];
    values[below(random, values.len())].clone()
}

/// Runs a reader on spoiled forms of a file; how many it took.
fn spoiled<T>(good: &[u8], read: impl Fn(&[u8]) -> Result<T>) -> usize {
    let mut taken = 0;
    for case in 0..CASES {
        let mut random = stream(case, 3);
        let mut value: Value = serde_json::from_slice(good).unwrap();
        (0..=below(&mut random, 2)).for_each(|_| spoil(&mut random, &mut value));
        let mut bytes = serde_json::to_vec(&value).unwrap();
        if below(&mut random, 4) == 0 {
            let at = below(&mut random, bytes.len());
            match below(&mut random, 3) {
                0 => bytes.truncate(at),
                1 => bytes[at] = below(&mut random, 256) as u8,
                _ => bytes.insert(at, pick(&mut random, &[b"[", b"{", b"\"", b"-", b"9"])[0]),
            }
        }
        match read(&bytes) {
            Ok(_) => taken += 1,
            Err(error) => {
                let codes = [ErrorCode::WeightsFormat, ErrorCode::WeightsShape, ErrorCode::BadInput];
                assert!(codes.contains(&error.code) && !error.message.is_empty(), "case {case}: {error}");
            }
        }
    }
    assert!(taken > 0 && taken < CASES as usize, "{taken}");
    taken
}

/// A taken configuration fits the weights or is refused with them, without memory for what it claims; and
/// what loads computes.
#[test]
fn configurations() {
    let device = Device::flex();
    for checkpoint in ["clip", "siglip", "clip-vision"] {
        let files = weights(checkpoint);
        let headers = [header(&files[0]).unwrap()];
        let pixels = Goldens::of(checkpoint).tensor::<4>("pixel_values");
        spoiled(&file(checkpoint, "config.json"), |json| {
            let config = EncoderConfig::from_json(json)?;
            let (loading, peak) = meter::peak(|| Loading::new(&config, &headers, Parts::All, &device));
            assert!(peak < 64 << 20, "{peak} bytes for {}", String::from_utf8_lossy(json));
            let mut loading = loading?;
            while let Some(range) = loading.next().map(|piece| piece.range.clone()) {
                loading.accept(&files[0][range.start as usize..range.end as usize])?;
            }
            let model = loading.finish()?;
            model.image_embeds(pixels.clone())?;
            if model.text_model.is_some() {
                model.text_embeds(&Goldens::of(checkpoint).ids()).map(drop)
            } else {
                Ok(())
            }
        });
    }
}

/// The same of our own model.
#[test]
fn own_models() {
    let device = Device::flex();
    let good = ModelFiles::read(|name| Ok(file("../nano", name))).unwrap();
    let open = |json: &[u8]| {
        let files = ModelFiles { config: json.to_vec(), ..good.clone() };
        let (pipeline, peak) = meter::peak(|| Pipeline::new(&files, &device));
        assert!(peak < 64 << 20, "{peak} bytes for {}", String::from_utf8_lossy(json));
        pipeline
    };
    spoiled(&good.config, |json| {
        let pipeline = open(json)?;
        assert_eq!(pipeline.embed(&picture(0)).dims(), [1, 16, 32]);
        pipeline.prompt("a red car").map(drop)
    });
    for (from, to, code) in [
        ("\"hidden_size\": 32", "\"hidden_size\": 16384", ErrorCode::WeightsShape),
        ("\"hidden_size\": 32", "\"hidden_size\": 1048576", ErrorCode::WeightsShape),
        ("\"hidden_size\": 32", "\"hidden_size\": 2097152", ErrorCode::WeightsFormat),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 256", ErrorCode::WeightsShape),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1048576", ErrorCode::WeightsFormat),
    ] {
        let json = String::from_utf8(good.config.clone()).unwrap();
        assert!(json.contains(from), "{from}");
        assert_eq!(open(json.replace(from, to).as_bytes()).err().unwrap().code, code, "{to}");
    }
    spoiled(&good.tokenizer, |json| {
        let tokenizer = Tokenizer::from_json(json)?;
        assert!(tokenizer.encode("a redd").is_err());
        tokenizer.encode("a red car")
    });
}

#[test]
fn preprocessors() {
    for checkpoint in ["clip", "siglip"] {
        let config = config(checkpoint);
        spoiled(&file(checkpoint, "preprocessor_config.json"), |json| {
            let preprocessor = Preprocessor::from_json(json, &config)?;
            let small = |sides: [u32; 2]| sides.iter().all(|side| *side <= 256);
            let resized = preprocessor.resize.is_none_or(|resize| match resize {
                Resize::To(sides) => small(sides),
                Resize::ShortestEdge(edge) => small([edge; 2]),
            });
            if resized && preprocessor.crop.is_none_or(small) {
                let pixels = preprocessor.forward(&[picture(0)], &Device::flex())?;
                assert_eq!(pixels.dims()[..2], [1, 3]);
            }
            Ok(())
        });
    }
}

#[test]
fn indices() {
    let taken = spoiled(&file("clip-gelu", "model.safetensors.index.json"), |json| {
        let names = shards(json)?;
        assert!(!names.is_empty() && names.iter().all(|name| !name.contains('/') && !name.starts_with('.')));
        Ok(())
    });
    assert!(taken > 100, "{taken}");
}

#[test]
fn tokenizers() {
    use reca::encoder::tokenizer::TextTokenizer;

    for checkpoint in super::WHOLE {
        let config = config(checkpoint);
        let good = file(checkpoint, "tokenizer.json");
        spoiled(&good, |json| {
            TextTokenizer::new(json, None, &config)?.encode(&["a red car, it's 3".to_owned()])
        });
        let settings = file(checkpoint, "tokenizer_config.json");
        spoiled(&settings, |json| TextTokenizer::new(&good, Some(json), &config));
    }
}
