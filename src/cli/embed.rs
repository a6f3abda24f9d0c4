//! `reca embed`: a picture's embedding by a CLIP or SigLIP checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pollster::block_on;
use reca::encoder::{Parts, dual::normalise};
use reca::umm::describe::read;
use reca::{Error, Result};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use crate::common::{print, read_picture, write};
use crate::encoder::{EncoderArgs, hidden_state};

const EXAMPLES: &str = "\
Examples:
  reca embed cat.png --encoder clip-vit-base-patch32
  reca embed cat.png dog.jpg --encoder siglip-base-patch16-224 --json
  reca embed *.png --encoder clip-vit-large-patch14 --layer -2 --out features.safetensors";

/// Embed pictures by a CLIP or SigLIP checkpoint
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The pictures
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Patch features of this hidden state instead of the pooled embedding: 0 is before the first
    /// block, -1 after the last, -2 after the one before, which LLaVA takes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    layer: Option<i64>,
    /// Scale embeddings to length 1
    #[arg(long, conflicts_with = "layer")]
    normalise: bool,
    /// Write all into a safetensors file, under the pictures' paths
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one line of JSON a picture, with all values
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let pictures = args.images.iter().map(|path| read_picture(path)).collect::<Result<Vec<_>>>()?;
    let opened = args.encoder.open(Parts::Vision)?;
    let layer =
        args.layer.map(|layer| hidden_state(layer, opened.config.vision.num_hidden_layers)).transpose()?;
    let mut stored = BTreeMap::new();
    for (path, picture) in args.images.iter().zip(&pictures) {
        let pixels = opened.preprocessor.forward(std::slice::from_ref(picture), &opened.device)?;
        let (shape, values) = match layer {
            Some(layer) => {
                let tower = &opened.model.vision_model;
                let features = tower.patches(tower.hidden_state(pixels, layer));
                (features.dims()[1..].to_vec(), block_on(read(features))?)
            }
            None => {
                let embeds = opened.model.image_embeds(pixels)?;
                let embeds = if args.normalise { normalise(embeds) } else { embeds };
                (embeds.dims()[1..].to_vec(), block_on(read(embeds))?)
            }
        };
        let length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let first: Vec<String> = values.iter().take(4).map(|v| format!("{v:.4}")).collect();
        let size = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
        let text = format!("{}  {size} values, length {length:.4}: {} …", path.display(), first.join(" "));
        print(args.json, &text, &json!({ "image": path, "shape": shape, "values": values }))?;
        stored.insert(path.display().to_string(), (shape, values));
    }
    args.out.map_or(Ok(()), |out| write(&out, &file(&stored)?))
}

/// A safetensors file of these tensors.
fn file(stored: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> =
        stored.values().map(|(_, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = stored.iter().zip(&bytes).map(|((name, (shape, _)), bytes)| {
        TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(Error::internal)?;
    safetensors::serialize(views, None).map_err(Error::internal)
}
