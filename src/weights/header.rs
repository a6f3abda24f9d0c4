//! The header of a safetensors file, read by itself, so that a file can be loaded tensor by tensor
//! without ever being in memory as a whole.
//!
//! A file is eight bytes with the header's length, the header as JSON, then the tensors' bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::{Error, Result};

/// Bytes before the header's JSON.
pub const PREFIX: u64 = 8;
/// Longest header accepted, bytes.
const LONGEST: u64 = 100_000_000;

/// Where a file has which tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Bytes of the file, counted from its beginning.
    pub range: Range<u64>,
}

/// The name that is no tensor's: free-form remarks on the file.
const REMARKS: &str = "__metadata__";

#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// A header's JSON, read tensor by tensor: nothing else of it is ever in memory.
struct Entries(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor).map(Self)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = BTreeMap<String, Entry>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == REMARKS {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry = map.next_value().map_err(|e| A::Error::custom(format!("{name}: {e}")))?;
            if entries.contains_key(&name) {
                return Err(A::Error::custom(format!("{name} is there twice")));
            }
            entries.insert(name, entry);
        }
        Ok(entries)
    }
}

impl Header {
    /// The length of the header's JSON, which follows the file's first [`PREFIX`] bytes.
    ///
    /// # Errors
    /// `weights_format` if the file is too short for it or it is absurd.
    pub fn length(prefix: &[u8], file_size: u64) -> Result<u64> {
        let prefix: [u8; PREFIX as usize] =
            prefix.try_into().map_err(|_| damaged("it has fewer than 8 bytes".into()))?;
        let length = u64::from_le_bytes(prefix);
        if length > LONGEST || length > file_size.saturating_sub(PREFIX) {
            return Err(damaged(format!("its header claims {length} bytes, the file has {file_size}")));
        }
        Ok(length)
    }

    /// Parses the header's JSON and checks that the tensors fill the file without gap or overlap,
    /// each with the bytes that its shape needs.
    ///
    /// # Errors
    /// `weights_format` saying what is wrong.
    pub fn parse(json: &[u8], file_size: u64) -> Result<Self> {
        let unreadable =
            |e: &dyn std::fmt::Display| damaged(format!("its header is no JSON of tensors: {e}"));
        let text = std::str::from_utf8(json).map_err(|e| unreadable(&e))?;
        let Entries(entries) = serde_json::from_str(text).map_err(|e| unreadable(&e))?;
        let start = PREFIX + json.len() as u64;
        let mut tensors = BTreeMap::new();
        for (name, entry) in entries {
            let [begin, end] = entry.data_offsets;
            let count = entry.shape.iter().try_fold(1u64, |n, side| n.checked_mul(*side as u64));
            let bits = count.and_then(|n| n.checked_mul(entry.dtype.bitsize() as u64));
            let length = end.checked_sub(begin);
            if bits.is_none() || length.and_then(|n| n.checked_mul(8)) != bits {
                let (dtype, shape) = (entry.dtype, &entry.shape);
                return Err(damaged(format!("{name} is {dtype} {shape:?}, but has bytes {begin} to {end}")));
            }
            let range = start.saturating_add(begin)..start.saturating_add(end);
            tensors.insert(name, TensorInfo { dtype: entry.dtype, shape: entry.shape, range });
        }
        let header = Self { tensors };
        header.check_filled(start, file_size)?;
        Ok(header)
    }

    fn check_filled(&self, start: u64, file_size: u64) -> Result<()> {
        let mut ranges: Vec<_> =
            self.tensors.iter().map(|(name, t)| (t.range.start, t.range.end, name)).collect();
        ranges.sort();
        let mut at = start;
        for (begin, end, name) in ranges {
            if begin != at {
                return Err(damaged(format!("{name} begins at byte {begin}, expected {at}")));
            }
            at = end;
        }
        if at != file_size {
            return Err(damaged(format!("its tensors end at byte {at}, the file has {file_size}")));
        }
        Ok(())
    }
}

fn damaged(what: String) -> Error {
    Error::weights_format(format!("not a complete safetensors file: {what}; fetch it again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}"#;

    fn parse(json: &str) -> Result<Header> {
        Header::parse(json.as_bytes(), PREFIX + json.len() as u64 + 26)
    }

    #[test]
    fn tensors_have_their_place_in_the_file() {
        let header = parse(GOOD).unwrap();
        let start = PREFIX + GOOD.len() as u64;
        assert_eq!(header.tensors["a"].range, start..start + 24);
        assert_eq!(header.tensors["b"].shape, [0usize; 0]);
    }

    #[test]
    fn lies_are_named() {
        for (from, to, said) in [
            ("[0,24]", "[0,20]", "a is F32 [2, 3], but has bytes 0 to 20"),
            ("[0,24]", "[24,0]", "but has bytes 24 to 0"),
            ("[24,26]", "[20,22]", "b begins at byte"),
            ("[24,26]", "[18446744073709551613,18446744073709551615]", "b begins at byte"),
            ("[2,3]", "[4294967296,4294967296,4294967296]", "but has bytes"),
            ("[2,3]", "[-2,-3]", "invalid value"),
            ("BF16", "BF17", "unknown variant `BF17`"),
            ("\"shape\":[],", "", "missing field `shape`"),
            ("{\"__m", "[{\"__m", "expected an object of tensors"),
            ("\"b\"", "\"a\"", "a is there twice"),
        ] {
            let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("fetch it again"), "{error}");
        }
        let short = Header::parse(GOOD.as_bytes(), PREFIX + GOOD.len() as u64 + 25).unwrap_err();
        assert!(short.to_string().contains("the file has"), "{short}");
        assert!(Header::length(&[0; 7], 7).is_err());
        assert!(Header::length(&u64::MAX.to_le_bytes(), 1 << 40).is_err());
        assert!(Header::length(&100u64.to_le_bytes(), 107).is_err());
        assert_eq!(Header::length(&100u64.to_le_bytes(), 108).unwrap(), 100);
    }

    /// Whatever bytes a header holds, it is refused or its tensors lie inside the file, one after
    /// the other, with the bytes their shapes need.
    #[test]
    fn damaged_headers_never_lead_outside_the_file() {
        let mut random = random::stream(6, 0);
        let mut accepted = 0;
        for _ in 0..50_000 {
            let mut bytes = GOOD.as_bytes().to_vec();
            for _ in 0..=random::below(&mut random, 3) {
                let at = random::below(&mut random, bytes.len());
                match random::below(&mut random, 4) {
                    0 => bytes[at] = random::below(&mut random, 256) as u8,
                    1 => bytes[at] = b"0123456789,[]{}\"-e."[random::below(&mut random, 19)],
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[random::below(&mut random, bytes.len())]),
                }
            }
            let size = PREFIX + bytes.len() as u64 + 26;
            let Ok(header) = Header::parse(&bytes, size) else { continue };
            accepted += 1;
            let held: u64 = header.tensors.values().map(|t| t.range.end - t.range.start).sum();
            assert_eq!(held, 26);
            for info in header.tensors.values() {
                let bits = info.shape.iter().product::<usize>() * info.dtype.bitsize();
                assert!(info.range.end <= size && (info.range.end - info.range.start) * 8 == bits as u64);
            }
        }
        assert!(accepted > 1000, "{accepted}");
    }
}
