//! Backward passes of this crate's operations.

use burn::backend::{
    Autodiff, AutodiffBackend, Backend, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{BoolTensor, FloatTensor},
};
use burn::tensor::Shape;

use super::{AdamW, Geometry, Hidden, Operations};

impl<B: Operations, C: CheckpointStrategy> Operations for Autodiff<B, C> {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Gelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(x.clone(), B::gelu_tanh(x)),
            OpsKind::UnTracked(step) => step.finish(B::gelu_tanh(x)),
        }
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        match RmsNorm.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let state = (x.clone(), weight.clone(), epsilon);
                step.finish(state, B::rms_norm(x, weight, epsilon))
            }
            OpsKind::UnTracked(step) => step.finish(B::rms_norm(x, weight, epsilon)),
        }
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        // Each of both is only needed for the other's gradient.
        let kept = (
            weight.is_tracked().then(|| x.primitive().clone()),
            x.is_tracked().then(|| weight.primitive().clone()),
        );
        let [(x, x_node), (weight, weight_node), (bias, bias_node)] =
            [x, weight, bias].map(|tensor| tensor.into_parts());
        match Affine.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(kept, B::affine(x, weight, bias)),
            OpsKind::UnTracked(step) => step.finish(B::affine(x, weight, bias)),
        }
    }

    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let kept =
            (b.is_tracked().then(|| a.primitive().clone()), a.is_tracked().then(|| b.primitive().clone()));
        let shapes = [a.primitive().shape(), b.primitive().shape()];
        let [(a, a_node), (b, b_node)] = [a, b].map(|tensor| tensor.into_parts());
        match Product.prepare::<C>([a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish((kept.0, kept.1, shapes), B::product(a, b)),
            OpsKind::UnTracked(step) => step.finish(B::product(a, b)),
        }
    }

    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, geometry: Geometry) -> FloatTensor<Self> {
        let tracked = [x.is_tracked(), weight.is_tracked()];
        let [(x, x_node), (weight, weight_node)] = [x, weight].map(|tensor| tensor.into_parts());
        match Convolve.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let state = (x.clone(), weight.clone(), geometry, tracked);
                step.finish(state, B::convolve(x, weight, geometry))
            }
            OpsKind::UnTracked(step) => step.finish(B::convolve(x, weight, geometry)),
        }
    }

    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        hidden: Hidden<Self>,
    ) -> FloatTensor<Self> {
        let hidden = hidden.keys();
        let [(query, query_node), (key, key_node), (value, value_node)] =
            [query, key, value].map(|x| x.into_parts());
        match Attend.prepare::<C>([query_node, key_node, value_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let state = (query.clone(), key.clone(), value.clone(), hidden.clone());
                step.finish(state, B::attend(query, key, value, Hidden::new(hidden)))
            }
            OpsKind::UnTracked(step) => step.finish(B::attend(query, key, value, Hidden::new(hidden))),
        }
    }

    /// Leaves the graph: an update has no gradient.
    fn adamw(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        update: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [weights, gradient, scale, moment_1, moment_2] =
            [weights, gradient, scale, moment_1, moment_2].map(Self::inner);
        let (weights, moment_1, moment_2) = B::adamw(weights, gradient, scale, moment_1, moment_2, update);
        (Self::from_inner(weights), Self::from_inner(moment_1), Self::from_inner(moment_2))
    }
}

#[derive(Debug)]
struct Gelu;

impl<B: Operations> Backward<B, 1> for Gelu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(x)] = ops.parents {
            gradients.register::<B>(x.id, B::gelu_tanh_backward(ops.state, gradient));
        }
    }
}

#[derive(Debug)]
struct RmsNorm;

impl<B: Operations> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weight, epsilon) = ops.state;
        let (by_x, by_weight) = B::rms_norm_backward(x, weight, gradient, epsilon);
        let [x, weight] = ops.parents;
        for (parent, gradient) in [(x, by_x), (weight, by_weight)] {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Affine;

impl<B: Operations> Backward<B, 3> for Affine {
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [to_x, to_weight, to_bias] = ops.parents;
        let (x, weight) = ops.state;
        if let (Some(parent), Some(weight)) = (to_x, weight) {
            gradients.register::<B>(parent.id, B::affine_by_x(weight, gradient.clone()));
        }
        if let (Some(parent), Some(x)) = (to_weight, x) {
            gradients.register::<B>(parent.id, B::affine_by_weight(x, gradient.clone()));
        }
        if let Some(parent) = to_bias {
            gradients.register::<B>(parent.id, B::linear_bias_backward(gradient));
        }
    }
}

#[derive(Debug)]
struct Product;

impl<B: Operations> Backward<B, 2> for Product {
    /// Both operands, each where the other needs it, and their shapes.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>, [Shape; 2]);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [to_a, to_b] = ops.parents;
        let (a, b, [a_shape, b_shape]) = ops.state;
        if let (Some(parent), Some(b)) = (to_a, b) {
            let by_a = B::product(gradient.clone(), B::float_transpose(b));
            gradients.register::<B>(parent.id, summed::<B>(by_a, &a_shape));
        }
        if let (Some(parent), Some(a)) = (to_b, a) {
            let by_b = B::product(B::float_transpose(a), gradient);
            gradients.register::<B>(parent.id, summed::<B>(by_b, &b_shape));
        }
    }
}

/// The sum over what was repeated: dimensions that have a size of 1 in `shape`.
fn summed<B: Backend>(gradient: FloatTensor<B>, shape: &Shape) -> FloatTensor<B> {
    (0..shape.num_dims()).fold(gradient, |gradient, dim| {
        if shape[dim] == gradient.shape()[dim] { gradient } else { B::float_sum_dim(gradient, dim) }
    })
}

#[derive(Debug)]
struct Convolve;

impl<B: Operations> Backward<B, 2> for Convolve {
    /// `x`, weight, and whether each has a gradient.
    type State = (FloatTensor<B>, FloatTensor<B>, Geometry, [bool; 2]);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [to_x, to_weight] = ops.parents;
        let (x, weight, geometry, [by_x, by_weight]) = ops.state;
        if let Some(parent) = to_x.filter(|_| by_x) {
            let by_x = B::convolve_by_x(x.clone(), weight.clone(), gradient.clone(), geometry);
            gradients.register::<B>(parent.id, by_x);
        }
        if let Some(parent) = to_weight.filter(|_| by_weight) {
            gradients.register::<B>(parent.id, B::convolve_by_weight(x, weight, gradient, geometry));
        }
    }
}

#[derive(Debug)]
struct Attend;

impl<B: Operations> Backward<B, 3> for Attend {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, Option<BoolTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (query, key, value, hidden) = ops.state;
        let hidden = Hidden::new(hidden);
        let (by_query, by_key, by_value) = B::attend_backward(query, key, value, hidden, gradient);
        for (parent, gradient) in ops.parents.into_iter().zip([by_query, by_key, by_value]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}
