//! Reports as Markdown; shares in per cent with 95 % intervals.

use std::fmt::Write;

use super::{
    Interval, Report,
    check::Accuracy,
    prompts::PromptTier,
    report::{DrawingReport, Fidelity, Score, UnderstandingScore},
    scorer::Fault,
};

impl Report {
    /// The report as Markdown tables; shares in per cent with 95 % intervals.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        if let Some(drawing) = &self.drawing {
            drawing.write_markdown(out, &self.scorer)?;
        }
        if !self.understanding.is_empty() {
            writeln!(out, "## Understanding\n\n| question | tier | scenes | questions | right | % |")?;
            writeln!(out, "|---|---|---:|---:|---:|---|")?;
        }
        for row in &self.understanding {
            let UnderstandingScore { kind, shows, tier, scenes, questions, correct, score } = row;
            let of = shows.map_or(String::new(), |shows| format!(" of {}", shows.name()));
            let (kind, tier) = (format!("{kind:?}{of}").to_lowercase(), tier.name());
            writeln!(out, "| {kind} | {tier} | {scenes} | {questions} | {correct} | {} |", percent(score))?;
        }
        if !self.reconstruction.is_empty() {
            writeln!(
                out,
                "\n## Reconstruction\n\n| from | tier | scenes | PSNR, dB | SSIM | nouns, % | and colours, % | and places, % |\n\
                 |---|---|---:|---:|---:|---|---|---|"
            )?;
        }
        let from_embeddings = self.reconstruction.iter().map(|row| ("embeddings", row, &row.redrawn));
        let from_latents = self.reconstruction.iter().map(|row| ("latents", row, &row.autoencoder));
        for (from, row, Fidelity { psnr, ssim, nouns, colours, places }) in
            from_embeddings.chain(from_latents)
        {
            let [nouns, colours, places] = [nouns, colours, places].map(percent);
            let (tier, scenes) = (row.tier.name(), row.scenes);
            writeln!(
                out,
                "| {from} | {tier} | {scenes} | {psnr:.2} | {ssim:.3} | {nouns} | {colours} | {places} |"
            )?;
        }
        Ok(())
    }
}

impl DrawingReport {
    fn write_markdown(&self, out: &mut String, scorer: &[Accuracy]) -> std::fmt::Result {
        let Self { steps, guidance_scale, method, pictures, .. } = self;
        let planned = if self.plan_layout { "layouts planned" } else { "prompts as written" };
        writeln!(
            out,
            "## Drawing\n\n{} prompts, {pictures} pictures each, {steps} {method} steps, guidance {guidance_scale}, {planned}. \
             Overall is the unweighted mean over categories.\n",
            self.prompts.len()
        )?;
        writeln!(
            out,
            "| category | tier | prompts | pictures | right | % | wrong: not there, colour, place, too much | \
             scorer on rendered scenes, % | and with another thing in its place |"
        )?;
        writeln!(out, "|---|---|---:|---:|---:|---|---|---:|---:|")?;
        for category in &self.categories {
            let own = |score: &&Score| score.category == category.category;
            for Score { category, tier, prompts, pictures, correct, faults, score } in
                std::iter::once(category).chain(self.tiers.iter().filter(own))
            {
                let measured = scorer.iter().find(|a| a.category == *category && Some(a.tier) == *tier);
                let measured = measured.map_or("|".to_owned(), |a| {
                    let share = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
                    let (right, strange) = (share(a.accepted, a.pictures), share(a.strange, a.exchanged));
                    format!("{right:.1} of {} | {strange:.1} of {}", a.pictures, a.exchanged)
                });
                let faults =
                    Fault::ALL.map(|fault| faults.get(&fault).copied().unwrap_or_default().to_string());
                let faults = faults.join(", ");
                let tier = tier.map_or("**all**", PromptTier::name);
                let (category, score) = (category.name(), percent(score));
                writeln!(
                    out,
                    "| {category} | {tier} | {prompts} | {pictures} | {correct} | {score} | {faults} | {measured} |"
                )?;
            }
        }
        writeln!(out, "| **overall** | | | | | **{}** | | | |\n", percent(&self.overall))?;
        if !self.absent.is_empty() {
            let names: Vec<_> = self.absent.iter().map(|category| category.name()).collect();
            writeln!(out, "No prompts, and not part of the overall score: {}.\n", names.join(", "))?;
        }
        if !self.skipped.prompts.is_empty() {
            let words: Vec<_> = self.skipped.words.iter().map(|(word, n)| format!("{word} ({n})")).collect();
            let skipped = self.skipped.prompts.len();
            writeln!(out, "{skipped} prompts skipped for unknown words: {}.\n", words.join(", "))?;
        }
        Ok(())
    }
}

/// "81.2 [77.0, 85.1]"
pub fn percent(interval: &Interval) -> String {
    let Interval { mean, low, high } = interval;
    format!("{:.1} [{:.1}, {:.1}]", 100.0 * mean, 100.0 * low, 100.0 * high)
}

/// A difference of shares: "+3.1 [+1.0, +5.2]"
pub fn signed(Interval { mean, low, high }: &Interval) -> String {
    format!("{:+.1} [{:+.1}, {:+.1}]", 100.0 * mean, 100.0 * low, 100.0 * high)
}
