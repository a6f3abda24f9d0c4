//! What is held out stays out.

use std::collections::BTreeSet;

use reca::scene::nouns::plural;
use reca::scene::sprites::HELD_STYLE;
use reca::scene::{Archive, CaptionRates, Colour, Engine, Pool, Scene, Tier, World, caption};

use crate::{full, mini, scenes, texts};

/// What of a scene is held out from captions for drawing.
fn held_out(engine: &Engine, scene: &Scene) -> BTreeSet<&'static str> {
    let split = engine.split();
    let mut held = BTreeSet::new();
    for object in &scene.objects {
        if split.held_style(&object.style) {
            held.insert("style");
        }
        match object.colour {
            Some(_) if split.natural_only(&object.noun) => held.insert("natural only"),
            Some(colour) if split.tier(&object.noun, colour) != Tier::Seen => held.insert("pair"),
            _ => false,
        };
        if scene.count.is_some_and(|count| split.held_count(&object.noun, count)) {
            held.insert("count");
        }
    }
    if let ([a, b], None) = (&scene.objects[..], scene.count)
        && split.held_combination(&a.noun, &b.noun)
    {
        held.insert("combination");
    }
    held
}

/// Colours of nouns that captions for drawing never name, searched for in the text itself, whatever the
/// scene claims.
fn forbidden_colours(engine: &Engine) -> Vec<String> {
    let split = engine.split();
    let pairs = engine.world().nouns.iter().flat_map(|noun| Colour::ALL.map(|colour| (noun, colour)));
    let held = pairs
        .filter(|(noun, colour)| split.natural_only(noun) || split.tier(noun, *colour) == Tier::HeldPair);
    held.flat_map(|(noun, colour)| [noun.clone(), plural(noun)].map(|noun| format!(" {colour} {noun} ")))
        .collect()
}

#[test]
fn drawing_scenes_show_and_name_nothing_that_is_held_out() {
    for (engine, count) in [(mini(), 20_000), (full(), 20_000)] {
        let split = engine.split();
        let nouns = &engine.world().nouns;
        let mut forbidden = forbidden_colours(&engine);
        for noun in nouns {
            if split.held_count(noun, 4) {
                forbidden.push(format!(" four {} ", plural(noun)));
                forbidden.extend(Colour::ALL.map(|c| format!(" four {c} {} ", plural(noun))));
            }
        }
        for (index, scene) in scenes(&engine, Pool::Drawing, count) {
            assert_eq!(held_out(&engine, &scene), BTreeSet::new(), "{scene:?}");
            if index % 10 == 0 {
                for text in texts(&scene, index) {
                    let text = format!(" {} ", text.replace(',', ""));
                    let broken = forbidden.iter().find(|phrase| text.contains(phrase.as_str()));
                    assert_eq!(broken, None, "{text}");
                }
            }
        }
    }
}

/// What own captions of the open pool say, in the control that RecA is measured against.
#[test]
fn silent_captions_name_no_colour_that_is_held_out() {
    for engine in [mini(), full()] {
        let forbidden = forbidden_colours(&engine);
        let named = |scene: &Scene, index: u64| {
            let all = CaptionRates { colour: 1.0, relation: 0.5, count: 0.5, style: 0.0 };
            let texts = caption::sparse(scene, all, 2, 3, index);
            let texts = texts.iter().map(|text| format!(" {} ", text.replace(',', "")));
            texts.filter(|text| forbidden.iter().any(|phrase| text.contains(phrase))).collect::<Vec<_>>()
        };
        let mut told = 0;
        for (index, scene) in scenes(&engine, Pool::Open, 4000) {
            told += named(&scene, index).len();
            let silent = caption::silent(&scene, engine.split());
            assert_eq!(named(&silent, index), Vec::<String>::new(), "{scene:?}");
            let nouns = |scene: &Scene| scene.objects.iter().map(|o| o.noun.clone()).collect::<Vec<_>>();
            assert_eq!(nouns(&silent), nouns(&scene));
        }
        assert!(told > 400, "the pool must hold what is not to be named: {told}");
    }
}

#[test]
fn other_pools_show_what_they_may() {
    let engine = full();
    let seen = |pool| -> BTreeSet<_> {
        scenes(&engine, pool, 4000).flat_map(|(_, scene)| held_out(&engine, &scene)).collect()
    };
    let everything = BTreeSet::from(["pair", "natural only", "combination", "count"]);
    assert_eq!(seen(Pool::Open), everything);
    assert_eq!(seen(Pool::Understanding), everything);
    assert_eq!(seen(Pool::Strict), BTreeSet::from(["combination", "count"]));
}

#[test]
fn the_split_is_balanced() {
    let engine = mini();
    let held = engine.pairs(Tier::HeldPair);
    let natural_only = engine.pairs(Tier::NaturalOnly);
    let seen = engine.pairs(Tier::Seen);
    assert_eq!(held.len(), 11, "one for each recolourable noun: {held:?}");
    assert!(natural_only.contains(&("broccoli".into(), Colour::Yellow)));
    assert!(!natural_only.contains(&("broccoli".into(), Colour::Green)), "it is green by nature");
    assert!(held.iter().all(|pair| !seen.contains(pair)));
    // Every held noun is captioned in other colours, and every held colour on other nouns.
    for (noun, colour) in held {
        assert!(seen.iter().filter(|pair| pair.0 == noun).count() >= 5, "{noun}");
        assert!(seen.iter().filter(|pair| pair.1 == colour).count() >= 5, "{colour}");
    }
    let full = full();
    let nouns = &full.world().nouns;
    let pairs = nouns.iter().enumerate().flat_map(|(i, a)| nouns[..i].iter().map(move |b| (a, b)));
    let (mut held, mut all) = (0, 0);
    for (a, b) in pairs {
        assert_eq!(full.split().held_combination(a, b), full.split().held_combination(b, a));
        held += usize::from(full.split().held_combination(a, b));
        all += 1;
    }
    assert!((0.09..0.11).contains(&(held as f32 / all as f32)), "{held} of {all}");
}

#[test]
fn the_held_out_style_is_kept_apart() {
    let embedded = Archive::embedded().unwrap();
    assert!(embedded.sources.iter().all(|source| source.style != HELD_STYLE));
    let held = Archive::from_gzip(include_bytes!("../openmoji.json.gz")).unwrap();
    assert_eq!(held.sources[0].licence, "CC-BY-SA-4.0");
    let world = World { styles: vec![HELD_STYLE.into()], ..mini().world().clone() };
    assert!(Engine::new(world.clone()).is_err());
    let engine = Engine::with_archive(world, &held).unwrap();
    let scene = engine.scene(Pool::Open, 0, 0).unwrap();
    assert!(engine.split().held_style(&scene.style));
    engine.render(&scene).unwrap();
}

#[test]
fn strangers_are_what_a_world_has_no_word_for() {
    let (mini, full) = (mini(), full());
    let strangers = mini.world().strangers();
    assert!(strangers.iter().any(|noun| noun == "apple"));
    // It has broccoli, and a taxi is a car.
    assert!(!strangers.iter().any(|noun| noun == "broccoli" || noun == "taxi"));
    assert_eq!(full.world().strangers(), Vec::<String>::new());
    let wide = Engine::new(mini.world().with(&strangers)).unwrap();
    let drawn = |noun| wide.world().styles.iter().any(|style| wide.bank().has(noun, style));
    assert!(strangers.iter().all(|noun| drawn(noun)));
}
