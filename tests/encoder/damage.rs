//! Checkpoints that do not hold what they should: each is refused by name, none panics.

use std::collections::BTreeMap;

use reca::encoder::{EncoderConfig, Loading, Parts};
use reca::weights::streaming::shards;
use reca::{Error, ErrorCode};
use safetensors::{SafeTensors, tensor::TensorView};

use super::{build, config, file, header, weights};

/// The checkpoint's file after a change to its tensors.
fn with(change: impl Fn(&mut BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>)) -> Vec<u8> {
    let bytes = file("clip", "model.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

#[track_caller]
fn refused(file: Vec<u8>, code: ErrorCode, said: &str) {
    let error = build(&config("clip"), &[file], Parts::All).unwrap_err();
    assert!(error.code == code && error.message.contains(said), "{error:?}");
}

const BIAS: &str = "vision_model.post_layernorm.bias";

#[test]
fn wrong_tensors_are_named() {
    use ErrorCode::{WeightsFormat, WeightsShape};
    refused(with(|t| drop(t.remove(BIAS))), WeightsShape, "missing: vision_model.post_layernorm.bias");
    let extra = with(|t| drop(t.insert("adapter".into(), t[BIAS].clone())));
    refused(extra, WeightsShape, "unexpected: adapter");
    let misshapen = with(|t| t.get_mut(BIAS).unwrap().1 = vec![4, 8]);
    refused(misshapen, WeightsShape, "vision_model.post_layernorm.bias is [4, 8], expected [32]");
    let nan = with(|t| t.get_mut(BIAS).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    refused(nan, WeightsFormat, "post_layernorm.bias holds NaN");
    let integers = with(|t| t.get_mut(BIAS).unwrap().0 = safetensors::Dtype::I32);
    refused(integers, WeightsFormat, "has dtype I32, expected F32, F16");
    let doubled =
        build(&config("clip"), &[weights("clip"), weights("clip")].concat(), Parts::All).unwrap_err();
    assert!(doubled.message.contains("in more than one file"), "{doubled}");
}

#[test]
fn optional_position_ids_are_ignored() {
    let ids = (safetensors::Dtype::I64, vec![1, 2], vec![0; 16]);
    let file = with(|t| drop(t.insert("text_model.embeddings.position_ids".into(), ids.clone())));
    build(&config("clip"), &[file], Parts::All).unwrap();
}

#[test]
fn another_model_s_config_is_refused() {
    let siglip = build(&config("siglip"), &weights("clip"), Parts::All).unwrap_err();
    assert!(siglip.code == ErrorCode::WeightsShape && siglip.message.contains("missing"), "{siglip}");
    let own = std::fs::read(super::folder("../nano/config.json")).unwrap();
    let error = EncoderConfig::from_json(&own).unwrap_err().to_string();
    assert!(error.contains("\"reca-umm\", expected clip"), "{error}");
}

/// A file cut off anywhere is refused, and so is one whose length does not fit its header.
#[test]
fn cut_files_are_refused() {
    let whole = file("clip", "model.safetensors");
    for length in [0, 1, 7, 8, 9, 100, 3000, whole.len() / 2, whole.len() - 1] {
        let error = header(&whole[..length]).unwrap_err();
        assert!(
            error.code == ErrorCode::WeightsFormat && error.message.contains("fetch it again"),
            "{error}"
        );
    }
    assert!(header(&[whole, vec![0]].concat()).is_err());
}

#[test]
fn a_load_can_end_early_and_a_too_large_one_does_not_begin() {
    let headers = [header(&weights("clip")[0]).unwrap()];
    let device = burn::tensor::Device::flex();
    let loading = || Loading::new(&config("clip"), &headers, Parts::All, &device).unwrap();
    assert_eq!(loading().finish().unwrap_err().code, ErrorCode::Aborted);
    let needed = loading().memory();
    assert!(loading().check_fits(needed).is_ok());
    let Error { code, message } = loading().check_fits(needed - 1).unwrap_err();
    assert!(code == ErrorCode::OutOfMemory && message.contains("MB are free"), "{message}");
    let short = loading().accept(&[0; 3]).unwrap_err();
    assert!(short.message.contains("cut off"), "{short}");
}

#[test]
fn an_index_names_files_of_its_folder() {
    let index = file("clip-gelu", "model.safetensors.index.json");
    assert_eq!(shards(&index).unwrap().len(), 4);
    for bad in [
        r#"{"weight_map": {"a": "../x"}}"#,
        r#"{"weight_map": {"a": "/etc/x"}}"#,
        r#"{"weight_map": {}}"#,
        "{}",
    ] {
        assert_eq!(shards(bad.as_bytes()).unwrap_err().code, ErrorCode::WeightsFormat, "{bad}");
    }
    let some = build(&config("clip-gelu"), &weights("clip-gelu")[..2], Parts::All).unwrap_err();
    assert!(some.message.contains("missing"), "{some}");
}
