//! The program as a user meets it, on the small model of tests/goldens/nano.
#![allow(clippy::unwrap_used)]

mod align;
mod bench;
mod errors;
mod files;
mod pictures;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::RgbImage;
use tempfile::TempDir;

/// A folder of its own for one test, and the program run in it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `reca` here with the nano model.
    fn reca(&self, arguments: &[&str]) -> Run {
        let model = nano();
        self.bare(&[arguments, &["--model", model.to_str().unwrap()]].concat())
    }

    /// Runs `reca` here with these arguments alone.
    fn bare(&self, arguments: &[&str]) -> Run {
        let program = env!("CARGO_BIN_EXE_reca");
        Run::from(Command::new(program).args(arguments).current_dir(self.0.path()).output().unwrap())
    }

    /// Writes a picture with a red disc on blue; the ending chooses the format.
    fn picture(&self, name: &str, width: u32, height: u32) {
        disc(width, height).save(self.path(name)).unwrap();
    }

    fn open(&self, name: &str) -> RgbImage {
        image::open(self.path(name)).unwrap().to_rgb8()
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// What a run said and how it ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// The standard output of a run that must succeed.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The standard output's lines as JSON.
    #[track_caller]
    fn json(self) -> Vec<serde_json::Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A run that must end with this code and say all of these on standard error, nothing elsewhere.
    #[track_caller]
    fn fails(&self, code: i32, said: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        for words in said {
            assert!(self.err.contains(words), "{words:?} is not in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/nano")
}

fn disc(width: u32, height: u32) -> RgbImage {
    let (centre, radius) =
        ((f64::from(width) / 2.0, f64::from(height) / 2.0), f64::from(width.min(height)) / 3.0);
    RgbImage::from_fn(width, height, |x, y| {
        let inside = (f64::from(x) - centre.0).hypot(f64::from(y) - centre.1) < radius;
        image::Rgb(if inside { [220, 40, 30] } else { [40, 60, 200] })
    })
}

#[test]
fn help_and_version_are_complete() {
    let desk = Desk::new();
    assert!(desk.bare(&["--version"]).ok().starts_with("reca "));
    let overview = desk.bare(&["--help"]).ok();
    for command in ["describe", "generate", "reconstruct", "export", "scene", "pretrain"] {
        assert!(overview.contains(command), "{command} is not in: {overview}");
        assert!(desk.bare(&[command, "--help"]).ok().contains(&format!("Usage: reca {command} ")));
    }
    for command in ["describe", "generate", "reconstruct", "export"] {
        assert!(
            desk.bare(&[command, "--help"]).ok().contains(&format!("\n  reca {command} ")),
            "no examples"
        );
    }
}

#[test]
fn the_shipped_model_is_found_below_the_current_folder() {
    let desk = Desk::new();
    let model = desk.path("www/models/mini");
    std::fs::create_dir_all(&model).unwrap();
    for name in
        ["config.json", "manifest.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"]
    {
        std::fs::copy(nano().join(name), model.join(name)).unwrap();
    }
    desk.picture("disc.png", 64, 64);
    assert_eq!(desk.bare(&["describe", "disc.png"]).ok(), desk.reca(&["describe", "disc.png"]).ok());
}
