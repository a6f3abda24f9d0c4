//! One training run's loop: resume, step, show, log, look, save.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pollster::block_on;
use reca::train::stage::{Stage, Trainer};
use reca::{Error, Result};

use crate::log::{Line, Log};

/// Steps a line of the log.
const LOG_EVERY: u64 = 10;
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Looks a stage, where a job does not say how often.
const LOOKS: u64 = 10;

/// What is trained, and where its files are.
pub struct Job<'a> {
    pub stage: &'a str,
    pub run: String,
    pub checkpoint: PathBuf,
    /// The option that throws the checkpoint away.
    pub anew: String,
    pub log: Log,
    /// Steps from look to look; a tenth of all if `None`.
    pub look_every: Option<u64>,
}

/// Trains to the end, from the checkpoint if there is one, and leaves one. `look` sees the result so far
/// and the step a few times, the last time at the end, and may end the training.
pub fn drive<S: Stage>(
    mut trainer: Trainer<S>,
    job: &Job,
    mut look: impl FnMut(&S::Module, u64) -> Result<ControlFlow<()>>,
) -> Result<S::Module> {
    let failed = |e: Error| e.at(format!("{} ({} trains it anew)", job.checkpoint.display(), job.anew));
    if job.checkpoint.exists() {
        let bytes = fs::read(&job.checkpoint).map_err(|e| failed(Error::bad_input(e)))?;
        trainer.resume(&job.run, &bytes).map_err(failed)?;
    } else {
        // From the first step on a checkpoint tells that what else lies there is not finished.
        write_whole(&job.checkpoint, &block_on(trainer.checkpoint(&job.run))?)?;
    }
    let (start, steps) = trainer.progress();
    let spent = job.log.rewind(job.stage, start)?;
    let batch = trainer.config().batch as f64;
    let bar = bar(steps, job.stage).with_position(start);
    bar.reset_eta();
    let began = Instant::now();
    let (mut saved, mut logged, mut losses) = (began, began, Vec::new());
    while !trainer.is_finished() {
        let report = block_on(trainer.step()).map_err(failed)?;
        losses.push(report.loss);
        let loss = losses.iter().sum::<f32>() / losses.len() as f32;
        let rate = batch * losses.len() as f64 / logged.elapsed().as_secs_f64().max(1e-9);
        bar.set_position(report.step);
        bar.set_message(format!("loss {loss:.4}, {rate:.0} samples/s"));
        if report.step.is_multiple_of(LOG_EVERY) || trainer.is_finished() {
            job.log.append(&Line {
                stage: job.stage.to_owned(),
                step: report.step,
                loss,
                learning_rate: report.learning_rate,
                samples_per_second: rate,
                seconds: spent + began.elapsed().as_secs_f64(),
            })?;
            (logged, losses) = (Instant::now(), Vec::new());
        }
        let looks = |step: u64| job.look_every.map_or(step * LOOKS / steps, |every| step / every);
        let due = looks(report.step) != looks(report.step - 1) || trainer.is_finished();
        if due && look(trainer.result(), report.step)?.is_break() {
            break;
        }
        if saved.elapsed() > SAVE_EVERY || trainer.is_finished() {
            write_whole(&job.checkpoint, &block_on(trainer.checkpoint(&job.run))?)?;
            saved = Instant::now();
        }
    }
    bar.finish();
    Ok(trainer.result().clone())
}

/// For looks that never end a training.
pub fn go_on((): ()) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A progress bar for `what`, on standard error; hidden where that is no terminal.
pub fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix}  {bar:30} {pos}/{len}, {eta} left  {wide_msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_prefix(what.to_owned())
}

/// Writes a file so that a reader, or an interruption, finds the old one or the new one whole.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| Error::bad_input(e).at(path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).map_err(failed)
}
