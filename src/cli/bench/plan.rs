//! What is measured: rows, each an alignment of the base or of another row.

use std::iter;
use std::path::{Path, PathBuf, absolute};

use reca::{Error, Result};

/// The row that controls are measured against, and that the figure shows beside the base.
pub const SHOWN: &str = "reca-open";

/// A tab's settings, as `www/index.html` has them, on pictures of all things.
const TAB: &str = "--optimizer adamw --learning-rate 5e-4 --batch 8 --count 1000";

/// Sets of rows.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Plan {
    /// RecA and its controls
    Reca,
    /// RecA for few steps of batch 8, as in a browser
    Budget,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    /// In words, for the table.
    pub title: String,
    /// The row that it goes on from, or is the mean of; the base if none.
    after: Option<Box<Row>>,
    pub made: Made,
}

/// Where a row's model comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// The base itself.
    Given,
    /// By `reca align` with these options, which make it what it is called, once a training seed.
    Aligned(Vec<String>),
    /// By `reca export --average` from so many training seeds of the row before.
    Mean(u64),
}

impl Row {
    fn new(name: &str, title: &str, options: &str) -> Self {
        let options = options.split_whitespace().map(str::to_owned).collect();
        Self { name: name.to_owned(), title: title.to_owned(), after: None, made: Made::Aligned(options) }
    }

    /// RecA with the embeddings of another encoder, named by its folder.
    fn encoder(folder: &Path) -> Result<Self> {
        let path = absolute(folder).map_err(|e| Error::bad_input(e).at(folder.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut row =
            Self::new(&format!("encoder-{name}"), &format!("RecA, embeddings of {name}"), "--encoder");
        if let Made::Aligned(options) = &mut row.made {
            options.push(path.display().to_string());
        }
        Ok(row)
    }

    /// The mean of a row's first training seeds.
    fn mean(&self, seeds: u64) -> Self {
        Self {
            name: mean_of(&self.name, seeds),
            title: format!("{}: the mean of {seeds} seeds' weights", self.title),
            after: Some(Box::new(self.clone())),
            made: Made::Mean(seeds),
        }
    }

    fn after(self, row: &Row) -> Self {
        Self { after: Some(Box::new(row.clone())), ..self }
    }

    /// Whether it is by this option that it is what it is called.
    pub fn sets(&self, option: &str) -> bool {
        matches!(&self.made, Made::Aligned(options) if options.iter().any(|own| own == option))
    }

    pub fn parent(&self) -> Option<&Row> {
        self.after.as_deref()
    }

    /// How many of `seeds` training seeds it has.
    pub fn seeds(&self, seeds: u64) -> u64 {
        if matches!(self.made, Made::Aligned(_)) { seeds } else { 1 }
    }

    pub fn is_mean_of(&self, name: &str) -> bool {
        matches!(self.made, Made::Mean(_)) && self.parent().is_some_and(|row| row.name == name)
    }

    /// The row of RecA that a control is measured against: means against the mean.
    pub fn rival(&self) -> Option<String> {
        let rival = match self.made {
            Made::Given => return None,
            Made::Aligned(_) => SHOWN.to_owned(),
            Made::Mean(seeds) => mean_of(SHOWN, seeds),
        };
        (self.name != rival).then_some(rival)
    }

    /// The row and seeds that must be done before seed `seed` of it can begin.
    pub fn needs(&self, seed: u64) -> impl Iterator<Item = (&Row, u64)> {
        let needed = if let Made::Mean(seeds) = self.made { 0..seeds } else { seed..seed + 1 };
        self.parent().into_iter().flat_map(move |row| needed.clone().map(move |seed| (row, seed)))
    }

    pub fn folder(&self, out: &Path, seed: u64) -> PathBuf {
        out.join(format!("{}-{seed}", self.name))
    }

    pub fn model(&self, out: &Path, seed: u64, base: &Path) -> PathBuf {
        if self.made == Made::Given { base.to_owned() } else { self.folder(out, seed).join("model") }
    }
}

/// The name of the row that is the mean of so many seeds of another.
fn mean_of(name: &str, seeds: u64) -> String {
    format!("{name}-mean-of-{seeds}")
}

impl Plan {
    /// Options of every row, in the place of the recipe's settings.
    pub fn settings(self) -> impl Iterator<Item = String> {
        let settings = if self == Self::Budget { TAB } else { "" };
        settings.split_whitespace().map(str::to_owned)
    }

    /// The rows, each after the one that it builds on, and one for each other encoder; with `mean`, each
    /// that is aligned is followed by the mean of so many training seeds.
    ///
    /// # Errors
    /// `bad_input` for a name in `only` that no row has, and for encoders of one name.
    pub fn rows(self, only: &[String], encoders: &[PathBuf], mean: Option<u64>) -> Result<Vec<Row>> {
        let base = Row { name: "base".into(), title: "base".into(), after: None, made: Made::Given };
        let mut rows = vec![base];
        match self {
            Self::Reca => {
                let reca = Row::new(SHOWN, "RecA, open pool", "--method reca --pool open");
                let sft = Row::new("sft-sparse", "captions by the base's own rule", "--method sft-sparse");
                rows.extend([
                    reca.clone(),
                    Row::new("reca-strict", "RecA, strict pool", "--method reca --pool strict"),
                    sft.clone(),
                    Row::new("sft-dense", "captions that name everything (oracle)", "--method sft-dense"),
                    Row::new("shuffled", "RecA, another image's embeddings", "--method shuffled"),
                    Row::new("generation", "RecA, generation embeddings", "--generation-embeddings"),
                    Row::new(
                        "no-connector-stage",
                        "RecA without the connector stage",
                        "--no-connector-stage",
                    ),
                    Row::new("sft-sparse-reca", "own captions, then RecA", "--method reca").after(&sft),
                    Row::new("reca-sft-sparse", "RecA, then own captions", "--method sft-sparse")
                        .after(&reca),
                ]);
            }
            Self::Budget => rows.extend([10, 30, 100, 300, 1000].map(|steps| {
                let name = format!("reca-{steps}");
                Row::new(&name, &format!("RecA, {steps} steps of 8"), &format!("--steps {steps}"))
            })),
        }
        for folder in encoders {
            let row = Row::encoder(folder)?;
            if rows.iter().any(|other| other.name == row.name) {
                return Err(Error::bad_input("two encoders' folders have this name").at(folder.display()));
            }
            rows.push(row);
        }
        if let Some(unknown) = only.iter().find(|name| !rows.iter().any(|row| row.name == **name)) {
            let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
            return Err(Error::bad_input(format!(
                "no row is called {unknown:?}; there are {}",
                names.join(", ")
            )));
        }
        let wanted = |row: &Row| {
            let asked = |name: &str| only.iter().any(|other| other == name);
            let builds_on = |other: &Row| asked(&other.name) && other.parent() == Some(row);
            only.is_empty() || row.made == Made::Given || asked(&row.name) || rows.iter().any(builds_on)
        };
        let with_mean = |row: &Row| {
            let seeds = mean.filter(|_| row.made != Made::Given);
            iter::once(row.clone()).chain(seeds.map(|seeds| row.mean(seeds)))
        };
        Ok(rows.iter().filter(|row| wanted(row)).flat_map(with_mean).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_with_what_they_build_on() {
        let named = |only: &[&str], mean| -> Result<Vec<String>> {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            let encoders = [PathBuf::from("towers/clip")];
            Ok(Plan::Reca.rows(&only, &encoders, mean)?.into_iter().map(|row| row.name).collect())
        };
        let names = |only| named(only, None);
        assert_eq!(names(&["sft-sparse-reca"]).unwrap(), ["base", "sft-sparse", "sft-sparse-reca"]);
        assert_eq!(names(&["encoder-clip"]).unwrap(), ["base", "encoder-clip"]);
        assert_eq!(names(&[]).unwrap().len(), 11);
        assert_eq!(named(&["reca-open"], Some(2)).unwrap(), ["base", "reca-open", "reca-open-mean-of-2"]);
        assert!(names(&["sft"]).unwrap_err().message.contains("sft-sparse"));
    }

    #[test]
    fn few_steps_are_made_by_a_tabs_settings() {
        let rows = Plan::Budget.rows(&["reca-30".into()], &[], None).unwrap();
        assert!(rows[1].sets("--steps") && !rows[1].sets("--batch") && !rows[0].sets("--steps"));
        assert!(Plan::Budget.settings().any(|word| word == "--batch"));
        assert_eq!(Plan::Reca.settings().count(), 0);
    }

    #[test]
    fn a_mean_waits_for_every_seed() {
        let rows = Plan::Reca.rows(&["sft-sparse-reca".into()], &[], Some(3)).unwrap();
        let needs = |name: &str, seed| {
            let row = rows.iter().find(|row| row.name == name).unwrap();
            row.needs(seed).map(|(row, seed)| (row.name.clone(), seed)).collect::<Vec<_>>()
        };
        let sft = |seed| ("sft-sparse".to_owned(), seed);
        assert_eq!(needs("sft-sparse-mean-of-3", 0), [sft(0), sft(1), sft(2)]);
        assert_eq!(needs("sft-sparse-reca", 2), [sft(2)]);
        assert_eq!(needs("sft-sparse", 1), []);
    }
}
