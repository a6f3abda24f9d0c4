"""Times image towers in onnxruntime: python encoders_bench.py [--threads N] [NAME ...]

The same architectures as `cargo bench --bench encoder`, built from their configuration with random weights and exported
to ONNX; one JSON line each. Needs onnxruntime (1.32.0), onnx and onnxscript as well.
"""
import argparse
import json
import tempfile
import time
from pathlib import Path

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


class Pooled(torch.nn.Module):
    """The one output that is timed."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        outputs = self.model(pixels)
        return outputs.image_embeds if hasattr(outputs, "image_embeds") else outputs.pooler_output


def measure(name: str, threads: int, folder: Path):
    model = TOWERS[name]().eval()
    pixels = torch.randn(1, 3, model.config.image_size, model.config.image_size)
    path = folder / f"{name}.onnx"
    torch.onnx.export(Pooled(model), (pixels,), path, input_names=["pixels"], dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, times, begin = {"pixels": pixels.numpy()}, [], time.perf_counter()
    session.run(None, inputs)
    while len(times) < 5 or time.perf_counter() - begin < 5:
        start = time.perf_counter()
        session.run(None, inputs)
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({
        "benchmark": "image_tower", "encoder": name, "backend": f"onnxruntime {onnxruntime.__version__}", "threads": threads,
        "parameters": sum(p.numel() for p in model.parameters()), "best_ms": round(min(times), 2),
        "median_ms": round(sorted(times)[len(times) // 2], 2),
    }))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(TOWERS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or TOWERS:
            measure(name, arguments.threads, Path(folder))


if __name__ == "__main__":
    main()
