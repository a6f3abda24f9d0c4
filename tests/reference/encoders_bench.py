"""Times image towers here and in onnxruntime, in turn: python encoders_bench.py [--threads N] [--rounds N] [NAME ...]

Checkpoints of official architectures with random weights, written by `transformers`, exported to ONNX; both sides read
the same weights and pixels and must give the same embedding. One JSON line a tower: time on the clock, processor time (of
all threads; other programs on the machine hardly lengthen it, so compare that), where it goes on either side, and what
loading takes here. Needs onnxruntime (1.32.0), onnx and onnxscript as well.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, SiglipVisionConfig, SiglipVisionModel

SMALL = dict(hidden_size=192, intermediate_size=768, num_hidden_layers=6, num_attention_heads=6, image_size=64, patch_size=8)
SO400M = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=384,
              patch_size=14)
TOWERS = {
    "small": lambda: SiglipVisionModel(SiglipVisionConfig(**SMALL)),
    "clip-vit-base-patch32": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig()),
    "clip-vit-base-patch16": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=16)),
    "siglip-base-patch16-224": lambda: SiglipVisionModel(SiglipVisionConfig()),
    "siglip-so400m-patch14-384": lambda: SiglipVisionModel(SiglipVisionConfig(**SO400M)),
}
SECONDS = 5                                         # a side and round
TOLERANCE = 1e-4                                    # of embeddings, relative to the largest value
PARTS = {                                           # of onnxruntime's operators; benches/encoder.rs has the same
    "Conv": "embedding", "Gemm": "products", "FusedMatMul": "attention", "MatMul": "attention", "Softmax": "attention",
    "Transpose": "attention", "Reshape": "attention", "QuickGelu": "activations", "Gelu": "activations",
    "FastGelu": "activations", "BiasGelu": "activations", "LayerNormalization": "norms", "SkipLayerNormalization": "norms",
    "Add": "residuals",
}


class Pooled(torch.nn.Module):
    """The one output that is timed."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        outputs = self.model(pixels)
        return outputs.image_embeds if hasattr(outputs, "image_embeds") else outputs.pooler_output


def ours(folder: Path, threads: int) -> tuple[dict, np.ndarray]:
    command = ["cargo", "bench", "--quiet", "--bench", "encoder", "--", str(folder), str(SECONDS)]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    lines = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(lines.splitlines()[-1]), np.fromfile(folder / "embedding.f32", np.float32)


def theirs(session: onnxruntime.InferenceSession, pixels: np.ndarray) -> tuple[dict, np.ndarray]:
    times, embedding = [], session.run(None, {"pixels": pixels})[0]
    begin, processor = time.perf_counter(), time.process_time()
    while len(times) < 3 or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        session.run(None, {"pixels": pixels})
        times.append(1e3 * (time.perf_counter() - start))
    processor = 1e3 * (time.process_time() - processor) / len(times)
    return {"best_ms": min(times), "median_ms": sorted(times)[len(times) // 2], "processor_ms": processor}, embedding.ravel()


def shares(open_session, pixels: np.ndarray) -> dict[str, float]:
    """What part of its time onnxruntime spends in what, by its own profiler."""
    session = open_session(profile=True)
    for _ in range(5):
        session.run(None, {"pixels": pixels})
    events, spent = json.loads(Path(session.end_profiling()).read_text()), Counter()
    for event in events:
        if event["name"].endswith("_kernel_time"):
            spent[PARTS.get(event["args"]["op_name"], "other")] += event["dur"]
    return {part: time / spent.total() for part, time in spent.items()}


def measure(name: str, threads: int, rounds: int, folder: Path):
    torch.manual_seed(0)
    model = TOWERS[name]().eval()
    side = model.config.image_size
    pixels = torch.randn(1, 3, side, side)
    model.save_pretrained(folder)
    pixels.numpy().tofile(folder / "pixels.f32")
    torch.onnx.export(Pooled(model), (pixels,), folder / "model.onnx", input_names=["pixels"], dynamo=True, verbose=False)

    def open_session(profile: bool = False) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.enable_profiling = threads, profile
        options.profile_file_prefix = str(folder / "profile")
        return onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    session = open_session()
    both = [(ours(folder, threads), theirs(session, pixels.numpy())) for _ in range(rounds)]
    (first, found), (_, expected) = both[0]
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if error > TOLERANCE:
        raise SystemExit(f"{name}: embeddings differ by {error} of the largest value")
    sides = list(zip(*both))
    best, processor = ([min(run[key] for run, _ in side) for side in sides] for key in ("best_ms", "processor_ms"))
    print(json.dumps({
        "encoder": name, "threads": threads, "parameters": sum(p.numel() for p in model.parameters()), "error": error,
        "ours_ms": round(best[0], 2), "onnxruntime_ms": round(best[1], 2),
        "processor_ms": [round(time, 2) for time in processor], "ours_over_onnxruntime": round(processor[0] / processor[1], 3),
        "ratio_by_round": [round(a["processor_ms"] / b["processor_ms"], 3) for (a, _), (b, _) in both],
        "ours_parts_ms": {part: round(time, 2) for part, time in first["parts_ms"].items()},
        "onnxruntime_parts_ms": {p: round(s * processor[1], 2) for p, s in shares(open_session, pixels.numpy()).items()},
        "load_s": round(first["load_s"], 2), "loaded_mb": round(first["loaded_mb"]), "peak_rss_mb": round(first["peak_rss_mb"]),
        "onnxruntime": onnxruntime.__version__,
    }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(TOWERS), help=", ".join(TOWERS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for name in arguments.names or TOWERS:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, arguments.threads, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
