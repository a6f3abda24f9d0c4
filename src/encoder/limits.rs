//! What the sizes in a `config.json` may be, of an encoder and of the model. A file can claim anything, and
//! is compared with the weights only once its layers are there.

use crate::{Error, Result};

/// Largest size of any kind that a file may name.
pub const LARGEST: usize = 1 << 20;
/// Most blocks of a tower; official ones have 48 at most.
const DEEPEST: usize = 256;

/// Refuses a transformer whose sizes contradict one another or make no sense.
///
/// `sizes`: hidden size, intermediate size, heads.
///
/// # Errors
/// `weights_format` naming the size, with its limit.
pub fn check_transformer(name: &str, layers: usize, sizes: [usize; 3], epsilon: f64) -> Result<()> {
    let [hidden, intermediate, heads] = sizes;
    if heads == 0 || !hidden.is_multiple_of(heads) {
        return Err(bad(format!("{name}: hidden_size {hidden} is not a multiple of {heads} heads")));
    }
    if !(0.0..1.0).contains(&epsilon) {
        return Err(bad(format!("{name}: its norms' eps is {epsilon}, expected 0 or more, below 1")));
    }
    check_size(&format!("{name}: hidden_size"), hidden, LARGEST)?;
    check_size(&format!("{name}: intermediate_size"), intermediate, LARGEST)?;
    check_size(&format!("{name}: num_hidden_layers"), layers, DEEPEST)
}

/// Refuses a size that is not 1 to `largest`.
///
/// # Errors
/// `weights_format` with the name and the limit.
pub fn check_size(name: &str, size: usize, largest: usize) -> Result<()> {
    if (1..=largest).contains(&size) {
        return Ok(());
    }
    Err(bad(format!("{name} is {size}, expected 1 to {largest}")))
}

/// What is wrong with a `config.json`.
pub fn bad(what: impl std::fmt::Display) -> Error {
    Error::weights_format(format!("config.json: {what}"))
}
