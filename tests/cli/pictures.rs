//! Describing, drawing and redrawing.

use reca::image::psnr;

use super::{Desk, disc};

#[test]
fn every_format_and_size_is_described() {
    let desk = Desk::new();
    for (name, width, height) in
        [("a.png", 64, 64), ("b.jpg", 1000, 700), ("c.webp", 31, 500), ("d.gif", 200, 20), ("e.png", 1, 1)]
    {
        desk.picture(name, width, height);
        assert!(!desk.reca(&["describe", name]).ok().trim().is_empty());
    }
    // The content decides about the format, not the name.
    desk.picture("same.webp", 64, 64);
    std::fs::rename(desk.path("same.webp"), desk.path("same.png")).unwrap();
    assert_eq!(desk.reca(&["describe", "a.png"]).ok(), desk.reca(&["describe", "same.png"]).ok());
}

#[test]
fn answers_come_as_json_and_are_repeatable() {
    let desk = Desk::new();
    desk.picture("disc.png", 64, 64);
    let question = "what colour is the car?";
    let asked = ["describe", "disc.png", "--ask", question];
    let plain = desk.reca(&asked).ok();
    let json = desk.reca(&[&asked[..], &["--json"]].concat()).json();
    assert_eq!(json.len(), 1);
    assert_eq!((&json[0]["image"], &json[0]["question"]), (&"disc.png".into(), &question.into()));
    assert_eq!(json[0]["answer"], plain.trim_end());

    let sampled =
        |seed: &str| desk.reca(&["describe", "disc.png", "--temperature", "2", "--seed", seed]).ok();
    assert_eq!(sampled("1"), sampled("1"));
    assert!((2..6).any(|seed| sampled(&seed.to_string()) != sampled("1")));
}

#[test]
fn a_seed_means_one_picture() {
    let desk = Desk::new();
    let draw = |out: &str, more: &[&str]| {
        desk.reca(&[&["generate", "a red car", "--steps", "4", "--scale", "1", "--out", out], more].concat())
            .ok();
    };
    draw("one", &["--seed", "5"]);
    draw("two", &["--seed", "4", "--seeds", "3"]);
    assert_eq!(desk.files("one"), ["a-red-car-5.png"]);
    assert_eq!(desk.files("two"), ["a-red-car-4.png", "a-red-car-5.png", "a-red-car-6.png", "sheet.png"]);
    let alone = desk.open("one/a-red-car-5.png");
    assert_eq!(alone.dimensions(), (64, 64));
    // Rounding may differ with the batch, by no more than one level anywhere.
    assert!(psnr(&alone, &desk.open("two/a-red-car-5.png")) > 48.0);
    assert!(psnr(&alone, &desk.open("two/a-red-car-4.png")) < 40.0);
    assert_eq!(desk.open("two/sheet.png").dimensions(), (192, 64));

    draw("again", &["--seed", "5"]);
    assert_eq!(alone, desk.open("again/a-red-car-5.png"));
    for (out, option, value) in [("heun", "--method", "heun"), ("free", "--guidance", "1")] {
        draw(out, &["--seed", "5", option, value]);
        assert_ne!(alone, desk.open(&format!("{out}/a-red-car-5.png")), "{option} changes nothing");
    }
}

#[test]
fn unquoted_words_are_one_prompt_and_quoted_ones_several() {
    let desk = Desk::new();
    let lines = desk.reca(&["generate", "a", "Red", "car", "--steps", "1", "--json"]).json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0], serde_json::json!({ "prompt": "a Red car", "seed": 0, "file": "a-red-car-0.png" }));
    assert_eq!(desk.open("a-red-car-0.png").dimensions(), (256, 256));

    let listed =
        desk.reca(&["generate", "a red car", "a dog, noto style", "--steps", "1", "--out", "o"]).ok();
    assert_eq!(listed, "o/a-red-car-0.png\no/a-dog-noto-style-0.png\n");
    assert_eq!(desk.open("o/sheet.png").dimensions(), (512, 256));
}

#[test]
fn pictures_are_redrawn_with_their_psnr() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("in")).unwrap();
    desk.picture("disc.png", 64, 64);
    desk.picture("in/disc.jpg", 90, 300);
    let redraw = ["reconstruct", "disc.png", "in/disc.jpg", "--steps", "3", "--out", "out", "--scale", "1"];
    let lines = desk.reca(&[&redraw[..], &["--json"]].concat()).json();
    assert_eq!(
        desk.files("out"),
        ["disc-2-pair.png", "disc-2-redrawn.png", "disc-pair.png", "disc-redrawn.png"]
    );
    assert_eq!(lines.len(), 2);
    let original = disc(64, 64);
    let redrawn = desk.open(lines[0]["redrawn"].as_str().unwrap());
    assert!((psnr(&original, &redrawn) - lines[0]["psnr"].as_f64().unwrap()).abs() < 1e-9);
    let pair = desk.open(lines[0]["pair"].as_str().unwrap());
    assert_eq!(pair.dimensions(), (128, 64));
    assert_eq!(image::imageops::crop_imm(&pair, 0, 0, 64, 64).to_image(), original);
    assert_eq!(image::imageops::crop_imm(&pair, 64, 0, 64, 64).to_image(), redrawn);
    assert!(desk.reca(&redraw).ok().starts_with("out/disc-pair.png  PSNR "));
}
