//! What goes wrong is named, with the file, the fault and the remedy, and never panics.

use std::fs;
use std::path::Path;

use reca::weights::{ModelFiles, directory::WEIGHTS};
use safetensors::{Dtype, tensor::TensorView};

use super::{Desk, nano};

#[test]
fn usage_errors_end_with_2() {
    let desk = Desk::new();
    desk.picture("a.png", 64, 64);
    for (arguments, said) in [
        (&[][..], "Usage: reca"),
        (&["paint"], "unrecognized subcommand 'paint'"),
        (&["describe"], "<IMAGE>"),
        (&["generate"], "<PROMPT>"),
        (&["reconstruct"], "<IMAGE>"),
        (&["generate", "a car", "--prompts", "p.jsonl"], "cannot be used with"),
        (&["generate", "--prompts", "p.jsonl"], "--out <DIR>"),
        (&["generate", "a car", "--steps", "0"], "0 is not in 1..=1000"),
        (&["generate", "a car", "--steps", "many"], "invalid digit"),
        (&["generate", "a car", "--seeds", "0"], "0 is not in 1..=100"),
        (&["generate", "a car", "--guidance", "nan"], "a number from 0 to 100"),
        (&["generate", "a car", "--scale", "1000"], "1000 is not in 1..=32"),
        (&["generate", "a car", "--seed", "-1"], "unexpected argument '-1'"),
        (&["describe", "a.png", "--temperature", "0"], "a number above 0"),
        (&["describe", "a.png", "--seed", "1"], "--temperature"),
        (&["describe", "a.png", "--device", "abacus"], "possible values: auto, cpu, webgpu"),
        (&["export"], "--out <DIR>"),
    ] {
        desk.bare(arguments).fails(2, &[said]);
    }
}

#[test]
fn words_that_cannot_be_used_are_named() {
    let desk = Desk::new();
    desk.picture("a.png", 64, 64);
    let draw = |prompt: &str| desk.reca(&["generate", prompt, "--steps", "1"]);
    draw("a carr").fails(1, &["error (bad_input)", "\"carr\" (did you mean \"car\""]);
    draw("a yelow brocoli")
        .fails(1, &["\"yelow\" (did you mean \"yellow\"", "\"brocoli\" (did you mean \"broccoli\""]);
    draw("a 車").fails(1, &["\"車\" is not a word of this model's vocabulary"]);
    draw("").fails(1, &["the text is empty", "\"a red car\""]);
    draw(" ,.!").fails(1, &["the text is empty"]);
    draw(&"a red car ".repeat(30)).fails(1, &["the prompt has ", "at most 32 fit"]);
    desk.reca(&["generate", "a car", "a zebra"]).fails(1, &["\"zebra\""]);
    desk.reca(&["describe", "a.png", "--ask", "why?"]).fails(1, &["\"why\""]);
    desk.reca(&["describe", "a.png", "--ask", &"a ".repeat(32)])
        .fails(1, &["1 to 31 tokens, this one has 32"]);
    assert_eq!(desk.files(""), ["a.png"]);
}

#[test]
fn damaged_pictures_are_named() {
    let desk = Desk::new();
    desk.picture("good.png", 100, 80);
    let good = fs::read(desk.path("good.png")).unwrap();
    let mut flipped = good.clone();
    flipped[60] ^= 0xff;
    for (name, bytes, said) in [
        ("text.png", b"not a picture".as_slice(), "this is not a PNG, JPEG, WebP or GIF image"),
        ("empty.jpg", b"", "this is not a PNG, JPEG, WebP or GIF image"),
        ("cut.png", &good[..good.len() / 2], "damaged"),
        ("header.png", &good[..20], "damaged"),
        ("flipped.png", &flipped, "damaged"),
        ("cut.gif", b"GIF89a\x40\0\x40\0", "damaged"),
        ("cut.webp", b"RIFF\x20\0\0\0WEBPVP8L", "damaged"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0", "damaged"),
        ("huge.png", &png_header(60_000, 60_000), "too large: at most 16384 pixels a side"),
        ("wide.png", &png_header(16_000, 16_000), "too large"),
        ("nothing.png", &png_header(0, 10), "damaged"),
    ] {
        fs::write(desk.path(name), bytes).unwrap();
        for command in ["describe", "reconstruct"] {
            desk.reca(&[command, name]).fails(1, &["error (bad_input)", name, said]);
        }
    }
    desk.reca(&["describe", "missing.png"]).fails(1, &["missing.png: No such file"]);
    desk.reca(&["reconstruct", "good.png", "text.png"]).fails(1, &["text.png"]);
    desk.reca(&["describe", "."]).fails(1, &[".: "]);
    assert!(!desk.path("good-redrawn.png").exists(), "all pictures are read before the first is drawn");
}

/// A PNG that claims a size and holds no pixels.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for chunk in [&header[..], b"IDAT", b"IEND"] {
        bytes.extend((chunk.len() as u32 - 4).to_be_bytes());
        bytes.extend(chunk);
        bytes.extend(crc(chunk).to_be_bytes());
    }
    bytes
}

/// PNG's CRC-32.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

/// What is done to a model.
type Change = fn(&mut ModelFiles);

/// Writes the nano model changed by `change`, with a manifest that fits the change.
fn changed(folder: &Path, change: impl FnOnce(&mut ModelFiles)) {
    let read = |name: &str| Ok(fs::read(nano().join(name)).unwrap());
    let mut files = ModelFiles::read(read).unwrap();
    change(&mut files);
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files.with_manifest().unwrap() {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn foreign_and_damaged_models_are_named() {
    let desk = Desk::new();
    desk.picture("a.png", 64, 64);
    let cases: [(&str, Change, &[&str]); 9] = [
        ("cut", |m| m.weights.truncate(1000), &["weights_format", "not a complete safetensors file"]),
        ("pickle", |m| m.weights = b"PK\x03\x04 a torch zip".to_vec(), &["weights_format", WEIGHTS]),
        (
            "foreign",
            |m| m.weights = foreign(),
            &["weights_shape", "missing: autoencoder.", "unexpected: bert.weight"],
        ),
        (
            "size",
            |m| replace(&mut m.config, "\"intermediate_size\": 48", "\"intermediate_size\": 40"),
            &["weights_shape", "misshapen: connector.fc1.bias is [48], expected [40]"],
        ),
        (
            "kind",
            |m| replace(&mut m.config, "reca-umm", "bert"),
            &["weights_format", "config.json: model_type is \"bert\""],
        ),
        (
            "deep",
            |m| replace(&mut m.config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000000000"),
            &["weights_format", "config.json: vision: num_hidden_layers is 1000000000, expected 1 to 256"],
        ),
        ("json", |m| m.config.truncate(100), &["weights_format", "config.json: EOF"]),
        (
            "tokens",
            |m| m.tokenizer = br#"{"model":{"type":"BPE","vocab":{}}}"#.to_vec(),
            &["weights_format", "tokenizer.json", "\"BPE\""],
        ),
        (
            "vocabulary",
            |m| m.tokenizer = br#"{"model":{"type":"WordLevel","vocab":{"a":0}}}"#.to_vec(),
            &["weights_format", "tokenizer.json has 1 tokens, config.json says 58"],
        ),
    ];
    for (name, change, said) in cases {
        changed(&desk.path(name), change);
        let run = desk.bare(&["describe", "a.png", "--model", name]);
        run.fails(1, &[said, &[&format!("{name}: ")]].concat());
    }
}

/// The weights of another model.
fn foreign() -> Vec<u8> {
    let tensor = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
    safetensors::serialize([("bert.weight", tensor)], None).unwrap()
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(std::mem::take(bytes)).unwrap();
    assert!(text.contains(from));
    *bytes = text.replace(from, to).into_bytes();
}

#[test]
fn model_folders_are_checked_against_their_manifest() {
    let desk = Desk::new();
    desk.picture("a.png", 64, 64);
    let describe = |model: &str| desk.bare(&["describe", "a.png", "--model", model]);
    changed(&desk.path("m"), |_| ());
    describe("m").ok();

    let weights = desk.path("m").join(WEIGHTS);
    let good = fs::read(&weights).unwrap();
    fs::write(&weights, &good[..good.len() - 1]).unwrap();
    describe("m").fails(1, &["error (weights_hash): m: model.safetensors has", "cut off", "fetch it again"]);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&weights, &damaged).unwrap();
    describe("m").fails(1, &["error (weights_hash): m: model.safetensors has sha256", "fetch it again"]);
    fs::remove_file(&weights).unwrap();
    describe("m").fails(1, &["m: model.safetensors: No such file", "a model folder holds config.json"]);
    fs::write(desk.path("m/manifest.json"), "{}").unwrap();
    describe("m").fails(1, &["error (weights_format)", "manifest.json: missing field `files`"]);

    describe("a.png").fails(1, &["a.png: manifest.json: ", "a model folder holds config.json"]);
    describe("missing").fails(1, &["missing: manifest.json: No such file"]);
}

#[test]
fn folders_that_cannot_be_written_are_named() {
    let desk = Desk::new();
    desk.picture("a.png", 64, 64);
    for arguments in [&["generate", "a car"][..], &["reconstruct", "a.png"], &["export"]] {
        let run = desk.reca(&[arguments, &["--out", "a.png/x"]].concat());
        run.fails(1, &["a.png/x: ", "--out names a folder"]);
    }
}

#[cfg(not(feature = "webgpu"))]
#[test]
fn a_build_without_webgpu_says_so() {
    let desk = Desk::new();
    desk.picture("a.png", 64, 64);
    desk.reca(&["describe", "a.png", "--device", "webgpu"])
        .fails(1, &["error (no_webgpu): this build has no WebGPU backend; use --device cpu"]);
    assert_eq!(
        desk.reca(&["describe", "a.png", "--device", "cpu"]).ok(),
        desk.reca(&["describe", "a.png", "--device", "auto"]).ok()
    );
}
