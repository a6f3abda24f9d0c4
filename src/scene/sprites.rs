//! The sprites: a committed archive of SVG bodies, and the bank of pixels made from it.

use std::collections::BTreeMap;
#[cfg(feature = "svg")]
use std::io::Read;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

#[cfg(feature = "svg")]
use super::raster;
use super::recolour::{self, Colour};
use crate::Error;
#[cfg(feature = "svg")]
use crate::Result;

/// Styles of the embedded archive, in its order.
pub const STYLES: [&str; 5] = ["noto", "noto-v1", "fluent", "twemoji", "emojione"];

/// The style that is kept for measuring generalisation; its archive is never embedded.
pub const HELD_STYLE: &str = "openmoji";

/// One drawing: an SVG body and its view box, user units.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Icon {
    pub body: String,
    pub left: f32,
    pub top: f32,
    pub width: f32,
    pub height: f32,
}

#[cfg(feature = "svg")]
impl Icon {
    fn svg(&self) -> String {
        let Self { body, left, top, width, height } = self;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{body}</svg>"#
        )
    }
}

/// Where a style's drawings come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    pub style: String,
    pub package: String,
    pub version: String,
    pub licence: String,
    /// Of the package file, hex.
    pub sha256: String,
}

/// Drawings by noun and style, with their sources.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Archive {
    pub sources: Vec<Source>,
    pub nouns: BTreeMap<String, BTreeMap<String, Icon>>,
}

#[cfg(feature = "svg")]
impl Archive {
    /// The archive of the five training styles that is part of the library.
    pub fn embedded() -> Result<&'static Self> {
        static ARCHIVE: OnceLock<Result<Archive>> = OnceLock::new();
        ARCHIVE
            .get_or_init(|| Self::from_gzip(include_bytes!("sprites.json.gz")))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Reads a gzipped JSON archive.
    ///
    /// Fails with `bad_input` when it is not one.
    pub fn from_gzip(bytes: &[u8]) -> Result<Self> {
        let mut json = Vec::new();
        flate2::read::GzDecoder::new(bytes)
            .read_to_end(&mut json)
            .map_err(|e| Error::bad_input(format!("the sprite archive is not gzip: {e}")))?;
        serde_json::from_slice(&json)
            .map_err(|e| Error::bad_input(format!("the sprite archive is not valid: {e}")))
    }
}

/// One noun in one style, with its recolours made on first use.
struct Drawing {
    natural: Vec<u8>,
    modal: Option<Colour>,
    cluster: Option<recolour::Cluster>,
    recoloured: OnceLock<Vec<(Colour, Vec<u8>)>>,
}

impl Drawing {
    fn recoloured(&self) -> &[(Colour, Vec<u8>)] {
        self.recoloured.get_or_init(|| {
            let Some(cluster) = &self.cluster else {
                return Vec::new();
            };
            Colour::TARGETS
                .into_iter()
                .map(|colour| (colour, recolour::recolour(&self.natural, cluster, colour)))
                .filter(|(colour, pixels)| recolour::passes(pixels, *colour))
                .collect()
        })
    }
}

/// The pixels of some nouns in some styles, natural and recoloured.
pub struct Bank {
    drawings: BTreeMap<String, BTreeMap<String, Drawing>>,
}

/// Natural drawings by noun and style, straight RGBA bytes `[SIZE, SIZE, 4]`.
pub type Natural = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

impl Bank {
    /// Renders every noun in every style that has it.
    ///
    /// Fails with `bad_input` for a noun or a style that the archive lacks.
    #[cfg(feature = "svg")]
    pub fn new(archive: &Archive, nouns: &[String], styles: &[String]) -> Result<Self> {
        for style in styles {
            if !archive.sources.iter().any(|source| source.style == *style) {
                let known: Vec<_> = archive.sources.iter().map(|s| s.style.as_str()).collect();
                return Err(Error::bad_input(format!("no style {style:?}; there are {}", known.join(", "))));
            }
        }
        let mut natural = Natural::new();
        for noun in nouns {
            let icons = archive
                .nouns
                .get(noun)
                .ok_or_else(|| unknown_noun("the archive of sprites", archive.nouns.keys(), noun))?;
            let mut by_style = BTreeMap::new();
            for (style, icon) in icons.iter().filter(|(style, _)| styles.contains(*style)) {
                let pixels =
                    raster::render_svg(&icon.svg()).map_err(|e| e.at(format!("{noun} in {style}")))?;
                by_style.insert(style.clone(), pixels);
            }
            natural.insert(noun.clone(), by_style);
        }
        Ok(Self::of(natural))
    }

    /// The bank of these drawings.
    pub fn of(natural: Natural) -> Self {
        let drawing = |natural: Vec<u8>| Drawing {
            modal: recolour::modal(&natural).map(|(colour, _)| colour),
            cluster: recolour::dominant(&natural),
            natural,
            recoloured: OnceLock::new(),
        };
        let styles = |styles: BTreeMap<String, Vec<u8>>| {
            styles.into_iter().map(|(style, pixels)| (style, drawing(pixels))).collect()
        };
        let drawings = natural.into_iter().map(|(noun, of)| (noun, styles(of))).collect();
        let mut bank = Self { drawings };
        bank.keep_clusters_of_recolourable_nouns();
        bank
    }

    /// A noun is recoloured only when one hue carries it in at least 60 % of its styles.
    fn keep_clusters_of_recolourable_nouns(&mut self) {
        for styles in self.drawings.values_mut() {
            let fit =
                styles.values().filter(|d| d.cluster.as_ref().is_some_and(recolour::recolourable)).count();
            if (fit as f32) < 0.6 * styles.len() as f32 {
                styles.values_mut().for_each(|drawing| drawing.cluster = None);
            }
        }
    }

    fn drawing(&self, noun: &str, style: &str) -> Option<&Drawing> {
        self.drawings.get(noun)?.get(style)
    }

    /// Whether the noun is drawn in the style.
    pub fn has(&self, noun: &str, style: &str) -> bool {
        self.drawing(noun, style).is_some()
    }

    /// Straight RGBA bytes `[SIZE, SIZE, 4]`; `None` for a noun the style lacks or a recolour that
    /// does not read as its colour.
    pub fn pixels(&self, noun: &str, style: &str, colour: Option<Colour>) -> Option<&[u8]> {
        let drawing = self.drawing(noun, style)?;
        match colour {
            None => Some(&drawing.natural),
            Some(colour) => {
                drawing.recoloured().iter().find(|(c, _)| *c == colour).map(|(_, pixels)| pixels.as_slice())
            }
        }
    }

    /// The colours that the noun can be given in the style.
    pub fn colours(&self, noun: &str, style: &str) -> impl Iterator<Item = Colour> + '_ {
        let recoloured = self.drawing(noun, style).map_or(&[][..], Drawing::recoloured);
        recoloured.iter().map(|(colour, _)| *colour)
    }

    /// The name that most pixels of the natural drawing bear.
    pub fn modal_colour(&self, noun: &str, style: &str) -> Option<Colour> {
        self.drawing(noun, style)?.modal
    }

    /// The natural colour that people would name: what at least 60 % of the styles agree on, where
    /// this style's own pixels agree too.
    pub fn natural_colour(&self, noun: &str, style: &str) -> Option<Colour> {
        let styles = self.drawings.get(noun)?;
        let own = styles.get(style)?.modal?;
        let agreeing = styles.values().filter(|drawing| drawing.modal == Some(own)).count();
        (agreeing as f32 >= 0.6 * styles.len() as f32).then_some(own)
    }
}

/// What to say of a noun that is not among those that `place` has.
pub(super) fn unknown_noun<'a>(place: &str, known: impl Iterator<Item = &'a String>, noun: &str) -> Error {
    let near = known
        .min_by_key(|known| strsim::levenshtein(known, noun))
        .map_or(String::new(), |known| format!("; did you mean {known:?}?"));
    Error::bad_input(format!("{place} has no noun {noun:?}{near}"))
}
