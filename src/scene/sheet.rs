//! A world's natural drawings as one picture, for where no SVG can be read: a row a noun, a column a
//! style, both in the world's order, `SIZE` pixels a cell, straight RGBA. A drawing that a style
//! lacks is wholly transparent.

use std::io::Cursor;

use image::{ImageFormat, RgbaImage, imageops};

use super::{SIZE, compose::Engine, sprites::Bank, sprites::Natural, world::World};
use crate::{Error, Result};

/// The sheet of an engine's drawings, a PNG file.
pub fn write(engine: &Engine) -> Result<Vec<u8>> {
    let World { nouns, styles, .. } = engine.world();
    let side = SIZE as u32;
    let mut sheet = RgbaImage::new(side * styles.len() as u32, side * nouns.len() as u32);
    for (row, noun) in nouns.iter().enumerate() {
        for (column, style) in styles.iter().enumerate() {
            if let Some(pixels) = engine.bank().pixels(noun, style, None) {
                let cell = RgbaImage::from_raw(side, side, pixels.to_vec())
                    .ok_or_else(|| Error::internal("a sprite has the wrong number of pixels"))?;
                imageops::replace(&mut sheet, &cell, (column * SIZE) as i64, (row * SIZE) as i64);
            }
        }
    }
    let mut png = Cursor::new(Vec::new());
    sheet.write_to(&mut png, ImageFormat::Png).map_err(Error::internal)?;
    Ok(png.into_inner())
}

/// An engine of the world with the drawings of its sheet.
///
/// # Errors
/// `weights_format` if the file is no PNG or has another size, `bad_input` for a world that cannot be.
pub fn read(world: World, png: &[u8]) -> Result<Engine> {
    let sheet = image::load_from_memory_with_format(png, ImageFormat::Png)
        .map_err(|e| Error::weights_format(format!("the sheet of drawings is no PNG: {e}")))?
        .to_rgba8();
    let side = SIZE as u32;
    let expected = (side * world.styles.len() as u32, side * world.nouns.len() as u32);
    if sheet.dimensions() != expected {
        let found = sheet.dimensions();
        return Err(Error::weights_format(format!(
            "the sheet of drawings is {found:?} pixels, {expected:?} are expected; it is of another world"
        )));
    }
    let cell = |column: usize, row: usize| {
        imageops::crop_imm(&sheet, column as u32 * side, row as u32 * side, side, side).to_image().into_raw()
    };
    let mut natural = Natural::new();
    for (row, noun) in world.nouns.iter().enumerate() {
        let drawn = world.styles.iter().enumerate().map(|(column, style)| (style.clone(), cell(column, row)));
        let drawn = drawn.filter(|(_, pixels)| pixels.chunks_exact(4).any(|pixel| pixel[3] > 0));
        natural.insert(noun.clone(), drawn.collect());
    }
    Engine::with_bank(world, Bank::of(natural))
}

#[cfg(all(test, feature = "svg"))]
mod tests {
    use super::*;
    use crate::scene::Pool;

    #[test]
    fn scenes_from_the_sheet_are_the_scenes_from_svg() {
        let world = World {
            nouns: ["broccoli", "car", "dog"].map(str::to_owned).to_vec(),
            natural_only: vec!["broccoli".to_owned()],
            styles: ["noto", "twemoji"].map(str::to_owned).to_vec(),
            ..World::full()
        };
        let drawn = Engine::new(world.clone()).unwrap();
        let copied = read(world.clone(), &write(&drawn).unwrap()).unwrap();
        for index in 0..20 {
            let scene = drawn.scene(Pool::Open, 3, index).unwrap();
            assert_eq!(copied.scene(Pool::Open, 3, index).unwrap(), scene);
            assert_eq!(copied.render(&scene).unwrap(), drawn.render(&scene).unwrap());
        }
        let other = World { styles: vec!["noto".to_owned()], ..world };
        assert_eq!(read(other, &write(&drawn).unwrap()).err().unwrap().code.as_str(), "weights_format");
    }
}
