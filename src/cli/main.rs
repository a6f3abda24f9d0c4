//! The `reca` command line.

mod scene;
mod sprites;

use std::process::ExitCode;

use clap::Parser;

/// A laboratory for unified multimodal models and Reconstruction Alignment
#[derive(Parser)]
#[command(version)]
enum Command {
    Scene(scene::Args),
    Sprites(sprites::Args),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Scene(args) => scene::run(args),
        Command::Sprites(args) => sprites::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error ({}): {error}", error.code.as_str());
            ExitCode::FAILURE
        }
    }
}
