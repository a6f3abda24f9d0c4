//! `manifest.json`: the size and sha256 of every file of a model directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::directory::MANIFEST;
use crate::{Error, Result};

/// What a model directory must contain, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub files: BTreeMap<String, FileEntry>,
    /// Files that are only needed later on, if at all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub later: BTreeMap<String, FileEntry>,
}

/// One file's size in bytes and sha256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub size: u64,
    pub sha256: String,
}

impl FileEntry {
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { size: bytes.len() as u64, sha256 }
    }
}

impl Manifest {
    /// Reads the manifest by `read`, then the files of these names in their order, checking each.
    ///
    /// # Errors
    /// Those of `read` and of [`Manifest::check`].
    pub fn read<const N: usize>(
        names: [&str; N],
        mut read: impl FnMut(&str) -> Result<Vec<u8>>,
    ) -> Result<[Vec<u8>; N]> {
        let manifest = Self::from_json(&read(MANIFEST)?)?;
        let mut files = [const { Vec::new() }; N];
        for (file, name) in files.iter_mut().zip(names) {
            *file = read(name)?;
            manifest.check(name, file)?;
        }
        Ok(files)
    }

    /// The files and a manifest of them, the manifest last.
    pub fn seal<'a>(files: &[(&'a str, &[u8])]) -> Result<Vec<(&'a str, Vec<u8>)>> {
        let entries = files.iter().map(|(name, bytes)| ((*name).to_owned(), FileEntry::of(bytes)));
        let manifest = Self { files: entries.collect(), later: BTreeMap::new() };
        let mut sealed: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect();
        sealed.push((MANIFEST, serde_json::to_vec_pretty(&manifest).map_err(Error::internal)?));
        Ok(sealed)
    }

    /// Parses `manifest.json`.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|e| Error::weights_format(format!("manifest.json: {e}")))
    }

    /// Checks one file against its entry.
    ///
    /// # Errors
    /// `weights_format` if the manifest does not list the file, `weights_hash` if size or sha256 differ.
    pub fn check(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(expected) = self.files.get(name).or_else(|| self.later.get(name)) else {
            return Err(Error::weights_format(format!("manifest.json does not list {name}")));
        };
        let found = FileEntry::of(bytes);
        if found.size != expected.size {
            return Err(Error::weights_hash(format!(
                "{name} has {} bytes, the manifest says {}; it is cut off or from another model, fetch it again",
                found.size, expected.size
            )));
        }
        if found.sha256 != expected.sha256 {
            return Err(Error::weights_hash(format!(
                "{name} has sha256 {}, the manifest says {}; it is damaged or from another model, fetch it again",
                found.sha256, expected.sha256
            )));
        }
        Ok(())
    }
}
