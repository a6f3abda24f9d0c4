//! `reca export`: checks a model folder and writes it anew; in another precision, with the aligned weights that
//! it comes with, or averaged with others if wanted.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use pollster::block_on;
use reca::train::ema::interpolate;
use reca::umm::Umm;
use reca::weights::{ModelFiles, safetensors};
use reca::{Error, Result};
use serde_json::json;

use crate::common::{ModelArgs, print, read_model, write};

const EXAMPLES: &str = "\
Examples:
  reca export --model runs/mini --out www/models/mini
  reca export --out mini-f32 --precision f32
  reca export --model runs/a/model --average runs/b/model runs/c/model --out runs/mean
  reca export --aligned --out runs/aligned        # the model after the alignment that it comes with

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
    /// Alignments of the same base by other seeds: the generation expert becomes the mean of all (model soups,
    /// arXiv 2203.05482), which keeps what they learned and loses what was chance
    #[arg(long, value_name = "DIR", num_args = 1..)]
    average: Vec<PathBuf>,
    /// Take the generation expert of aligned.safetensors, which lies beside the model
    #[arg(long, conflicts_with = "average")]
    aligned: bool,
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
    let out = args.out.canonicalize().ok();
    let read = args.average.iter().chain([&folder]);
    if out.is_some() && read.into_iter().any(|folder| folder.canonicalize().ok() == out) {
        let error = Error::bad_input("this is a model that is read; choose another folder for --out");
        return Err(error.at(args.out.display()));
    }
    let mut umm = args.model.open_with(args.aligned)?.umm;
    let precision = match args.precision {
        Precision::F16 => safetensors::Precision::F16,
        Precision::F32 => safetensors::Precision::F32,
    };
    for (index, other) in args.average.iter().enumerate() {
        umm = averaged(umm, other, 1.0 / (index + 2) as f32)?;
    }
    let weights = block_on(safetensors::save(&umm, precision))?;
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

/// `umm` with its generation expert moved by `share` of the way to that of the model in `folder`.
fn averaged(umm: Umm, folder: &Path, share: f32) -> Result<Umm> {
    let failed = |e: Error| e.at(folder.display());
    let other = safetensors::load(umm.clone(), &read_model(folder)?.weights).map_err(failed)?;
    let generation = interpolate(umm.generation.clone(), &other.generation, share);
    let rest = Umm { generation: umm.generation.clone(), ..other };
    let bytes = |umm: &Umm| block_on(safetensors::save(umm, safetensors::Precision::F32));
    if bytes(&rest)? != bytes(&umm)? {
        let message = "has another base: its tensors outside the generation expert differ; average alignments of \
                       one base";
        return Err(failed(Error::bad_input(message)));
    }
    Ok(Umm { generation, ..umm })
}
