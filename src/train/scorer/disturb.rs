//! Examples for the scorer: scenes a little off, dulled and noisy, with some objects spoiled or
//! exchanged for things that the world has no word for, so that they must not count, and some
//! pictures that show nothing at all.

use std::borrow::Cow;

use rand_chacha::ChaCha8Rng;

use crate::{
    Result, random,
    scene::{Archive, Bank, Colour, Engine, Pool, SIZE, Scene, SceneObject, World, raster},
};

/// A picture and the objects in it that count.
pub struct Example {
    /// RGB bytes, `[64, 64, 3]`.
    pub pixels: Vec<u8>,
    pub objects: Vec<Object>,
}

pub struct Object {
    pub noun: usize,
    /// Index in the ten colours, or ten for the natural one.
    pub colour: usize,
    /// Centre and side, pixels.
    pub cx: f32,
    pub cy: f32,
    pub size: f32,
}

/// Things that the scorer's world has no word for.
pub struct Strangers {
    bank: Bank,
    nouns: Vec<String>,
    share: f64,
}

impl Strangers {
    /// Those of a world, in the place of `share` of its objects.
    pub fn of(world: &World, share: f64) -> Result<Self> {
        let nouns = if share > 0.0 { world.strangers() } else { Vec::new() };
        let bank = Bank::new(Archive::embedded()?, &nouns, &world.styles)?;
        Ok(Self { bank, nouns, share })
    }

    /// In the place of some objects, by lot: a stranger in the object's style and, if it has it, colour.
    fn instead(&self, object: &SceneObject, random: &mut ChaCha8Rng) -> Option<&[u8]> {
        let instead = random::uniform(random) < self.share;
        let noun = self.nouns.get(random::below(random, self.nouns.len().max(1)))?;
        let pixels = |colour| self.bank.pixels(noun, &object.style, colour);
        pixels(object.colour).or_else(|| pixels(None)).filter(|_| instead)
    }
}

/// Share of pictures that show no object, and of objects that are spoiled.
const EMPTY: f64 = 0.04;
const SPOILED: f64 = 0.15;

/// Example number `index`, independent of all others.
pub fn example(engines: &[Engine; 2], strangers: &Strangers, seed: u64, index: u64) -> Result<Example> {
    let random = &mut random::stream(seed, index | 1 << 61);
    let engine = &engines[random::below(random, 2)];
    let scene = engine.scene(Pool::Understanding, seed, index)?;
    let background = scene.background.map(|level| f32::from(level) + spread(random, 6.0));
    let mut canvas: Vec<f32> = background.into_iter().cycle().take(SIZE * SIZE * 3).collect();
    let mut objects = Vec::new();
    if random::uniform(random) < EMPTY {
        blotches(&mut canvas, random);
    } else {
        for object in &scene.objects {
            objects.extend(paint(&mut canvas, engine, strangers, &scene, object, random));
        }
    }
    light(&mut canvas, random);
    for _ in 0..random::below(random, 3) {
        blur(&mut canvas);
    }
    let grain = (random::uniform(random) * 10.0 - 2.0).max(0.0) as f32;
    let pixels = canvas.iter().map(|level| (level + grain * random::normal(random) + 0.5) as u8).collect();
    Ok(Example { pixels, objects })
}

/// Uniform in -most..most.
fn spread(random: &mut ChaCha8Rng, most: f32) -> f32 {
    (random::uniform(random) as f32 * 2.0 - 1.0) * most
}

/// Paints an object, somewhat displaced; `None` if it must not count.
fn paint(
    canvas: &mut [f32],
    engine: &Engine,
    strangers: &Strangers,
    scene: &Scene,
    object: &SceneObject,
    random: &mut ChaCha8Rng,
) -> Option<Object> {
    let noun = engine.world().nouns.iter().position(|noun| *noun == object.noun)?;
    let sprite = engine.bank().pixels(&object.noun, &object.style, object.colour)?;
    let size = (object.size + spread(random, 3.0).round() as i32).clamp(8, SIZE as i32);
    let [cx, cy] = [object.cx, object.cy].map(|centre| centre + spread(random, 3.5).round() as i32);
    let other = match strangers.instead(object, random) {
        Some(stranger) => Some(Cow::Borrowed(stranger)),
        None if random::uniform(random) < SPOILED => Some(Cow::Owned(spoil(sprite, engine, scene, random))),
        None => None,
    };
    raster::draw(canvas, other.as_deref().unwrap_or(sprite), size as usize, cx - size / 2, cy - size / 2);
    let natural = Colour::TARGETS.len();
    let colour = object.colour.and_then(|colour| Colour::TARGETS.iter().position(|c| *c == colour));
    other.is_none().then(|| Object {
        noun,
        colour: colour.unwrap_or(natural),
        cx: cx as f32,
        cy: cy as f32,
        size: size as f32,
    })
}

/// A sprite that is no object any more: half of it, half of it and half of another, both at once, or
/// a smear.
fn spoil(sprite: &[u8], engine: &Engine, scene: &Scene, random: &mut ChaCha8Rng) -> Vec<u8> {
    let upright = random::below(random, 2) == 0;
    let first = random::below(random, 2) == 0;
    let inside = |pixel: usize| {
        let at = if upright { pixel % SIZE } else { pixel / SIZE };
        (at < SIZE / 2) == first
    };
    let nouns = &engine.world().nouns;
    let other = nouns.get(random::below(random, nouns.len()));
    let other = other
        .and_then(|noun| {
            let colours: Vec<_> = engine.bank().colours(noun, &scene.style).collect();
            let colour = colours.get(random::below(random, colours.len().max(1))).copied();
            engine.bank().pixels(noun, &scene.style, colour)
        })
        .filter(|other| *other != sprite);
    let pixels = sprite.chunks_exact(4).enumerate();
    match (random::below(random, 4), other) {
        (0, Some(other)) => {
            let both = pixels.zip(other.chunks_exact(4));
            both.flat_map(
                |((at, a), b)| if inside(at) { [a[0], a[1], a[2], a[3]] } else { [b[0], b[1], b[2], b[3]] },
            )
            .collect()
        }
        (1, Some(other)) => pixels.zip(other.chunks_exact(4)).flat_map(|((_, a), b)| mixed(a, b)).collect(),
        (2, _) => smear(sprite),
        _ => pixels.flat_map(|(at, a)| [a[0], a[1], a[2], if inside(at) { a[3] } else { 0 }]).collect(),
    }
}

/// Two straight RGBA pixels, half and half.
fn mixed(a: &[u8], b: &[u8]) -> [u8; 4] {
    let (alpha, beta) = (f32::from(a[3]), f32::from(b[3]));
    let total = (alpha + beta).max(1.0);
    let level = |c: usize| ((f32::from(a[c]) * alpha + f32::from(b[c]) * beta) / total) as u8;
    [level(0), level(1), level(2), (total / 2.0) as u8]
}

/// A sprite averaged over blocks of a quarter of its side.
fn smear(sprite: &[u8]) -> Vec<u8> {
    let block = SIZE / 4;
    let mut sums = [[0f32; 4]; 16];
    let cell = |pixel: usize| (pixel / SIZE / block) * 4 + pixel % SIZE / block;
    for (at, p) in sprite.chunks_exact(4).enumerate() {
        let alpha = f32::from(p[3]);
        let sum = &mut sums[cell(at)];
        (0..3).for_each(|c| sum[c] += f32::from(p[c]) * alpha);
        sum[3] += alpha;
    }
    let area = (block * block) as f32;
    (0..SIZE * SIZE)
        .flat_map(|at| {
            let [r, g, b, alpha] = sums[cell(at)];
            let level = |sum: f32| (sum / alpha.max(1.0)) as u8;
            [level(r), level(g), level(b), (alpha / area) as u8]
        })
        .collect()
}

/// Up to four coloured discs and boxes that mean nothing.
fn blotches(canvas: &mut [f32], random: &mut ChaCha8Rng) {
    for _ in 0..random::below(random, 5) {
        let [cx, cy] = [0; 2].map(|_| random::uniform(random) as f32 * SIZE as f32);
        let [w, h] = [0; 2].map(|_| 3.0 + random::uniform(random) as f32 * 16.0);
        let colour = [0; 3].map(|_| random::uniform(random) as f32 * 255.0);
        let round = random::below(random, 2) == 0;
        for (at, pixel) in canvas.chunks_exact_mut(3).enumerate() {
            let (x, y) = (((at % SIZE) as f32 - cx) / w, ((at / SIZE) as f32 - cy) / h);
            let inside = if round { x * x + y * y < 1.0 } else { x.abs().max(y.abs()) < 1.0 };
            if inside {
                pixel.copy_from_slice(&colour);
            }
        }
    }
}

/// Brightness, contrast and saturation, a little off.
fn light(canvas: &mut [f32], random: &mut ChaCha8Rng) {
    let gain = 1.0 + spread(random, 0.08);
    let lift = spread(random, 8.0);
    let saturation = 1.0 - random::uniform(random) as f32 * 0.2;
    for pixel in canvas.chunks_exact_mut(3) {
        let grey = (pixel[0] + pixel[1] + pixel[2]) / 3.0;
        pixel.iter_mut().for_each(|level| *level = (grey + (*level - grey) * saturation) * gain + lift);
    }
}

/// One pass of the 3×3 binomial filter, edges repeated.
fn blur(canvas: &mut [f32]) {
    let at = |x: usize, y: usize, c: usize| (y * SIZE + x) * 3 + c;
    for (dx, dy) in [(1, 0), (0, 1)] {
        let source = canvas.to_owned();
        for y in 0..SIZE {
            for x in 0..SIZE {
                let (left, up) = (x.saturating_sub(dx), y.saturating_sub(dy));
                let (right, down) = ((x + dx).min(SIZE - 1), (y + dy).min(SIZE - 1));
                for c in 0..3 {
                    canvas[at(x, y, c)] = 0.25 * (source[at(left, up, c)] + source[at(right, down, c)])
                        + 0.5 * source[at(x, y, c)];
                }
            }
        }
    }
}
