//! `reca export`: checks a model folder and writes it anew, in another precision if wanted.

use std::path::PathBuf;

use clap::ValueEnum;
use reca::weights::{ModelFiles, safetensors};
use reca::{Error, Result};
use serde_json::json;

use crate::common::{ModelArgs, print, read_model, write};

const EXAMPLES: &str = "\
Examples:
  reca export --model runs/mini --out www/models/mini
  reca export --out mini-f32 --precision f32

Writes config.json, model.safetensors, tokenizer.json, preprocessor_config.json and a manifest.json with
their sizes and sha256. Python opens the weights with safetensors.torch.load_file.";

/// Write a model folder anew, in half or single precision
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How the weights are stored
    #[arg(long, value_enum, default_value_t = Precision::F16)]
    precision: Precision,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    /// Half: what the browser downloads
    F16,
    /// Single: exact
    F32,
}

pub fn run(args: Args) -> Result<()> {
    let folder = args.model.folder()?;
    if args.out.exists() && args.out.canonicalize().ok() == folder.canonicalize().ok() {
        let error = Error::bad_input("this is the model itself; choose another folder for --out");
        return Err(error.at(args.out.display()));
    }
    let pipeline = args.model.open()?;
    let precision = match args.precision {
        Precision::F16 => safetensors::Precision::F16,
        Precision::F32 => safetensors::Precision::F32,
    };
    let weights = pollster::block_on(safetensors::save(&pipeline.umm, precision))?;
    let files = ModelFiles { weights, ..read_model(&folder)? }.with_manifest()?;
    let mut total = 0;
    for (name, bytes) in &files {
        write(&args.out.join(name), bytes)?;
        total += bytes.len();
    }
    let megabytes = total as f64 / 1e6;
    let value = json!({ "model": folder, "out": args.out, "bytes": total });
    print(args.json, &format!("{}: {} files, {megabytes:.1} MB", args.out.display(), files.len()), &value)
}
