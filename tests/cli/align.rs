//! Alignment and its controls.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use super::Desk;

const SHORT: [&str; 6] = ["--count", "8", "--steps", "2", "--batch", "4"];

#[test]
fn alignment_changes_the_generation_expert_alone() {
    let desk = Desk::new();
    desk.reca(&["export", "--out", "base"]).ok();
    let base = fs::read(desk.path("base/model.safetensors")).unwrap();
    let base = SafeTensors::deserialize(&base).unwrap();
    let mut results = Vec::new();
    for method in ["reca", "shuffled", "sft-sparse", "sft-dense"] {
        desk.reca(&[&["align", "--out", method, "--method", method][..], &SHORT].concat()).ok();
        assert_eq!(desk.files(method), ["log.jsonl", "model"]);
        results.push(aligned(&desk, method, &base));
    }
    desk.reca(&[&["align", "--out", "muon", "--optimizer", "muon"][..], &SHORT].concat()).ok();
    results.push(aligned(&desk, "muon", &base));
    for options in [
        &["--generation-embeddings"][..],
        &["--resolution", "16"],
        &["--blur", "3"],
        &["--pooling", "2"],
        &["--token-drop", "0"],
        &["--template-drop", "1"],
        &["--lambda-t2i", "0"],
        &["--learning-rate", "0.1"],
        &["--pool", "strict"],
        &["--seed", "1"],
    ] {
        let out = &options[0][2..];
        desk.reca(&[&["align", "--out", out][..], &SHORT, options].concat()).ok();
        results.push(aligned(&desk, out, &base));
    }
    let distinct = (0..results.len()).all(|i| results[..i].iter().all(|other| *other != results[i]));
    assert!(distinct, "every method and option must learn something else");
    desk.reca(&["align", "--out", "o", "--optimizer", "sgd"]).fails(2, &["there are adamw and muon"]);
}

#[test]
fn interpolation_stops_on_the_way() {
    let desk = Desk::new();
    desk.reca(&["export", "--out", "0"]).ok();
    for share in ["0.5", "1"] {
        let options = ["align", "--out", share, "--learning-rate", "0.01", "--interpolate", share];
        desk.reca(&[&options, &SHORT[..]].concat()).ok();
    }
    let [base, half, whole] = ["0", "0.5/model", "1/model"].map(|folder| a_matrix(&desk, folder));
    assert_ne!(base, whole);
    for ((base, half), whole) in base.iter().zip(&half).zip(&whole) {
        assert!((half - (base + whole) / 2.0).abs() <= 1e-3 * half.abs().max(0.1), "{base} {half} {whole}");
    }
    desk.reca(&["align", "--out", "x", "--interpolate", "1.5"]).fails(2, &["at most 1"]);
}

#[test]
fn alignments_of_one_base_are_averaged() {
    let desk = Desk::new();
    for seed in ["1", "2", "3"] {
        let options = ["align", "--out", seed, "--seed", seed, "--learning-rate", "0.01"];
        desk.reca(&[&options, &SHORT[..]].concat()).ok();
    }
    let average = ["export", "--model", "1/model", "--out", "mean/model", "--average"];
    desk.bare(&[&average[..], &["2/model", "3/model"]].concat()).ok();
    desk.reca(&["export", "--out", "base"]).ok();
    let base = fs::read(desk.path("base/model.safetensors")).unwrap();
    aligned(&desk, "mean", &SafeTensors::deserialize(&base).unwrap());

    let [one, two, three, mean] =
        ["1/model", "2/model", "3/model", "mean/model"].map(|folder| a_matrix(&desk, folder));
    for (((one, two), three), mean) in one.iter().zip(&two).zip(&three).zip(&mean) {
        let expected = (one + two + three) / 3.0;
        assert!((mean - expected).abs() <= 1e-3 * mean.abs().max(0.1), "{one} {two} {three} {mean}");
    }

    for seed in ["4", "5"] {
        let options = ["pretrain", "--recipe", "nano", "--device", "cpu", "--steps", "1", "--seed", seed];
        desk.bare(&[&options[..], &["--out", seed]].concat()).ok();
    }
    desk.bare(&["export", "--model", "4/model", "--average", "5/model", "--out", "x"])
        .fails(1, &["5/model", "another base"]);
    assert!(!desk.path("x").exists());
    desk.bare(&["export", "--model", "1/model", "--average", "2/model", "--out", "2/model"])
        .fails(1, &["2/model: this is a model that is read"]);
}

/// A matrix of the generation expert of the model in a folder.
fn a_matrix(desk: &Desk, folder: &str) -> Vec<f32> {
    let bytes = fs::read(desk.path(folder).join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor("generation.layers.0.fc1.weight").unwrap().data().to_vec();
    data.chunks_exact(2).map(|v| half::f16::from_le_bytes([v[0], v[1]]).to_f32()).collect()
}

/// The aligned weights in a folder, of which the generation expert's alone must differ from the base's.
#[track_caller]
fn aligned(desk: &Desk, folder: &str, base: &SafeTensors) -> Vec<u8> {
    let bytes = fs::read(desk.path(folder).join("model/model.safetensors")).unwrap();
    let aligned = SafeTensors::deserialize(&bytes).unwrap();
    let changed: Vec<String> = base
        .iter()
        .filter(|(name, tensor)| aligned.tensor(name).unwrap().data() != tensor.data())
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(!changed.is_empty() && changed.iter().all(|name| name.starts_with("generation.")), "{changed:?}");
    bytes
}

fn encoder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/encoders").join(name)
}

/// On small checkpoints of random weights: their features tell pictures apart, if not well.
#[test]
fn another_encoder_stands_in_the_place_of_the_models_own() {
    let desk = Desk::new();
    // A connector is taught by all of the world's questions, for which the golden model lacks words.
    desk.bare(&["pretrain", "--recipe", "nano", "--steps", "2", "--device", "cpu", "--out", "run"]).ok();
    let base = fs::read(desk.path("run/model/model.safetensors")).unwrap();
    let base = SafeTensors::deserialize(&base).unwrap();
    let align = |name: &str, out: &str, more: &[&str]| {
        let encoder = encoder(name);
        let options = ["align", "--model", "run/model", "--out", out, "--encoder", encoder.to_str().unwrap()];
        desk.bare(&[&options, &SHORT[..], more].concat())
    };
    let mut results = Vec::new();
    for name in ["clip", "siglip", "clip-vision"] {
        align(name, name, &[]).ok();
        assert_eq!(desk.files(name), ["connector.safetensors", "log.jsonl", "model"]);
        results.push(aligned(&desk, name, &base));
    }
    align("clip", "layer", &["--layer", "1"]).ok();
    results.push(aligned(&desk, "layer", &base));
    let distinct = (0..results.len()).all(|i| results[..i].iter().all(|other| *other != results[i]));
    assert!(distinct, "every encoder and layer must teach something else");

    let connector = || fs::read(desk.path("clip/connector.safetensors")).unwrap();
    let steps = |stage: &str| {
        let log = fs::read_to_string(desk.path("clip/log.jsonl")).unwrap();
        log.lines().filter(|line| line.contains(&format!("\"stage\":\"{stage}\""))).count()
    };
    let (trained, logged) = (connector(), steps("connector"));
    align("clip", "clip", &[]).ok();
    assert_eq!((steps("connector"), steps("reca")), (logged, 1), "the connector is there already");
    assert!(aligned(&desk, "clip", &base) == results[0] && connector() == trained);
    align("clip", "clip", &["--fresh"]).ok();
    assert!(connector() == trained, "the same seed gives the same bits");
    let other = "connector.safetensors (--fresh trains it anew)";
    align("siglip", "clip", &[]).fails(1, &[other, "other settings"]);
}

#[test]
fn a_connector_without_its_stage_is_a_control() {
    let desk = Desk::new();
    desk.bare(&["pretrain", "--recipe", "nano", "--steps", "2", "--device", "cpu", "--out", "run"]).ok();
    let base = fs::read(desk.path("run/model/model.safetensors")).unwrap();
    let base = SafeTensors::deserialize(&base).unwrap();
    let align = |out: &str, more: &[&str]| {
        let options = ["align", "--model", "run/model", "--out", out];
        desk.bare(&[&options, &SHORT[..], more].concat())
    };
    let control = ["--no-connector-stage", "--connector-steps", "3"];
    align("with", &[]).ok();
    align("without", &control).ok();
    assert_eq!(desk.files("without"), ["connector.safetensors", "log.jsonl", "model"]);
    assert!(aligned(&desk, "with", &base) != aligned(&desk, "without", &base));

    let connector = fs::read(desk.path("without/connector.safetensors")).unwrap();
    let connector = SafeTensors::deserialize(&connector).unwrap();
    let learned = |name: &str| {
        let tensor = connector.iter().find(|(other, _)| other.ends_with(name)).unwrap().1;
        tensor.data().to_vec()
    };
    assert!(learned("fc2.weight").iter().any(|byte| *byte != 0), "answers must teach it");
    let other = ["--no-connector-stage", "--connector-steps", "4"];
    align("without", &other).fails(1, &["connector.safetensors (--fresh trains it anew)"]);
    align("x", &["--no-connector-stage", "--generation-embeddings"]).fails(2, &["cannot be used with"]);
}

#[test]
fn encoders_that_cannot_be_used_are_named() {
    let desk = Desk::new();
    let align = |encoder: &Path, more: &[&str]| {
        let options = ["align", "--out", "o", "--encoder", encoder.to_str().unwrap()];
        desk.reca(&[&options, &SHORT[..], more].concat())
    };
    align(Path::new("nowhere"), &[]).fails(1, &["nowhere/config.json", "--encoder names a folder"]);
    align(&super::nano(), &[]).fails(1, &["\"reca-umm\", expected clip"]);
    desk.reca(&["align", "--out", "o", "--connector-steps", "9"])
        .fails(2, &["--encoder <DIR>", "--no-connector-stage"]);
    align(&encoder("clip"), &["--layer", "-5"]).fails(1, &["hidden states 0 to 3"]);
    align(&encoder("clip"), &["--method", "sft-dense"]).fails(1, &["reads captions", "leave out --encoder"]);
    align(&encoder("clip"), &["--generation-embeddings"]).fails(2, &["cannot be used with"]);
    desk.reca(&["align", "--out", "o", "--layer", "1"]).fails(2, &["--encoder <DIR>"]);

    fs::create_dir(desk.path("odd")).unwrap();
    let read = |name: &str| fs::read(encoder("clip-vision").join(name)).unwrap();
    let (config, mut weights) = (read("config.json"), read("model.safetensors"));
    let wider =
        String::from_utf8(config.clone()).unwrap().replace("\"hidden_size\": 32", "\"hidden_size\": 40");
    fs::write(desk.path("odd/config.json"), &wider).unwrap();
    fs::write(desk.path("odd/model.safetensors"), &weights).unwrap();
    align(&desk.path("odd"), &[]).fails(1, &["weights_shape", "do not fit", "misshapen"]);
    let end = weights.len();
    weights[end - 4..].fill(0xff);
    fs::write(desk.path("odd/config.json"), &config).unwrap();
    fs::write(desk.path("odd/model.safetensors"), &weights).unwrap();
    align(&desk.path("odd"), &[]).fails(1, &["weights_format", "holds NaN"]);
}

#[test]
fn own_pictures_have_no_captions() {
    let desk = Desk::new();
    fs::create_dir(desk.path("own")).unwrap();
    desk.picture("own/a.png", 40, 30);
    let align = |method: &str| {
        let options =
            ["align", "--images", "own", "--steps", "1", "--batch", "2", "--out", "o", "--method", method];
        desk.reca(&options)
    };
    align("reca").fails(1, &["own: holds 1 pictures", "two or more"]);
    desk.picture("own/b.png", 90, 64);
    align("sft-dense").fails(1, &["sft-dense needs captions"]);
    align("reca").ok();
    desk.reca(&["align", "--out", "p", "--pooling", "3"]).fails(1, &["must divide the grid of 4"]);
    desk.reca(&["align", "--out", "p", "--nouns", "dogg"])
        .fails(1, &["no noun \"dogg\"; did you mean \"dog\"?"]);
    desk.reca(&["align", "--out", "p", "--nouns", "dog", "--images", "own"]).fails(2, &["--images"]);
    desk.reca(&[&["align", "--out", "dogs", "--nouns", "dog"][..], &SHORT].concat()).ok();
    desk.reca(&["align", "--out", "p", "--method", "magic"]).fails(2, &["there are reca, shuffled"]);
}
