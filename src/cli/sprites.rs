//! `reca sprites`: rebuilds the sprite archives from the npm packages they come from.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use reca::scene::nouns;
use reca::scene::sprites::{Archive, HELD_STYLE, Icon, Source};
use reca::{Error, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Rebuild the sprite archives from npm packages (`npm pack @iconify-json/noto@1.2.9` and so on)
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the package files (.tgz)
    #[arg(long)]
    from: PathBuf,
    /// Archive to write
    #[arg(long)]
    out: PathBuf,
    /// Write the held-out style instead of the training styles
    #[arg(long)]
    held: bool,
}

/// Style, package, licence.
const PACKAGES: [(&str, &str, &str); 6] = [
    ("noto", "noto", "Apache-2.0"),
    ("noto-v1", "noto-v1", "Apache-2.0"),
    ("fluent", "fluent-emoji-flat", "MIT"),
    ("twemoji", "twemoji", "CC-BY-4.0"),
    ("emojione", "emojione", "CC-BY-4.0"),
    (HELD_STYLE, "openmoji", "CC-BY-SA-4.0"),
];

/// A style needs a noun in at least this many styles to be worth a place in the archive.
const MIN_STYLES: usize = 3;

pub fn run(args: Args) -> Result<()> {
    let mut archive = Archive { sources: Vec::new(), nouns: BTreeMap::new() };
    for (style, package, licence) in PACKAGES.into_iter().filter(|p| (p.0 == HELD_STYLE) == args.held) {
        let file = find(&args.from, package)?;
        let bytes = fs::read(&file).map_err(|e| Error::bad_input(e).at(file.display()))?;
        let (icons, version) = unpack(&bytes).map_err(|e| e.at(file.display()))?;
        for (noun, cldr) in nouns::all() {
            if let Some(icon) = icons.find(cldr) {
                archive.nouns.entry(noun.to_owned()).or_default().insert(style.to_owned(), icon);
            }
        }
        archive.sources.push(Source {
            style: style.to_owned(),
            package: format!("@iconify-json/{package}"),
            version,
            licence: licence.to_owned(),
            sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        });
    }
    if !args.held {
        archive.nouns.retain(|_, styles| styles.len() >= MIN_STYLES);
    }
    let file = fs::File::create(&args.out).map_err(|e| Error::bad_input(e).at(args.out.display()))?;
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    let json = serde_json::to_vec(&archive).map_err(Error::internal)?;
    gzip.write_all(&json)
        .and_then(|()| gzip.finish())
        .map_err(|e| Error::bad_input(e).at(args.out.display()))?;
    println!("{} nouns, {} styles: {}", archive.nouns.len(), archive.sources.len(), args.out.display());
    Ok(())
}

/// The package file whose name is the package's, then a version.
fn find(folder: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("iconify-json-{package}-");
    let entries = fs::read_dir(folder).map_err(|e| Error::bad_input(e).at(folder.display()))?;
    let mut found: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".tgz")
                && name
                    .strip_prefix(&prefix)
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('.'))
        })
        .collect();
    found.sort();
    found.pop().ok_or_else(|| Error::bad_input(format!("no {prefix}*.tgz in {}", folder.display())))
}

/// Iconify's icon set format, what we need of it.
#[derive(Deserialize)]
struct IconSet {
    icons: BTreeMap<String, RawIcon>,
    #[serde(default)]
    aliases: BTreeMap<String, serde_json::Value>,
    width: Option<f32>,
    height: Option<f32>,
}

#[derive(Deserialize)]
struct RawIcon {
    body: String,
    left: Option<f32>,
    top: Option<f32>,
    width: Option<f32>,
    height: Option<f32>,
}

impl IconSet {
    /// The icon under a name or a plain alias of it; mirrored and rotated aliases are passed over.
    fn find(&self, name: &str) -> Option<Icon> {
        let name = match self.aliases.get(name) {
            Some(alias) if alias.as_object()?.len() == 1 => alias.get("parent")?.as_str()?,
            Some(_) => return None,
            None => name,
        };
        let raw = self.icons.get(name)?;
        Some(Icon {
            body: raw.body.clone(),
            left: raw.left.unwrap_or(0.0),
            top: raw.top.unwrap_or(0.0),
            width: raw.width.or(self.width).unwrap_or(16.0),
            height: raw.height.or(self.height).unwrap_or(16.0),
        })
    }
}

/// The icon set of a package file and the package's version.
fn unpack(tgz: &[u8]) -> Result<(IconSet, String)> {
    #[derive(Deserialize)]
    struct Package {
        version: String,
    }
    let (mut icons, mut version) = (None, None);
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(tgz));
    for entry in tar.entries().map_err(Error::bad_input)? {
        let mut entry = entry.map_err(Error::bad_input)?;
        let name = entry.path().map_err(Error::bad_input)?.display().to_string();
        let mut json = Vec::new();
        if matches!(name.as_str(), "package/icons.json" | "package/package.json") {
            entry.read_to_end(&mut json).map_err(Error::bad_input)?;
        }
        match name.as_str() {
            "package/icons.json" => icons = Some(serde_json::from_slice(&json).map_err(Error::bad_input)?),
            "package/package.json" => {
                version = Some(serde_json::from_slice::<Package>(&json).map_err(Error::bad_input)?.version);
            }
            _ => {}
        }
    }
    icons.zip(version).ok_or_else(|| Error::bad_input("no icons.json or package.json inside"))
}
