//! `reca scene`, as a user calls it.

use std::fs;
use std::process::Command;

use reca::scene::{Scene, geneval};
use reca::text::Tokenizer;

fn reca_scene(args: &[&str], out: &std::path::Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reca"));
    command.arg("scene").args(args).arg("--out").arg(out).output().unwrap()
}

#[test]
fn a_pack_has_an_image_and_a_line_for_every_scene() {
    let out = tempfile::tempdir().unwrap();
    let done = reca_scene(&["--recipe", "mini", "--pool", "drawing", "--count", "30", "--pack"], out.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read(out.path().join("images.bin")).unwrap().len(), 30 * 64 * 64 * 3);
    let tokenizer = fs::read(out.path().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_json(&tokenizer).unwrap();
    let lines = fs::read_to_string(out.path().join("scenes.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 30);
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let captions = |key: &str| line[key].as_array().unwrap().clone();
        assert_eq!((captions("dense").len(), captions("sparse").len()), (2, 8));
        for caption in captions("dense").iter().chain(&captions("sparse")) {
            assert!(tokenizer.encode(caption.as_str().unwrap()).is_ok());
        }
        assert!(serde_json::from_value::<Scene>(line).is_ok());
    }
}

#[test]
fn pictures_come_with_prompts_and_a_contact_sheet() {
    let out = tempfile::tempdir().unwrap();
    let done = reca_scene(&["--count", "9", "--seed", "4"], out.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let sheet = image::open(out.path().join("sheet.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (8 * 128, 2 * 128));
    assert_eq!(image::open(out.path().join("00008.png")).unwrap().width(), 64);
    let lines = fs::read_to_string(out.path().join("scenes.jsonl")).unwrap();
    assert!(lines.lines().all(|line| serde_json::from_str::<geneval::Metadata>(line).is_ok()));
}

#[test]
fn scenes_of_some_nouns_hold_no_others() {
    let out = tempfile::tempdir().unwrap();
    for nouns in [&["dog"][..], &["dog", "pear"]] {
        let done = reca_scene(&[&["--count", "40", "--nouns"], nouns].concat(), out.path());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let lines = fs::read_to_string(out.path().join("scenes.jsonl")).unwrap();
        let scenes = lines.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            serde_json::from_value::<Scene>(line["scene"].clone()).unwrap()
        });
        let objects: Vec<_> = scenes.map(|scene| scene.objects).collect();
        assert!(objects.iter().flatten().all(|object| nouns.contains(&object.noun.as_str())));
        assert!(objects.iter().flatten().any(|object| object.colour.is_some()));
        assert_eq!(objects.iter().any(|objects| objects.len() == 2), nouns.len() == 2);
    }
    let failed = reca_scene(&["--nouns", "dogg"], out.path());
    assert!(String::from_utf8_lossy(&failed.stderr).contains("no noun \"dogg\"; did you mean \"dog\"?"));
}

#[test]
fn unknown_names_are_answered_with_known_ones() {
    let out = tempfile::tempdir().unwrap();
    let failed = reca_scene(&["--recipe", "maxi"], out.path());
    assert!(!failed.status.success());
    assert!(String::from_utf8_lossy(&failed.stderr).contains("there are"));
    let failed = reca_scene(&["--pool", "puddle"], out.path());
    assert!(String::from_utf8_lossy(&failed.stderr).contains("understanding, drawing, open, strict"));
}
