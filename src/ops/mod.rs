//! Operations that the model uses often enough to deserve kernels of their own: one pass over memory,
//! or one dispatch, in the place of five to sixteen; and in the browser matrix products. `composed` has
//! the same formulas from Burn's operations, for other types of numbers and for the tests.

mod autodiff;
mod composed;
#[cfg(feature = "webgpu")]
mod cube;
#[cfg(feature = "cpu")]
mod flex;
#[cfg(feature = "cpu")]
mod heads;
#[cfg(feature = "cpu")]
mod kernels;
#[cfg(feature = "cpu")]
mod product;
#[cfg(feature = "fusion")]
mod shapes;
#[cfg(test)]
mod tests;

use burn::{
    backend::{
        Backend, Dispatch, ExtensionType, backend_extension,
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::{
        Bool, Tensor,
        ops::{AttentionModuleOptions, ConvOptions},
    },
};

/// Backends that run this crate's operations. Shapes are those of the public functions below; `fusion` says
/// what a result is like, for a build that fuses what lies between them.
#[backend_extension(
    Flex: cfg(feature = "cpu"),
    Cube: cfg(feature = "webgpu"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait Operations: Backend {
    /// See [`gelu`].
    #[fusion(dtype = x, shape = x)]
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::gelu::<Self>(x)
    }

    /// Gradient of [`gelu`] by `x`, given the gradient of its output.
    #[fusion(dtype = x, shape = x)]
    fn gelu_tanh_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::gelu_backward::<Self>(x, gradient)
    }

    /// See [`quick_gelu`].
    #[fusion(default)]
    fn quick_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::quick_gelu::<Self>(x)
    }

    /// See [`rms_norm`].
    #[fusion(dtype = x, shape = x)]
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        composed::rms_norm::<Self>(x, weight, epsilon)
    }

    /// Gradients of [`rms_norm`] by `x` and by `weight`, given the gradient of its output.
    #[fusion(meta = |x, weight, _gradient, _epsilon| (x.clone(), weight.clone()))]
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::rms_norm_backward::<Self>(x, weight, gradient, epsilon)
    }

    /// See [`affine`].
    #[fusion(dtype = x, shape = shapes::with_last(x, weight[1]))]
    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear(x, weight, Some(bias))
    }

    /// Gradient of [`affine`] by `x`, given the gradient of its output.
    #[fusion(dtype = gradient, shape = shapes::with_last(gradient, weight[0]))]
    fn affine_by_x(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear_x_backward(weight, gradient)
    }

    /// Gradient of [`affine`] by the weight, given the gradient of its output.
    #[fusion(dtype = x, shape = shapes::transposed_product(x, gradient))]
    fn affine_by_weight(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear_weight_backward(x, gradient)
    }

    /// See [`product`].
    #[fusion(dtype = a, shape = shapes::product(a, b))]
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }

    /// See [`convolution`].
    #[fusion(dtype = x, shape = shapes::convolution(x, weight, geometry))]
    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, geometry: Geometry) -> FloatTensor<Self> {
        Self::conv2d(x, weight, None, geometry.options())
    }

    /// Gradient of [`convolution`] by `x`, given the gradient of its output.
    #[fusion(dtype = x, shape = x)]
    fn convolve_by_x(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        Self::conv2d_x_backward(x, weight, gradient, geometry.options())
    }

    /// Gradient of [`convolution`] by the weight, given the gradient of its output.
    #[fusion(dtype = weight, shape = weight)]
    fn convolve_by_weight(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        Self::conv2d_weight_backward(x, weight, gradient, geometry.options())
    }

    /// See [`attention`].
    #[fusion(dtype = query, shape = shapes::with_last(query, value[3]))]
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] hidden: Hidden<Self>,
    ) -> FloatTensor<Self> {
        Self::attention(query, key, value, hidden.keys(), None, AttentionModuleOptions::default())
    }

    /// Gradients of [`attention`] by query, key and value, given the gradient of its output.
    #[fusion(meta = |q, k, v, _hidden, _gradient| (q.clone(), k.clone(), v.clone()))]
    fn attend_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] hidden: Hidden<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::attention_backward::<Self>(query, key, value, hidden.keys(), gradient)
    }

    /// See [`adamw`]; weights and both moments after the update.
    #[fusion(meta = |w, _g, _s, m, v, _u| (w.clone(), m.clone(), v.clone()))]
    fn adamw(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        update: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::adamw::<Self>(weights, gradient, scale, moment_1, moment_2, update)
    }
}

/// How a convolution's kernel moves over a picture: the same along both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub stride: usize,
    /// Zeros around the picture.
    pub padding: usize,
}

impl Geometry {
    fn options(self) -> ConvOptions<2> {
        ConvOptions::new([self.stride; 2], [self.padding; 2], [1; 2], 1)
    }
}

/// What attention must not see; see [`attention`].
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum Hidden<B: Backend> {
    Nothing,
    Keys(BoolTensor<B>),
}

impl<B: Backend> Hidden<B> {
    fn new(keys: Option<BoolTensor<B>>) -> Self {
        keys.map_or(Self::Nothing, Self::Keys)
    }

    fn keys(self) -> Option<BoolTensor<B>> {
        match self {
            Self::Nothing => None,
            Self::Keys(keys) => Some(keys),
        }
    }
}

/// The numbers of one AdamW update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub learning_rate: f64,
    pub betas: (f32, f32),
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Updates made, this one included: at least 1.
    pub time: u64,
}

impl AdamW {
    /// What a step shrinks the weights by.
    fn decay(self) -> f32 {
        (1.0 - self.learning_rate * f64::from(self.weight_decay)) as f32
    }

    /// The learning rate over the first moment's bias.
    fn rate(self) -> f32 {
        (self.learning_rate / (1.0 - f64::from(self.betas.0).powi(self.time as i32))) as f32
    }

    /// What the root of the second moment is multiplied by, for its bias.
    fn root(self) -> f32 {
        (1.0 / (1.0 - f64::from(self.betas.1).powi(self.time as i32)).sqrt()) as f32
    }
}

/// `x · Φ(x)` by the tanh approximation, `x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`
/// (Hendrycks and Gimpel, 2016), for a tensor of any shape.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Operations>::gelu_tanh(x.into_dispatch()))
}

/// `x · sigmoid(1.702 x)`, for a tensor of any shape (Hendrycks and Gimpel, 2016).
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Operations>::quick_gelu(x.into_dispatch()))
}

/// `weight · x / √(mean(x²) + epsilon)` over the last dimension (Zhang and Sennrich, 2019).
///
/// # Shapes
/// - `x`, result: `[…, size]`
/// - `weight`: `[size]`
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let y = <Dispatch as Operations>::rms_norm(x.into_dispatch(), weight.into_dispatch(), epsilon);
    Tensor::from_dispatch(y)
}

/// `x · weight + bias`.
///
/// # Shapes
/// - `x`: `[…, from]`
/// - `weight`: `[from, to]`
/// - `bias`: `[to]`
/// - returns `[…, to]`
pub fn affine<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<D> {
    let [weight, bias] = [weight.into_dispatch(), bias.into_dispatch()];
    Tensor::from_dispatch(<Dispatch as Operations>::affine(x.into_dispatch(), weight, bias))
}

/// Products of matrices, one for each index before the last two; a size of 1 there goes with any.
///
/// # Shapes
/// `[…, m, k]` and `[…, k, n]` to `[…, m, n]`.
pub fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Operations>::product(a.into_dispatch(), b.into_dispatch()))
}

/// A convolution without bias (in the field's sense: the kernel is not turned).
///
/// # Shapes
/// - `x`: `[batch, from, height, width]`
/// - `weight`: `[to, from, side, side]`
/// - returns `[batch, to, rows, columns]`, of `(height + 2 · padding − side) / stride + 1` rows
pub fn convolution(x: Tensor<4>, weight: Tensor<4>, geometry: Geometry) -> Tensor<4> {
    let y = <Dispatch as Operations>::convolve(x.into_dispatch(), weight.into_dispatch(), geometry);
    Tensor::from_dispatch(y)
}

/// `softmax(query · keyᵀ / √head_dim) · value` (Vaswani et al., 2017, section 3.2); a query that sees no
/// key gets zeros.
///
/// # Shapes
/// - `query`: `[batch, heads, queries, head_dim]`
/// - `key`, `value`: `[batch, heads, keys, head_dim]`
/// - `hidden`: `[batch or 1, heads or 1, queries, keys]`, true where a key must not be seen
/// - returns `[batch, heads, queries, head_dim]`
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    let hidden = Hidden::new(hidden.map(Tensor::into_dispatch));
    Tensor::from_dispatch(<Dispatch as Operations>::attend(query, key, value, hidden))
}

/// One update of decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2): with
/// `m = β₁ m + (1 − β₁) g` and `v = β₂ v + (1 − β₂) g²`, both divided by their bias, the weights become
/// `(1 − η λ) w − η m / (√v + ε)`; `g` is the gradient times `scale`. Returns weights, `m` and `v`.
///
/// # Shapes
/// - `scale`: `[1]`
/// - all others have one shape
pub fn adamw<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    scale: Tensor<1>,
    [moment_1, moment_2]: [Tensor<D>; 2],
    update: AdamW,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let (weights, moment_1, moment_2) = <Dispatch as Operations>::adamw(
        weights.into_dispatch(),
        gradient.into_dispatch(),
        scale.into_dispatch(),
        moment_1.into_dispatch(),
        moment_2.into_dispatch(),
        update,
    );
    (Tensor::from_dispatch(weights), [moment_1, moment_2].map(Tensor::from_dispatch))
}
