//! Reconstruction Alignment (RecA, arXiv 2509.07295): the model is shown its own understanding
//! embeddings of an image in the place of a caption, and learns to redraw the image. No captions.
//!
//! `loss = L(draw(template text + h_v), image)`, where `h_v` are the image's understanding
//! embeddings and `L` is the model's own flow loss. Only the generation expert learns; the
//! understanding side is frozen, so that the paper's weight of the understanding loss (`lambda_i2t`)
//! is 0, as it is for all models with separate experts.
//!
//! [`align::AlignStage`] is one more training stage; its controls are the other [`Method`]s.

pub mod align;
pub mod condition;
pub mod external;
pub mod images;

pub use align::{AlignConfig, AlignStage, Method, TWO_OBJECTS};
pub use condition::ConditionConfig;
pub use external::{External, ExternalConnector};
pub use images::AlignImages;
