//! `log.jsonl`: one object a line, ready to plot.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use reca::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::drive::write_whole;

/// Where a stage stood.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub stage: String,
    /// Steps made.
    pub step: u64,
    /// Mean over the steps since the line before.
    pub loss: f32,
    pub learning_rate: f64,
    pub samples_per_second: f64,
    /// Spent on this stage so far, checkpoints and samples included.
    pub seconds: f64,
}

pub struct Log {
    path: PathBuf,
}

impl Log {
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join("log.jsonl") }
    }

    /// Drops the stage's lines after `step`, which are about to be made again; the seconds spent
    /// until there.
    pub fn rewind(&self, stage: &str, step: u64) -> Result<f64> {
        if !self.path.exists() {
            return Ok(0.0);
        }
        let text = fs::read_to_string(&self.path).map_err(|e| self.failed(e))?;
        let (mut kept, mut seconds) = (String::new(), 0.0);
        for line in text.lines() {
            // A line cut short by an interruption is dropped too.
            let Ok(parsed) = serde_json::from_str::<Line>(line) else { continue };
            let own = parsed.stage == stage;
            if !own || parsed.step <= step {
                kept.extend([line, "\n"]);
            }
            if own && parsed.step <= step {
                seconds = parsed.seconds;
            }
        }
        write_whole(&self.path, kept.as_bytes())?;
        Ok(seconds)
    }

    pub fn append(&self, line: &Line) -> Result<()> {
        let json = serde_json::to_string(line).map_err(Error::internal)?;
        let file = fs::OpenOptions::new().create(true).append(true).open(&self.path);
        file.and_then(|mut file| writeln!(file, "{json}")).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::bad_input(error).at(self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewinds_one_stage_and_drops_half_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(folder.path());
        assert_eq!(log.rewind("encoder", 0).unwrap(), 0.0);
        for (stage, step) in [("encoder", 10), ("autoencoder", 10), ("autoencoder", 20)] {
            let line = Line {
                stage: stage.into(),
                step,
                loss: 1.0,
                learning_rate: 0.1,
                samples_per_second: 5.0,
                seconds: step as f64,
            };
            log.append(&line).unwrap();
        }
        let mut file = fs::OpenOptions::new().append(true).open(&log.path).unwrap();
        write!(file, "{{\"stage\":\"auto").unwrap();
        assert_eq!(log.rewind("autoencoder", 10).unwrap(), 10.0);
        let text = fs::read_to_string(&log.path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
