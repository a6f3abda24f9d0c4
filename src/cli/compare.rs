//! `reca compare`: two models' drawings of the same prompts, prompt by prompt.

use std::fmt::{self, Display, Formatter, Write};
use std::fs;
use std::path::{Path, PathBuf};

use reca::eval::compare::Joined;
use reca::eval::markdown::{percent, signed};
use reca::eval::report::PromptResult;
use reca::eval::{Category, Interval, PromptTier};
use reca::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::common::print;

const EXAMPLES: &str = "\
Examples:
  reca eval --out base --per-category 40
  reca eval --out aligned --per-category 40 --aligned
  reca compare aligned --with base
  reca compare table/reca-open-{0,1,2} --with table/sft-sparse-{0,1}

Both sides are folders that `reca eval --out` or `reca bench` wrote; several on a side, as of training seeds,
count as one model that drew more pictures. The interval of a difference is paired by prompt, so it may
leave out 0 where the intervals of the two shares overlap.";

/// Compare evaluations of the same prompts, paired by prompt
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folders with a report.json
    #[arg(required = true, value_name = "DIR")]
    of: Vec<PathBuf>,
    /// What they are compared with
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    with: Vec<PathBuf>,
    /// Print the comparison as one line of JSON
    #[arg(long)]
    json: bool,
}

/// A line: overall, a category, or a tier of one.
#[derive(Serialize)]
struct Line {
    category: Option<Category>,
    tier: Option<PromptTier>,
    prompts: usize,
    of: Interval,
    with: Interval,
    /// `of` less `with`.
    difference: Interval,
}

#[derive(Deserialize)]
struct Saved {
    drawing: Option<Drawn>,
}

#[derive(Deserialize)]
struct Drawn {
    #[serde(flatten)]
    how: How,
    prompts: Vec<PromptResult>,
}

/// How a side was drawn.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct How {
    plan_layout: bool,
    steps: usize,
    guidance_scale: f32,
    method: String,
}

impl Display for How {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Self { steps, guidance_scale, method, .. } = self;
        write!(f, "{steps} steps of {method}, guidance {guidance_scale}")
    }
}

pub fn run(args: Args) -> Result<()> {
    let (of, of_how) = read(&args.of)?;
    let (with, with_how) = read(&args.with)?;
    if of_how.plan_layout != with_how.plan_layout {
        return Err(
            Error::bad_input("one side was drawn --as-written, the other was not").at(args.with[0].display())
        );
    }
    if of_how != with_how {
        eprintln!("note: drawn by {of_how}; what it is compared with by {with_how}");
    }
    let at = |e: Error| e.at(args.with[0].display());
    let line = |category: Option<Category>, tier| -> Result<Line> {
        let difference = of.ahead_of(&with, category, tier).map_err(at)?;
        let prompts = category.map_or(of.0.len(), |category| of.count(category, tier));
        Ok(Line {
            category,
            tier,
            prompts,
            of: of.score(category, tier),
            with: with.score(category, tier),
            difference,
        })
    };
    let mut lines = vec![line(None, None)?];
    for category in Category::ALL {
        let tiers = PromptTier::ALL.map(Some);
        for tier in [None].into_iter().chain(tiers).filter(|tier| of.count(category, *tier) > 0) {
            lines.push(line(Some(category), tier)?);
        }
    }
    print(args.json, markdown(&lines).trim_end(), &lines)
}

/// The prompts of all reports of a side, and how they were drawn.
fn read(folders: &[PathBuf]) -> Result<(Joined, How)> {
    let mut joined = Joined::default();
    let mut side: Option<How> = None;
    for folder in folders {
        let Drawn { how, prompts } = report(folder)?;
        if side.get_or_insert_with(|| how.clone()) != &how {
            let message = "differs from the others of its side in --as-written, --steps or --guidance";
            return Err(Error::bad_input(message).at(folder.display()));
        }
        joined.add(&prompts).map_err(|e| e.at(folder.display()))?;
    }
    // There is one folder at least.
    side.map(|how| (joined, how)).ok_or_else(|| Error::bad_input("no folder is named"))
}

fn report(folder: &Path) -> Result<Drawn> {
    let path = folder.join("report.json");
    let failed = |message: String| Error::bad_input(message).at(path.display());
    let text = fs::read(&path).map_err(|e| failed(format!("{e}; `reca eval --out DIR` writes it")))?;
    let saved: Saved = serde_json::from_slice(&text)
        .map_err(|e| failed(format!("{e}; it is no report, or one of another version: evaluate anew")))?;
    saved.drawing.ok_or_else(|| failed("drawing was not measured; evaluate without --only".to_owned()))
}

fn markdown(lines: &[Line]) -> String {
    let mut text =
        "| category | tier | prompts | %, of | %, with | difference |\n|---|---|---:|---|---|---|\n"
            .to_owned();
    for Line { category, tier, prompts, of, with, difference } in lines {
        let category = category.map_or("**overall**", Category::name);
        let tier = tier.map_or("all", PromptTier::name);
        let (of, with, difference) = (percent(of), percent(with), signed(difference));
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| {category} | {tier} | {prompts} | {of} | {with} | {difference} |");
    }
    text
}
