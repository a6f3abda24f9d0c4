//! Evaluations of the same prompts against each other, paired by prompt.

use super::{
    Interval,
    prompts::{Category, PromptTier},
    report::{PromptResult, bootstrap, interval},
};
use crate::{Error, Result};

/// A prompt with its pictures of all reports that were joined.
#[derive(Clone, Debug)]
pub struct Unit {
    pub prompt: String,
    pub category: Category,
    pub tier: PromptTier,
    /// Whether each picture is right.
    pub rights: Vec<bool>,
}

impl Unit {
    fn share(&self) -> f64 {
        self.rights.iter().filter(|right| **right).count() as f64 / self.rights.len().max(1) as f64
    }
}

/// One or several evaluations of the same prompts, as of several training seeds, with the pictures of all.
#[derive(Clone, Debug, Default)]
pub struct Joined(pub Vec<Unit>);

impl Joined {
    /// Adds a report's prompts.
    ///
    /// # Errors
    /// `bad_input` if these are other prompts than those of the reports before.
    pub fn add(&mut self, prompts: &[PromptResult]) -> Result<()> {
        if self.0.is_empty() {
            self.0 = prompts
                .iter()
                .map(|result| Unit {
                    prompt: result.prompt.clone(),
                    category: result.category,
                    tier: result.tier,
                    rights: Vec::new(),
                })
                .collect();
        }
        let names = prompts.iter().map(|result| &result.prompt);
        if !names.eq(self.0.iter().map(|unit| &unit.prompt)) {
            return Err(other_prompts());
        }
        for (unit, result) in self.0.iter_mut().zip(prompts) {
            unit.rights.extend(result.verdicts.iter().map(|verdict| verdict.correct));
        }
        Ok(())
    }

    /// The share that is right: of a category, or of one tier of it, or overall (the unweighted mean over
    /// categories) if both are `None`.
    pub fn score(&self, category: Option<Category>, tier: Option<PromptTier>) -> Interval {
        let groups = grouped(category, |category| {
            let fits = self.0.iter().filter(|unit| fits(unit, category, tier));
            fits.map(|unit| unit.rights.clone()).collect::<Vec<_>>()
        });
        interval(&groups)
    }

    /// The same share less that of `others`, paired by prompt.
    ///
    /// # Errors
    /// `bad_input` if the prompts differ.
    pub fn ahead_of(
        &self,
        others: &Self,
        category: Option<Category>,
        tier: Option<PromptTier>,
    ) -> Result<Interval> {
        if !self.0.iter().map(|unit| &unit.prompt).eq(others.0.iter().map(|unit| &unit.prompt)) {
            return Err(other_prompts());
        }
        Ok(bootstrap(&grouped(category, |category| {
            let pairs = self.0.iter().zip(&others.0).filter(|(unit, _)| fits(unit, category, tier));
            pairs.map(|(unit, other)| unit.share() - other.share()).collect::<Vec<_>>()
        })))
    }

    /// Prompts of a category, or of one tier of it.
    pub fn count(&self, category: Category, tier: Option<PromptTier>) -> usize {
        self.0.iter().filter(|unit| fits(unit, category, tier)).count()
    }
}

fn fits(unit: &Unit, category: Category, tier: Option<PromptTier>) -> bool {
    unit.category == category && tier.is_none_or(|tier| tier == unit.tier)
}

/// A group for the category, or one for each.
fn grouped<T>(category: Option<Category>, of: impl Fn(Category) -> T) -> Vec<T> {
    category.map_or_else(|| Category::ALL.map(&of).into(), |category| vec![of(category)])
}

fn other_prompts() -> Error {
    Error::bad_input(
        "was made with other prompts; compare reports of the same --seed, --per-category, --tiers and --prompts",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Verdict;

    fn results(prompts: [(Category, [bool; 2]); 3]) -> [PromptResult; 3] {
        prompts.map(|(category, rights): (Category, [bool; 2])| PromptResult {
            prompt: category.name().to_owned(),
            category,
            tier: PromptTier::Seen,
            seed: 0,
            verdicts: rights.map(|correct| Verdict { correct, fault: None, reason: String::new() }).into(),
        })
    }

    fn joined(prompts: [(Category, [bool; 2]); 3]) -> Joined {
        let mut joined = Joined::default();
        joined.add(&results(prompts)).unwrap();
        joined
    }

    #[test]
    fn reports_are_paired_by_prompt() {
        use Category::{Position, SingleObject};
        let ahead =
            joined([(SingleObject, [true, true]), (SingleObject, [true, false]), (Position, [true, true])]);
        let behind =
            joined([(SingleObject, [false, true]), (SingleObject, [true, false]), (Position, [true, false])]);
        // Half a prompt of two in one category, half of one in the other.
        assert!((ahead.ahead_of(&behind, None, None).unwrap().mean - 0.375).abs() < 1e-12);
        assert!((behind.ahead_of(&ahead, None, None).unwrap().mean + 0.375).abs() < 1e-12);
        assert_eq!(ahead.ahead_of(&ahead, None, None).unwrap(), Interval::default());
        assert_eq!(ahead.ahead_of(&behind, Some(Position), None).unwrap().mean, 0.5);
        assert_eq!(behind.score(Some(SingleObject), Some(PromptTier::Seen)).mean, 0.5);
    }

    #[test]
    fn several_reports_make_one() {
        use Category::{Position, SingleObject};
        let prompts = [(SingleObject, [true, true]), (SingleObject, [true, false]), (Position, [true, true])];
        let other = [(SingleObject, [true, true]), (Position, [true, false]), (Position, [true, true])];
        let mut twice = joined(prompts);
        assert!(twice.ahead_of(&joined(other), None, None).unwrap_err().message.contains("other prompts"));
        twice
            .add(&results(prompts.map(|(category, rights)| (category, rights.map(|right| !right)))))
            .unwrap();
        assert!(twice.0.iter().all(|unit| unit.rights.len() == 4));
        assert_eq!(twice.score(None, None).mean, 0.5);
        assert!(twice.add(&results(other)).unwrap_err().message.contains("other prompts"));
    }
}
