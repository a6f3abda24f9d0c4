//! `reca zero-shot`: which of some labels a picture shows, by a CLIP or SigLIP checkpoint.

use std::path::PathBuf;

use pollster::block_on;
use reca::encoder::{Family, Parts, tokenizer::TextTokenizer};
use reca::umm::describe::read;
use reca::{Error, Result};
use serde_json::json;

use crate::common::{print, read_picture};
use crate::encoder::{EncoderArgs, Folder};

const EXAMPLES: &str = "\
Examples:
  reca zero-shot cat.png --encoder clip-vit-base-patch32 --labels \"a cat,a dog,a car\"
  reca zero-shot cat.png --encoder siglip-base-patch16-224 --labels \"a cat,a dog\" --json

CLIP's scores sum to 1 over the labels; SigLIP's are a probability for each label alone.";

/// Say which of some labels a picture shows, by a CLIP or SigLIP checkpoint
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The picture
    image: PathBuf,
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Labels, separated by commas
    #[arg(long, value_name = "LABELS", required = true, value_delimiter = ',')]
    labels: Vec<String>,
    /// The sentence around a label, which stands for {}
    #[arg(long, default_value = "This is a photo of {}.")]
    template: String,
    /// Print one line of JSON a label
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let labels: Vec<&str> = args.labels.iter().map(|label| label.trim()).collect();
    if labels.iter().any(|label| label.is_empty()) {
        return Err(Error::bad_input("a label is empty; write them as --labels \"a cat,a dog\""));
    }
    if !args.template.contains("{}") {
        return Err(Error::bad_input("--template must hold {}, where the label goes"));
    }
    let picture = read_picture(&args.image)?;
    let opened = args.encoder.open(Parts::All)?;
    let folder = Folder(&args.encoder.encoder);
    let settings = folder.optional("tokenizer_config.json");
    let tokenizer = folder.file("tokenizer.json")?;
    let tokenizer = TextTokenizer::new(&tokenizer, settings.as_deref(), &opened.config)
        .map_err(|e| e.at(folder.0.display()))?;
    let texts: Vec<String> = labels.iter().map(|label| args.template.replace("{}", label)).collect();
    let pixels = opened.preprocessor.forward(&[picture], &opened.device)?;
    let (images, texts) =
        (opened.model.image_embeds(pixels)?, opened.model.text_embeds(&tokenizer.encode(&texts)?)?);
    let scores = block_on(read(opened.model.scores(opened.model.logits(images, texts)?)))?;
    let mut scored: Vec<_> = labels.into_iter().zip(scores).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    let kind = if opened.config.family == Family::Clip { "softmax" } else { "sigmoid" };
    for (label, score) in scored {
        let value = json!({ "image": args.image, "label": label, "score": score, "kind": kind });
        print(args.json, &format!("{score:.4}  {label}"), &value)?;
    }
    Ok(())
}
