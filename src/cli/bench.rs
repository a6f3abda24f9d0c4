//! `reca bench`: what Reconstruction Alignment gains, beside its controls, as one table.

mod figure;
mod jobs;
mod plan;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use reca::eval::scorer::FOLDER;
use reca::scene::Engine;
use reca::weights::directory::MANIFEST;
use reca::weights::manifest::FileEntry;
use reca::{Error, Pipeline, Result};
use serde_json::json;

use self::jobs::Runner;
use self::plan::{Made, Plan, Row};
use self::table::Table;
use crate::align::{CHECKPOINT, recipe_of};
use crate::common::{ModelArgs, print, read_model, write, write_picture};
use crate::scorer::{read_scorer, world};

const EXAMPLES: &str = "\
Examples:
  reca bench reca --out table --per-category 40 --mean            # the README's table: an hour a row and seed
  reca bench reca --out quick --seeds 1 --per-category 20 --pictures 2 -- --steps 100
  reca bench budget --out budget                  # score against steps
  reca bench reca --out table --rows reca-open sft-sparse --seeds 3 --mean

Every row is a `reca align` by the recipe's settings and a `reca eval`, and each is printed as it starts.
What follows -- goes to every `reca align` in their place, but for what makes a row what it is. A call may be stopped at any time; the same command goes on. Below --out:
table.md, table.json, figure.png (the same prompts from the same noise: above the base, below RecA on
the open pool, with --mean the mean of its seeds; figure.txt names them from the left), and a folder a row and training seed with its model, its loss and its report.";

/// Measure alignment against its controls
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to measure
    #[arg(value_enum)]
    plan: Plan,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Training seeds, from 0
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Prompts a category and tier
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    per_category: u16,
    /// Pictures a prompt
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    pictures: u16,
    /// Draw prompts as they are written: see `reca eval`
    #[arg(long)]
    as_written: bool,
    /// Only these rows, the base, and what they build on
    #[arg(long, value_name = "ROW", num_args = 1..)]
    rows: Vec<String>,
    /// A row more for each of these CLIP and SigLIP checkpoints, called encoder- and its folder's name
    #[arg(long, value_name = "DIR", num_args = 1..)]
    encoder: Vec<PathBuf>,
    /// For each row a second, the mean of its training seeds' weights (model soups, arXiv 2203.05482)
    #[arg(long)]
    mean: bool,
    /// Rows at once, each with its share of the threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Print the table as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    /// Options of every `reca align`
    #[arg(last = true, value_name = "OPTIONS")]
    align: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    if args.mean && args.seeds < 2 {
        return Err(Error::bad_input("--mean needs --seeds 2 or more"));
    }
    let rows = args.plan.rows(&args.rows, &args.encoder, args.mean.then_some(args.seeds))?;
    args.check(&rows)?;
    let base = args.model.folder()?;
    fs::create_dir_all(&args.out).map_err(|e| Error::bad_input(e).at(args.out.display()))?;
    let runner = Runner::new(args.jobs.into(), args.given(&base)?)?;
    let jobs = rows.iter().flat_map(|row| (0..row.seeds(args.seeds)).map(move |seed| (row, seed)));
    let mut jobs: Vec<_> = jobs.collect();
    // They wait for all seeds, and nothing waits for them.
    jobs.sort_by_key(|(row, _)| matches!(row.made, Made::Mean(_)));
    runner.drive(
        &jobs,
        |row, seed| row.folder(&args.out, seed).join(table::REPORT).exists(),
        |row, seed| args.row(&runner, &base, row, seed),
    )?;
    let table = Table::read(&rows, &args.out, args.seeds, &base)?;
    write(&args.out.join("table.md"), table.markdown().as_bytes())?;
    write(&args.out.join("table.json"), &serde_json::to_vec_pretty(&table).map_err(Error::internal)?)?;
    if let Some(row) = rows.iter().rfind(|row| row.name == plan::SHOWN || row.is_mean_of(plan::SHOWN)) {
        args.figure(&row.model(&args.out, 0, &base))?;
    }
    print(args.json, table.markdown().trim_end(), &table)
}

impl Args {
    /// Refuses options after `--` that would make a row another than it is called.
    fn check(&self, rows: &[Row]) -> Result<()> {
        for word in &self.align {
            let option = word.split_once('=').map_or(word.as_str(), |(option, _)| option);
            let own = ["--seed", "--out", "--model"].contains(&option);
            let row = rows.iter().find(|row| row.sets(option)).map(|row| &row.name);
            if own || row.is_some() {
                let whose = row.map_or("every row".to_owned(), |row| format!("row {row}"));
                let message = format!("{option} after -- cannot be given: {whose} has its own");
                return Err(Error::bad_input(message));
            }
        }
        Ok(())
    }

    /// What rows are made and judged by beside their commands: in a folder that is gone on with it is the same.
    fn given(&self, base: &Path) -> Result<serde_json::Value> {
        let sha256 = |bytes: &[u8]| FileEntry::of(bytes).sha256;
        let (model, scorer) = (read_model(base)?, read_scorer(&base.join(FOLDER))?);
        let settings = recipe_of(&self.model.open()?)?.alignment;
        Ok(json!({
            "weights": sha256(&model.weights), "config": sha256(&model.config),
            "scorer": sha256(&scorer.weights), "alignment": settings,
        }))
    }

    /// Draws the same prompts by the base and by an aligned model.
    fn figure(&self, aligned: &Path) -> Result<()> {
        let mut base = self.model.open()?;
        let mut aligned = Pipeline::new(&read_model(aligned)?, &self.model.device()?)?;
        if self.as_written {
            (base, aligned) = (base.as_written(), aligned.as_written());
        }
        let prompts = figure::prompts(&Engine::new(world(&self.model, None)?)?);
        write_picture(&self.out.join("figure.png"), &figure::draw(&base, &aligned, &prompts)?)?;
        write(&self.out.join("figure.txt"), (prompts.join("\n") + "\n").as_bytes())
    }

    /// The command that makes a row's model for one training seed; the base has none.
    fn make(&self, base: &Path, row: &Row, seed: u64) -> Option<Vec<String>> {
        let text = |path: PathBuf| path.display().to_string();
        let mut models = row.needs(seed).map(|(row, seed)| text(row.model(&self.out, seed, base)));
        let first = models.next().unwrap_or_else(|| text(base.to_owned()));
        let mut command = match &row.made {
            Made::Given => return None,
            Made::Aligned(options) => {
                let mut align = vec!["align".to_owned()];
                align.extend(self.plan.settings());
                align.extend(self.align.iter().chain(options).cloned());
                align.extend(["--seed".to_owned(), seed.to_string()]);
                align.extend(["--out".to_owned(), text(row.folder(&self.out, seed))]);
                align
            }
            Made::Mean(_) => {
                let mut export = vec!["export".to_owned(), "--average".to_owned()];
                export.extend(models);
                export.extend(["--out".to_owned(), text(row.model(&self.out, seed, base))]);
                export
            }
        };
        command.extend(["--model".to_owned(), first]);
        Some(command)
    }

    /// Makes and evaluates one row with one training seed.
    fn row(&self, runner: &Runner, base: &Path, row: &Row, seed: u64) -> Result<()> {
        let folder = row.folder(&self.out, seed);
        let model = row.model(&self.out, seed, base);
        let mut commands = Vec::from_iter(self.make(base, row, seed));
        let mut eval: Vec<String> =
            ["eval", "--json", "--only", "drawing", "reconstruction"].map(str::to_owned).into();
        if row.made == Made::Given {
            eval.push("understanding".to_owned());
        }
        if self.as_written {
            eval.push("--as-written".to_owned());
        }
        eval.extend(["--per-category".to_owned(), self.per_category.to_string()]);
        eval.extend(["--seeds".to_owned(), self.pictures.to_string()]);
        eval.extend(["--scorer".to_owned(), base.join("scorer").display().to_string()]);
        eval.extend(["--model".to_owned(), model.display().to_string()]);
        eval.extend(["--out".to_owned(), folder.display().to_string()]);
        commands.push(eval);
        runner.same(&folder, &commands)?;
        if folder.join(table::REPORT).exists() {
            return Ok(());
        }
        // A row that was aligned by an earlier call, or elsewhere, is only to be evaluated.
        let aligned = model.join(MANIFEST).exists() && !folder.join(CHECKPOINT).exists();
        commands
            .iter()
            .filter(|command| command[0] == "eval" || !aligned)
            .try_for_each(|command| runner.command(command))
    }
}
