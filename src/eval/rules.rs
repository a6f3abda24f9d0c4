//! GenEval's rules (`evaluate_images.py` of djghosh13/geneval): what a picture must and must not
//! show, judged from the objects found in it.

use super::{
    detector::Detection,
    scorer::{Fault, ScorerConfig, Verdict},
};
use crate::scene::{
    Colour,
    geneval::{Metadata, Requirement},
    layout::relations,
};

/// Judges the objects of a picture in a style (the surest first) by a prompt's record.
pub fn judge(config: &ScorerConfig, found: &[Detection], record: &Metadata, style: &str) -> Verdict {
    let natural = Natural { config, style };
    let mut faults: Vec<(Fault, String)> = Vec::new();
    let mut matched: Vec<Option<Vec<&Detection>>> = Vec::new();
    for required in &record.include {
        let group = of_class(config, found, &required.class);
        match fits(natural, &group, required, &matched) {
            Ok(()) => {
                matched.push(Some(group.into_iter().take(required.count as usize).collect()));
            }
            Err(fault) => {
                faults.push(fault);
                matched.push(None);
            }
        }
    }
    for excluded in &record.exclude {
        let there = of_class(config, found, &excluded.class).len();
        if there >= excluded.count as usize {
            let reason = format!("expected {} < {}, found {there}", excluded.class, excluded.count);
            faults.push((Fault::Excess, reason));
        }
    }
    let fault = faults.first().map(|(fault, _)| *fault);
    let reasons: Vec<String> = faults.into_iter().map(|(_, reason)| reason).collect();
    Verdict { correct: fault.is_none(), fault, reason: reasons.join("; ") }
}

fn of_class<'a>(config: &ScorerConfig, found: &'a [Detection], class: &str) -> Vec<&'a Detection> {
    let noun = config.nouns.iter().position(|noun| noun == class);
    found.iter().filter(|object| Some(object.noun) == noun).collect()
}

/// Whether the objects of a class meet a requirement; `Err` says what is amiss.
fn fits(
    natural: Natural,
    group: &[&Detection],
    required: &Requirement,
    matched: &[Option<Vec<&Detection>>],
) -> Result<(), (Fault, String)> {
    let Requirement { class, count, color, position } = required;
    let wanted = *count as usize;
    if group.len() < wanted {
        return Err((Fault::Missing, format!("expected {class} >= {count}, found {}", group.len())));
    }
    let group = &group[..wanted];
    if let Some(colour) = color {
        let right = group.iter().filter(|object| natural.colour(object) == Some(*colour)).count();
        if right < wanted {
            let seen: Vec<_> = group.iter().map(|object| natural.words(object)).collect();
            let reason = format!("expected {colour} {class}, found {}", seen.join(" and "));
            return Err((Fault::Colour, reason));
        }
    }
    if let Some((relation, target)) = position {
        let Some(Some(targets)) = matched.get(*target) else {
            return Err((Fault::Place, format!("nothing for {class} to be {}", relation.name())));
        };
        let held = |object: &Detection, target: &Detection| {
            relations(object.place(), target.place()).contains(relation)
        };
        if !group.iter().all(|object| targets.iter().all(|target| held(object, target))) {
            return Err((Fault::Place, format!("expected {class} {} its target", relation.name())));
        }
    }
    Ok(())
}

/// The colours of things that were not recoloured.
#[derive(Clone, Copy)]
struct Natural<'a> {
    config: &'a ScorerConfig,
    style: &'a str,
}

impl Natural<'_> {
    /// The colour of an object; of one that was not recoloured the one that it has by nature in this style.
    fn colour(self, object: &Detection) -> Option<Colour> {
        let natural = || {
            let styles = self.config.natural.get(self.config.nouns.get(object.noun)?)?;
            styles.get(self.style).copied()
        };
        object.colour.or_else(natural)
    }

    fn words(self, object: &Detection) -> String {
        let colour = self.colour(object).map_or("unknown", Colour::name);
        if object.colour.is_some() { colour.to_owned() } else { format!("natural ({colour})") }
    }
}
