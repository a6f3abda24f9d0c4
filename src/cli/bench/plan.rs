//! What is measured: rows, each an alignment of the base or of another row.

use std::path::{Path, PathBuf, absolute};

use reca::{Error, Result};

/// The row that the figure shows beside the base.
pub const SHOWN: &str = "reca-open";

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
    /// The row that it goes on from; the base if none.
    after: Option<Box<Row>>,
    /// Options of `reca align`; the base itself has none.
    pub align: Option<Vec<String>>,
}

impl Row {
    fn new(name: &str, title: &str, options: &str) -> Self {
        let options = options.split_whitespace().map(str::to_owned).collect();
        Self { name: name.to_owned(), title: title.to_owned(), after: None, align: Some(options) }
    }

    /// RecA with the embeddings of another encoder, named by its folder.
    fn encoder(folder: &Path) -> Result<Self> {
        let path = absolute(folder).map_err(|e| Error::bad_input(e).at(folder.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut row =
            Self::new(&format!("encoder-{name}"), &format!("RecA, embeddings of {name}"), "--encoder");
        row.align.iter_mut().for_each(|options| options.push(path.display().to_string()));
        Ok(row)
    }

    fn after(self, row: &Row) -> Self {
        Self { after: Some(Box::new(row.clone())), ..self }
    }

    pub fn parent(&self) -> Option<&Row> {
        self.after.as_deref()
    }

    /// How many of `seeds` training seeds it has; the base was trained once.
    pub fn seeds(&self, seeds: u64) -> u64 {
        if self.align.is_some() { seeds } else { 1 }
    }

    pub fn folder(&self, out: &Path, seed: u64) -> PathBuf {
        out.join(format!("{}-{seed}", self.name))
    }

    pub fn model(&self, out: &Path, seed: u64, base: &Path) -> PathBuf {
        if self.align.is_some() { self.folder(out, seed).join("model") } else { base.to_owned() }
    }
}

impl Plan {
    /// The rows, each after the one that it builds on, and one for each other encoder.
    ///
    /// # Errors
    /// `bad_input` for a name in `only` that no row has, and for encoders of one name.
    pub fn rows(self, only: &[String], encoders: &[PathBuf]) -> Result<Vec<Row>> {
        let base = Row { name: "base".into(), title: "base".into(), after: None, align: None };
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
                    Row::new("sft-sparse-reca", "own captions, then RecA", "--method reca").after(&sft),
                    Row::new("reca-sft-sparse", "RecA, then own captions", "--method sft-sparse")
                        .after(&reca),
                ]);
            }
            Self::Budget => rows.extend([10, 30, 100, 300, 1000].map(|steps| {
                let options = format!("--batch 8 --steps {steps}");
                Row::new(&format!("reca-{steps}"), &format!("RecA, {steps} steps of 8"), &options)
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
            only.is_empty() || row.align.is_none() || asked(&row.name) || rows.iter().any(builds_on)
        };
        Ok(rows.iter().filter(|row| wanted(row)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_with_what_they_build_on() {
        let names = |only: &[&str]| -> Result<Vec<String>> {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            let encoders = [PathBuf::from("towers/clip")];
            Ok(Plan::Reca.rows(&only, &encoders)?.into_iter().map(|row| row.name).collect())
        };
        assert_eq!(names(&["sft-sparse-reca"]).unwrap(), ["base", "sft-sparse", "sft-sparse-reca"]);
        assert_eq!(names(&["encoder-clip"]).unwrap(), ["base", "encoder-clip"]);
        assert_eq!(names(&[]).unwrap().len(), 10);
        assert!(names(&["sft"]).unwrap_err().message.contains("sft-sparse"));
    }
}
