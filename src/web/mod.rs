//! The only surface that JavaScript sees, in two parts: the laboratory's runtime, and official encoders
//! (features `scene` and `encoders`). Images come in as encoded files (PNG, JPEG, WebP, GIF) and go
//! out as `ImageData`. Every failure is an `Error` named `RecaError` with a stable `code`.

#[cfg(feature = "scene")]
mod align;
#[cfg(feature = "bench")]
mod bench;
#[cfg(feature = "scene")]
mod drawing;
#[cfg(feature = "encoders")]
mod encoder;
#[cfg(feature = "encoders")]
mod encoder_loading;
#[cfg(feature = "scene")]
mod evaluation;
mod failure;
#[cfg(feature = "scene")]
mod options;
#[cfg(feature = "scene")]
mod runtime;
#[cfg(feature = "scene")]
mod scenes;
#[cfg(feature = "scene")]
mod tuned;
mod types;

#[cfg(feature = "scene")]
use self::runtime::Runtime;
