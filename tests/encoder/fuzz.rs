//! Safetensors files that lie, made by chance from good ones: whatever they claim, they are refused by name
//! or read as the `safetensors` crate reads them, in memory that goes with their length, not their claims.

use rand_chacha::ChaCha8Rng;
use reca::ErrorCode;
use reca::encoder::Parts;
use reca::random::{below, stream};
use safetensors::{SafeTensorError, SafeTensors};

use super::{build, config, file, header, meter};

const FILES: u64 = 30_000;
const CHECKPOINTS: u64 = 600;

/// What a number of a header is replaced by, as JSON.
const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "2",
    "8",
    "-1",
    "-0",
    "1.5",
    "1e3",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "null",
    "\"3\"",
];
const DTYPES: [(&str, usize); 8] =
    [("F32", 32), ("F16", 16), ("BF16", 16), ("I64", 64), ("I8", 8), ("BOOL", 8), ("F8_E4M3", 8), ("F4", 4)];
const NAMES: [&str; 7] = ["a", "a.weight", "", "__metadata__", "\\u0000", "\\ud800", "日本"];

pub fn pick<'a, T: ?Sized>(random: &mut ChaCha8Rng, from: &[&'a T]) -> &'a T {
    from[below(random, from.len())]
}

/// A tensor as a header has it, each part as JSON.
#[derive(Clone)]
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<String>,
    offsets: Vec<String>,
    /// Further fields, which a reader may skip.
    extra: String,
}

impl Tensor {
    fn json(&self) -> String {
        let (shape, offsets) = (self.shape.join(","), self.offsets.join(","));
        let Self { name, dtype, extra, .. } = self;
        format!(
            "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],{extra}\"data_offsets\":[{offsets}]}}"
        )
    }
}

/// A good file's tensors in any order, and the bytes that they take.
fn good(random: &mut ChaCha8Rng) -> (Vec<Tensor>, usize) {
    let (mut tensors, mut at) = (Vec::new(), 0);
    for index in 0..below(random, 5) {
        let (dtype, bits) = DTYPES[below(random, DTYPES.len() - 1)];
        let shape: Vec<usize> = (0..below(random, 4)).map(|_| below(random, 5)).collect();
        let end = at + shape.iter().product::<usize>() * bits / 8;
        let tensor = Tensor {
            name: format!("t{index}"),
            dtype: dtype.to_owned(),
            shape: shape.iter().map(usize::to_string).collect(),
            offsets: vec![at.to_string(), end.to_string()],
            extra: String::new(),
        };
        tensors.insert(below(random, tensors.len() + 1), tensor);
        at = end;
    }
    (tensors, at)
}

/// One lie about one tensor, or about two.
fn lie(random: &mut ChaCha8Rng, tensors: &mut Vec<Tensor>) {
    if tensors.is_empty() {
        return;
    }
    let (i, j) = (below(random, tensors.len()), below(random, tensors.len()));
    let number = pick(random, &NUMBERS).to_owned();
    let other = tensors[j].clone();
    let tensor = &mut tensors[i];
    match below(random, 14) {
        0 => tensor.shape.push(number),
        1 => tensor.shape.iter_mut().take(1).for_each(|side| side.clone_from(&number)),
        2 => tensor.shape = vec![number; below(random, 80)],
        3 => tensor.offsets.iter_mut().skip(below(random, 2)).take(1).for_each(|at| at.clone_from(&number)),
        4 => tensor.offsets.reverse(),
        5 => tensor.offsets.resize(below(random, 4), number),
        6 => tensor.offsets = other.offsets,
        7 => tensor.dtype = pick(random, &DTYPES.map(|(name, _)| name)).to_owned(),
        8 => tensor.dtype = pick(random, &["", "f32", "F33", "\\u0000", "F32\\\""]).to_owned(),
        9 => tensor.name = pick(random, &NAMES).to_owned(),
        10 => tensor.name = other.name,
        11 => tensor.extra = format!("\"extra\":{}1{},", "[".repeat(300), "]".repeat(300)),
        12 => tensor.extra = format!("\"{}\":{number},", pick(random, &["extra", "dtype", "shape"])),
        _ => tensors.push(other),
    }
}

/// A file, its length first, and whether it holds what a reader may skip.
fn assemble(random: &mut ChaCha8Rng, tensors: &[Tensor], bytes: usize) -> (Vec<u8>, bool) {
    let mut parts: Vec<String> = tensors.iter().map(Tensor::json).collect();
    match below(random, 6) {
        0 => parts.push("\"__metadata__\":{\"format\":\"pt\"}".to_owned()),
        1 => parts.push(format!("\"__metadata__\":{}", pick(random, &NUMBERS))),
        _ => {}
    }
    let json = format!("{{{}}}{}", parts.join(","), " ".repeat(below(random, 9)));
    let skipped = json.contains("__metadata__") || json.contains("extra");
    (sealed(json.as_bytes(), &vec![0; bytes]), skipped)
}

fn sealed(json: &[u8], data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json, data].concat()
}

/// Damage that knows nothing of what the bytes mean.
fn damage(random: &mut ChaCha8Rng, file: &mut Vec<u8>) {
    let at = below(random, file.len());
    match below(random, 6) {
        0 => file.truncate(at),
        1 => file.extend(vec![0; 1 + below(random, 9)]),
        2 => file[at] = below(random, 256) as u8,
        3 => drop(file.remove(at)),
        4 => file[below(random, 8.min(at + 1))] = below(random, 256) as u8,
        _ => file[at] = 0xff,
    }
}

/// Both readers on one file; whether ours took it.
#[track_caller]
fn compare(file: &[u8], skipped: bool) -> bool {
    let (ours, peak) = meter::peak(|| header(file));
    assert!(peak <= 64 * file.len() + 4096, "{peak} bytes for a file of {}", file.len());
    match (ours, SafeTensors::deserialize(file)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.tensors.len(), theirs.len());
            for (name, info) in &ours.tensors {
                let view = theirs.tensor(name).unwrap();
                assert_eq!((info.dtype, &info.shape[..]), (view.dtype(), view.shape()), "{name}");
                let bytes = &file[info.range.start as usize..info.range.end as usize];
                assert_eq!(bytes.as_ptr_range(), view.data().as_ptr_range(), "{name}");
            }
            true
        }
        // Of two tensors of one name the crate takes the last.
        (Err(error), Ok(_)) => {
            assert!(error.message.contains("is there twice"), "{error}");
            false
        }
        (Ok(_), Err(theirs)) => {
            let malformed = matches!(theirs, SafeTensorError::InvalidHeaderDeserialization(_));
            assert!(malformed && skipped, "{theirs} in {}", String::from_utf8_lossy(file));
            true
        }
        (Err(error), Err(_)) => {
            let named = error.code == ErrorCode::WeightsFormat && error.message.contains("fetch it again");
            assert!(named, "{error}");
            false
        }
    }
}

#[test]
fn files_are_refused_or_read_as_the_safetensors_crate_reads_them() {
    let (mut taken, mut lies_taken) = (0, 0);
    for case in 0..FILES {
        let mut random = stream(case, 1);
        let (mut tensors, bytes) = good(&mut random);
        let lies = below(&mut random, 3);
        (0..lies).for_each(|_| lie(&mut random, &mut tensors));
        let (mut file, skipped) = assemble(&mut random, &tensors, bytes);
        let damaged = below(&mut random, 3) == 0;
        if damaged {
            damage(&mut random, &mut file);
        }
        let fine = compare(&file, skipped);
        assert!(fine || lies > 0 || damaged, "case {case} is a good file");
        taken += usize::from(fine);
        lies_taken += usize::from(fine && lies > 0);
    }
    // Some lies are true: a tensor of no bytes may have any of many shapes.
    let range = FILES as usize / 4..FILES as usize * 3 / 4;
    assert!(range.contains(&taken) && lies_taken > 500, "{taken} taken, {lies_taken} with lies");
}

/// Lies about a checkpoint's tensors: it is refused, or every tensor has its shape and finite values.
#[test]
fn damaged_checkpoints_are_refused_or_whole() {
    let (config, good) = (config("clip-vision"), file("clip-vision", "model.safetensors"));
    let (length, _) = SafeTensors::read_metadata(&good).unwrap();
    let (json, data) = good[8..].split_at(length);
    let entries: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).unwrap();
    let text = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(ToString::to_string).collect()
    };
    let tensors: Vec<Tensor> = entries
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, entry)| Tensor {
            name: name.clone(),
            dtype: entry["dtype"].as_str().unwrap().to_owned(),
            shape: text(&entry["shape"]),
            offsets: text(&entry["data_offsets"]),
            extra: String::new(),
        })
        .collect();
    let mut whole = 0;
    for case in 0..CHECKPOINTS {
        let mut random = stream(case, 2);
        let mut tensors = tensors.clone();
        lie(&mut random, &mut tensors);
        let mut data = data.to_vec();
        if below(&mut random, 2) == 0 {
            let at = below(&mut random, data.len() / 2);
            data[2 * at..2 * at + 2].copy_from_slice(&[0, 0x7c]);
        }
        let json = format!("{{{}}}", tensors.iter().map(Tensor::json).collect::<Vec<_>>().join(","));
        match build(&config, &[sealed(json.as_bytes(), &data)], Parts::All) {
            Ok(_) => whole += 1,
            Err(error) => {
                let codes = [ErrorCode::WeightsFormat, ErrorCode::WeightsShape];
                assert!(codes.contains(&error.code), "case {case}: {error}");
            }
        }
    }
    assert!((1..CHECKPOINTS / 2).contains(&whole), "{whole}");
}
