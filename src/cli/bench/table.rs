//! Reads the rows' reports into one table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use reca::eval::compare::Joined;
use reca::eval::markdown::{percent, signed};
use reca::eval::report::{PromptResult, ReconstructionScore};
use reca::eval::{Category, Interval, PromptTier};
use reca::weights::directory::WEIGHTS;
use reca::{Error, Result};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::plan::Row;
/// What `reca eval` leaves in a row's folder.
pub const REPORT: &str = "report.json";

/// Parts of the score: a name, a category, and a tier of it.
const COLUMNS: [(&str, Category, Option<PromptTier>); 9] = [
    ("single object", Category::SingleObject, None),
    ("two objects", Category::TwoObject, None),
    ("counting", Category::Counting, None),
    ("colours, seen", Category::Colors, Some(PromptTier::Seen)),
    ("colours, held pairs", Category::Colors, Some(PromptTier::HeldPair)),
    ("colours, natural-only", Category::Colors, Some(PromptTier::NaturalOnly)),
    ("position", Category::Position, None),
    ("attribution", Category::ColorAttr, None),
    ("its natural-only tier", Category::ColorAttr, Some(PromptTier::NaturalOnly)),
];

#[derive(Deserialize)]
struct Saved {
    drawing: Drawn,
    reconstruction: Vec<ReconstructionScore>,
}

#[derive(Deserialize)]
struct Drawn {
    plan_layout: bool,
    prompts: Vec<PromptResult>,
}

#[derive(Serialize)]
pub struct Table {
    prompts: usize,
    /// A prompt, for each training seed.
    pictures: usize,
    training_seeds: u64,
    plan_layout: bool,
    rows: Vec<Scores>,
    /// Whether every tensor outside the generation expert is the base's, bit by bit, in every row.
    understanding_unchanged: bool,
}

/// A row's scores, over all prompts and training seeds.
#[derive(Serialize)]
struct Scores {
    row: String,
    title: String,
    overall: Interval,
    /// Overall of each training seed.
    by_seed: Vec<f64>,
    /// Overall less the base's, paired by prompt.
    gain: Interval,
    /// Overall of RecA on the open pool (of its mean, for means) less this row's, paired by prompt; for its
    /// controls.
    lead: Option<Interval>,
    /// In the order of [`COLUMNS`]; empty where the world has no such prompts.
    parts: Vec<Option<Interval>>,
    /// Redrawn from embeddings: mean over scenes and seeds, dB, and scenes with nouns, colours right.
    psnr: f64,
    nouns: f64,
    colours: f64,
    /// Of training, mean over seeds.
    seconds: f64,
}

impl Table {
    pub fn read(rows: &[Row], out: &Path, seeds: u64, base: &Path) -> Result<Self> {
        let frozen = frozen(base)?;
        let mut understanding_unchanged = true;
        let (mut scores, mut drawn) = (Vec::new(), Vec::<Joined>::new());
        let mut planned = None;
        let (mut prompts, mut pictures) = (0, 0);
        for row in rows {
            let (mut reports, mut seconds, mut joined) = (Vec::new(), 0.0, Joined::default());
            for seed in 0..row.seeds(seeds) {
                let folder = row.folder(out, seed);
                let path = folder.join(REPORT);
                let text = fs::read(&path).map_err(|e| Error::bad_input(e).at(path.display()))?;
                let report = serde_json::from_slice::<Saved>(&text);
                let again = |e| Error::bad_input(format!("{e}; remove it to evaluate the row anew"));
                let report = report.map_err(|e| again(e).at(path.display()))?;
                joined.add(&report.drawing.prompts).map_err(|e| e.at(path.display()))?;
                reports.push(report);
                let plan_layout = reports.iter().all(|report: &Saved| report.drawing.plan_layout);
                if *planned.get_or_insert(plan_layout) != plan_layout {
                    return Err(Error::bad_input(
                        "its report and the base's differ in --as-written; name another --out",
                    )
                    .at(folder.display()));
                }
                seconds += trained(&folder) / row.seeds(seeds) as f64;
                understanding_unchanged &= self::frozen(&row.model(out, seed, base))? == frozen;
            }
            let of_base = drawn.first().unwrap_or(&joined);
            if drawn.is_empty() {
                (prompts, pictures) = (joined.0.len(), joined.0.first().map_or(0, |unit| unit.rights.len()));
            }
            let row = Scores::new(row, &reports, &joined, of_base, seconds).map_err(|e| e.at(&row.name))?;
            scores.push(row);
            drawn.push(joined);
        }
        for ((row, score), joined) in rows.iter().zip(&mut scores).zip(&drawn) {
            let reca = row.rival().and_then(|name| rows.iter().position(|row| row.name == name));
            let lead = reca.map(|reca| drawn[reca].ahead_of(joined, None, None)).transpose();
            score.lead = lead.map_err(|e| e.at(&row.name))?;
        }
        let plan_layout = planned.unwrap_or_default();
        Ok(Self {
            prompts,
            pictures,
            training_seeds: seeds,
            plan_layout,
            rows: scores,
            understanding_unchanged,
        })
    }

    /// The table in Markdown; shares in per cent.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let shown = |column: &usize| self.rows.iter().any(|row| row.parts[*column].is_some());
        let columns: Vec<usize> = (0..COLUMNS.len()).filter(shown).collect();
        let led = self.rows.iter().any(|row| row.lead.is_some());
        let lead = if led { " RecA ahead by |" } else { "" };
        write!(out, "| | overall | against the base |{lead}")?;
        columns.iter().try_for_each(|column| write!(out, " {} |", COLUMNS[*column].0))?;
        writeln!(out, " redrawn: dB, nouns, colours | training, s |")?;
        writeln!(out, "|---|---|---|{}---:|---:|", "---:|".repeat(columns.len() + usize::from(led)))?;
        for row in &self.rows {
            write!(out, "| {} | **{}** |", row.title, percent(&row.overall))?;
            let same = row.gain == Interval::default();
            let gain = if same { String::new() } else { signed(&row.gain) };
            write!(out, " {gain} |")?;
            if led {
                write!(out, " {} |", row.lead.as_ref().map_or(String::new(), signed))?;
            }
            for column in &columns {
                let part =
                    row.parts[*column].map_or(String::new(), |part| format!("{:.1}", 100.0 * part.mean));
                write!(out, " {part} |")?;
            }
            let [nouns, colours] = [row.nouns, row.colours].map(|share| 100.0 * share);
            writeln!(out, " {:.1}, {nouns:.0}, {colours:.0} | {:.0} |", row.psnr, row.seconds)?;
        }
        let Self { prompts, pictures, training_seeds, .. } = self;
        let planned = if self.plan_layout { "layouts planned" } else { "prompts as written" };
        writeln!(
            out,
            "\n{prompts} prompts, {pictures} pictures each of the base; {training_seeds} training seeds; {planned}. Per cent, with 95 % \
             intervals by the bootstrap over prompts; against each other, paired by prompt."
        )?;
        for row in self.rows.iter().filter(|row| row.by_seed.len() > 1) {
            let seeds: Vec<_> = row.by_seed.iter().map(|share| format!("{:.1}", 100.0 * share)).collect();
            writeln!(out, "{}, overall by training seed: {}.", row.title, seeds.join(", "))?;
        }
        let unchanged = if self.understanding_unchanged { "is" } else { "IS NOT" };
        writeln!(
            out,
            "Everything outside the generation expert {unchanged} the base's, bit by bit, in every row."
        )
    }
}

impl Scores {
    fn new(row: &Row, reports: &[Saved], joined: &Joined, base: &Joined, seconds: f64) -> Result<Self> {
        let part = |(_, category, tier): (_, Category, Option<PromptTier>)| {
            (joined.count(category, tier) > 0).then(|| joined.score(Some(category), tier))
        };
        let alone = |report: &Saved| {
            let mut alone = Joined::default();
            alone.add(&report.drawing.prompts)?;
            Ok(alone.score(None, None).mean)
        };
        let redrawn = reports.iter().flat_map(|report| &report.reconstruction);
        let scenes: usize = redrawn.clone().map(|score| score.scenes).sum();
        let mean = |of: fn(&ReconstructionScore) -> f64| {
            redrawn.clone().map(|score| of(score) * score.scenes as f64).sum::<f64>() / scenes.max(1) as f64
        };
        Ok(Self {
            row: row.name.clone(),
            title: row.title.clone(),
            overall: joined.score(None, None),
            by_seed: reports.iter().map(alone).collect::<Result<_>>()?,
            gain: joined.ahead_of(base, None, None)?,
            lead: None,
            parts: COLUMNS.map(part).to_vec(),
            psnr: mean(|score| score.redrawn.psnr),
            nouns: mean(|score| score.redrawn.nouns.mean),
            colours: mean(|score| score.redrawn.colours.mean),
            seconds,
        })
    }
}

/// What is read of a log's line; `tests/reference` names no stage.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    stage: String,
    seconds: f64,
}

/// Seconds of training that a row's log tells of: each of its stages counts its own.
fn trained(folder: &Path) -> f64 {
    let log = fs::read_to_string(folder.join("log.jsonl")).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let last: BTreeMap<String, f64> = lines.map(|line| (line.stage, line.seconds)).collect();
    last.values().sum()
}

/// Names and bytes of a model's tensors outside the generation expert.
fn frozen(model: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let path = model.join(WEIGHTS);
    let bytes = fs::read(&path).map_err(|e| Error::bad_input(e).at(path.display()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::weights_format(e).at(path.display()))?;
    let outside = file.iter().filter(|(name, _)| !name.starts_with("generation."));
    let mut tensors: Vec<_> =
        outside.map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect();
    tensors.sort();
    Ok(tensors)
}
