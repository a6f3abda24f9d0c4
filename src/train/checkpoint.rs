//! A run's state as one safetensors file in f32: `module.*`, `moment_1.*`, `moment_2.*` and
//! `average.*`, with the step and the run's name as metadata.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleMapper, Param},
    optim::GradientsParams,
    tensor::Tensor,
};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{ema::tensors, optim::Optimizer};
use crate::{
    Error, Result,
    weights::safetensors::{self as weights, Precision},
};

/// The one metadata field, so that equal checkpoints are equal files: the library writes several in
/// no fixed order.
const FIELD: &str = "checkpoint";

/// What the metadata says.
#[derive(Serialize, Deserialize)]
struct Description {
    run: String,
    step: u64,
}

/// What a checkpoint holds; moments of parameters without gradients are zero.
#[derive(Module, Debug)]
pub(super) struct State<M: Module> {
    module: M,
    moment_1: M,
    moment_2: M,
    average: Option<M>,
}

impl<M: Module> State<M> {
    pub(super) fn new(module: &M, optimizer: &Optimizer, average: Option<&M>) -> Self {
        let filled = |values| module.clone().map(&mut Fill { values });
        Self {
            module: module.clone(),
            moment_1: filled(&optimizer.moment_1),
            moment_2: filled(&optimizer.moment_2),
            average: average.cloned(),
        }
    }

    pub(super) fn restore(self, module: &mut M, optimizer: &mut Optimizer, average: Option<&mut M>) {
        *module = self.module;
        optimizer.moment_1 = tensors(&self.moment_1);
        optimizer.moment_2 = tensors(&self.moment_2);
        if let (Some(to), Some(from)) = (average, self.average) {
            *to = from;
        }
    }
}

/// The file of a state.
pub(super) async fn save<M: Module>(state: &M, run: &str, step: u64) -> Result<Vec<u8>> {
    let description = Description { run: run.to_owned(), step };
    let description = serde_json::to_string(&description).map_err(Error::internal)?;
    let metadata = HashMap::from([(FIELD.to_owned(), description)]);
    weights::save_with(state, Precision::F32, Some(metadata)).await
}

/// Reads a file that [`save`] wrote for the same run into `template`, with its step.
pub(super) fn load<M: Module>(template: M, run: &str, bytes: &[u8]) -> Result<(M, u64)> {
    let (found, step) = describe(bytes)?;
    if found != run {
        return Err(Error::bad_input(format!(
            "this was trained by other settings; start afresh, or go on with the old ones\n  there: {found}\n  now:   {run}"
        )));
    }
    Ok((weights::load(template, bytes)?, step))
}

/// The run's name and step of a checkpoint's or a finished part's file.
///
/// # Errors
/// `weights_format` if it is neither.
pub fn describe(bytes: &[u8]) -> Result<(String, u64)> {
    let damaged =
        |what: &dyn std::fmt::Display| Error::weights_format(format!("not a complete checkpoint ({what})"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
    let field = header.metadata().as_ref().and_then(|fields| fields.get(FIELD));
    let field = field.ok_or_else(|| damaged(&"step and run are missing"))?;
    let Description { run, step } = serde_json::from_str(field).map_err(|e| damaged(&e))?;
    Ok((run, step))
}

/// The file of a finished part: its weights alone.
pub async fn save_part<M: Module>(part: &M, run: &str, step: u64) -> Result<Vec<u8>> {
    save(part, run, step).await
}

/// Reads a file that [`save_part`] wrote for the same run into `template`.
///
/// # Errors
/// `bad_input` for a part of another run, `weights_format` and `weights_shape` for a damaged one.
pub fn load_part<M: Module>(template: M, run: &str, bytes: &[u8]) -> Result<M> {
    load(template, run, bytes).map(|(part, _)| part)
}

/// Replaces every float parameter by the value kept for it, or zeros.
struct Fill<'a> {
    values: &'a GradientsParams,
}

impl ModuleMapper for Fill<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.values.get::<D>(param.id);
        param.map(|tensor| value.unwrap_or_else(|| tensor.zeros_like()))
    }
}
