//! Time and memory of an image tower: `cargo bench --bench encoder -- FOLDER [SECONDS]` prints one JSON line.
//!
//! FOLDER holds a checkpoint (`config.json`, `model.safetensors`) and `pixels.f32`, one image as the tower takes
//! it, little-endian; `embedding.f32` is written beside them. `tests/reference/encoders_bench.py` makes such
//! folders, and calls this in turn with onnxruntime. `RAYON_NUM_THREADS` sets the threads.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::{fs, path::PathBuf, time::Instant};

use burn::tensor::{Device, Tensor, TensorData};
use reca::encoder::{DualEncoder, EncoderConfig, Loading, Parts};
use reca::weights::{Header, header};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    rayon::ThreadPoolBuilder::new().build().unwrap().install(run);
}

fn run() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        println!("encoder: name a folder, or run tests/reference/encoders_bench.py, which makes them");
        return;
    };
    let seconds = arguments.next().map_or(5.0, |seconds| seconds.parse().unwrap());
    let device = Device::flex();
    let config = EncoderConfig::from_json(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let model = load(&config, &fs::read(folder.join("model.safetensors")).unwrap(), &device);
    let pixels = fs::read(folder.join("pixels.f32")).unwrap();
    let pixels: Vec<f32> = pixels.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let side = config.vision.image_size;
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, side, side]), &device);
    let forward = || {
        let start = Instant::now();
        let embedding = model.image_embeds(images.clone()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        (start.elapsed().as_secs_f64(), embedding)
    };
    let bytes: Vec<u8> = forward().1.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(folder.join("embedding.f32"), bytes).unwrap();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        times.push(forward().0);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "threads": rayon::current_num_threads(), "best_ms": 1e3 * times[0],
            "median_ms": 1e3 * times[times.len() / 2], "peak_rss_mb": peak_memory(),
        })
    );
}

fn load(config: &EncoderConfig, file: &[u8], device: &Device) -> DualEncoder {
    let size = file.len() as u64;
    let (prefix, rest) = file.split_at(header::PREFIX as usize);
    let length = Header::length(prefix, size).unwrap() as usize;
    let headers = [Header::parse(&rest[..length], size).unwrap()];
    let mut loading = Loading::new(config, &headers, Parts::Vision, device).unwrap();
    while let Some(range) = loading.next().map(|piece| piece.range.clone()) {
        loading.accept(&file[range.start as usize..range.end as usize]).unwrap();
    }
    loading.finish().unwrap()
}

/// The process's largest resident size so far, MB, where the system tells.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1e3)
}
