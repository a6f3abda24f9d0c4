//! All randomness of the crate: one counter-based generator on the host, so that the same seed
//! gives the same bits on every backend.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Shape, Tensor, TensorData},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rand_distr::{Distribution, StandardNormal};

/// A generator of its own for each (seed, stream), so that any part of a run can be made alone.
pub fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

/// Uniform in [0, 1).
pub fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Uniform in `0..n`; 0 for `n` = 0.
pub fn below(random: &mut ChaCha8Rng, n: usize) -> usize {
    ((random.next_u64() as u128 * n as u128) >> 64) as usize
}

/// `count` different numbers of `0..n`, in ascending order; all of them for a larger `count`.
pub fn subset(random: &mut ChaCha8Rng, n: usize, count: usize) -> Vec<usize> {
    // Selection sampling (Knuth, The Art of Computer Programming, 3.4.2, algorithm S).
    let mut left = count.min(n);
    (0..n)
        .filter(|i| {
            let taken = below(random, n - i) < left;
            left -= usize::from(taken);
            taken
        })
        .collect()
}

/// One draw from the standard normal distribution.
pub fn normal(random: &mut ChaCha8Rng) -> f32 {
    let x: f64 = StandardNormal.sample(random);
    x as f32
}

/// A tensor of standard normal noise.
pub fn noise<const D: usize>(random: &mut ChaCha8Rng, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| normal(random)).collect();
    Tensor::from_data(TensorData::new(values, Shape::from(shape)), device)
}

/// A new module whose weights come from a seed. Burn draws them as each is first read, so they are
/// read here.
pub fn seeded<M: Module>(device: &Device, seed: u64, make: impl FnOnce() -> M) -> M {
    struct Touch;
    impl ModuleVisitor for Touch {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
    }
    device.seed(seed);
    let module = make();
    module.visit(&mut Touch);
    module
}
