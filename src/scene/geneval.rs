//! GenEval's prompt format: one JSON object a line with what a picture must and must not show.

use serde::{Deserialize, Serialize};

use super::caption::{Mention, describe};
use super::compose::Scene;
use super::layout::Relation;
use super::recolour::Colour;

/// One line of GenEval's `evaluation_metadata.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// single_object, two_object, counting, colors, position or color_attr.
    pub tag: String,
    pub include: Vec<Requirement>,
    #[serde(default)]
    pub exclude: Vec<Requirement>,
    pub prompt: String,
}

/// So many of a class, in a colour, in a relation to another requirement of the line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requirement {
    pub class: String,
    pub count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<Colour>,
    /// The relation, and the index in `include` of what it is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<(Relation, usize)>,
}

/// What GenEval would ask of a picture of the scene.
pub fn metadata(scene: &Scene) -> Metadata {
    let count = scene.count.unwrap_or(1);
    let mut include: Vec<_> = scene
        .objects
        .iter()
        .take(if scene.count.is_some() { 1 } else { 2 })
        .map(|object| Requirement { class: object.noun.clone(), count, color: object.colour, position: None })
        .collect();
    let coloured = include.iter().any(|required| required.color.is_some());
    let mut exclude = Vec::new();
    let tag = match (scene.count, scene.relation) {
        (Some(_), _) => {
            let more = include.iter().map(|r| Requirement { count: r.count + 1, color: None, ..r.clone() });
            exclude = more.collect();
            "counting"
        }
        (None, Some(relation)) => {
            // GenEval puts the object that the position belongs to last.
            include.reverse();
            if let Some(last) = include.last_mut() {
                last.position = Some((relation, 0));
            }
            "position"
        }
        (None, None) if include.len() == 2 && coloured => "color_attr",
        (None, None) if include.len() == 2 => "two_object",
        (None, None) if coloured => "colors",
        (None, None) => "single_object",
    };
    let prompt = format!("a photo of {}", describe(scene, Mention::ALL));
    Metadata { tag: tag.to_owned(), include, exclude, prompt }
}
