//! `reca scene`, as a user calls it.

use std::fs;
use std::process::Command;

use reca::scene::{Colour, Engine, Pool, QuestionKind, Scene, caption, geneval, question};
use reca::text::{EOS, Tokenizer};
use reca::train::recipe::Recipe;
use safetensors::SafeTensors;

fn reca_scene(args: &[&str], out: &std::path::Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reca"));
    command.arg("scene").args(args).arg("--out").arg(out).output().unwrap()
}

#[test]
fn a_pack_holds_pictures_and_words_of_every_scene() {
    let out = tempfile::tempdir().unwrap();
    let options = ["--recipe", "mini", "--pool", "drawing", "--count", "30", "--seed", "3"];
    let done = reca_scene(&[&options[..], &["--pack"]].concat(), out.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let tokenizer = Tokenizer::from_json(&fs::read(out.path().join("tokenizer.json")).unwrap()).unwrap();
    let file = fs::read(out.path().join("pack.safetensors")).unwrap();
    let pack = SafeTensors::deserialize(&file).unwrap();
    let rows = |name: &str, scene: usize| -> Vec<Vec<u32>> {
        let view = pack.tensor(name).unwrap();
        let &[scenes, count, length] = view.shape() else { panic!("{name}: {:?}", view.shape()) };
        assert_eq!(scenes, 30, "{name}");
        let values = view.data().chunks(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])));
        let values: Vec<u32> = values.skip(scene * count * length).take(count * length).collect();
        values.chunks(length).map(<[u32]>::to_vec).collect()
    };
    let text = |row: &[u32]| -> String {
        let words = row.iter().filter(|id| **id > EOS).map(|id| tokenizer.words()[*id as usize].as_str());
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(pack.tensor("images").unwrap().shape(), [30, 64, 64, 3]);
    assert_eq!(pack.tensor("templates").unwrap().shape()[0], 110);

    let engine = Engine::new(Recipe::named("mini").unwrap().world).unwrap();
    for index in 0..30 {
        let scene = engine.scene(Pool::Drawing, 3, index).unwrap();
        let number = index as usize;
        let pixels = &pack.tensor("images").unwrap().data()[number * 64 * 64 * 3..][..64 * 64 * 3];
        assert_eq!(pixels, engine.render(&scene).unwrap());
        let dense = caption::dense(&scene, 3, index).into_iter().map(|caption| caption.replace(',', ""));
        assert!(dense.eq(rows("dense", number).iter().map(|row| text(row))));
        let asked = question::questions(&scene, 3, index);
        let (exchanges, prompts) = (rows("questions", number), rows("prompts", number));
        for (k, question) in asked.iter().enumerate() {
            assert_eq!(text(&exchanges[k]), format!("{} {}", question.question, question.answer));
            let length = prompts[0][k] as usize;
            assert_eq!(text(&exchanges[k][..length]), question.question);
            assert!(exchanges[k][length..].contains(&EOS));
            assert_eq!(prompts[1][k] == 1, question.kind == QuestionKind::Caption);
        }
        assert!(prompts[0][asked.len()..].iter().all(|length| *length == 0));
        let (words, boxes) = (rows("words", number), rows("boxes", number));
        for (k, object) in scene.objects.iter().enumerate() {
            let side = scene
                .relation
                .map(|r| if k == 0 { r } else { r.inverse() }.name().split(' ').next().unwrap());
            let colour = object.colour.or(object.natural_colour).map(Colour::name);
            let said = [Some(object.noun.as_str()), colour, side].into_iter().flatten().collect::<Vec<_>>();
            assert_eq!(text(&words[k]), said.join(" "));
            assert_eq!(boxes[k], [object.cx, object.cy, object.size].map(|value| value as u32));
        }
        assert!(words[scene.objects.len()..].iter().flatten().all(|word| *word == 0));
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
