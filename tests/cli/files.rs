//! Prompt files, the folders for GenEval's scripts, and exported models.

use std::fs;

use super::{Desk, nano};

const PROMPTS: &str = r#"{"tag": "colors", "include": [{"class": "car", "count": 1, "color": "red"}], "prompt": "a photo of a red car"}
{"tag": "single_object", "include": [{"class": "zebra", "count": 1}], "prompt": "a photo of a zebra"}
{"tag": "position", "own": [1, 2], "prompt": "a photo of a dog left of a car"}
"#;

#[test]
fn prompt_files_fill_the_folders_of_geneval() {
    let desk = Desk::new();
    fs::write(desk.path("prompts.jsonl"), PROMPTS).unwrap();
    let run =
        desk.reca(&["generate", "--prompts", "prompts.jsonl", "--seeds", "2", "--steps", "1", "--out", "o"]);
    assert!(run.err.contains("line 2 skipped: \"zebra\" is not a word"), "{run:?}");
    assert!(run.err.contains("2 of 3 prompts drawn, 1 skipped"), "{run:?}");
    run.ok();
    assert_eq!(desk.files("o"), ["00000", "00002"]);
    for (index, line) in [(0, 0), (2, 2)] {
        let folder = format!("o/{index:05}");
        assert_eq!(desk.files(&folder), ["grid.png", "metadata.jsonl", "samples"]);
        assert_eq!(desk.files(&format!("{folder}/samples")), ["0000.png", "0001.png"]);
        let metadata = fs::read_to_string(desk.path(&folder).join("metadata.jsonl")).unwrap();
        assert_eq!(metadata.trim_end(), PROMPTS.lines().nth(line).unwrap());
    }
}

#[test]
fn skipped_prompts_are_in_the_json_too() {
    let desk = Desk::new();
    fs::write(desk.path("prompts.jsonl"), PROMPTS).unwrap();
    let lines =
        desk.reca(&["generate", "--prompts", "prompts.jsonl", "--steps", "1", "--out", "o", "--json"]).json();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["line"], &lines[0]["prompt"]), (&2.into(), &"a photo of a zebra".into()));
    assert_eq!(lines[2]["file"], "o/00002/samples/0000.png");
    assert!(!desk.path("o/00000/grid.png").exists());
}

#[test]
fn unusable_prompt_files_are_named() {
    let desk = Desk::new();
    let draw = |content: &str| {
        fs::write(desk.path("p.jsonl"), content).unwrap();
        desk.reca(&["generate", "--prompts", "p.jsonl", "--out", "o"])
    };
    draw("").fails(1, &["p.jsonl: the file has no lines"]);
    draw("{\"prompt\": \"a car\"}\na dog\n").fails(1, &["p.jsonl: line 2: ", "{\"prompt\": \"a red car\""]);
    draw("{\"text\": \"a car\"}\n").fails(1, &["p.jsonl: line 1: missing field `prompt`"]);
    draw("{\"prompt\": \"a zebra\"}\n{\"prompt\": \"\"}\n").fails(
        1,
        &["line 1 skipped", "line 2 skipped: the text is empty", "none of the 2 prompts could be drawn"],
    );
    assert!(!desk.path("o").exists());
}

#[test]
fn exported_models_work_as_the_original() {
    let desk = Desk::new();
    desk.picture("disc.png", 64, 64);
    let original = desk.reca(&["describe", "disc.png"]).ok();
    desk.reca(&["export", "--out", "single", "--precision", "f32"]).ok();
    let summary = desk.reca(&["export", "--out", "half", "--json"]).json();
    assert_eq!(summary[0]["out"], "half");

    let size = |folder: &str| fs::metadata(desk.path(folder).join("model.safetensors")).unwrap().len();
    assert!((0.5..0.55).contains(&(size("half") as f64 / size("single") as f64)));
    for folder in ["single", "half"] {
        assert_eq!(desk.bare(&["describe", "disc.png", "--model", folder]).ok(), original);
        for name in ["config.json", "tokenizer.json", "preprocessor_config.json"] {
            let copied = fs::read(desk.path(folder).join(name)).unwrap();
            assert_eq!(copied, fs::read(nano().join(name)).unwrap(), "{name}");
        }
    }
    // Nothing is lost or reordered by a second export.
    desk.bare(&["export", "--model", "half", "--out", "again"]).ok();
    let weights = |folder: &str| fs::read(desk.path(folder).join("model.safetensors")).unwrap();
    assert_eq!(weights("half"), weights("again"));
    desk.bare(&["export", "--model", "half", "--out", "./half"])
        .fails(1, &["half: this is a model that is read"]);
}
