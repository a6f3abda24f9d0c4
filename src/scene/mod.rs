//! The data engine: sprites, recolouring, composed scenes with exact captions, and the split that
//! decides which of them the drawing side of the model may see. Works in memory, natively and in
//! the browser: no files, no threads. Drawings come from SVG (feature `svg`) or from a sheet of pixels.

pub mod caption;
pub mod compose;
pub mod geneval;
pub mod layout;
pub mod nouns;
pub mod question;
pub mod raster;
pub mod recolour;
pub mod sheet;
pub mod split;
pub mod sprites;
pub mod vocabulary;
pub mod world;

mod random;

pub use caption::CaptionRates;
pub use compose::{Engine, Scene, SceneObject};
pub use layout::Relation;
pub use question::{Question, QuestionKind};
pub use recolour::Colour;
pub use split::{Pool, Split, Tier};
pub use sprites::{Archive, Bank};
pub use vocabulary::{tokenizer_json, vocabulary};
pub use world::{Grounds, Kinds, Layout, World};

/// Side of every sprite and scene, pixels.
pub const SIZE: usize = 64;
