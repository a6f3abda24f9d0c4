//! `reca eval`: how well a model draws, understands and redraws.

use std::fs;
use std::path::PathBuf;

use pollster::block_on;
use reca::eval::check::accuracy;
use reca::eval::scorer::FOLDER;
use reca::eval::{
    Evaluation, Progress, Prompt, PromptSet, PromptTier, Reconstruction, Report, Scorer, Understanding,
};
use reca::flow::sampler::SamplerConfig;
use reca::scene::Engine;
use reca::{Error, Pipeline, Result};

use crate::common::{ModelArgs, guidance, print, progress, write, write_picture};
use crate::scorer::{read_scorer, world};

const EXAMPLES: &str = "\
Examples:
  reca eval --out report                     # 100 prompts a category and tier, 4 pictures each
  reca eval --per-category 20 --seeds 1 --only drawing
  reca eval --prompts evaluation_metadata.jsonl --only drawing --out geneval
  reca eval --tiers seen natural_only --json

Prints the report as Markdown. --out also writes report.md, report.json (every verdict with its reason and
each prompt's first seed), prompts.jsonl (in GenEval's format, so that --prompts reads it again) and
sheet-CATEGORY.png (a row a prompt, right pictures framed green). The same seed gives the same numbers:
pictures are counted through all prompts, and each is drawn with --seed plus its number.

Tiers: seen; held_pair (noun and colour never captioned together for drawing); natural_only (nouns only
ever captioned in their natural colour, in another one); held_combination (two nouns never captioned
together); held_count.";

/// Measure how well a model draws, understands and redraws
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Prompts a category and tier, and scenes a tier; fewer where the world has not as many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    per_category: u16,
    /// Pictures a prompt, each of another seed than all others
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    seeds: u16,
    /// Seed of prompts, scenes and noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only these tiers of drawing
    #[arg(long, value_name = "TIER", num_args = 1.., value_parser = tier)]
    tiers: Vec<PromptTier>,
    /// Draw a file of prompts in GenEval's format instead
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Measure these alone
    #[arg(long, value_enum, num_args = 1..)]
    only: Vec<Part>,
    /// Denoising steps [default: the model's own]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: Option<u16>,
    /// Classifier-free guidance scale [default: the model's own]
    #[arg(long, value_parser = guidance)]
    guidance: Option<f32>,
    /// Draw prompts as they are written; else, if the model's config.json has plan_layout, two things
    /// joined by "and" get places by lot
    #[arg(long)]
    as_written: bool,
    /// Pictures drawn together; the numbers are the same for any
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as one line of JSON
    #[arg(long)]
    json: bool,
    /// Scorer's folder [default: MODEL/scorer]
    #[arg(long, value_name = "DIR")]
    scorer: Option<PathBuf>,
    /// The model's recipe: a name that comes with the program, or a file [default: the one that the model names]
    #[arg(long)]
    recipe: Option<String>,
    /// With the aligned weights that the model comes with
    #[arg(long)]
    aligned: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Drawing,
    Understanding,
    Reconstruction,
}

fn tier(name: &str) -> std::result::Result<PromptTier, String> {
    PromptTier::from_name(name)
        .ok_or_else(|| format!("there are {}", PromptTier::ALL.map(PromptTier::name).join(", ")))
}

/// Scenes are drawn by another seed than prompts, and by others than recipes' pools have.
const SCENES: u64 = 0x5ce0_0000;
/// Rendered scenes a category and tier on which the scorer itself is measured.
const CHECKED: usize = 50;

pub fn run(args: Args) -> Result<()> {
    let mut pipeline = args.model.open_with(args.aligned)?;
    if args.as_written {
        pipeline = pipeline.as_written();
    }
    let engine = Engine::new(world(&args.model, args.recipe.as_deref())?)?;
    let seed = args.seed.wrapping_add(SCENES);
    let mut report = Report::default();
    if args.wants(Part::Drawing) {
        report = report.and(draw(&args, &pipeline, &args.scorer()?, &engine)?);
    }
    if args.wants(Part::Understanding) {
        let mut understanding = Understanding::new(&pipeline, &engine, seed, args.per_category.into())?;
        drive("understanding", || block_on(understanding.advance()))?;
        report = report.and(understanding.report());
    }
    if args.wants(Part::Reconstruction) {
        let (scorer, sampler) = (args.scorer()?, args.sampler(&pipeline));
        let per_tier = args.per_category.into();
        let redrawn = Reconstruction::new(&pipeline, &scorer, &engine, seed, per_tier, sampler)?;
        let mut redrawn = redrawn.with_batch(args.batch.into());
        drive("reconstruction", || block_on(redrawn.advance()))?;
        report = report.and(redrawn.report());
    }
    if let Some(out) = &args.out {
        write(&out.join("report.md"), report.markdown().as_bytes())?;
        let json = serde_json::to_vec_pretty(&report).map_err(Error::internal)?;
        write(&out.join("report.json"), &json)?;
    }
    print(args.json, report.markdown().trim_end(), &report)
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn scorer(&self) -> Result<Scorer> {
        let folder =
            self.scorer.clone().map_or_else(|| self.model.folder().map(|folder| folder.join(FOLDER)), Ok)?;
        Scorer::load(&read_scorer(&folder)?, &self.model.device()?)
    }

    fn sampler(&self, pipeline: &Pipeline) -> SamplerConfig {
        pipeline.sampler(self.steps.map(usize::from), self.guidance)
    }

    fn prompts(&self, engine: &Engine) -> Result<Vec<Prompt>> {
        let mut prompts = match &self.prompts {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|e| Error::bad_input(e).at(path.display()))?;
                PromptSet::parse(&text, engine).map_err(|e| e.at(path.display()))?
            }
            None => PromptSet::generate(engine, self.seed, self.per_category.into()),
        };
        prompts.retain(|prompt| self.tiers.is_empty() || self.tiers.contains(&prompt.tier));
        Ok(prompts)
    }
}

fn draw(args: &Args, pipeline: &Pipeline, scorer: &Scorer, engine: &Engine) -> Result<Report> {
    let prompts = args.prompts(engine)?;
    let lines = prompts.iter().map(|prompt| serde_json::to_string(prompt).map_err(Error::internal));
    let lines = lines.collect::<Result<Vec<_>>>()?.join("\n") + "\n";
    let sampler = args.sampler(pipeline);
    let evaluation = Evaluation::new(pipeline, scorer, prompts, args.seed, args.seeds.into(), sampler)?;
    let mut evaluation = evaluation.with_batch(args.batch.into());
    drive("drawing", || block_on(evaluation.advance()))?;
    let mut report = evaluation.report();
    for (prompt, unknown) in report.drawing.iter().flat_map(|drawing| &drawing.skipped.prompts) {
        eprintln!("skipped {prompt:?}: unknown {}", unknown.join(", "));
    }
    let wide = Engine::new(engine.world().with(&engine.world().strangers()))?;
    report.scorer = block_on(accuracy(scorer, engine, &wide, args.seed.wrapping_add(SCENES), CHECKED))?;
    if let Some(out) = &args.out {
        write(&out.join("prompts.jsonl"), lines.as_bytes())?;
        for (category, sheet) in evaluation.sheets() {
            write_picture(&out.join(format!("sheet-{}.png", category.name())), &sheet)?;
        }
    }
    Ok(report)
}

/// Drives an evaluation to its end behind a progress bar.
fn drive(what: &str, mut advance: impl FnMut() -> Result<Option<Progress>>) -> Result<()> {
    let bar = progress(0);
    bar.set_message(what.to_owned());
    while let Some(Progress { done, total }) = advance()? {
        bar.set_length(total);
        bar.set_position(done);
    }
    bar.finish_and_clear();
    Ok(())
}
