//! One error type with stable codes, the same in Rust, on the command line and in JavaScript.

use std::fmt;

use serde::Serialize;

/// Stable reason of a failure. The names are part of the public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No WebGPU adapter or device could be had.
    NoWebgpu,
    /// A device limit (buffer size, bindings) is below what the model needs.
    LimitTooSmall,
    /// The GPU device was lost while working.
    DeviceLost,
    /// Memory for tensors or weights could not be had.
    OutOfMemory,
    /// A weight file's size or sha256 differs from the manifest's.
    WeightsHash,
    /// A tensor is missing, unexpected or has another shape.
    WeightsShape,
    /// A model file is not what it claims to be (truncated, foreign, malformed).
    WeightsFormat,
    /// A download failed.
    Network,
    /// Storage is full.
    Quota,
    /// The caller cancelled.
    Aborted,
    /// Another job is running.
    Busy,
    /// The user's input cannot be used; the message names the remedy.
    BadInput,
    /// A defect of this program.
    Internal,
}

impl ErrorCode {
    /// The code as JavaScript and `--json` show it, for example `weights_hash`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoWebgpu => "no_webgpu",
            Self::LimitTooSmall => "limit_too_small",
            Self::DeviceLost => "device_lost",
            Self::OutOfMemory => "out_of_memory",
            Self::WeightsHash => "weights_hash",
            Self::WeightsShape => "weights_shape",
            Self::WeightsFormat => "weights_format",
            Self::Network => "network",
            Self::Quota => "quota",
            Self::Aborted => "aborted",
            Self::Busy => "busy",
            Self::BadInput => "bad_input",
            Self::Internal => "internal",
        }
    }
}

/// What went wrong, with what was expected and the remedy in the message.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub code: ErrorCode,
    pub message: String,
}

/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub fn bad_input(message: impl fmt::Display) -> Self {
        Self::new(ErrorCode::BadInput, message)
    }

    pub fn weights_format(message: impl fmt::Display) -> Self {
        Self::new(ErrorCode::WeightsFormat, message)
    }

    pub fn weights_shape(message: impl fmt::Display) -> Self {
        Self::new(ErrorCode::WeightsShape, message)
    }

    pub fn weights_hash(message: impl fmt::Display) -> Self {
        Self::new(ErrorCode::WeightsHash, message)
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// The same error with a prefix that says where it happened, for example a file name.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}
