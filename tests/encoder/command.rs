//! `reca embed` as a user meets it.

use std::process::Command;

use serde_json::Value;

use super::{Goldens, TOLERANCE, WHOLE, folder, largest_error, model, values};

/// Standard output, or the error of a run that failed.
pub fn reca(arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_reca")).args(arguments).current_dir(folder("")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

pub fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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
        let found: Vec<f32> = serde_json::from_value(line["values"].clone()).unwrap();
        let pixels = Goldens::of(checkpoint).tensor::<3>("preprocessed.0").unsqueeze();
        let expected = values(model(checkpoint).image_embeds(pixels).unwrap());
        assert!(largest_error(&found, &expected) <= TOLERANCE, "{checkpoint}");
        let stored = std::fs::read(&path).unwrap();
        let stored = safetensors::SafeTensors::deserialize(&stored).unwrap();
        assert_eq!(stored.tensor("picture-0.png").unwrap().shape(), [found.len()]);
    }
    let text = reca(&["embed", "picture-1.png", "--encoder", "clip", "--layer", "-2"]).unwrap();
    assert!(text.starts_with("picture-1.png  16×32 values"), "{text}");
}

#[test]
fn what_goes_wrong_is_named() {
    for (outcome, said) in [
        (reca(&["embed", "picture-0.png", "--encoder", "nowhere"]), "nowhere/config.json"),
        (reca(&["embed", "picture-0.png", "--encoder", "../nano"]), "\"reca-umm\", expected clip"),
        (reca(&["embed", "config.json", "--encoder", "clip"]), "config.json"),
        (reca(&["embed", "clip/config.json", "--encoder", "clip"]), "not a PNG"),
        (reca(&["embed", "picture-0.png", "--encoder", "clip", "--layer", "4"]), "hidden states 0 to 3"),
        (reca(&["embed", "picture-0.png", "--encoder", "clip", "--layer", "-5"]), "or -4 to -1"),
    ] {
        let error = outcome.unwrap_err();
        assert!(error.contains(said) && !error.contains("panicked"), "{error}");
    }
}

/// A checkpoint in several files is refused with the name of the one that is missing, cut off or another's.
#[test]
fn damaged_shards_are_named() {
    let shard = "model-00002-of-00004.safetensors";
    let embed = |change: &dyn Fn(&std::path::Path)| {
        let copy = tempfile::TempDir::new().unwrap();
        for entry in std::fs::read_dir(folder("clip-gelu")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        change(copy.path());
        reca(&["embed", "picture-0.png", "--encoder", copy.path().to_str().unwrap()])
    };
    assert!(embed(&|_| ()).is_ok());
    let whole = std::fs::read(folder("clip-gelu").join(shard)).unwrap();
    let index = "model.safetensors.index.json";
    let write = |copy: &std::path::Path, name, bytes: &[u8]| std::fs::write(copy.join(name), bytes).unwrap();
    for (outcome, said) in [
        (embed(&|copy| std::fs::remove_file(copy.join(shard)).unwrap()), [shard, "download it too"]),
        (embed(&|copy| write(copy, shard, &whole[..9000])), [shard, "fetch it again"]),
        (embed(&|copy| write(copy, shard, b"version https://git-lfs")), [shard, "header claims"]),
        (embed(&|copy| write(copy, index, b"{\"weight_map\": {")), [index, "EOF"]),
    ] {
        let error = outcome.unwrap_err();
        assert!(said.iter().all(|said| error.contains(said)) && !error.contains("panicked"), "{error}");
    }
}
