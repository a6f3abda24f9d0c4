//! Alignment and its controls.

use std::fs;

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
        let bytes = fs::read(desk.path(method).join("model/model.safetensors")).unwrap();
        let aligned = SafeTensors::deserialize(&bytes).unwrap();
        let changed: Vec<String> = base
            .iter()
            .filter(|(name, tensor)| aligned.tensor(name).unwrap().data() != tensor.data())
            .map(|(name, _)| name.to_owned())
            .collect();
        assert!(
            !changed.is_empty() && changed.iter().all(|name| name.starts_with("generation.")),
            "{changed:?}"
        );
        results.push(bytes);
    }
    let distinct = (0..results.len()).all(|i| results[..i].iter().all(|other| *other != results[i]));
    assert!(distinct, "every method must learn something else");
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
    desk.reca(&["align", "--out", "p", "--method", "magic"]).fails(2, &["there are reca, shuffled"]);
}
