//! Scenes a second on one core.
#![allow(clippy::unwrap_used)]

use divan::{Bencher, black_box, counter::ItemsCount};
use reca::scene::{Engine, Pool, World};

const SCENES: u64 = 256;

fn main() {
    divan::main();
}

/// Describes and renders scenes one after another, sprites already in memory.
fn render(bencher: Bencher, world: World) {
    let engine = Engine::new(world).unwrap();
    bencher.counter(ItemsCount::new(SCENES)).bench_local(|| {
        for index in 0..SCENES {
            let scene = engine.scene(Pool::Open, 1, index).unwrap();
            black_box(engine.render(&scene).unwrap());
        }
    });
}

#[divan::bench]
fn mini(bencher: Bencher) {
    let recipe = include_str!("../src/train/recipes/mini.json");
    let recipe: serde_json::Value = serde_json::from_str(recipe).unwrap();
    render(bencher, serde_json::from_value(recipe["world"].clone()).unwrap());
}

#[divan::bench]
fn full(bencher: Bencher) {
    render(bencher, World::full());
}
