//! Backward passes of this crate's operations.

use burn::backend::{
    Autodiff,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};

use super::Operations;

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
