//! Rectified flow: times, loss and samplers.

pub mod loss;
pub mod sampler;
pub mod schedule;
