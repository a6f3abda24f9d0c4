//! Pictures that are not 8-bit RGB: grey, palettes, transparency, 16 bits, CMYK, and turned by a camera.

use safetensors::SafeTensors;

use super::folder;

/// Largest difference from Pillow, levels: none for what is only unpacked, a rounding for transparency, and
/// what two decoders of JPEG differ by.
fn tolerance(name: &str) -> u8 {
    match name {
        "rgba.png" | "grey-alpha.png" | "rgba.webp" => 1,
        _ if name.ends_with(".jpg") => 3,
        _ => 0,
    }
}

#[test]
fn every_kind_of_picture_becomes_the_rgb_that_pillow_makes_of_it() {
    let bytes = std::fs::read(folder("formats/rgb.safetensors")).unwrap();
    let goldens = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(goldens.len(), 12);
    for (name, golden) in goldens.iter() {
        let file = std::fs::read(folder("formats").join(name)).unwrap();
        let found = reca::image::decode(&file).unwrap();
        let [height, width] = [0, 1].map(|side| golden.shape()[side] as u32);
        assert_eq!(found.dimensions(), (width, height), "{name}");
        let errors = found.as_raw().iter().zip(golden.data()).map(|(a, b)| a.abs_diff(*b));
        let largest = errors.max().unwrap();
        assert!(largest <= tolerance(name), "{name}: {largest}");
    }
}

#[test]
fn pictures_cut_off_anywhere_are_refused_or_read() {
    for name in std::fs::read_dir(folder("formats")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = name.to_str().unwrap();
        if name.ends_with(".safetensors") {
            continue;
        }
        let file = std::fs::read(folder("formats").join(name)).unwrap();
        for length in (0..file.len()).step_by(7) {
            if let Err(error) = reca::image::decode(&file[..length]) {
                assert_eq!(error.code, reca::ErrorCode::BadInput, "{name} {length}");
            }
        }
    }
}
