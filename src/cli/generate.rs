//! `reca generate`: draws prompts.

use std::path::PathBuf;

use image::RgbImage;
use indicatif::ProgressBar;
use reca::flow::sampler::SamplerConfig;
use reca::{Error, Pipeline, Result};
use serde_json::json;

use crate::common::{DrawArgs, ModelArgs, print, progress, sheet, write, write_picture};
use crate::prompts::{Job, Target, from_file, typed};

const EXAMPLES: &str = "\
Examples:
  reca generate \"a yellow broccoli\"
  reca generate \"a red car left of a dog\" \"a blue umbrella, twemoji style\" --seeds 4 --out pictures
  reca generate --prompts evaluation_metadata.jsonl --seeds 4 --out geneval

Typed prompts become PROMPT-SEED.png, and sheet.png shows all of them where there are several. Words
without any quotes are one prompt.

A prompt file has one JSON object with a \"prompt\" a line, as GenEval's evaluation_metadata.jsonl. Its
pictures are laid out for GenEval's own scripts: OUT/00000/metadata.jsonl (the line itself),
OUT/00000/samples/0000.png and so on, and OUT/00000/grid.png where there are several seeds. Prompts with
words that the model does not know are named and skipped, and keep their number; the exit code is 1 only
if none could be drawn.";

/// Draw prompts
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to draw, each prompt in quotes
    #[arg(required_unless_present = "prompts", value_name = "PROMPT")]
    prompt: Vec<String>,
    /// Draw a file of prompts in GenEval's format instead
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", requires = "out")]
    prompts: Option<PathBuf>,
    /// Folder to write to [default: the current one; needed with --prompts]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Pictures a prompt, of this many seeds from --seed on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    seeds: u16,
    /// Draw prompts as they are written; else, if the model's config.json has plan_layout, two things
    /// joined by "and" get places by lot, which draws both right more often
    #[arg(long)]
    as_written: bool,
    /// Print one line of JSON a picture
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    draw: DrawArgs,
    /// With the aligned weights that the model comes with
    #[arg(long)]
    aligned: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Pictures drawn at once.
const BATCH: usize = 16;

pub fn run(args: Args) -> Result<()> {
    let jobs = match &args.prompts {
        Some(file) => from_file(file)?,
        None => typed(&args.prompt),
    };
    let mut pipeline = args.model.open_with(args.aligned)?;
    if args.as_written {
        pipeline = pipeline.as_written();
    }
    let all = jobs.len();
    let jobs = drawable(&args, &pipeline, jobs)?;
    let seeds: Vec<u64> = (0..args.seeds.into()).map(|nth| args.draw.seed.wrapping_add(nth)).collect();
    let sampler = args.draw.sampler(&pipeline);
    let bar = progress((sampler.steps * jobs.len() * seeds.len()) as u64);
    let mut typed = Vec::new();
    for job in &jobs {
        bar.set_message(job.prompt.clone());
        let pictures = draw(&pipeline, &job.prompt, &seeds, &sampler, &bar)?;
        let pictures: Vec<_> = pictures.iter().map(|picture| args.draw.enlarge(picture)).collect();
        bar.suspend(|| save(&args, job, &seeds, &pictures))?;
        if matches!(job.target, Target::Named(_)) {
            typed.extend(pictures);
        }
    }
    bar.finish_and_clear();
    if typed.len() > 1 {
        let square = (typed.len() as f64).sqrt().ceil() as u32;
        let columns = if (2..=8).contains(&args.seeds) { args.seeds.into() } else { square };
        write_picture(&args.out().join("sheet.png"), &sheet(&typed, columns))?;
    }
    if jobs.len() < all {
        eprintln!("{} of {all} prompts drawn, {} skipped", jobs.len(), all - jobs.len());
    }
    Ok(())
}

impl Args {
    fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_default()
    }
}

/// The jobs whose prompts the model can read. Of a file's, the others are named; a typed one is an error.
fn drawable(args: &Args, pipeline: &Pipeline, jobs: Vec<Job>) -> Result<Vec<Job>> {
    let all = jobs.len();
    let mut good = Vec::with_capacity(all);
    for job in jobs {
        match (pipeline.prompt(&job.prompt), &job.target) {
            (Ok(_), _) => good.push(job),
            (Err(error), Target::Named(_)) => return Err(error),
            (Err(error), Target::GenEval { index, .. }) => {
                let line = index + 1;
                eprintln!("line {line} skipped: {error}");
                if args.json {
                    let value = json!({ "line": line, "prompt": job.prompt, "skipped": error.message });
                    print(true, "", &value)?;
                }
            }
        }
    }
    if good.is_empty() {
        return Err(Error::bad_input(format!("none of the {all} prompts could be drawn")));
    }
    Ok(good)
}

/// Draws one prompt for every seed.
fn draw(
    pipeline: &Pipeline,
    prompt: &str,
    seeds: &[u64],
    sampler: &SamplerConfig,
    bar: &ProgressBar,
) -> Result<Vec<RgbImage>> {
    let mut pictures = Vec::with_capacity(seeds.len());
    for seeds in seeds.chunks(BATCH) {
        let mut drawing = pipeline.generate(prompt, seeds, sampler.clone())?;
        while drawing.advance() {
            bar.inc(seeds.len() as u64);
        }
        pictures.extend(pollster::block_on(drawing.images())?);
    }
    Ok(pictures)
}

/// Writes one job's pictures and prints their names.
fn save(args: &Args, job: &Job, seeds: &[u64], pictures: &[RgbImage]) -> Result<()> {
    let out = args.out();
    if let Target::GenEval { index, metadata } = &job.target {
        let folder = out.join(format!("{index:05}"));
        write(&folder.join("metadata.jsonl"), format!("{metadata}\n").as_bytes())?;
        if pictures.len() > 1 {
            let columns = (pictures.len() as f64).sqrt().ceil() as u32;
            write_picture(&folder.join("grid.png"), &sheet(pictures, columns))?;
        }
    }
    for (nth, (seed, picture)) in seeds.iter().zip(pictures).enumerate() {
        let file = job.target.file(&out, nth, *seed);
        write_picture(&file, picture)?;
        let value = json!({ "prompt": job.prompt, "seed": seed, "file": file });
        print(args.json, &file.display().to_string(), &value)?;
    }
    Ok(())
}
