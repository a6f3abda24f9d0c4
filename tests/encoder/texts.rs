//! Tokenizers, and `reca zero-shot` as a user meets it.

use reca::encoder::tokenizer::TextTokenizer;
use serde_json::Value;

use super::{
    Goldens, WHOLE,
    command::{lines, reca},
    config, file,
};

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

#[test]
fn labels_that_cannot_be_scored_are_named() {
    let zero_shot = |encoder, labels, template| {
        let arguments = ["--encoder", encoder, "--labels", labels, "--template", template];
        reca(&[&["zero-shot", "picture-0.png"], &arguments[..]].concat())
    };
    for (outcome, said) in [
        (zero_shot("clip", "", "{}"), "a label is empty"),
        (zero_shot("clip", "a,,b", "{}"), "a label is empty"),
        (zero_shot("clip", "a", "x"), "--template must hold {}"),
        (zero_shot("clip-vision", "a", "{}"), "tokenizer.json"),
    ] {
        let error = outcome.unwrap_err();
        assert!(error.contains(said) && !error.contains("panicked"), "{error}");
    }
}
