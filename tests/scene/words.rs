//! Captions, questions and prompts are true and well formed.

use std::collections::BTreeSet;

use reca::scene::layout::{Place, relations};
use reca::scene::nouns::{plural, with_article};
use reca::scene::{
    CaptionRates, Colour, Pool, QuestionKind, SceneObject, caption, geneval, question, tokenizer_json,
    vocabulary,
};
use reca::text::Tokenizer;

use crate::{RATES, full, mini, scenes, texts};

#[test]
fn articles_and_plurals() {
    let articles = ["an umbrella", "a car", "an orange", "an apple", "an elephant", "a horse"];
    for phrase in articles {
        assert_eq!(with_article(phrase.split_once(' ').unwrap().1), phrase);
    }
    for (noun, many) in [
        ("car", "cars"),
        ("hot dog", "hot dogs"),
        ("bus", "buses"),
        ("couch", "couches"),
        ("toothbrush", "toothbrushes"),
        ("box", "boxes"),
        ("cherry", "cherries"),
        ("key", "keys"),
        ("knife", "knives"),
        ("leaf", "leaves"),
        ("computer mouse", "computer mice"),
        ("sheep", "sheep"),
        ("skis", "skis"),
        ("tomato", "tomatoes"),
    ] {
        assert_eq!(plural(noun), many);
    }
}

#[test]
fn captions_say_what_there_is() {
    let engine = full();
    for (index, scene) in scenes(&engine, Pool::Open, 2000) {
        let first = &scene.objects[0];
        let told = caption::describe(&scene, caption::Mention::ALL);
        let colour = first.colour.map_or(String::new(), |colour| format!("{colour} "));
        let start = match scene.count {
            Some(count) => {
                assert_eq!(scene.objects.len(), count as usize);
                assert!(scene.objects.iter().all(|o| o.noun == first.noun && o.colour == first.colour));
                format!("{} {colour}{}", ["two", "three", "four"][count as usize - 2], plural(&first.noun))
            }
            None => with_article(&format!("{colour}{}", first.noun)),
        };
        assert!(told.starts_with(&start), "{told} / {scene:?}");
        if let Some(relation) = scene.relation {
            let place = |i: usize| {
                let o = &scene.objects[i];
                Place { cx: o.cx, cy: o.cy, size: o.size }
            };
            assert_eq!(relations(place(0), place(1)), [relation]);
            assert_ne!(scene.objects[0].noun, scene.objects[1].noun);
            assert!(told.contains(relation.name()), "{told}");
        }
        let sparse = caption::sparse(&scene, RATES, 8, 7, index);
        assert_eq!(sparse.len(), 8);
        let mute = CaptionRates { colour: 0.0, relation: 0.0, count: 0.0, style: 0.0 };
        for told in caption::sparse(&scene, mute, 2, 7, index) {
            let said = Colour::ALL.iter().any(|c| told.contains(&format!("{c} ")) && *c != Colour::Orange);
            assert!(!said && !told.contains("style") && !told.contains(" of the "), "{told}");
        }
    }
}

#[test]
fn answers_are_true() {
    let engine = full();
    let mut kinds = BTreeSet::new();
    for (index, scene) in scenes(&engine, Pool::Understanding, 3000) {
        let asked = question::questions(&scene, 7, index);
        assert!((4..=8).contains(&asked.len()), "{asked:?}");
        for q in asked {
            kinds.insert(format!("{:?}", q.kind));
            let about = |o: &&SceneObject| {
                q.question.contains(&format!(" the {} ?", o.noun))
                    || q.question.contains(&format!(" the {} ?", plural(&o.noun)))
            };
            match q.kind {
                QuestionKind::Colour => {
                    let object = scene.objects.iter().find(about).unwrap();
                    let truth = object.colour.or(object.natural_colour).unwrap();
                    assert_eq!(q.answer, truth.name());
                }
                QuestionKind::Count => {
                    let number = caption::NUMBERS.iter().position(|n| *n == q.answer).unwrap();
                    assert_eq!(number, scene.objects.len());
                }
                QuestionKind::Where | QuestionKind::What if scene.relation.is_some() => {
                    let (a, b) = (&scene.objects[0], &scene.objects[1]);
                    let relation = scene.relation.unwrap();
                    let facts = [
                        (&a.noun, format!("{} the {}", relation.name(), b.noun)),
                        (&b.noun, format!("{} the {}", relation.inverse().name(), a.noun)),
                    ];
                    assert!(facts.iter().any(|(noun, place)| match q.kind {
                        QuestionKind::Where =>
                            q.question == format!("where is the {noun} ?") && q.answer == *place,
                        _ => q.question == format!("what is {place} ?") && q.answer == **noun,
                    }));
                }
                QuestionKind::Where => panic!("nothing to be beside: {q:?}"),
                QuestionKind::What => {
                    let noun = &scene.objects[0].noun;
                    assert!(q.answer == *noun || scene.count.is_some() && q.answer == plural(noun));
                }
                QuestionKind::Caption => assert!(!q.answer.contains("style"), "{q:?}"),
            }
        }
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
}

#[test]
fn every_text_is_in_the_vocabulary() {
    for engine in [mini(), full()] {
        let tokenizer = Tokenizer::from_json(tokenizer_json(engine.world()).as_bytes()).unwrap();
        assert_eq!(tokenizer.words(), vocabulary(engine.world()));
        for (index, scene) in scenes(&engine, Pool::Open, 1500) {
            for text in texts(&scene, index) {
                let ids = tokenizer.encode(&text).unwrap();
                assert_eq!(tokenizer.decode(&ids), text.replace(',', ""));
            }
        }
    }
}

#[test]
fn metadata_is_genevals() {
    let engine = full();
    let mut tags = BTreeSet::new();
    for (_, scene) in scenes(&engine, Pool::Open, 2000) {
        let metadata = geneval::metadata(&scene);
        let json = serde_json::to_value(&metadata).unwrap();
        assert!(json["prompt"].as_str().unwrap().starts_with("a photo of "));
        let include = json["include"].as_array().unwrap();
        assert!(include.iter().all(|r| r["class"].is_string() && r["count"].is_u64()));
        match metadata.tag.as_str() {
            "position" => {
                let position = &include[1]["position"];
                assert_eq!(position[0], scene.relation.unwrap().name());
                assert_eq!(position[1], 0);
                assert_eq!(include[1]["class"], scene.objects[0].noun);
            }
            "counting" => {
                assert_eq!(include[0]["count"], scene.count.unwrap());
                assert_eq!(json["exclude"][0]["count"], scene.count.unwrap() + 1);
            }
            _ => assert!(metadata.exclude.is_empty()),
        }
        tags.insert(metadata.tag.clone());
        assert_eq!(serde_json::from_value::<geneval::Metadata>(json).unwrap(), metadata);
    }
    assert_eq!(tags, ["colors", "counting", "position", "single_object"].map(String::from).into());
    let given = r#"{"tag": "color_attr", "include": [{"class": "dog", "count": 1, "color": "red"}, {"class": "cat", "count": 1, "color": "blue", "position": ["left of", 0]}], "exclude": [], "prompt": "a photo of a red dog and a blue cat"}"#;
    assert!(serde_json::from_str::<geneval::Metadata>(given).is_ok());
}
