//! Every part of the `nano` model against the PyTorch reference in `tests/reference`: outputs,
//! losses, gradients and sampler trajectories. `./build.sh goldens` makes the stored numbers again.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

use std::path::Path;

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
    umm::{Context, TextBatch, Umm, block::KeyValue},
    weights::{
        ModelFiles,
        directory::{LatentEncoderFile, with_latent_encoder},
        safetensors::{Precision, save},
    },
};
use safetensors::{Dtype, SafeTensors};

const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens");

/// Largest error allowed, relative to the expected tensor's largest value.
const TOLERANCE: f32 = 5e-5;
/// The same for gradients, which sum over many terms.
const GRADIENT_TOLERANCE: f32 = 2e-4;

struct Goldens(Vec<u8>);

impl Goldens {
    fn open() -> Self {
        Self(std::fs::read(Path::new(GOLDENS).join("nano.safetensors")).unwrap())
    }

    fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.0).unwrap().names().into_iter().map(str::to_owned).collect()
    }

    fn raw(&self, name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap_or_else(|_| panic!("{name} is not stored"));
        (view.dtype(), view.shape().to_vec(), view.data().to_vec())
    }

    fn values(&self, name: &str) -> Vec<f32> {
        let (dtype, _, bytes) = self.raw(name);
        match dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect(),
            Dtype::U8 => bytes.iter().map(|b| f32::from(*b)).collect(),
            other => panic!("{name} has dtype {other:?}"),
        }
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (_, shape, _) = self.raw(name);
        Tensor::from_data(TensorData::new(self.values(name), shape), &Device::flex())
    }

    /// A padded batch of token ids, whose first `prefix` tokens are prompt; all of them if `None`.
    fn text(&self, name: &str, prefix: Option<&str>) -> TextBatch {
        let (_, shape, _) = self.raw(name);
        let rows: Vec<Vec<u32>> = self
            .values(name)
            .chunks(shape[1])
            .map(|row| row.iter().map(|id| *id as u32).filter(|id| *id != 0).collect())
            .collect();
        let prefixes: Vec<usize> = match prefix {
            Some(prefix) => self.values(prefix).iter().map(|n| *n as usize).collect(),
            None => rows.iter().map(Vec::len).collect(),
        };
        TextBatch::with_answers(rows.iter().zip(&prefixes).map(|(row, n)| row.split_at(*n)))
    }

    #[track_caller]
    fn assert<const D: usize>(&self, name: &str, found: Tensor<D>) {
        let (_, shape, _) = self.raw(name);
        assert_eq!(found.dims().to_vec(), shape, "{name}");
        close(name, &found.into_data().try_to_vec::<f32>().unwrap(), &self.values(name), TOLERANCE);
    }
}

#[track_caller]
fn close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-2f32, |m, v| m.max(v.abs()));
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    assert!(error <= tolerance * scale, "{name}: error {error} at scale {scale}");
}

fn umm() -> Umm {
    let files =
        ModelFiles::read(|name| Ok(std::fs::read(Path::new(GOLDENS).join("nano").join(name)).unwrap()));
    files.unwrap().build(&Device::flex()).unwrap().0
}

/// Pages fetch the autoencoder's encoder from a file of its own, when somebody aligns.
#[test]
fn a_latent_encoder_that_comes_later_is_the_same() {
    let read = |name: &str| Ok(std::fs::read(Path::new(GOLDENS).join("nano").join(name)).unwrap());
    let whole = ModelFiles::read(read).unwrap();
    let file = SafeTensors::deserialize(&whole.weights).unwrap();
    let part = |later: bool| {
        let tensors = file.iter().filter(|(name, _)| name.starts_with("autoencoder.encoder.") == later);
        safetensors::serialize(tensors, None).unwrap()
    };
    let (weights, later) = (part(false), part(true));
    let build = |latent_encoder| {
        let files = ModelFiles { weights: weights.clone(), latent_encoder, ..whole.clone() };
        files.build(&Device::flex()).map(|(umm, ..)| umm)
    };
    let bytes = |umm: &Umm| pollster::block_on(save(umm, Precision::F32)).unwrap();
    let completed = build(LatentEncoderFile::Apart(later.clone())).unwrap();
    assert_eq!(bytes(&completed), bytes(&umm()));
    assert!(with_latent_encoder(build(LatentEncoderFile::Later).unwrap(), &later).is_ok());
    let error = build(LatentEncoderFile::Within).unwrap_err();
    assert!(error.message.contains("missing: autoencoder.encoder."), "{error}");
    let error = build(LatentEncoderFile::Apart(weights.clone())).unwrap_err();
    assert!(error.message.starts_with("latent_encoder.safetensors: "), "{error}");
}

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
    g.assert("block.vision.output", layer.forward(g.tensor("vision.embeddings")));
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

#[test]
fn cached_answer_tokens_equal_the_whole_sequence() {
    let (g, umm) = (Goldens::open(), umm());
    let visual = umm.embed(g.tensor::<4>("images").narrow(0, 0, 1));
    let (question, answer) = ([3u32, 5, 8, 4], [6u32, 9, 7]);
    let whole = TextBatch::with_answers([(question.as_slice(), answer.as_slice())]);
    let expected = umm.understanding.forward(&whole, Some(visual.clone())).states;
    let start = umm.understanding.forward(&TextBatch::prompts(&[question.to_vec()]), Some(visual));
    let mut cache: Vec<KeyValue> = start.layers;
    let before = start.states.dims()[1];
    for (i, token) in answer.iter().enumerate() {
        let next = umm.understanding.step(&[*token], question.len() + i, &cache);
        cache = cache.iter().zip(&next.layers).map(|(a, b)| a.then(b)).collect();
        let found = next.states.into_data().try_to_vec::<f32>().unwrap();
        let expected = expected.clone().narrow(1, before + i, 1).into_data().try_to_vec::<f32>().unwrap();
        close("cached", &found, &expected, TOLERANCE);
    }
}

#[test]
fn padding_does_not_change_a_context() {
    let umm = umm();
    let rows = [vec![3u32, 5, 8], vec![4u32, 6, 7, 9, 3, 5]];
    let both = umm.context(&TextBatch::prompts(&rows), None);
    let alone = umm.context(&TextBatch::prompts(&rows[..1]), None);
    let stacked = alone.clone().stack(umm.context(&TextBatch::prompts(&rows[1..]), None), 16);
    let x = Tensor::<3>::ones([2, 16, 16], &Device::flex());
    let padded = umm.denoise(x.clone(), &[0.3, 0.3], &both);
    let found = padded.clone().narrow(0, 0, 1).into_data().try_to_vec::<f32>().unwrap();
    let single = umm.denoise(x.clone().narrow(0, 0, 1), &[0.3], &alone);
    close("padded", &found, &single.into_data().try_to_vec::<f32>().unwrap(), TOLERANCE);
    let joined = umm.denoise(x, &[0.3, 0.3], &stacked).into_data().try_to_vec::<f32>().unwrap();
    close("stacked", &joined, &padded.into_data().try_to_vec::<f32>().unwrap(), TOLERANCE);
}

#[test]
fn a_written_model_reads_back_bit_for_bit() {
    let umm = umm();
    let bytes = pollster::block_on(save(&umm, Precision::F32)).unwrap();
    let original = std::fs::read(Path::new(GOLDENS).join("nano/model.safetensors")).unwrap();
    let (a, b) = (SafeTensors::deserialize(&bytes).unwrap(), SafeTensors::deserialize(&original).unwrap());
    assert_eq!(a.len(), b.len());
    for (name, view) in b.iter() {
        assert_eq!(a.tensor(name).unwrap().data(), view.data(), "{name}");
    }
}
