//! `reca describe`: what a picture shows, or an answer to a question about it.

use std::path::PathBuf;

use reca::Result;
use reca::pipeline::DESCRIBE;
use reca::umm::Decoding;
use serde_json::json;

use crate::common::{ModelArgs, print, read_picture};

const EXAMPLES: &str = "\
Examples:
  reca describe car.png
  reca describe car.jpg --ask \"what colour is the car?\"
  reca describe car.webp --temperature 0.8 --seed 3 --json

The picture may be PNG, JPEG, WebP or GIF (its first frame) of any size; its centre square is used.";

/// Say what a picture shows, or answer a question about it
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The picture
    image: PathBuf,
    /// A question, in the model's vocabulary
    #[arg(long, value_name = "QUESTION", default_value = DESCRIBE)]
    ask: String,
    /// Draw the answer's words at this temperature instead of taking the likeliest
    #[arg(long, value_name = "T", value_parser = temperature)]
    temperature: Option<f32>,
    /// Seed of the drawn words
    #[arg(long, default_value_t = 0, requires = "temperature")]
    seed: u64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

fn temperature(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value <= 100.0 => Ok(value),
        _ => Err("expected a number above 0, at most 100".to_owned()),
    }
}

pub fn run(args: Args) -> Result<()> {
    let picture = read_picture(&args.image)?;
    let pipeline = args.model.open()?;
    let decoding = match args.temperature {
        Some(temperature) => Decoding::Sample { temperature, seed: args.seed },
        None => Decoding::Greedy,
    };
    let answer = pollster::block_on(pipeline.describe(&picture, &args.ask, decoding))?;
    let value = json!({ "image": args.image, "question": args.ask, "answer": answer });
    print(args.json, &answer, &value)
}
