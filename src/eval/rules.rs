//! GenEval's rules (`evaluate_images.py` of djghosh13/geneval): what a picture must and must not
//! show, judged from the objects found in it.

use super::{
    detector::Detection,
    scorer::{ScorerConfig, Verdict},
};
use crate::scene::{
    Colour,
    geneval::{Metadata, Requirement},
    layout::relations,
};

/// Judges the objects of a picture (the surest first) by a prompt's record.
pub fn judge(config: &ScorerConfig, found: &[Detection], record: &Metadata) -> Verdict {
    let mut reasons = Vec::new();
    let mut matched: Vec<Option<Vec<&Detection>>> = Vec::new();
    for required in &record.include {
        let group = of_class(config, found, &required.class);
        match fits(config, &group, required, &matched) {
            Ok(()) => {
                matched.push(Some(group.into_iter().take(required.count as usize).collect()));
            }
            Err(reason) => {
                reasons.push(reason);
                matched.push(None);
            }
        }
    }
    for excluded in &record.exclude {
        let there = of_class(config, found, &excluded.class).len();
        if there >= excluded.count as usize {
            reasons.push(format!("expected {} < {}, found {there}", excluded.class, excluded.count));
        }
    }
    Verdict { correct: reasons.is_empty(), reason: reasons.join("; ") }
}

fn of_class<'a>(config: &ScorerConfig, found: &'a [Detection], class: &str) -> Vec<&'a Detection> {
    let noun = config.nouns.iter().position(|noun| noun == class);
    found.iter().filter(|object| Some(object.noun) == noun).collect()
}

/// Whether the objects of a class meet a requirement; `Err` says what is amiss.
fn fits(
    config: &ScorerConfig,
    group: &[&Detection],
    required: &Requirement,
    matched: &[Option<Vec<&Detection>>],
) -> Result<(), String> {
    let Requirement { class, count, color, position } = required;
    let wanted = *count as usize;
    if group.len() < wanted {
        return Err(format!("expected {class} >= {count}, found {}", group.len()));
    }
    let group = &group[..wanted];
    if let Some(colour) = color {
        let right = group.iter().filter(|object| has_colour(config, object, *colour)).count();
        if right < wanted {
            let seen: Vec<_> = group.iter().map(|object| colour_words(config, object)).collect();
            return Err(format!("expected {colour} {class}, found {}", seen.join(" and ")));
        }
    }
    if let Some((relation, target)) = position {
        let Some(Some(targets)) = matched.get(*target) else {
            return Err(format!("nothing for {class} to be {}", relation.name()));
        };
        let held = |object: &Detection, target: &Detection| {
            relations(object.place(), target.place()).contains(relation)
        };
        if !group.iter().all(|object| targets.iter().all(|target| held(object, target))) {
            return Err(format!("expected {class} {} its target", relation.name()));
        }
    }
    Ok(())
}

/// Whether an object is of a colour; one that was not recoloured is of those it has by nature.
pub fn has_colour(config: &ScorerConfig, object: &Detection, colour: Colour) -> bool {
    match object.colour {
        Some(found) => found == colour,
        None => natural(config, object).contains(&colour),
    }
}

fn natural<'a>(config: &'a ScorerConfig, object: &Detection) -> &'a [Colour] {
    let noun = config.nouns.get(object.noun);
    noun.and_then(|noun| config.natural.get(noun)).map_or(&[], Vec::as_slice)
}

fn colour_words(config: &ScorerConfig, object: &Detection) -> String {
    match object.colour {
        Some(colour) => colour.to_string(),
        None => {
            let names: Vec<_> = natural(config, object).iter().map(|colour| colour.name()).collect();
            format!("natural ({})", names.join(", "))
        }
    }
}
