//! Prompts to draw: from the command line, or from a file in GenEval's format.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use reca::{Error, Result};
use serde::Deserialize;

use crate::common::slug;

/// One prompt, and where its pictures go.
pub struct Job {
    pub prompt: String,
    pub target: Target,
}

pub enum Target {
    /// `<name>-<seed>.png`
    Named(String),
    /// GenEval's folder `<index>`, with the prompt's line as it stood in the file.
    GenEval { index: usize, metadata: String },
}

impl Target {
    /// The file of the picture of one seed, the `nth` of its prompt.
    pub fn file(&self, out: &Path, nth: usize, seed: u64) -> PathBuf {
        match self {
            Self::Named(name) => out.join(format!("{name}-{seed}.png")),
            Self::GenEval { index, .. } => out.join(format!("{index:05}/samples/{nth:04}.png")),
        }
    }
}

/// Prompts as typed; words without any quotes are one prompt.
pub fn typed(words: &[String]) -> Vec<Job> {
    let unquoted = words.iter().all(|word| !word.contains(char::is_whitespace));
    let prompts = if unquoted { vec![words.join(" ")] } else { words.to_vec() };
    let mut uses = HashMap::new();
    let job = |prompt: String| {
        let slug = slug(&prompt);
        let used: &mut u32 = uses.entry(slug.clone()).or_default();
        *used += 1;
        let name = if *used == 1 { slug } else { format!("{slug}-{used}") };
        Job { prompt, target: Target::Named(name) }
    };
    prompts.into_iter().map(job).collect()
}

/// What is read of a line of GenEval's `evaluation_metadata.jsonl`.
#[derive(Deserialize)]
struct Line {
    prompt: String,
}

/// The prompts of a file in GenEval's format; the index is the line's, from 0.
///
/// # Errors
/// `bad_input` naming the line that is no JSON object with a prompt, and for an empty file.
pub fn from_file(path: &Path) -> Result<Vec<Job>> {
    let at = |error: Error| error.at(path.display());
    let text = fs::read_to_string(path).map_err(|e| at(Error::bad_input(e)))?;
    let job = |(index, line): (usize, &str)| {
        let parsed: Line = serde_json::from_str(line).map_err(|e| {
            at(Error::bad_input(format!(
                "line {}: {e}; every line must be like {{\"prompt\": \"a red car\", \"tag\": …}}",
                index + 1
            )))
        })?;
        Ok(Job { prompt: parsed.prompt, target: Target::GenEval { index, metadata: line.to_owned() } })
    };
    let jobs: Vec<Job> = text.trim_end().lines().enumerate().map(job).collect::<Result<_>>()?;
    if jobs.is_empty() {
        return Err(at(Error::bad_input("the file has no lines")));
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<(String, PathBuf)> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        typed(&words).into_iter().map(|job| (job.prompt, job.target.file(Path::new(""), 0, 7))).collect()
    }

    #[test]
    fn unquoted_words_are_one_prompt() {
        assert_eq!(names(&["a", "red", "car"]), [("a red car".to_owned(), "a-red-car-7.png".into())]);
        assert_eq!(names(&["a red car", "dog"]).len(), 2);
    }

    #[test]
    fn prompts_that_look_alike_get_files_of_their_own() {
        let files: Vec<_> = names(&["a car", "A car!", "a  car"]).into_iter().map(|(_, file)| file).collect();
        assert_eq!(files, ["a-car-7.png", "a-car-2-7.png", "a-car-3-7.png"].map(PathBuf::from));
    }
}
