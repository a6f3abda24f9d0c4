//! Time and memory of full-size image towers: `cargo bench --bench encoder [-- NAME …]` prints one
//! JSON line each; `tests/reference/encoders_bench.py` prints the same for onnxruntime.
//!
//! Weights are random, which changes neither. `RAYON_NUM_THREADS` sets the threads.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::time::Instant;

use burn::tensor::Device;
use reca::encoder::{DualEncoder, EncoderConfig};
use reca::random;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, `config.json`. `small` is what a browser trains and runs with ease.
const TOWERS: [(&str, &str); 5] = [
    (
        "small",
        r#"{"model_type": "siglip_vision_model", "hidden_size": 192, "intermediate_size": 768,
            "num_hidden_layers": 6, "num_attention_heads": 6, "image_size": 64, "patch_size": 8}"#,
    ),
    ("clip-vit-base-patch32", r#"{"model_type": "clip_vision_model"}"#),
    ("clip-vit-base-patch16", r#"{"model_type": "clip_vision_model", "patch_size": 16}"#),
    ("siglip-base-patch16-224", r#"{"model_type": "siglip_vision_model"}"#),
    (
        "siglip-so400m-patch14-384",
        r#"{"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
            "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 384, "patch_size": 14}"#,
    ),
];

fn main() {
    rayon::ThreadPoolBuilder::new().build().unwrap().install(run);
}

fn run() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for (name, json) in TOWERS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure(name, json);
        }
    }
}

fn measure(name: &str, json: &str) {
    let config = EncoderConfig::from_json(json.as_bytes()).unwrap();
    let device = Device::flex();
    let model = DualEncoder::new(&config, &device);
    let side = config.vision.image_size;
    let images = random::noise(&mut random::stream(0, 0), [1, 3, side, side], &device);
    let forward = || {
        let start = Instant::now();
        let embeds = model.image_embeds(images.clone()).unwrap().into_data();
        assert!(embeds.try_to_vec::<f32>().unwrap().iter().all(|value| value.is_finite()));
        start.elapsed().as_secs_f64()
    };
    forward();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || begin.elapsed().as_secs() < 5 {
        times.push(forward());
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "benchmark": "image_tower", "encoder": name, "backend": "burn flex",
            "threads": rayon::current_num_threads(), "parameters": burn::module::Module::num_params(&model),
            "best_ms": 1e3 * times[0], "median_ms": 1e3 * times[times.len() / 2], "peak_rss_mb": peak_memory(),
        })
    );
}

/// The process's largest resident size so far, MB, where the system tells.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1e3)
}
