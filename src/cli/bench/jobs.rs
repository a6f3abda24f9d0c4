//! Runs this program's own subcommands, several at once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use std::{env, fs};

use reca::{Error, Result};
use serde_json::{Value, json};

use super::plan::Row;
use crate::common::write;

/// The commands of a row, beside its results.
const COMMANDS: &str = "commands.json";
const POLL: Duration = Duration::from_millis(200);

pub struct Runner {
    program: PathBuf,
    /// What every row is made from and by, beside its commands.
    base: Value,
    jobs: usize,
    threads: usize,
}

impl Runner {
    pub fn new(jobs: usize, base: Value) -> Result<Self> {
        let program = env::current_exe().map_err(Error::internal)?;
        let all = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { program, base, jobs, threads: (all / jobs).max(1) })
    }

    /// Runs every job, each once those that it builds on are done; the first error ends what has
    /// not begun.
    pub fn drive(
        &self,
        jobs: &[(&Row, u64)],
        done: impl Fn(&Row, u64) -> bool + Sync,
        run: impl Fn(&Row, u64) -> Result<()> + Sync,
    ) -> Result<()> {
        let (next, stop, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = || {
            while let Some((row, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let waits = || row.needs(*seed).any(|(needed, seed)| !done(needed, seed));
                while waits() && !stop.load(Ordering::Relaxed) {
                    thread::sleep(POLL);
                }
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = run(row, *seed) {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(|broken| broken.into_inner()).get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| (0..self.jobs).for_each(|_| drop(scope.spawn(work))));
        let failure = failure.into_inner().unwrap_or_else(|broken| broken.into_inner());
        failure.map_or(Ok(()), Err)
    }

    /// Notes a row's commands and its base, or finds those that an earlier call noted equal.
    ///
    /// # Errors
    /// `bad_input` if the folder holds the results of other commands or of another base.
    pub fn same(&self, folder: &Path, commands: &[Vec<String>]) -> Result<()> {
        let path = folder.join(COMMANDS);
        let wanted = json!({ "base": self.base, "commands": commands });
        let wanted = serde_json::to_vec_pretty(&wanted).map_err(Error::internal)?;
        match fs::read(&path) {
            Ok(found) if found == wanted => Ok(()),
            Ok(_) => {
                let message = "was begun with other options, another base or other settings of its recipe; name another --out";
                Err(Error::bad_input(message).at(folder.display()))
            }
            Err(_) => write(&path, &wanted),
        }
    }

    /// Runs one command with this job's share of the threads.
    ///
    /// # Errors
    /// `internal` with the command, if it fails; it has said why.
    pub fn command(&self, arguments: &[String]) -> Result<()> {
        eprintln!("reca {}", arguments.join(" "));
        let status = Command::new(&self.program)
            .args(arguments)
            .env("RAYON_NUM_THREADS", self.threads.to_string())
            .stdout(Stdio::null())
            .status()
            .map_err(|e| Error::bad_input(e).at(self.program.display()))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::internal(format!("reca {} failed with {status}", arguments.join(" "))))
    }
}
