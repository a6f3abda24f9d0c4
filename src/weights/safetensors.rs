//! Module weights from and to safetensors, under PyTorch's names and layouts.
//!
//! Here a linear weight is `[from, to]`, in files `[to, from]`.
//!
//! A file may hold 8-bit weights, as pages download them: `name` as I8 and beside it `name.scale`, one
//! F32 a row (index of the first dimension), with weight = value × scale.

use std::collections::{BTreeMap, HashMap};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Shape, Tensor, TensorData},
};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{Error, Result, umm::describe::read};

/// Most names listed in one message.
const LISTED: usize = 4;
/// Side of the tiles that a matrix is transposed in.
const TILE: usize = 32;

/// What the name of an 8-bit tensor's scales ends in.
const SCALE: &str = ".scale";

/// Replaces every float parameter of `module` by the file's tensor of its name.
///
/// # Errors
/// `weights_format` for a damaged file or values that are not finite, `weights_shape` for missing,
/// unexpected and misshapen tensors, each by name.
pub fn load<M: Module>(module: M, bytes: &[u8]) -> Result<M> {
    load_only(module, bytes, |_| true)
}

/// The same for the parameters whose names are `wanted`; the others stay as they are.
pub fn load_only<M: Module>(module: M, bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<M> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        Error::weights_format(format!("not a complete safetensors file ({e}); fetch it again"))
    })?;
    let mut expected = names(&module);
    expected.retain(|name, _| wanted(name));
    let present = file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
    compare(&expected, &present)?;
    let mut loader = Loader { file: &file, wanted: &wanted, path: Path::default(), error: None };
    let module = module.map(&mut loader);
    loader.error.map_or(Ok(module), Err)
}

/// How weights are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F16,
    F32,
}

/// All float parameters of `module` as a safetensors file, tensor by tensor.
pub async fn save<M: Module>(module: &M, precision: Precision) -> Result<Vec<u8>> {
    save_with(module, precision, None).await
}

/// The same with the file's free-form metadata.
pub async fn save_with<M: Module>(
    module: &M,
    precision: Precision,
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>> {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    let mut stored = BTreeMap::new();
    for (name, tensor, shape) in collector.tensors {
        stored.insert(name, (encode(&read(tensor).await?, precision), shape));
    }
    let dtype = match precision {
        Precision::F16 => Dtype::F16,
        Precision::F32 => Dtype::F32,
    };
    let views = stored.iter().map(|(name, (bytes, shape))| {
        TensorView::new(dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(Error::internal)?;
    safetensors::serialize(views, metadata).map_err(Error::internal)
}

/// Names and file shapes of all float parameters.
pub fn names<M: Module>(module: &M) -> BTreeMap<String, Vec<usize>> {
    let mut names = Names::default();
    module.visit(&mut names);
    names.shapes
}

/// Checks the names and shapes of a file's tensors.
pub(super) fn compare(
    expected: &BTreeMap<String, Vec<usize>>,
    present: &BTreeMap<String, Vec<usize>>,
) -> Result<()> {
    let missing: Vec<_> = expected.keys().filter(|n| !present.contains_key(*n)).cloned().collect();
    let is_scale = |name: &str| name.strip_suffix(SCALE).is_some_and(|of| expected.contains_key(of));
    let extra: Vec<_> =
        present.keys().filter(|n| !expected.contains_key(*n) && !is_scale(n)).cloned().collect();
    let misshapen: Vec<String> = expected
        .iter()
        .filter_map(|(name, shape)| {
            let found = present.get(name)?;
            (found != shape).then(|| format!("{name} is {found:?}, expected {shape:?}"))
        })
        .collect();
    let mut problems = Vec::new();
    for (what, names) in [("missing", missing), ("unexpected", extra), ("misshapen", misshapen)] {
        if !names.is_empty() {
            let more = names.len().saturating_sub(LISTED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            problems.push(format!("{what}: {}{more}", names[..names.len().min(LISTED)].join(", ")));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::weights_shape(format!(
        "the weights do not fit this model's config.json ({})",
        problems.join("; ")
    )))
}

/// The dotted name of the current parameter, and whether its file layout is transposed.
#[derive(Default)]
pub(super) struct Path(Vec<(String, bool)>);

impl Path {
    pub(super) fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.to_owned(), container == "Struct:Linear"));
    }

    pub(super) fn exit(&mut self) {
        self.0.pop();
    }

    pub(super) fn name(&self) -> String {
        self.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(".")
    }

    pub(super) fn is_transposed<const D: usize>(&self) -> bool {
        D == 2 && self.0.last().is_some_and(|(_, linear)| *linear)
    }
}

#[derive(Default)]
struct Names {
    path: Path,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut shape: Vec<usize> = param.lazy_shape().dims::<D>().to_vec();
        if self.path.is_transposed::<D>() {
            shape.reverse();
        }
        self.shapes.insert(self.path.name(), shape);
    }
}

#[derive(Default)]
struct Collector {
    path: Path,
    tensors: Vec<(String, Tensor<1>, Vec<usize>)>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val().without_autodiff();
        let tensor = if self.path.is_transposed::<D>() { tensor.transpose() } else { tensor };
        let shape = tensor.dims().to_vec();
        let count = shape.iter().product::<usize>();
        self.tensors.push((self.path.name(), tensor.reshape([count]), shape));
    }
}

struct Loader<'a> {
    file: &'a SafeTensors<'a>,
    wanted: &'a dyn Fn(&str) -> bool,
    path: Path,
    error: Option<Error>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        if !(self.wanted)(&name) {
            return param;
        }
        let values = self.file.tensor(&name).map_err(Error::internal);
        match values.and_then(|view| stored(&name, &view, self.file).map(|v| (v, view.shape().to_vec()))) {
            Ok((mut values, mut shape)) => {
                if self.path.is_transposed::<D>() {
                    values = transposed(&values, shape[1]);
                    shape.reverse();
                }
                let device = param.lazy_device().without_autodiff();
                let tensor = Tensor::<D>::from_data(TensorData::new(values, Shape::from(shape)), &device);
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Err(error) => {
                self.error.get_or_insert(error);
                param
            }
        }
    }
}

/// A matrix with rows of `columns` values, transposed on the host: a transposed view would be
/// multiplied in another order, and a resumed run would differ from a straight one in the last bit.
pub(super) fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    let mut turned = vec![0f32; values.len()];
    // In tiles, or every value of a large matrix would come from another cache line.
    for (row, column) in (0..rows).step_by(TILE).flat_map(|r| (0..columns).step_by(TILE).map(move |c| (r, c)))
    {
        for c in column..(column + TILE).min(columns) {
            for r in row..(row + TILE).min(rows) {
                turned[c * rows + r] = values[r * columns + c];
            }
        }
    }
    turned
}

/// The values of a file's tensor as f32, 8-bit ones times their scales.
fn stored(name: &str, view: &TensorView, file: &SafeTensors) -> Result<Vec<f32>> {
    if view.dtype() != Dtype::I8 {
        return decode(name, view.dtype(), view.data());
    }
    let name = format!("{name}{SCALE}");
    let scales = file.tensor(&name).map_err(|_| Error::weights_shape(format!("missing: {name}")))?;
    let rows = view.shape().first().copied().unwrap_or(0);
    if scales.shape() != [rows] {
        let found = scales.shape();
        return Err(Error::weights_shape(format!("misshapen: {name} is {found:?}, expected [{rows}]")));
    }
    Ok(dequantised(view.data(), &decode(&name, scales.dtype(), scales.data())?))
}

/// The values of a stored tensor as f32.
pub(super) fn decode(name: &str, dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    let values: Vec<f32> = match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        other => {
            let message = format!("{name} has dtype {other:?}, expected F32, F16, BF16 or I8");
            return Err(Error::weights_format(message));
        }
    };
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        return Err(Error::weights_format(format!("{name} holds {value}; the file is damaged")));
    }
    Ok(values)
}

/// Rows of 8-bit values times their scales.
fn dequantised(bytes: &[u8], scales: &[f32]) -> Vec<f32> {
    let row = bytes.len() / scales.len().max(1);
    let rows = bytes.chunks_exact(row.max(1)).zip(scales);
    rows.flat_map(|(row, scale)| row.iter().map(move |byte| f32::from(byte.cast_signed()) * scale)).collect()
}

fn encode(values: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Precision::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::layers::Linear;

    #[test]
    fn eight_bit_rows_are_scaled() {
        let layer = Linear::unbiased(2, 2, &Device::flex());
        let values = [127u8, 0, 1, 0x81];
        let scales: Vec<u8> = [0.5f32, 2.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let file = |scales: &[u8], rows: usize| {
            let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
            let tensors = [
                ("weight", view(Dtype::I8, &[2, 2], &values)),
                ("weight.scale", view(Dtype::F32, &[rows], scales)),
            ];
            safetensors::serialize(tensors, None).unwrap()
        };
        let loaded = load(layer.clone(), &file(&scales, 2)).unwrap();
        let transposed = loaded.weight.val().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(transposed, [63.5, 2.0, 0.0, -254.0]);
        for (scales, rows) in [(&scales[..0], 0), (&scales[..4], 1), (&[0; 16], 4)] {
            let other = load(layer.clone(), &file(scales, rows)).unwrap_err();
            let said = format!("misshapen: weight.scale is [{rows}], expected [2]");
            assert!(other.code.as_str() == "weights_shape" && other.message == said, "{other}");
        }
    }
}
