//! Evaluation: prompts in GenEval's six categories, a scorer that reads pictures without the model's
//! own encoder, and the same for understanding and reconstruction. Everything is a step iterator
//! that the caller drives; nothing here knows of files, threads or progress bars.

pub mod check;
pub mod compare;
pub mod detector;
pub mod drawing;
pub mod markdown;
pub mod prompts;
pub mod reconstruction;
pub mod report;
pub mod rules;
pub mod scorer;
pub mod understanding;

pub use detector::Detection;
pub use drawing::{Evaluation, Progress};
pub use prompts::{Category, Prompt, PromptSet, PromptTier};
pub use reconstruction::Reconstruction;
pub use report::{Interval, Report};
pub use scorer::{Fault, Scorer, ScorerConfig, ScorerFiles, Verdict};
pub use understanding::Understanding;
