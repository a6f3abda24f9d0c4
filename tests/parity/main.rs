//! Every part of the `nano` model against the PyTorch reference in `tests/reference`: outputs,
//! losses, gradients and sampler trajectories. `./build.sh goldens` makes the stored numbers again.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod goldens;
mod whole;

use burn::{
    module::{Module, ModuleMapper, Param},
    optim::GradientsParams,
    tensor::{Bool, Device, Int, Tensor, TensorData, activation::log_softmax},
};
use reca::{
    flow::{
        loss::{noisy, velocity_loss},
        sampler::{Denoiser, Method, Sampler, SamplerConfig},
    },
    umm::{Context, TextBatch, Umm},
    weights::safetensors::{Precision, save},
};
use safetensors::SafeTensors;

use self::goldens::{GRADIENT_TOLERANCE, Goldens, TOLERANCE, close, umm};

fn trainable() -> Umm {
    umm().set_require_grad(true).train()
}

/// A module with every parameter replaced by its gradient.
struct Gradients(GradientsParams);

impl ModuleMapper for Gradients {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = self.0.remove::<D>(param.id);
        param.map(|value| match gradient {
            Some(gradient) => gradient.autodiff(),
            None => value.zeros_like(),
        })
    }
}

#[track_caller]
fn assert_gradients(goldens: &Goldens, of: &str, loss: &Tensor<1>, model: Umm) {
    let value = loss.clone().into_data().try_to_vec::<f32>().unwrap();
    close(of, &value, &goldens.values(&format!("{of}.loss")), TOLERANCE);
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let model = model.map(&mut Gradients(gradients));
    let bytes = pollster::block_on(save(&model, Precision::F32)).unwrap();
    let found = SafeTensors::deserialize(&bytes).unwrap();
    let prefix = format!("grad.{of}.");
    let mut compared = 0;
    for name in goldens.names() {
        let Some(parameter) = name.strip_prefix(&prefix) else { continue };
        let Ok(view) = found.tensor(parameter) else { continue };
        let values: Vec<f32> = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        close(&name, &values, &goldens.values(&name), GRADIENT_TOLERANCE);
        compared += 1;
    }
    assert!(compared > 10, "{compared} gradients compared for {of}");
}

#[test]
fn vision_tower_and_connector() {
    let (g, umm) = (Goldens::open(), umm());
    let images = g.tensor("images");
    let features = umm.vision_model.forward(images.clone());
    g.assert("vision.features", features.clone());
    g.assert("connector.output", umm.connector.forward(features));
    let layer = &umm.vision_model.encoder.layers[0];
    g.assert("block.vision.output", layer.forward(g.tensor("vision.embeddings"), None));
}

#[test]
fn understanding_block_with_a_prefix_mask() {
    let (g, umm) = (Goldens::open(), umm());
    let hidden: Tensor<4, Bool> = g.tensor::<4>("block.understanding.mask").equal_scalar(0.0);
    let x = g.tensor("block.understanding.input");
    let (y, own) = umm.understanding.layers[0].forward(x, None, Some(hidden));
    g.assert("block.understanding.output", y);
    g.assert("block.understanding.key", own.key);
    g.assert("block.understanding.value", own.value);
}

fn logits(umm: &Umm, text: &TextBatch, visual: Option<Tensor<3>>) -> Tensor<3> {
    let states = umm.understanding.forward(text, visual).states;
    let [_, tokens, _] = states.dims();
    umm.understanding.logits(states.narrow(1, tokens - text.length, text.length))
}

#[test]
fn answers_about_images_and_captions() {
    let (g, umm) = (Goldens::open(), umm());
    let text = g.text("caption.text", Some("caption.prefix"));
    let visual = umm.embed(g.tensor("images"));
    assert_valid(&g, "caption", &text, logits(&umm, &text, Some(visual)));
    let text = g.text("text_only.text", Some("text_only.prefix"));
    assert_valid(&g, "text_only", &text, logits(&umm, &text, None));
}

/// Compares the rows of tokens that are not padding.
#[track_caller]
fn assert_valid(g: &Goldens, name: &str, text: &TextBatch, found: Tensor<3>) {
    let [_, tokens, vocabulary] = found.dims();
    let expected = g.tensor::<3>(&format!("{name}.logits"));
    for (row, length) in text.lengths.iter().enumerate() {
        let part = |t: &Tensor<3>| {
            let t = t.clone().slice([row..row + 1, 0..*length, 0..vocabulary]);
            t.into_data().try_to_vec::<f32>().unwrap()
        };
        assert!(*length <= tokens);
        close(name, &part(&found), &part(&expected), TOLERANCE);
    }
}

#[test]
fn caption_loss_and_gradients() {
    let (g, umm) = (Goldens::open(), trainable());
    let text = g.text("caption.text", Some("caption.prefix"));
    let visual = umm.embed(g.tensor::<4>("images").autodiff());
    let scores = log_softmax(logits(&umm, &text, Some(visual)), 2);
    // Each answer token is predicted from the position before it.
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for (row, (length, prefix)) in text.lengths.iter().zip(&text.prefixes).enumerate() {
        for position in *prefix..*length {
            rows.push((row * text.length + position - 1) as i32);
            targets.push(text.ids[row * text.length + position]);
        }
    }
    let count = rows.len();
    let [batch, tokens, vocabulary] = scores.dims();
    let device = Device::flex();
    let index = |values: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::new(values, [count]), &device);
    let picked = scores.reshape([batch * tokens, vocabulary]).select(0, index(rows));
    let loss = picked.gather(1, index(targets).reshape([count, 1])).mean().neg();
    assert_gradients(&g, "caption", &loss, umm);
}

#[test]
fn sigmoid_loss_and_gradients() {
    let (g, umm) = (Goldens::open(), trainable());
    let features = umm.vision_model.forward(g.tensor::<4>("images").autodiff());
    let pooled: Tensor<2> = features.max_dim(1).squeeze_dim(1);
    let words = umm.understanding.token_embedding.weight.val();
    let bias = g.tensor::<1>("sigmoid.word_bias").autodiff();
    let scores = pooled.matmul(words.transpose()) + bias.unsqueeze();
    g.assert("sigmoid.scores", scores.clone());
    let targets = g.tensor::<2>("sigmoid.words").autodiff();
    let batch = targets.dims()[0] as f32;
    let softplus = (scores.clone().abs().neg().exp() + 1.0).log() + scores.clone().clamp_min(0.0);
    let loss = (softplus - scores * targets).sum() / batch;
    assert_gradients(&g, "sigmoid", &loss, umm);
}

#[test]
fn contexts_and_denoising() {
    let (g, umm) = (Goldens::open(), umm());
    let text = g.text("context.text", None);
    let visual = umm.embed(g.tensor("images"));
    let times = g.values("denoise.t");
    for (name, context) in [("text", umm.context(&text, None)), ("both", umm.context(&text, Some(visual)))] {
        g.assert(&format!("context.{name}.pooled"), context.pooled.clone());
        for (i, layer) in context.layers.iter().enumerate() {
            g.assert(&format!("context.{name}.layers.{i}.key"), layer.key.clone());
            g.assert(&format!("context.{name}.layers.{i}.value"), layer.value.clone());
        }
        let denoised = umm.denoise(g.tensor("denoise.x_t"), &times, &context);
        g.assert(&format!("denoise.{name}"), denoised);
    }
    let context = umm.context(&text, None);
    let output = umm.generation.layers[0].forward_conditioned(
        g.tensor("block.generation.input"),
        burn::tensor::activation::silu(g.tensor::<2>("block.generation.condition")).unsqueeze_dim(1),
        &context.layers[0],
        context.hidden,
    );
    g.assert("block.generation.output", output);
}

#[test]
fn flow_loss_and_gradients() {
    let (g, umm) = (Goldens::open(), trainable());
    let (clean, times) = (g.tensor::<3>("flow.x0").autodiff(), g.values("flow.t"));
    let visual = umm.embed(g.tensor::<4>("images").autodiff());
    let context = umm.context(&g.text("context.text", None), Some(visual));
    let x = noisy(clean.clone(), g.tensor::<3>("flow.noise").autodiff(), &times);
    let loss = velocity_loss(umm.denoise(x, &times, &context), clean, &times);
    assert_gradients(&g, "flow", &loss, umm);
}

#[test]
fn autoencoder_and_its_gradients() {
    let (g, umm) = (Goldens::open(), trainable());
    let images = g.tensor::<4>("images").narrow(0, 0, 2);
    let plain = umm.valid();
    let tokens = plain.autoencoder.encode(images.clone());
    g.assert("autoencoder.tokens", tokens.clone());
    g.assert("autoencoder.decoded", plain.autoencoder.decode(tokens));

    let images = images.autodiff();
    let latent = umm.autoencoder.encoder.forward(images.clone());
    let output =
        umm.autoencoder.decoder.forward(latent.clone() + g.tensor::<4>("autoencoder.noise").autodiff());
    let d = output - images;
    let [b, c, h, w] = d.dims();
    let blocks: Tensor<6> = d.clone().reshape([b, c, h / 4, 4, w / 4, 4]);
    let averages = blocks.mean_dim(5).mean_dim(3);
    let rows = d.clone().narrow(2, 1, h - 1) - d.clone().narrow(2, 0, h - 1);
    let columns = d.clone().narrow(3, 1, w - 1) - d.clone().narrow(3, 0, w - 1);
    let loss = d.clone().abs().mean()
        + d.square().mean() * 2.0
        + averages.square().mean() * 4.0
        + rows.abs().mean()
        + columns.abs().mean()
        + latent.square().mean() * 1e-3;
    assert_gradients(&g, "autoencoder", &loss, umm);
}

/// Guidance's two branches in one batch, as the pipeline runs them.
struct Guided {
    umm: Umm,
    conditional: Context,
    both: Context,
}

impl Denoiser for Guided {
    fn denoise(&self, x: &Tensor<3>, t: f32, guided: bool) -> (Tensor<3>, Option<Tensor<3>>) {
        let n = x.dims()[0];
        if !guided {
            return (self.umm.denoise(x.clone(), &vec![t; n], &self.conditional), None);
        }
        let twice = Tensor::cat(vec![x.clone(), x.clone()], 0);
        let y = self.umm.denoise(twice, &vec![t; 2 * n], &self.both);
        (y.clone().narrow(0, 0, n), Some(y.narrow(0, n, n)))
    }
}

#[test]
fn sampler_trajectories() {
    let (g, umm) = (Goldens::open(), umm());
    let conditional = umm.context(&g.text("context.text", None), None);
    let null = umm.context(&g.text("context.null", None), None);
    let image_tokens = g.raw("sampler.noise").1[1];
    for (name, method, guidance_interval) in [
        ("euler", Method::Euler, (0.0, 1.0)),
        ("heun", Method::Heun, (0.0, 1.0)),
        ("interval", Method::Euler, (0.2, 0.6)),
    ] {
        let guided = Guided {
            umm: umm.clone(),
            conditional: conditional.clone(),
            both: conditional.clone().stack(null.clone(), image_tokens),
        };
        let config = SamplerConfig { steps: 4, guidance_scale: 3.0, guidance_interval, method };
        let mut sampler = Sampler::new(guided, g.tensor("sampler.noise"), config);
        let mut trajectory = Vec::new();
        while sampler.advance() {
            trajectory.push(sampler.latents());
        }
        g.assert(&format!("sampler.{name}"), Tensor::stack::<4>(trajectory, 0));
    }
}
