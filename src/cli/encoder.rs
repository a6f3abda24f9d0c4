//! The official checkpoints that `embed` and `zero-shot` work with.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reca::encoder::{DualEncoder, EncoderConfig, Loading, Parts, Preprocessor};
use reca::weights::{Header, header, streaming};
use reca::{Error, Result};
use sha2::{Digest, Sha256};

use crate::common;

/// The encoder to work with.
#[derive(Args)]
pub struct EncoderArgs {
    /// Folder of a CLIP or SigLIP checkpoint in the Hugging Face layout: config.json,
    /// model.safetensors (or its parts with their index), preprocessor_config.json, tokenizer.json
    #[arg(long, value_name = "DIR")]
    pub encoder: PathBuf,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = common::Device::Auto)]
    device: common::Device,
}

/// A loaded checkpoint.
pub struct Opened {
    pub model: DualEncoder,
    pub config: EncoderConfig,
    pub preprocessor: Preprocessor,
    pub device: Device,
}

impl EncoderArgs {
    /// Loads the checkpoint.
    ///
    /// # Errors
    /// `bad_input` for missing files, `no_webgpu`, `out_of_memory` before anything is loaded, and those
    /// of [`EncoderConfig::from_json`] and [`Loading`].
    pub fn open(&self, parts: Parts) -> Result<Opened> {
        Folder(&self.encoder).open(parts, self.device.open()?)
    }
}

/// A checkpoint's folder.
#[derive(Clone, Copy)]
pub struct Folder<'a>(pub &'a Path);

impl Folder<'_> {
    /// Loads the checkpoint onto a device.
    ///
    /// # Errors
    /// `bad_input` for missing files, `out_of_memory` before anything is loaded, and those of
    /// [`EncoderConfig::from_json`] and [`Loading`].
    pub fn open(self, parts: Parts, device: Device) -> Result<Opened> {
        let located = |e: Error| e.at(self.0.display());
        let config = EncoderConfig::from_json(&self.file("config.json")?).map_err(located)?;
        let preprocessor = match self.optional("preprocessor_config.json") {
            Some(json) => Preprocessor::from_json(&json, &config).map_err(located)?,
            None => Preprocessor::default_of(&config),
        };
        let model = self.load(&config, parts, &device).map_err(located)?;
        Ok(Opened { model, config, preprocessor, device })
    }

    /// A file that must be there.
    pub fn file(self, name: &str) -> Result<Vec<u8>> {
        let path = self.0.join(name);
        fs::read(&path).map_err(|e| {
            let message = format!(
                "{e}; --encoder names a folder of a CLIP or SigLIP checkpoint, as downloaded from Hugging Face"
            );
            Error::bad_input(message).at(path.display())
        })
    }

    /// A file that may be there.
    pub fn optional(self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.0.join(name)).ok()
    }

    /// The sha256 of all that makes the embeddings: settings and weights.
    ///
    /// # Errors
    /// Those of [`Folder::open`] for missing files.
    pub fn sha256(self) -> Result<String> {
        let mut all = Sha256::new();
        all.update(self.file("config.json")?);
        all.update(self.optional("preprocessor_config.json").unwrap_or_default());
        let mut bytes = vec![0; 1 << 20];
        for name in self.weights()? {
            let path = self.0.join(name);
            let mut file = open(&path)?;
            loop {
                match file.read(&mut bytes).map_err(|e| Error::bad_input(e).at(path.display()))? {
                    0 => break,
                    count => all.update(&bytes[..count]),
                }
            }
        }
        Ok(all.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The names of the files that hold the weights.
    fn weights(self) -> Result<Vec<String>> {
        match self.optional("model.safetensors.index.json") {
            Some(index) => streaming::shards(&index).map_err(|e| e.at("model.safetensors.index.json")),
            None => Ok(vec!["model.safetensors".to_owned()]),
        }
    }

    fn load(self, config: &EncoderConfig, parts: Parts, device: &Device) -> Result<DualEncoder> {
        let names = self.weights()?;
        let mut files = names.iter().map(|name| open(&self.0.join(name))).collect::<Result<Vec<_>>>()?;
        let headers =
            files.iter_mut().zip(&names).map(|(file, name)| read_header(file).map_err(|e| e.at(name)));
        let mut loading = Loading::new(config, &headers.collect::<Result<Vec<_>>>()?, parts, device)?;
        if let Some(free) = free_memory() {
            loading.check_fits(free)?;
        }
        let bar = bar(loading.progress().bytes_total);
        let mut bytes = Vec::new();
        while let Some(piece) = loading.next() {
            bytes.resize((piece.range.end - piece.range.start) as usize, 0);
            let file = &mut files[piece.file];
            let read =
                file.seek(SeekFrom::Start(piece.range.start)).and_then(|_| file.read_exact(&mut bytes));
            read.map_err(|e| Error::weights_format(e).at(&names[piece.file]))?;
            loading.accept(&bytes)?;
            let progress = loading.progress();
            bar.set_position(progress.bytes);
            bar.set_message(format!("{} of {} tensors", progress.tensors, progress.tensors_total));
        }
        bar.finish_and_clear();
        loading.finish()
    }
}

/// The index of a hidden state that may be counted from the end.
pub fn hidden_state(layer: i64, layers: usize) -> Result<usize> {
    let states = layers as i64 + 1;
    let index = if layer < 0 { states + layer } else { layer };
    usize::try_from(index).ok().filter(|index| *index <= layers).ok_or_else(|| {
        Error::bad_input(format!(
            "--layer {layer}: this encoder has hidden states 0 to {layers}, or -{states} to -1"
        ))
    })
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| {
        let message =
            format!("{e}; download it too, or save the checkpoint as safetensors if it is in another format");
        Error::bad_input(message).at(path.display())
    })
}

fn read_header(file: &mut File) -> Result<Header> {
    let size = file.metadata().map_err(Error::bad_input)?.len();
    let mut prefix = Vec::new();
    file.take(header::PREFIX).read_to_end(&mut prefix).map_err(Error::bad_input)?;
    let mut json = vec![0; Header::length(&prefix, size)? as usize];
    file.read_exact(&mut json).map_err(Error::weights_format)?;
    Header::parse(&json, size)
}

/// Free bytes of memory, where the system tells.
fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {wide_msg}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
