//! Time and memory of an image tower: `cargo bench --bench encoder -- FOLDER [SECONDS]` prints one JSON line.
//!
//! FOLDER holds a checkpoint (`config.json`, `model.safetensors`) and `pixels.f32`, one image as the tower takes
//! it, little-endian; `embedding.f32` is written beside them. `tests/reference/encoders_bench.py` makes such
//! folders, and calls this in turn with onnxruntime. `RAYON_NUM_THREADS` sets the threads.
//!
//! `processor_ms` is what the process computes for a picture, on all threads together; other programs on the
//! machine lengthen it far less than `best_ms`, the time on the clock. `parts_ms` takes it apart.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::{Device, Tensor, TensorData};
use cpu_time::ProcessTime;
use reca::encoder::{DualEncoder, EncoderConfig, Loading, Parts};
use reca::ops::attention;
use reca::umm::attention::{merge_heads, split_heads};
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
    let begin = Instant::now();
    let model = load(&config, &folder.join("model.safetensors"), &device);
    let load_s = begin.elapsed().as_secs_f64();
    let loaded_mb = peak_memory();
    let pixels = fs::read(folder.join("pixels.f32")).unwrap();
    let pixels: Vec<f32> = pixels.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let side = config.vision.image_size;
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, side, side]), &device);
    let forward = || values(model.image_embeds(images.clone()).unwrap());
    let embedding = forward();
    let bytes: Vec<u8> = embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(folder.join("embedding.f32"), bytes).unwrap();
    let mut times = Vec::new();
    let (begin, processor) = (Instant::now(), ProcessTime::now());
    while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        forward();
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    let processor_ms = 1e3 * processor.elapsed().as_secs_f64() / times.len() as f64;
    let mut clock = Clock { last: ProcessTime::now(), spent: BTreeMap::new() };
    for _ in 0..times.len() {
        assert_eq!(values(in_parts(&model, &config, images.clone(), &mut clock)), embedding);
    }
    let count = times.len() as f64;
    let parts_ms: BTreeMap<_, _> = clock.spent.iter().map(|(part, ms)| (part, ms / count)).collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "threads": rayon::current_num_threads(), "best_ms": times[0], "median_ms": times[times.len() / 2],
            "processor_ms": processor_ms, "parts_ms": parts_ms, "load_s": load_s, "loaded_mb": loaded_mb,
            "peak_rss_mb": peak_memory(),
        })
    );
}

fn values(x: Tensor<2>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// Reads tensor by tensor, as the command line does.
fn load(config: &EncoderConfig, path: &Path, device: &Device) -> DualEncoder {
    let mut file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let mut read = |start: u64, length: u64| {
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(start)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        bytes
    };
    let length = Header::length(&read(0, header::PREFIX), size).unwrap();
    let headers = [Header::parse(&read(header::PREFIX, length), size).unwrap()];
    let mut loading = Loading::new(config, &headers, Parts::Vision, device).unwrap();
    while let Some(range) = loading.next().map(|piece| piece.range.clone()) {
        loading.accept(&read(range.start, range.end - range.start)).unwrap();
    }
    loading.finish().unwrap()
}

/// Adds up the processor time of each part.
struct Clock {
    last: ProcessTime,
    spent: BTreeMap<&'static str, f64>,
}

impl Clock {
    fn charge<T>(&mut self, part: &'static str, result: T) -> T {
        *self.spent.entry(part).or_default() += 1e3 * self.last.elapsed().as_secs_f64();
        self.last = ProcessTime::now();
        result
    }
}

/// The tower's forward, part by part.
fn in_parts(model: &DualEncoder, config: &EncoderConfig, images: Tensor<4>, clock: &mut Clock) -> Tensor<2> {
    let block = &config.vision.block;
    clock.last = ProcessTime::now();
    let mut x = clock.charge("embedding", model.vision_model.hidden_state(images, 0));
    for layer in &model.vision_model.encoder.layers {
        let normed = clock.charge("norms", layer.layer_norm1.forward(x.clone()));
        let attn = &layer.self_attn;
        let qkv = [&attn.q_proj, &attn.k_proj, &attn.v_proj].map(|layer| layer.forward(normed.clone()));
        let [query, key, value] =
            clock.charge("products", qkv).map(|x| split_heads(x, block.num_attention_heads));
        let mixed = merge_heads(attention(query, key, value, None));
        let mixed = clock.charge("attention", mixed);
        let mixed = clock.charge("products", attn.out_proj.forward(mixed));
        x = clock.charge("residuals", x + mixed);
        let normed = clock.charge("norms", layer.layer_norm2.forward(x.clone()));
        let wide = clock.charge("products", layer.mlp.fc1.forward(normed));
        let wide = clock.charge("activations", block.activation.forward(wide));
        let narrow = clock.charge("products", layer.mlp.fc2.forward(wide));
        x = clock.charge("residuals", x + narrow);
    }
    clock.charge("pooling", model.pooled_embeds(x).unwrap())
}

/// The process's largest resident size so far, MB, where the system tells.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1e3)
}
