//! The model against itself: taken in parts, padded, written and read.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use reca::{
    umm::{TextBatch, Umm, block::KeyValue},
    weights::{
        ModelFiles,
        directory::{LatentEncoderFile, with_latent_encoder},
        safetensors::{Precision, save},
    },
};
use safetensors::SafeTensors;

use super::goldens::{GOLDENS, Goldens, TOLERANCE, close, umm};

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
