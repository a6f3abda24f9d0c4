//! Weights loaded tensor by tensor from one or several safetensors files: never more in memory than
//! the model so far and one tensor's bytes. The caller reads the bytes, wherever they are, and may
//! show progress or stop between any two.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Shape, Tensor, TensorData},
};
use safetensors::Dtype;
use serde::Deserialize;

use super::{
    header::Header,
    safetensors::{Path, compare, decode, names, transposed},
};
use crate::{Error, ErrorCode, Result};

/// What to read next.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Which of the files, counted as their headers were given.
    pub file: usize,
    /// Bytes of that file, counted from its beginning.
    pub range: Range<u64>,
    /// The tensor's name in the module.
    pub name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

/// How far a load has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub tensors: usize,
    pub tensors_total: usize,
    pub bytes: u64,
    pub bytes_total: u64,
}

/// A module on its way from files.
pub struct Streaming<M> {
    module: M,
    device: Device,
    queue: VecDeque<Piece>,
    transposed: BTreeSet<String>,
    loaded: HashMap<String, (Tensor<1>, Vec<usize>)>,
    progress: Progress,
}

impl<M: Module> Streaming<M> {
    /// Plans the load of every float parameter of `module`.
    ///
    /// `rename` gives a file's tensor its name in the module, `None` to leave it out.
    ///
    /// # Errors
    /// `weights_shape` for missing, unexpected, doubled and misshapen tensors, each by name.
    pub fn new(
        module: M,
        headers: &[Header],
        rename: impl Fn(&str) -> Option<String>,
        device: &Device,
    ) -> Result<Self> {
        let expected = names(&module);
        let (mut pieces, mut present) = (Vec::new(), BTreeMap::new());
        for (file, header) in headers.iter().enumerate() {
            for (stored, info) in &header.tensors {
                let Some(name) = rename(stored) else { continue };
                // A scalar of the file is a tensor of one value here.
                let shape = if info.shape.is_empty() { vec![1] } else { info.shape.clone() };
                if present.insert(name.clone(), shape.clone()).is_some() {
                    return Err(Error::weights_shape(format!("{stored} is in more than one file")));
                }
                pieces.push(Piece { file, range: info.range.clone(), name, dtype: info.dtype, shape });
            }
        }
        compare(&expected, &present)?;
        pieces.sort_by_key(|piece| (piece.file, piece.range.start));
        let mut linear = Linears::default();
        module.visit(&mut linear);
        let progress = Progress {
            tensors: 0,
            tensors_total: pieces.len(),
            bytes: 0,
            bytes_total: pieces.iter().map(|piece| piece.range.end - piece.range.start).sum(),
        };
        Ok(Self {
            module,
            device: device.clone(),
            queue: pieces.into(),
            transposed: linear.names,
            loaded: HashMap::new(),
            progress,
        })
    }

    /// Bytes that the loaded module takes in f32, and on the way the largest tensor once more.
    pub fn memory(&self) -> u64 {
        let values = |piece: &Piece| piece.shape.iter().map(|side| *side as u64).product::<u64>();
        let sizes = self.queue.iter().map(|piece| 4 * values(piece));
        let (all, largest) = sizes.fold((0, 0), |(all, largest), size| (all + size, size.max(largest)));
        all + 2 * largest
    }

    /// Refuses a load that would take more memory than `free` bytes.
    ///
    /// # Errors
    /// `out_of_memory` with both figures.
    pub fn check_fits(&self, free: u64) -> Result<()> {
        let needed = self.memory();
        if needed <= free {
            return Ok(());
        }
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        Err(Error::new(
            ErrorCode::OutOfMemory,
            format!(
                "the weights need {:.0} MB of memory, {:.0} MB are free; close other programs or take a smaller model",
                megabytes(needed),
                megabytes(free)
            ),
        ))
    }

    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The bytes to read next; `None` when all are here.
    pub fn next(&self) -> Option<&Piece> {
        self.queue.front()
    }

    /// Takes the bytes that [`Streaming::next`] asked for.
    ///
    /// # Errors
    /// `weights_format` for too few bytes, a foreign dtype, and values that are not finite.
    pub fn accept(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(piece) = self.queue.pop_front() else {
            return Err(Error::internal("bytes came after the last tensor"));
        };
        let length = piece.range.end - piece.range.start;
        if bytes.len() as u64 != length {
            let (name, found) = (&piece.name, bytes.len());
            return Err(Error::weights_format(format!(
                "{name} has {found} of {length} bytes; the file is cut off, fetch it again"
            )));
        }
        let (mut values, mut shape) = (decode(&piece.name, piece.dtype, bytes)?, piece.shape);
        if self.transposed.contains(&piece.name) {
            values = transposed(&values, shape[1]);
            shape.reverse();
        }
        let count = values.len();
        let tensor = Tensor::<1>::from_data(TensorData::new(values, [count]), &self.device);
        self.loaded.insert(piece.name, (tensor, shape));
        self.progress.tensors += 1;
        self.progress.bytes += length;
        Ok(())
    }

    /// The module with all its weights.
    ///
    /// # Errors
    /// `aborted` if tensors are still to come.
    pub fn finish(self) -> Result<M> {
        if let Some(piece) = self.queue.front() {
            return Err(Error::new(ErrorCode::Aborted, format!("the load ended before {}", piece.name)));
        }
        let mut placing = Placing { loaded: self.loaded, path: Path::default(), missing: None };
        let module = self.module.map(&mut placing);
        placing.missing.map_or(Ok(module), |name| Err(Error::internal(format!("{name} was not loaded"))))
    }
}

/// `model.safetensors.index.json` of a checkpoint in several files.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The file names in an index, in order.
///
/// # Errors
/// `weights_format` for another kind of file, and for names that lead out of the folder.
pub fn shards(index: &[u8]) -> Result<Vec<String>> {
    let index: Index = serde_json::from_slice(index).map_err(Error::weights_format)?;
    let files: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(file) = files.iter().find(|file| file.contains(['/', '\\', ':']) || file.starts_with('.')) {
        return Err(Error::weights_format(format!("{file:?} is not the name of a file in the same folder")));
    }
    if files.is_empty() {
        return Err(Error::weights_format("weight_map is empty"));
    }
    Ok(files.into_iter().collect())
}

/// Names of the parameters that files hold transposed.
#[derive(Default)]
struct Linears {
    path: Path,
    names: BTreeSet<String>,
}

impl ModuleVisitor for Linears {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        if self.path.is_transposed::<D>() {
            self.names.insert(self.path.name());
        }
    }
}

/// Puts the loaded tensors into their places.
struct Placing {
    loaded: HashMap<String, (Tensor<1>, Vec<usize>)>,
    path: Path,
    missing: Option<String>,
}

impl ModuleMapper for Placing {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        match self.loaded.remove(&name) {
            Some((tensor, shape)) => {
                let id = param.id;
                param.transform_for_load(tensor.reshape(Shape::from(shape)), id)
            }
            None => {
                self.missing.get_or_insert(name);
                param
            }
        }
    }
}
