//! The `reca` command line.

mod align;
mod bench;
mod common;
mod compare;
mod describe;
mod drive;
mod embed;
mod encoder;
mod eval;
mod export;
mod generate;
mod log;
mod pretrain;
mod prompts;
mod reconstruct;
mod scene;
mod scorer;
mod sprites;
mod zero_shot;

use std::process::ExitCode;

use clap::Parser;

/// Tensors come and go by the thousand; the system's allocator gives their pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOTES: &str = "\
Results go to standard output, progress and errors to standard error.
Exit codes: 0 done, 1 the run failed (the message says what, where and the remedy), 2 wrong usage.";

/// A laboratory for unified multimodal models and Reconstruction Alignment
#[derive(Parser)]
#[command(version, after_help = NOTES)]
enum Command {
    Describe(describe::Args),
    Embed(embed::Args),
    Generate(generate::Args),
    Reconstruct(reconstruct::Args),
    Align(align::Args),
    Bench(bench::Args),
    Eval(eval::Args),
    Compare(compare::Args),
    Export(export::Args),
    Pretrain(pretrain::Args),
    Scene(scene::Args),
    #[command(subcommand)]
    Scorer(scorer::Command),
    Sprites(sprites::Args),
    ZeroShot(zero_shot::Args),
}

/// Runs on a thread of rayon's pool, so that parallel tensor operations need no hand-over between
/// threads, which costs a third of a training step.
fn main() -> ExitCode {
    let command = Command::parse();
    match rayon::ThreadPoolBuilder::new().build() {
        Ok(pool) => pool.install(|| run(command)),
        Err(_) => run(command),
    }
}

fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Describe(args) => describe::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Reconstruct(args) => reconstruct::run(args),
        Command::Align(args) => align::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Export(args) => export::run(args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Scene(args) => scene::run(args),
        Command::Scorer(command) => scorer::run(command),
        Command::Sprites(args) => sprites::run(args),
        Command::ZeroShot(args) => zero_shot::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error ({}): {error}", error.code.as_str());
            ExitCode::FAILURE
        }
    }
}
