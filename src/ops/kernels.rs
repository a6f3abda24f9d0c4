//! Loops over f32 slices, compiled for the processor's vector width at run time and split over
//! threads where there are any.

use super::{
    AdamW,
    composed::{CUBIC, LINEAR, QUICK},
};

/// Values a thread gets at least.
const CHUNK: usize = 16 * 1024;
/// Where a share of one is nothing.
const TINY: f32 = 1e-15;
/// Independent partial sums, so that a reduction vectorises.
const LANES: usize = 8;

/// A loop to be compiled for wider vectors than the build's baseline has.
trait Kernel {
    type Output;

    /// Must be inlined, or it keeps the baseline's vectors.
    fn run(self) -> Self::Output;
}

/// Runs a kernel with AVX2 where the processor has it.
fn vectorised<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn wide<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has both features, as just asked.
            return unsafe { wide(kernel) };
        }
    }
    kernel.run()
}

/// `x · sigmoid(x (LINEAR + CUBIC x²))`.
pub(super) fn gelu(x: &[f32], y: &mut [f32]) {
    struct Part<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Part<'_> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            for (y, x) in self.1.iter_mut().zip(self.0) {
                *y = x * gate(twice_u(*x));
            }
        }
    }
    chunked(y, 1, |at, y| vectorised(Part(&x[at..at + y.len()], y)));
}

/// `x · sigmoid(QUICK x)`.
pub(super) fn quick_gelu(x: &[f32], y: &mut [f32]) {
    struct Part<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Part<'_> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            for (y, x) in self.1.iter_mut().zip(self.0) {
                *y = x * gate(QUICK * x);
            }
        }
    }
    chunked(y, 1, |at, y| vectorised(Part(&x[at..at + y.len()], y)));
}

/// The gradient of [`gelu`] by `x`.
pub(super) fn gelu_backward(x: &[f32], gradient: &[f32], y: &mut [f32]) {
    struct Part<'a>(&'a [f32], &'a [f32], &'a mut [f32]);
    impl Kernel for Part<'_> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            for ((y, x), g) in self.2.iter_mut().zip(self.0).zip(self.1) {
                let s = gate(twice_u(*x));
                *y = g * (s + x * s * (1.0 - s) * (LINEAR + 3.0 * CUBIC * x * x));
            }
        }
    }
    chunked(y, 1, |at, y| {
        let part = at..at + y.len();
        vectorised(Part(&x[part.clone()], &gradient[part], y));
    });
}

/// `weight · x / √(mean(x²) + epsilon)`, row by row of `weight.len()` values.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    struct Part<'a>(&'a [f32], &'a [f32], f32, &'a mut [f32]);
    impl Kernel for Part<'_> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            let Self(x, weight, epsilon, y) = self;
            let size = weight.len();
            for (y, x) in y.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
                let scale = inverse_rms(x, epsilon);
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * scale * w;
                }
            }
        }
    }
    chunked(y, weight.len(), |at, y| {
        vectorised(Part(&x[at..at + y.len()], weight, epsilon, y));
    });
}

/// The gradients of [`rms_norm`]: by `x` into `y`, by `weight` as the result.
pub(super) fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    gradient: &[f32],
    epsilon: f32,
    y: &mut [f32],
) -> Vec<f32> {
    struct Part<'a>(&'a [f32], &'a [f32], &'a [f32], f32, &'a mut [f32]);
    impl Kernel for Part<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run(self) -> Vec<f32> {
            let Self(x, weight, gradient, epsilon, y) = self;
            let size = weight.len();
            let mut by_weight = vec![0f32; size];
            let rows = x.chunks_exact(size).zip(gradient.chunks_exact(size));
            for (y, (x, g)) in y.chunks_exact_mut(size).zip(rows) {
                let scale = inverse_rms(x, epsilon);
                for ((y, g), w) in y.iter_mut().zip(g).zip(weight) {
                    *y = g * w;
                }
                let projection = dot(y, x) * scale * scale / size as f32;
                for (((y, x), g), w) in y.iter_mut().zip(x).zip(g).zip(by_weight.iter_mut()) {
                    *w += g * x * scale;
                    *y = scale * (*y - x * projection);
                }
            }
            by_weight
        }
    }
    let partial = chunked(y, weight.len(), |at, y| {
        let part = at..at + y.len();
        vectorised(Part(&x[part.clone()], weight, &gradient[part], epsilon, y))
    });
    partial.into_iter().fold(vec![0f32; weight.len()], |mut sum, part| {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        sum
    })
}

/// One update of weights and both moments, in place; the gradient counts times `scale`.
pub(super) fn adamw(state: [&mut [f32]; 3], gradient: &[f32], scale: f32, update: AdamW) {
    struct Part<'a>([&'a mut [f32]; 3], &'a [f32], f32, AdamW);
    impl Kernel for Part<'_> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            let Self([weights, moment_1, moment_2], gradient, scale, update) = self;
            let (beta_1, beta_2) = update.betas;
            let (decay, rate, root) = (update.decay(), update.rate(), update.root());
            let moments = moment_1.iter_mut().zip(moment_2);
            for ((w, (m, v)), g) in weights.iter_mut().zip(moments).zip(gradient) {
                let g = g * scale;
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                *v = beta_2 * *v + (1.0 - beta_2) * (g * g);
                *w = decay * *w - rate * (*m / (v.sqrt() * root + update.epsilon));
            }
        }
    }
    let [weights, moment_1, moment_2] = state.map(|values| values.chunks_mut(CHUNK));
    let parts = weights.zip(moment_1).zip(moment_2).zip(gradient.chunks(CHUNK));
    let run = |(((w, m), v), g)| vectorised(Part([w, m, v], g, scale, update));
    #[cfg(feature = "threads")]
    {
        use rayon::prelude::*;
        parts.collect::<Vec<_>>().into_par_iter().for_each(run);
    }
    #[cfg(not(feature = "threads"))]
    parts.for_each(run);
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

/// `2 u`, of which GELU's gate `(1 + tanh(u)) / 2` is the sigmoid.
#[inline(always)]
fn twice_u(x: f32) -> f32 {
    x * (LINEAR + CUBIC * x * x)
}

/// The sigmoid.
#[inline(always)]
fn gate(x: f32) -> f32 {
    flushed(1.0 / (1.0 + exp(-x)))
}

/// The value, or 0 if it is nothing beside one. Products with what is left of an exponential would be subnormal,
/// and for each of those a processor stops for a hundred cycles.
#[inline(always)]
pub(super) fn flushed(x: f32) -> f32 {
    if x > TINY { x } else { 0.0 }
}

/// `eˣ` to about an ulp without a branch: `2ⁿ` times a polynomial (Cephes' coefficients).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding and taking away 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    // The integer stands in the low bits of the mantissa; the rest is shifted out.
    p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23))
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Runs `work` over parts of `y`, whole rows each, with the part's offset; results in order.
fn chunked<T: Send>(y: &mut [f32], row: usize, work: impl Fn(usize, &mut [f32]) -> T + Sync) -> Vec<T> {
    let length = CHUNK.next_multiple_of(row.max(1));
    #[cfg(feature = "threads")]
    {
        use rayon::prelude::*;
        if y.len() > length {
            return y.par_chunks_mut(length).enumerate().map(|(i, y)| work(i * length, y)).collect();
        }
    }
    y.chunks_mut(length).enumerate().map(|(i, y)| work(i * length, y)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_an_ulp_or_two() {
        for i in -8600..8700 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 2.5e-7, "{x}");
        }
        assert!(exp(-1e30) < 1e-37 && exp(1e30).is_finite());
    }

    /// What is left of GELU far below zero meets gradients, too, without becoming subnormal.
    #[test]
    fn gelu_leaves_zero_or_what_can_be_multiplied() {
        let x: Vec<f32> = (-3000..=1000).map(|i| i as f32 / 100.0).collect();
        let [mut y, mut slope, mut quick] = [(); 3].map(|()| vec![0f32; x.len()]);
        gelu(&x, &mut y);
        gelu_backward(&x, &vec![1.0; x.len()], &mut slope);
        quick_gelu(&x, &mut quick);
        for y in y.into_iter().chain(slope).chain(quick) {
            assert!(y == 0.0 || (y * 1e-20).is_normal(), "{y:e}");
        }
    }
}
