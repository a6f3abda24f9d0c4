//! Tokenizers, and both commands as a user meets them.

use std::process::Command;

use reca::encoder::tokenizer::TextTokenizer;
use serde_json::Value;

use super::{Goldens, TOLERANCE, WHOLE, config, file, folder, largest_error};

fn tokenizer(checkpoint: &str) -> TextTokenizer {
    let settings = file(checkpoint, "tokenizer_config.json");
    TextTokenizer::new(&file(checkpoint, "tokenizer.json"), Some(&settings), &config(checkpoint)).unwrap()
}

#[test]
fn token_ids_equal_the_python_tokenizers() {
    for checkpoint in WHOLE {
        let stored: Value = serde_json::from_slice(&file(checkpoint, "texts.json")).unwrap();
        let texts: Vec<String> = serde_json::from_value(stored["texts"].clone()).unwrap();
        let ids: Vec<Vec<u32>> = serde_json::from_value(stored["ids"].clone()).unwrap();
        for (text, ids) in texts.iter().zip(ids) {
            let found = tokenizer(checkpoint).encode(std::slice::from_ref(text)).unwrap();
            assert_eq!(found, [ids], "{checkpoint} {text:?}");
        }
        let batch = tokenizer(checkpoint).encode(&texts[..2]).unwrap();
        assert_eq!(batch, Goldens::of(checkpoint).ids(), "{checkpoint}");
    }
}

#[test]
fn foreign_tokenizers_are_refused() {
    for (tokenizer, said) in [
        (&b"{}"[..], "tokenizer.json"),
        (br#"{"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#, "has no end token"),
    ] {
        let error = TextTokenizer::new(tokenizer, None, &config("clip")).err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
    let error = TextTokenizer::new(b"{}", None, &config("clip-vision")).err().unwrap().to_string();
    assert!(error.contains("no text tower"), "{error}");
}

/// Standard output, or the error of a run that failed.
fn reca(arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_reca")).args(arguments).current_dir(folder("")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn zero_shot_scores_labels() {
    let sum = |checkpoint: &str| {
        let arguments =
            ["zero-shot", "picture-0.png", "--labels", "a red car, a dog", "--json", "--encoder", checkpoint];
        let lines = lines(&reca(&arguments).unwrap());
        assert_eq!(lines.len(), 2);
        assert!(lines[0]["score"].as_f64() >= lines[1]["score"].as_f64());
        lines.iter().map(|line| line["score"].as_f64().unwrap()).sum::<f64>()
    };
    assert!((sum("clip") - 1.0).abs() < 1e-5);
    assert!((sum("siglip") - 1.0).abs() > 1e-3);
}

/// The whole way from a picture's file to its embedding, against the parts.
#[test]
fn embed_prints_and_writes_embeddings() {
    for checkpoint in WHOLE {
        let out = tempfile::TempDir::new().unwrap();
        let path = out.path().join("features.safetensors");
        let arguments =
            ["embed", "picture-0.png", "--encoder", checkpoint, "--json", "--out", path.to_str().unwrap()];
        let line = &lines(&reca(&arguments).unwrap())[0];
        let values: Vec<f32> = serde_json::from_value(line["values"].clone()).unwrap();
        let pixels = Goldens::of(checkpoint).tensor::<3>("preprocessed.0").unsqueeze();
        let expected = super::values(super::model(checkpoint).image_embeds(pixels).unwrap());
        assert!(largest_error(&values, &expected) <= TOLERANCE, "{checkpoint}");
        let stored = std::fs::read(&path).unwrap();
        let stored = safetensors::SafeTensors::deserialize(&stored).unwrap();
        assert_eq!(stored.tensor("picture-0.png").unwrap().shape(), [values.len()]);
    }
    let text = reca(&["embed", "picture-1.png", "--encoder", "clip", "--layer", "-2"]).unwrap();
    assert!(text.starts_with("picture-1.png  16×32 values"), "{text}");
}

#[test]
fn what_goes_wrong_is_named() {
    let zero_shot = |labels| reca(&["zero-shot", "picture-0.png", "--encoder", "clip", "--labels", labels]);
    for (outcome, said) in [
        (reca(&["embed", "picture-0.png", "--encoder", "nowhere"]), "nowhere/config.json"),
        (reca(&["embed", "picture-0.png", "--encoder", "../nano"]), "\"reca-umm\", expected clip"),
        (reca(&["embed", "config.json", "--encoder", "clip"]), "config.json"),
        (reca(&["embed", "clip/config.json", "--encoder", "clip"]), "not a PNG"),
        (reca(&["embed", "picture-0.png", "--encoder", "clip", "--layer", "4"]), "hidden states 0 to 3"),
        (reca(&["embed", "picture-0.png", "--encoder", "clip", "--layer", "-5"]), "or -4 to -1"),
        (zero_shot(""), "a label is empty"),
        (zero_shot("a,,b"), "a label is empty"),
        (
            reca(&["zero-shot", "picture-0.png", "--encoder", "clip-vision", "--labels", "a"]),
            "tokenizer.json",
        ),
        (
            reca(&["zero-shot", "picture-0.png", "--encoder", "clip", "--labels", "a", "--template", "x"]),
            "--template must hold {}",
        ),
    ] {
        let error = outcome.unwrap_err();
        assert!(error.contains(said) && !error.contains("panicked"), "{error}");
    }
}
