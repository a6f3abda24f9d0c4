"""Writes the image encoder and the generation expert as ONNX: python export_onnx.py --model ../../www/models/mini --out DIR

For the speed comparison in www/bench; the batch is free. Weights are f32, as they are in the browser.

embed.onnx       pixels [B, 3, 64, 64] -> embeddings [B, 16, D]
generation.onnx  noisy [B, 16, C], times [B], keys and values [layers, B, H, S, d], pooled [B, D] -> clean [B, 16, C]
"""
import argparse
import json
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import model as reference
from model import Context, RMSNorm, Umm

OPSET = 17


def rms_norm(self: RMSNorm, x: Tensor) -> Tensor:
    """The formula, since the exporter does not know the operation."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Embed(nn.Module):
    def __init__(self, umm: Umm):
        super().__init__()
        self.umm = umm

    def forward(self, pixels: Tensor) -> Tensor:
        return self.umm.embed(pixels)


class Generation(nn.Module):
    def __init__(self, umm: Umm):
        super().__init__()
        self.generation = umm.generation

    def forward(self, noisy: Tensor, times: Tensor, keys: Tensor, values: Tensor, pooled: Tensor) -> Tensor:
        valid = torch.ones(keys.shape[1], keys.shape[3], dtype=torch.bool)
        return self.generation(noisy, times, Context(list(zip(keys, values)), valid, pooled))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = json.loads((arguments.model / "config.json").read_text())
    umm = Umm(config).eval().requires_grad_(False)
    weights = load_file(arguments.model / "model.safetensors")
    umm.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    RMSNorm.forward = rms_norm
    arguments.out.mkdir(parents=True, exist_ok=True)

    sizes = config["generation"]
    layers, heads = sizes["num_hidden_layers"], sizes["num_attention_heads"]
    head_dim, latent = sizes["hidden_size"] // heads, config["autoencoder"]["latent_channels"]
    batch, tokens = 2, 28
    key_value = torch.randn(layers, batch, heads, tokens, head_dim)
    latents = torch.randn(batch, reference.NUM_IMAGE_TOKENS, latent)
    generation = (latents, torch.rand(batch), key_value, key_value, torch.randn(batch, sizes["hidden_size"]))

    def export(name: str, module: nn.Module, inputs: dict[str, tuple[Tensor, int]], output: str):
        axes = {key: {axis: "batch"} for key, (_, axis) in inputs.items()} | {output: {0: "batch"}}
        for key in ("keys", "values"):
            if key in axes:
                axes[key][3] = "tokens"
        values = tuple(value for value, _ in inputs.values())
        torch.onnx.export(
            module, values, arguments.out / f"{name}.onnx", dynamo=False, opset_version=OPSET,
            input_names=list(inputs), output_names=[output], dynamic_axes=axes,
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export("embed", Embed(umm), {"pixels": (torch.randn(batch, 3, 64, 64), 0)}, "embeddings")
        names = dict(zip(("noisy", "times", "keys", "values", "pooled"), zip(generation, (0, 0, 1, 1, 0))))
        export("generation", Generation(umm), names, "clean")


if __name__ == "__main__":
    main()
