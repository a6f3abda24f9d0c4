//! Scenes: drawn by lot from a world for a pool, exactly described, and painted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::layout::{self, Place, Relation};
use super::random::Random;
use super::recolour::Colour;
use super::split::{Pool, Split, Tier};
#[cfg(feature = "svg")]
use super::sprites::Archive;
use super::sprites::{Bank, unknown_noun};
use super::world::{Grounds, Kinds, World};
use super::{SIZE, raster};
use crate::{Error, Result};

/// One object of a scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SceneObject {
    pub noun: String,
    pub style: String,
    /// The colour it was given; `None` leaves it as it is by nature.
    pub colour: Option<Colour>,
    /// The colour the noun has by nature, where styles agree on one.
    pub natural_colour: Option<Colour>,
    /// Centre and side, pixels.
    pub cx: i32,
    pub cy: i32,
    pub size: i32,
}

/// Everything there is to know about an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// One object, two different ones, or `count` of the same.
    pub objects: Vec<SceneObject>,
    pub style: String,
    pub background: [u8; 3],
    /// Of `objects[0]` to `objects[1]`.
    pub relation: Option<Relation>,
    pub count: Option<u32>,
}

/// Light backgrounds; the first three are too light for a white object to be seen at all.
const LIGHT: [[u8; 3]; 6] =
    [[255, 255, 255], [245, 245, 240], [250, 235, 235], [225, 235, 250], [235, 250, 230], [215, 215, 220]];
const TOO_LIGHT: usize = 3;
/// Backgrounds of middle brightness.
const MIDDLE: [[u8; 3]; 4] = [[168, 186, 206], [200, 182, 158], [166, 190, 168], [192, 172, 198]];

/// Draws of a scene that a pool refuses, after which the world is called impossible.
const ATTEMPTS: usize = 1000;

/// Makes the scenes of one world.
pub struct Engine {
    world: World,
    bank: Arc<Bank>,
    split: Split,
}

impl Engine {
    /// Renders the world's sprites and draws its split.
    ///
    /// Fails with `bad_input` for a world that cannot be.
    #[cfg(feature = "svg")]
    pub fn new(world: World) -> Result<Self> {
        Self::with_archive(world, Archive::embedded()?)
    }

    /// The same with sprites from another archive, such as the held-out style's.
    #[cfg(feature = "svg")]
    pub fn with_archive(world: World, archive: &Archive) -> Result<Self> {
        world.validate()?;
        let bank = Bank::new(archive, &world.nouns, &world.styles)?;
        Self::with_bank(world, bank)
    }

    /// The same with sprites that are drawn already.
    pub fn with_bank(world: World, bank: Bank) -> Result<Self> {
        world.validate()?;
        for style in &world.styles {
            if !world.nouns.iter().any(|noun| bank.has(noun, style)) {
                return Err(Error::bad_input(format!("world: no noun is drawn in style {style:?}")));
            }
        }
        let natural: BTreeMap<String, BTreeSet<Colour>> = world
            .nouns
            .iter()
            .map(|noun| {
                let colours = world.styles.iter().filter_map(|style| bank.modal_colour(noun, style));
                (noun.clone(), colours.collect())
            })
            .collect();
        let split = Split::new(&world.natural_only, natural);
        Ok(Self { world, bank: Arc::new(bank), split })
    }

    /// The same world with only some of its nouns, two objects of a scene included; what is held out
    /// stays as it was. One noun alone makes no scenes of two objects.
    ///
    /// # Errors
    /// `bad_input` for no noun, for one that the world lacks, and for one that is named twice.
    pub fn only(&self, nouns: &[String]) -> Result<Self> {
        if let Some(unknown) = nouns.iter().find(|noun| !self.world.nouns.contains(noun)) {
            return Err(unknown_noun("the world", self.world.nouns.iter(), unknown));
        }
        let mut world = World { nouns: nouns.to_vec(), ..self.world.clone() };
        world.natural_only.retain(|noun| nouns.contains(noun));
        if nouns.len() == 1 {
            world.kinds = world.kinds.with_two(0.0);
        }
        world.validate()?;
        Ok(Self { world, bank: self.bank.clone(), split: self.split.clone() })
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn bank(&self) -> &Bank {
        &self.bank
    }

    pub fn split(&self) -> &Split {
        &self.split
    }

    /// The world's noun-colour pairs of a tier that at least one style can show.
    pub fn pairs(&self, tier: Tier) -> Vec<(String, Colour)> {
        let mut pairs = Vec::new();
        for noun in &self.world.nouns {
            let shown: BTreeSet<Colour> =
                self.world.styles.iter().flat_map(|style| self.bank.colours(noun, style)).collect();
            let of_tier = shown.into_iter().filter(|colour| self.split.tier(noun, *colour) == tier);
            pairs.extend(of_tier.map(|colour| (noun.clone(), colour)));
        }
        pairs
    }

    /// The scene number `index` of a pool and seed, independent of all others.
    ///
    /// Fails with `bad_input` when the pool refuses everything the world has.
    pub fn scene(&self, pool: Pool, seed: u64, index: u64) -> Result<Scene> {
        self.scene_of_kinds(self.world.kinds, pool, seed, index)
    }

    /// The same with other shares of the kinds of scenes than the world's.
    pub fn scene_of_kinds(&self, kinds: Kinds, pool: Pool, seed: u64, index: u64) -> Result<Scene> {
        let mut random = Random::new(seed, index);
        for _ in 0..ATTEMPTS {
            if let Some(scene) = self.attempt(kinds, pool, &mut random) {
                return Ok(scene);
            }
        }
        Err(Error::bad_input(format!(
            "world: the {} pool refuses every scene; add nouns or styles",
            pool.name()
        )))
    }

    fn attempt(&self, kinds: Kinds, pool: Pool, random: &mut Random) -> Option<Scene> {
        let style = random.pick(&self.world.styles)?.as_str();
        let kind = random.unit();
        let (first, colour) = self.thing(pool, style, random)?;
        let (things, relation, count) = if kind < kinds.single {
            (vec![(first, colour)], None, None)
        } else if kind < kinds.single + kinds.two {
            let (second, other) = self.thing(pool, style, random)?;
            if !self.split.allows_combination(pool, first, second) {
                return None;
            }
            (vec![(first, colour), (second, other)], Some(*random.pick(&Relation::ALL)?), None)
        } else {
            let count = random.between(2, 4) as u32;
            if !self.split.allows_count(pool, first, count) {
                return None;
            }
            (vec![(first, colour)], None, Some(count))
        };
        Some(self.arrange(&things, style, relation, count, random))
    }

    /// A scene of given things, in a style, a place and on a background drawn by lot: one thing,
    /// two different ones, or `count` of one. `None` if no style can show them together.
    ///
    /// Without a relation two things stand in any of the four, and the scene does not tell which.
    pub fn scene_of(
        &self,
        things: &[(&str, Option<Colour>)],
        relation: Option<Relation>,
        count: Option<u32>,
        seed: u64,
        index: u64,
    ) -> Option<Scene> {
        let mut random = Random::new(seed, index);
        let shown = |style: &&String| {
            things.iter().all(|(noun, colour)| self.bank.pixels(noun, style, *colour).is_some())
        };
        let styles: Vec<_> = self.world.styles.iter().filter(shown).collect();
        let style = random.pick(&styles)?.as_str();
        let placed = if things.len() == 2 { relation.or(random.pick(&Relation::ALL).copied()) } else { None };
        Some(Scene { relation, ..self.arrange(things, style, placed, count, &mut random) })
    }

    /// Puts one thing, two in a relation, or `count` of one onto a background.
    fn arrange(
        &self,
        things: &[(&str, Option<Colour>)],
        style: &str,
        relation: Option<Relation>,
        count: Option<u32>,
        random: &mut Random,
    ) -> Scene {
        let layout = self.world.layout;
        let places = match (relation, count) {
            (Some(relation), _) => layout::pair(layout, relation, random).to_vec(),
            (None, Some(count)) => layout::group(layout, count, random),
            (None, None) => vec![layout::single(layout, random)],
        };
        let background = self.background(things, style, random);
        // Of one thing there are as many as there are places.
        let objects = things
            .iter()
            .cycle()
            .zip(places)
            .map(|(&(noun, colour), Place { cx, cy, size })| SceneObject {
                noun: noun.to_owned(),
                style: style.to_owned(),
                colour,
                natural_colour: self.bank.natural_colour(noun, style),
                cx,
                cy,
                size,
            })
            .collect();
        Scene { objects, style: style.to_owned(), background, relation, count }
    }

    /// A noun that the style has, and a colour for it that the pool allows.
    fn thing(&self, pool: Pool, style: &str, random: &mut Random) -> Option<(&str, Option<Colour>)> {
        let noun = random.pick(&self.world.nouns)?.as_str();
        if !self.bank.has(noun, style) {
            return None;
        }
        let colour = if random.chance(self.world.recolour) {
            let allowed: Vec<_> = self
                .bank
                .colours(noun, style)
                .filter(|colour| self.split.allows_colour(pool, noun, *colour))
                .collect();
            random.pick(&allowed).copied()
        } else {
            None
        };
        Some((noun, colour))
    }

    fn background(&self, things: &[(&str, Option<Colour>)], style: &str, random: &mut Random) -> [u8; 3] {
        let white = things.iter().any(|(noun, colour)| {
            colour.or_else(|| self.bank.modal_colour(noun, style)) == Some(Colour::White)
        });
        match (self.world.grounds, white) {
            (Grounds::Light, false) => LIGHT[random.below(LIGHT.len())],
            (Grounds::Light, true) => LIGHT[TOO_LIGHT + random.below(LIGHT.len() - TOO_LIGHT)],
            (Grounds::All, true) => MIDDLE[random.below(MIDDLE.len())],
            (Grounds::All, false) => {
                let number = random.below(LIGHT.len() + MIDDLE.len());
                LIGHT.get(number).copied().unwrap_or_else(|| MIDDLE[number - LIGHT.len()])
            }
        }
    }

    /// Paints a scene: RGB bytes `[SIZE, SIZE, 3]`.
    ///
    /// Fails with `bad_input` for a scene that shows what the world lacks.
    pub fn render(&self, scene: &Scene) -> Result<Vec<u8>> {
        let mut canvas: Vec<f32> =
            scene.background.map(f32::from).into_iter().cycle().take(SIZE * SIZE * 3).collect();
        for object in &scene.objects {
            let pixels = self.bank.pixels(&object.noun, &object.style, object.colour).ok_or_else(|| {
                let colour = object.colour.map_or("natural", Colour::name);
                Error::bad_input(format!("no sprite for {colour} {} in {}", object.noun, object.style))
            })?;
            let corner = |centre: i32| centre - object.size / 2;
            let size = usize::try_from(object.size).unwrap_or(1);
            raster::draw(&mut canvas, pixels, size, corner(object.cx), corner(object.cy));
        }
        Ok(canvas.into_iter().map(|c| (c + 0.5) as u8).collect())
    }
}
