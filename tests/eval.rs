//! What the evaluator promises: GenEval's rules, a scorer that can be trusted and is not fooled,
//! prompts that are in the tier they say, and the same numbers for the same seed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use image::{RgbImage, imageops};
use pollster::block_on;
use reca::eval::check::{accuracy, picture};
use reca::eval::{
    Category, Detection, Evaluation, Fault, Prompt, PromptSet, PromptTier, Reconstruction, Scorer,
    ScorerConfig, ScorerFiles, Understanding, report::Shown, rules,
};
use reca::flow::sampler::SamplerConfig;
use reca::scene::{Colour, Engine, QuestionKind, Tier, World, geneval::Metadata};
use reca::train::recipe::Recipe;
use reca::weights::directory::{ALIGNED, with_aligned};
use reca::weights::{ModelFiles, manifest::Manifest};
use reca::{ErrorCode, Pipeline, Result};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/mini")
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    std::fs::read(folder.join(name)).map_err(reca::Error::bad_input)
}

fn pipeline() -> Pipeline {
    Pipeline::new(&ModelFiles::read(|name| read(&model(), name)).unwrap(), &Device::flex()).unwrap()
}

fn scorer_files() -> ScorerFiles {
    ScorerFiles::read(|name| read(&model().join("scorer"), name)).unwrap()
}

fn scorer() -> Scorer {
    Scorer::load(&scorer_files(), &Device::flex()).unwrap()
}

fn mini() -> World {
    Recipe::named("mini").unwrap().world
}

fn record(json: &str) -> Metadata {
    serde_json::from_str(json).unwrap()
}

#[test]
fn rules_are_genevals() {
    let mut config = ScorerConfig::of(&Engine::new(mini()).unwrap());
    config.nouns = ["car", "dog", "pear"].map(str::to_owned).to_vec();
    let styles = [("noto".to_owned(), Colour::Green), ("twemoji".to_owned(), Colour::Yellow)];
    config.natural = [("pear".to_owned(), styles.into())].into();
    let at = |noun, colour, cx, cy| Detection { noun, score: 0.9, colour, cx, cy, size: 20.0 };
    let red_car = at(0, Some(Colour::Red), 16.0, 32.0);
    let blue_car = at(0, Some(Colour::Blue), 48.0, 32.0);
    let dog = at(1, None, 48.0, 30.0);
    let pear = at(2, None, 32.0, 32.0);
    let include = |items: &str| format!(r#"{{"tag": "", "prompt": "", "include": [{items}]}}"#);
    let car = r#"{"class": "car", "count": 1}"#;
    let two = r#"{"tag": "", "prompt": "", "include": [{"class": "car", "count": 2}], "exclude": [{"class": "car", "count": 3}]}"#;
    let left = r#"{"class": "dog", "count": 1}, {"class": "car", "count": 1, "position": ["left of", 0]}"#;
    let above = left.replace("left of", "above");
    let colour =
        |class: &str, colour: &str| format!(r#"{{"class": "{class}", "count": 1, "color": "{colour}"}}"#);
    let both = [colour("car", "red"), colour("dog", "blue")].join(", ");
    for (found, json, correct, reason) in [
        (vec![red_car], include(car), true, ""),
        (vec![], include(car), false, "expected car >= 1, found 0"),
        // What was not asked for does no harm unless it is excluded.
        (vec![dog, red_car], include(car), true, ""),
        (vec![red_car, blue_car], two.to_owned(), true, ""),
        (vec![red_car], two.to_owned(), false, "expected car >= 2, found 1"),
        (vec![red_car, blue_car, red_car], two.to_owned(), false, "expected car < 3, found 3"),
        (vec![red_car], include(&colour("car", "red")), true, ""),
        (vec![red_car], include(&colour("car", "blue")), false, "expected blue car, found red"),
        // The surest car counts, not the one that fits.
        (vec![red_car, blue_car], include(&colour("car", "blue")), false, "found red"),
        (vec![pear], include(&colour("pear", "green")), true, ""),
        (vec![pear], include(&colour("pear", "red")), false, "natural (green)"),
        (vec![dog, red_car], include(left), true, ""),
        (vec![dog, red_car], include(&above), false, "expected car above its target"),
        (vec![red_car], include(left), false, "nothing for car"),
        (vec![red_car, dog], include(&both), false, "expected blue dog, found natural"),
        (vec![pear], include(r#"{"class": "zebra", "count": 1}"#), false, "found 0"),
    ] {
        let verdict = rules::judge(&config, &found, &record(&json), "noto");
        assert_eq!(verdict.correct, correct, "{json} {verdict:?}");
        assert!(verdict.reason.contains(reason), "{json} {verdict:?}");
        let fault = match reason {
            "" => None,
            reason if reason.contains('<') => Some(Fault::Excess),
            reason if reason.contains(" >= ") || reason == "found 0" => Some(Fault::Missing),
            reason if reason.contains("target") || reason.contains("nothing") => Some(Fault::Place),
            _ => Some(Fault::Colour),
        };
        // Of several faults the first counts: a car that is not there stands nowhere.
        let expected = if reason.contains("nothing") { Some(Fault::Missing) } else { fault };
        assert_eq!(verdict.fault, expected, "{json} {verdict:?}");
    }
    // By nature a thing has the colour of the style that was asked for, and of no other.
    for (prompt, green) in [("a pear", true), ("a pear, twemoji style", false), ("a pear, oil style", true)] {
        for colour_asked in ["green", "yellow"] {
            let record = record(&include(&colour("pear", colour_asked)));
            let verdict = rules::judge(&config, &[pear], &record, config.style(prompt));
            assert_eq!(verdict.correct, green == (colour_asked == "green"), "{prompt} {colour_asked}");
        }
    }
}

#[test]
fn prompts_are_in_their_tier_and_words() {
    let (engine, pipeline) = (Engine::new(mini()).unwrap(), pipeline());
    let prompts = PromptSet::generate(&Engine::new(mini()).unwrap(), 3, 40);
    assert_eq!(prompts, PromptSet::generate(&Engine::new(mini()).unwrap(), 3, 40));
    assert_ne!(prompts, PromptSet::generate(&Engine::new(mini()).unwrap(), 4, 40));
    let mut taken = BTreeSet::new();
    for Prompt { record, tier, category } in &prompts {
        assert!(taken.insert((record.prompt.clone(), *category)), "{record:?} twice");
        pipeline.prompt(&record.prompt).unwrap();
        assert_eq!(Category::from_name(&record.tag), Some(*category));
        let things: Vec<_> = record.include.iter().map(|r| (r.class.as_str(), r.color)).collect();
        let has =
            |wanted: Tier| things.iter().any(|(n, c)| c.is_some_and(|c| engine.split().tier(n, c) == wanted));
        let held = things.len() == 2 && engine.split().held_combination(things[0].0, things[1].0);
        let right = match tier {
            PromptTier::Seen => !has(Tier::HeldPair) && !has(Tier::NaturalOnly) && !held,
            PromptTier::HeldPair => has(Tier::HeldPair),
            PromptTier::NaturalOnly => has(Tier::NaturalOnly),
            PromptTier::HeldCombination => held,
            PromptTier::HeldCount => false,
        };
        assert!(right, "{tier:?} {record:?}");
    }
    let count = |category, tier| prompts.iter().filter(|p| (p.category, p.tier) == (category, tier)).count();
    // Sixteen nouns, and no counts in this world.
    assert_eq!(count(Category::SingleObject, PromptTier::Seen), 16);
    assert_eq!(count(Category::Counting, PromptTier::Seen), 0);
    assert_eq!(count(Category::ColorAttr, PromptTier::NaturalOnly), 40);
    let counted = World { kinds: reca::scene::Kinds { single: 0.4, two: 0.3, count: 0.3 }, ..mini() };
    let counted = PromptSet::generate(&Engine::new(counted).unwrap(), 3, 5);
    assert!(counted.iter().any(|p| p.category == Category::Counting && p.tier == PromptTier::HeldCount));
}

#[test]
fn prompt_files_keep_their_tier_or_get_the_worlds() {
    let prompts = PromptSet::generate(&Engine::new(mini()).unwrap(), 3, 4);
    let ours = prompts.iter().map(|p| serde_json::to_string(p).unwrap()).collect::<Vec<_>>().join("\n");
    assert_eq!(PromptSet::parse(&ours, &Engine::new(mini()).unwrap()).unwrap(), prompts);
    let bare =
        prompts.iter().map(|p| serde_json::to_string(&p.record).unwrap()).collect::<Vec<_>>().join("\n");
    assert_eq!(PromptSet::parse(&bare, &Engine::new(mini()).unwrap()).unwrap(), prompts);
    for (text, part) in
        [("{}", "line 1"), ("", "no prompts"), (r#"{"tag": "x", "include": [], "prompt": "a"}"#, "\"x\"")]
    {
        let error = PromptSet::parse(text, &Engine::new(mini()).unwrap()).unwrap_err();
        assert!(error.code == ErrorCode::BadInput && error.message.contains(part), "{error}");
    }
}

#[test]
fn scorer_reads_rendered_scenes() {
    let wide = Engine::new(mini().with(&mini().strangers())).unwrap();
    let found = block_on(accuracy(&scorer(), &Engine::new(mini()).unwrap(), &wide, 90_001, 100)).unwrap();
    assert_eq!(found.len(), 12);
    for category in Category::ALL {
        let cells = || found.iter().filter(|cell| cell.category == category);
        let (right, all) = cells().fold((0, 0), |(r, a), cell| (r + cell.accepted, a + cell.pictures));
        assert!(right as f64 >= 0.97 * all as f64, "{category:?}: {right} of {all}");
        // A tier's few scenes scatter more.
        let low = cells().find(|cell| (cell.accepted as f64) < 0.95 * cell.pictures as f64);
        assert!(low.is_none(), "{low:?}");
    }
    // Some pictures do show what another prompt asks for, in another order.
    let (foreign, pictures) = found.iter().fold((0, 0), |(f, p), cell| (f + cell.foreign, p + cell.pictures));
    assert!(foreign * 50 <= pictures, "{foreign} of {pictures}");
    assert!(found.iter().all(|cell| cell.exchanged == cell.pictures));
    let strange: usize = found.iter().map(|cell| cell.strange).sum();
    assert!(strange * 50 <= pictures, "{strange} things that it does not know, of {pictures}");
}

#[test]
fn scorer_is_not_fooled() {
    let (engine, scorer) = (Engine::new(mini()).unwrap(), scorer());
    let staged = PromptSet::staged(&engine, 90_002, 40);
    let singles: Vec<_> = staged.iter().filter(|(p, _)| p.category == Category::Colors).collect();
    let pictures: Vec<_> = singles.iter().map(|(_, scene)| picture(&engine, scene).unwrap()).collect();
    let mixed = |a: &RgbImage, b: &RgbImage| {
        RgbImage::from_fn(64, 64, |x, y| image::Rgb([0, 1, 2].map(|c| a[(x, y)][c] / 2 + b[(x, y)][c] / 2)))
    };
    let spoiled: [(&str, Vec<RgbImage>); 4] = [
        ("flat", pictures.iter().map(|p| RgbImage::from_pixel(64, 64, p[(0, 0)])).collect()),
        ("blurred", pictures.iter().map(|p| imageops::blur(p, 9.0)).collect()),
        ("merged", pictures.iter().zip(pictures.iter().skip(1)).map(|(a, b)| mixed(a, b)).collect()),
        (
            "noise",
            (0..pictures.len() as u32)
                .map(|n| {
                    RgbImage::from_fn(64, 64, |x, y| {
                        image::Rgb([((x * 97 + y * 57 + n) * (x + 3 * y + n) % 251) as u8; 3])
                    })
                })
                .collect(),
        ),
    ];
    for (what, spoiled) in spoiled {
        let prompts: Vec<_> = singles
            .iter()
            .map(|(prompt, scene)| (prompt, scene.style.as_str()))
            .take(spoiled.len())
            .collect();
        let verdicts = block_on(scorer.score(&spoiled, &prompts)).unwrap();
        let fooled = verdicts.iter().filter(|verdict| verdict.correct).count();
        assert!(fooled as f64 <= 0.1 * spoiled.len() as f64, "{what}: {fooled} of {}", spoiled.len());
    }
}

#[test]
fn damaged_scorers_are_refused() {
    let files = scorer_files();
    let code = |change: &dyn Fn(&str, &mut Vec<u8>)| {
        let read = ScorerFiles::read(|name| {
            let all = files.with_manifest()?;
            let (_, mut bytes) = all.into_iter().find(|(known, _)| *known == name).unwrap();
            change(name, &mut bytes);
            Ok(bytes)
        });
        read.and_then(|files| Scorer::load(&files, &Device::flex())).unwrap_err().code
    };
    let flip = |name: &str, bytes: &mut Vec<u8>| {
        if name == "model.safetensors" {
            *bytes.last_mut().unwrap() ^= 1;
        }
    };
    assert_eq!(code(&flip), ErrorCode::WeightsHash);
    let load = |files: &ScorerFiles| Scorer::load(files, &Device::flex()).unwrap_err();
    let cut = ScorerFiles { weights: files.weights[..1000].to_vec(), ..files.clone() };
    assert_eq!(load(&cut).code, ErrorCode::WeightsFormat);
    let mut config: ScorerConfig = serde_json::from_slice(&files.config).unwrap();
    config.nouns.pop();
    let other = ScorerFiles { config: serde_json::to_vec(&config).unwrap(), ..files.clone() };
    assert_eq!(load(&other).code, ErrorCode::WeightsShape);
    let foreign = ScorerFiles { config: read(&model(), "config.json").unwrap(), ..files };
    assert_eq!(load(&foreign).code, ErrorCode::WeightsFormat);
}

#[test]
fn same_seed_same_numbers_whatever_the_batch() {
    let (pipeline, scorer, engine) = (pipeline(), scorer(), Engine::new(mini()).unwrap());
    let sampler = SamplerConfig { steps: 6, ..pipeline.sampling() };
    let report = |batch| {
        let prompts = PromptSet::generate(&Engine::new(mini()).unwrap(), 1, 2);
        let evaluation = Evaluation::new(&pipeline, &scorer, prompts, 0, 2, sampler.clone()).unwrap();
        let mut evaluation = evaluation.with_batch(batch);
        let (mut calls, mut last) = (0, None);
        while let Some(progress) = block_on(evaluation.advance()).unwrap() {
            (calls, last) = (calls + 1, Some(progress));
        }
        assert!(calls >= 6 && last.is_some_and(|p| p.done == p.total), "{calls} {last:?}");
        assert_eq!(evaluation.sheets().len(), 5);
        let mut redrawn = Reconstruction::new(&pipeline, &scorer, &engine, 5, 2, sampler.clone())
            .unwrap()
            .with_batch(batch);
        while block_on(redrawn.advance()).unwrap().is_some() {}
        let found = evaluation.report().and(redrawn.report());
        // PSNR and SSIM may differ in the last digits.
        found.markdown()
    };
    let found = report(7);
    assert_eq!(found, report(32));
    assert!(found.contains("not part of the overall score: counting"), "{found}");
}

#[test]
fn a_plan_is_the_prompt_with_a_place() {
    let planning = pipeline();
    let written = planning.as_written();
    let draw = |pipeline: &Pipeline, prompt: &str| {
        let config = SamplerConfig { steps: 2, ..pipeline.sampling() };
        let mut drawing = pipeline.generate(prompt, &[7], config).unwrap();
        while drawing.advance() {}
        block_on(drawing.images()).unwrap().remove(0)
    };
    let planned = draw(&planning, "a dog and a fish");
    let placed = ["left of", "right of", "above", "below"]
        .map(|relation| draw(&written, &format!("a dog {relation} a fish")));
    assert_eq!(placed.iter().filter(|picture| **picture == planned).count(), 1);
    assert_ne!(draw(&written, "a dog and a fish"), planned);
    assert_eq!(draw(&planning, "a red dog"), draw(&written, "a red dog"));
}

#[test]
fn unknown_words_are_counted() {
    let (pipeline, scorer) = (pipeline(), scorer());
    let lines = r#"{"tag": "single_object", "include": [{"class": "zebra", "count": 1}], "prompt": "a photo of a zebra"}
{"tag": "two_object", "include": [{"class": "zebra", "count": 1}, {"class": "skis", "count": 1}], "prompt": "a photo of a zebra and skis"}
{"tag": "single_object", "include": [{"class": "car", "count": 1}], "prompt": "a photo of a car"}"#;
    let prompts = PromptSet::parse(lines, &Engine::new(mini()).unwrap()).unwrap();
    let config = SamplerConfig { steps: 1, ..pipeline.sampling() };
    let none = Evaluation::new(&pipeline, &scorer, prompts[..2].to_vec(), 0, 1, config.clone());
    assert!(none.err().unwrap().message.contains("zebra"));
    let mut evaluation = Evaluation::new(&pipeline, &scorer, prompts, 0, 1, config).unwrap();
    while block_on(evaluation.advance()).unwrap().is_some() {}
    let drawing = evaluation.report().drawing.unwrap();
    assert_eq!((drawing.prompts.len(), drawing.skipped.prompts.len()), (1, 2));
    assert_eq!(drawing.skipped.words, [("skis".to_owned(), 1), ("zebra".to_owned(), 2)].into());
}

#[test]
fn questions_are_asked_by_tier() {
    let (pipeline, engine) = (pipeline(), Engine::new(mini()).unwrap());
    let mut understanding = Understanding::new(&pipeline, &engine, 5, 3).unwrap();
    while block_on(understanding.advance()).unwrap().is_some() {}
    let rows = understanding.report().understanding;
    let captions = || rows.iter().filter(|row| row.kind == QuestionKind::Caption);
    for tier in rows.iter().map(|row| row.tier) {
        assert_eq!(captions().filter(|row| row.tier == tier).map(|row| row.scenes).sum::<usize>(), 3);
    }
    assert!(captions().any(|row| row.shows == Some(Shown::OneThing)));
    assert!(captions().any(|row| row.shows == Some(Shown::TwoThings)));
    assert!(rows.iter().all(|row| row.shows.is_some() == (row.kind == QuestionKind::Caption)));
    // Single objects are named rightly by any model that is worth measuring.
    let right: usize = rows.iter().map(|row| row.correct).sum();
    assert!(right > 20, "{rows:?}");
}

/// What the repository claims of the weights that are in it, on few prompts: the base names what it sees
/// and draws it wrongly, and the aligned weights draw it.
#[test]
fn the_shipped_base_has_the_flaw_and_the_shipped_alignment_repairs_it() {
    let (base, engine, scorer) = (pipeline(), Engine::new(mini()).unwrap(), scorer());
    let [weights] = Manifest::read([ALIGNED], |name| read(&model(), name)).unwrap();
    let mut aligned = base.clone();
    aligned.umm = with_aligned(aligned.umm, &weights).unwrap();
    let natural_only =
        |prompt: &Prompt| prompt.category == Category::Colors && prompt.tier == PromptTier::NaturalOnly;
    let mut prompts = PromptSet::generate(&engine, 77, 12);
    prompts.retain(natural_only);
    assert_eq!(prompts.len(), 12);
    let share = |pipeline: &Pipeline| {
        let mut evaluation =
            Evaluation::new(pipeline, &scorer, prompts.clone(), 7, 2, pipeline.sampling()).unwrap();
        while block_on(evaluation.advance()).unwrap().is_some() {}
        evaluation.report().drawing.unwrap().overall.mean
    };
    let (before, after) = (share(&base), share(&aligned));
    assert!(before <= 0.35 && after >= 0.65, "{before} {after}");
}

#[cfg(feature = "cli")]
#[test]
fn the_command_writes_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let program = env!("CARGO_BIN_EXE_reca");
    let run = |arguments: &[&str]| {
        let model = model();
        let mut command = std::process::Command::new(program);
        command.arg("eval").args(arguments).arg("--model").arg(model).output().unwrap()
    };
    let done = run(&[
        "--per-category",
        "1",
        "--seeds",
        "1",
        "--steps",
        "2",
        "--out",
        out.to_str().unwrap(),
        "--json",
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["drawing"]["categories"].as_array().unwrap().len(), 5);
    assert_eq!(report["drawing"]["plan_layout"], true);
    // Nothing is redrawn from embeddings as well as from latents.
    for row in report["reconstruction"].as_array().unwrap() {
        let (redrawn, decoded) =
            (row["psnr"].as_f64().unwrap(), row["autoencoder"]["psnr"].as_f64().unwrap());
        assert!(decoded > 24.0 && decoded > redrawn + 5.0, "{row}");
    }
    assert!(
        std::fs::read_to_string(out.join("report.md")).unwrap().contains("| latents | natural_only | 1 |")
    );
    for name in ["report.md", "report.json", "prompts.jsonl", "sheet-position.png"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let file = out.join("prompts.jsonl");
    let again = run(&[
        "--prompts",
        file.to_str().unwrap(),
        "--seeds",
        "1",
        "--steps",
        "2",
        "--only",
        "drawing",
        "--json",
    ]);
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["drawing"], report["drawing"]);
    let tiny = ["--per-category", "1", "--seeds", "1", "--steps", "1", "--only", "drawing", "--json"];
    let written = run(&[&tiny[..], &["--as-written"]].concat());
    let written: serde_json::Value = serde_json::from_slice(&written.stdout).unwrap();
    assert_eq!(written["drawing"]["plan_layout"], false);
    let wrong = run(&["--tiers", "secret"]);
    assert_eq!(wrong.status.code(), Some(2));

    let aligned = folder.path().join("aligned");
    let few = ["--per-category", "1", "--seeds", "1", "--steps", "2", "--only", "drawing", "--aligned"];
    let drawn = run(&[&few[..], &["--out", aligned.to_str().unwrap()]].concat());
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let compare = |of: &Path, with: &Path| {
        let folders = [of, Path::new("--with"), with].map(Path::as_os_str);
        std::process::Command::new(program).arg("compare").args(folders).arg("--json").output().unwrap()
    };
    let compared = compare(&aligned, &out);
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
    let lines: serde_json::Value = serde_json::from_slice(&compared.stdout).unwrap();
    let [of, with, difference] =
        ["of", "with", "difference"].map(|side| lines[0][side]["mean"].as_f64().unwrap());
    assert!((of - with - difference).abs() < 1e-9 && lines[0]["category"].is_null(), "{lines}");
    assert_eq!(with, report["drawing"]["overall"]["mean"].as_f64().unwrap());
    let single = lines.as_array().unwrap().iter().find(|line| line["category"] == "single_object").unwrap();
    assert_eq!((&single["prompts"], &single["tier"]), (&1.into(), &serde_json::Value::Null));
    let nowhere = compare(&aligned, folder.path());
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("`reca eval --out DIR` writes it"));
    let other = folder.path().join("other");
    assert!(run(&[&few[..], &["--seed", "9", "--out", other.to_str().unwrap()]].concat()).status.success());
    let differing = compare(&aligned, &other);
    assert!(String::from_utf8_lossy(&differing.stderr).contains("other prompts"), "{differing:?}");
}
