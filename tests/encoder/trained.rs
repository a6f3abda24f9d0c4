//! The encoders that `reca pretrain --stage clip siglip` makes, opened as any checkpoint.

use std::path::Path;

use reca::encoder::EncoderConfig;
use serde_json::Value;

use super::command::{lines, reca};

/// Trains both on the nano world, whose four nouns are told apart by one guess in four, and its
/// eleven colours by one in eleven.
fn train(out: &Path) {
    let out = out.to_str().unwrap();
    let steps = ["--steps", "400", "--device", "cpu"];
    let options = ["pretrain", "--recipe", "nano", "--stage", "clip", "siglip", "--out", out];
    let printed = reca(&[&options[..], &steps].concat()).unwrap();
    assert_eq!(printed, format!("{out}/clip\n{out}/siglip\n"));
}

#[test]
fn trained_encoders_open_and_know_words() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path());
    let looks = std::fs::read_to_string(folder.path().join("zero-shot.jsonl")).unwrap();
    for name in ["clip", "siglip"] {
        let encoder = folder.path().join(name);
        let last = lines(&looks).into_iter().rfind(|look| look["stage"] == name).unwrap();
        println!("{last}");
        assert_eq!(last["step"], 400);
        assert!(last["nouns"].as_f64().unwrap() > 0.4 && last["colours"].as_f64().unwrap() > 0.4, "{last}");

        let options = ["embed", "picture-0.png", "--json", "--encoder", encoder.to_str().unwrap()];
        let line = &lines(&reca(&options).unwrap())[0];
        assert_eq!(line["shape"], serde_json::json!([32]));
        let patches = &lines(&reca(&[&options[..], &["--layer", "-2"]].concat()).unwrap())[0];
        assert_eq!(patches["shape"], serde_json::json!([16, 32]));

        let read = |file: &str| std::fs::read(encoder.join(file)).unwrap();
        let config = EncoderConfig::from_json(&read("config.json")).unwrap().text.unwrap();
        let tokenizer: Value = serde_json::from_slice(&read("tokenizer.json")).unwrap();
        assert_eq!(tokenizer["model"]["vocab"]["<|endoftext|>"], config.eos_token_id);
        assert_eq!(config.vocab_size as u32, config.eos_token_id + 1);
        words(&encoder);
    }
}

/// The text tower reads what it was trained on, by the folder's own tokenizer.
fn words(encoder: &Path) {
    use reca::encoder::tokenizer::TextTokenizer;
    use reca::train::recipe::Recipe;

    let read = |file: &str| std::fs::read(encoder.join(file)).unwrap();
    let config = EncoderConfig::from_json(&read("config.json")).unwrap();
    let settings = read("tokenizer_config.json");
    let tokenizer = TextTokenizer::new(&read("tokenizer.json"), Some(&settings), &config).unwrap();
    let own = Recipe::named("nano").unwrap().tokenizer().unwrap();
    let end = config.text.unwrap().eos_token_id;
    for text in ["a red car", "A photo of a dog, noto style", "a pink banana left of a blue broccoli"] {
        let found = &tokenizer.encode(&[text.to_owned()]).unwrap()[0];
        let words = own.encode(text).unwrap();
        assert_eq!(found[..words.len()], words);
        assert!(found[words.len()..].iter().all(|id| *id == end) && found.len() > words.len());
    }
    assert_eq!(tokenizer.encode(&["a zebra".to_owned()]).unwrap()[0][1], end - 1);
    zero_shot(encoder);
}

/// `reca zero-shot` names the colour of single things, by chance one in eleven.
fn zero_shot(encoder: &Path) {
    use reca::scene::{Colour, Engine, Pool, nouns::with_article};
    use reca::train::{pool::PoolConfig, recipe::Recipe};

    let engine = Engine::new(Recipe::named("nano").unwrap().world).unwrap();
    let pool = PoolConfig { kind: Pool::Understanding, seed: 77, size: 40, two_objects: None };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scene.png");
    let (mut right, mut all) = (0, 0);
    for index in 0..pool.size {
        let (scene, picture) = pool.sample(&engine, index).unwrap();
        let ([thing], Some(colour)) = (scene.objects.as_slice(), scene.objects[0].colour) else { continue };
        picture.save(&path).unwrap();
        let label = |colour: Colour| with_article(&format!("{} {}", colour.name(), thing.noun));
        let labels = Colour::ALL.map(label).join(",");
        let options = ["zero-shot", path.to_str().unwrap(), "--encoder", encoder.to_str().unwrap()];
        let more = ["--labels", &labels, "--template", "{}", "--json"];
        let best = &lines(&reca(&[options.as_slice(), &more].concat()).unwrap())[0];
        right += usize::from(best["label"] == label(colour));
        all += 1;
    }
    assert!(all > 5 && 3 * right > all, "{right} of {all}");
}
