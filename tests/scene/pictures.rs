//! Pictures show what their description says, the same every time.

use std::collections::BTreeSet;

use reca::scene::nouns;
use reca::scene::world::NATURAL_ONLY;
use reca::scene::{Colour, Engine, Grounds, Kinds, Layout, Pool, SIZE, World, caption, recolour};

use crate::{full, mini, scenes};

#[test]
fn a_scene_depends_on_its_seed_and_number_alone() {
    let (engine, again) = (mini(), mini());
    for index in [0, 1, 17, 39_999] {
        let scene = engine.scene(Pool::Understanding, 1, index).unwrap();
        assert_eq!(scene, again.scene(Pool::Understanding, 1, index).unwrap());
        assert_eq!(engine.render(&scene).unwrap(), again.render(&scene).unwrap());
        assert_ne!(scene, engine.scene(Pool::Understanding, 2, index).unwrap());
    }
    let caption = |index| {
        let scene = engine.scene(Pool::Understanding, 1, index).unwrap();
        caption::dense(&scene, 1, index).swap_remove(0)
    };
    assert_eq!(caption(0), "a yellow fish, twemoji style");
    assert_eq!(caption(1), "a yellow mushroom below a house, twemoji style");
}

#[test]
fn pixels_agree_with_the_caption() {
    let engine = mini();
    let (mut right, mut all) = (0, 0);
    for (_, scene) in scenes(&engine, Pool::Open, 1500) {
        let pixels = engine.render(&scene).unwrap();
        assert_eq!(pixels.len(), SIZE * SIZE * 3);
        let ([object], Some(colour)) = (&scene.objects[..], scene.objects[0].colour) else {
            continue;
        };
        let far = |p: &&[u8]| p.iter().zip(scene.background).any(|(p, b)| p.abs_diff(b) > 12);
        let shown: Vec<u8> =
            pixels.chunks_exact(3).filter(far).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        let covered = shown.len() as f32 / 4.0 / (object.size * object.size) as f32;
        assert!(covered > 0.12, "{object:?} is hardly visible: {covered}");
        all += 1;
        right += usize::from(recolour::modal(&shown).is_some_and(|(name, _)| name == colour));
    }
    assert!(all > 300 && right as f32 > 0.97 * all as f32, "{right} of {all}");
}

/// On light grounds no squared error minds whether a white thing is there.
#[test]
fn white_things_differ_from_their_ground() {
    let light = World { grounds: Grounds::Light, ..mini().world().clone() };
    for (engine, least) in [(Engine::new(light).unwrap(), 25), (mini(), 80)] {
        let (mut white, mut light) = (0, 0);
        for (_, scene) in scenes(&engine, Pool::Open, 1500) {
            let darkest = scene.background.into_iter().min().unwrap();
            if scene.objects.iter().any(|object| object.colour == Some(Colour::White)) {
                white += 1;
                assert!(255 - darkest >= least, "{scene:?}");
            }
            light += usize::from(darkest > 200);
        }
        assert!(white > 50 && light > 300, "{white} white, {light} on light grounds");
    }
}

#[test]
fn recolours_pass_and_the_vocabulary_is_rich() {
    let engine = full();
    let world = engine.world();
    assert!(world.nouns.len() >= 100 && nouns::GENEVAL_NOUNS.len() == 64);
    let (mut tried, mut passed) = (0, 0);
    let mut recolourable = BTreeSet::new();
    for noun in &world.nouns {
        let styles: Vec<_> = world.styles.iter().filter(|s| engine.bank().has(noun, s)).collect();
        assert!(styles.len() >= 3, "{noun} is drawn in {styles:?} only");
        let colours: usize = styles.iter().map(|s| engine.bank().colours(noun, s).count()).sum();
        if colours > 0 {
            tried += 10 * styles.len();
            passed += colours;
            recolourable.insert(noun.as_str());
        }
    }
    assert!(recolourable.len() >= 100, "{}", recolourable.len());
    assert!(passed as f32 > 0.9 * tried as f32, "{passed} of {tried}");
    assert!(NATURAL_ONLY.iter().all(|noun| recolourable.contains(noun)));
}

#[test]
fn impossible_worlds_are_refused_with_a_reason() {
    let refused = |change: fn(&mut World)| -> String {
        let mut world = World::full();
        change(&mut world);
        Engine::new(world).err().map(|e| e.message).unwrap_or_default()
    };
    assert!(refused(|w| w.nouns.push("brocoli".into())).contains("did you mean \"broccoli\"?"));
    assert!(refused(|w| w.styles.push("cubism".into())).contains("there are noto, noto-v1"));
    assert!(refused(|w| w.natural_only.push("elf".into())).contains("not among the nouns"));
    assert!(refused(|w| w.nouns.push("car".into())).contains("\"car\" is listed twice"));
    assert!(refused(|w| w.kinds = Kinds { single: 0.9, two: 0.9, count: 0.0 }).contains("add up to 1"));
    assert!(refused(|w| w.recolour = f32::NAN).contains("recolour"));
    assert!(refused(|w| w.nouns.clear()).contains("must not be empty"));
    assert!(refused(|w| w.layout = Layout::Slots).is_empty());
}
