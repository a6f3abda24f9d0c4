"""Writes a model directory: config.json, model.safetensors, tokenizer.json, preprocessor_config.json, manifest.json."""
import hashlib
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from data import NULL_CAPTION, Pack

SAMPLING = {"method": "euler", "steps": 16, "guidance_scale": 3.0, "guidance_interval": [0.0, 1.0],
            "plan_layout": True, "null_caption": NULL_CAPTION}
PREPROCESSOR = {
    "do_resize": True, "size": {"height": 64, "width": 64}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}


def write_json(path: Path, value: dict):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_manifest(folder: Path):
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name != "manifest.json":
            files[path.name] = {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    write_json(folder / "manifest.json", {"files": files})


def export(tensors: dict[str, Tensor], config: dict, recipe: dict, pack: Pack, tokenizer: Path, folder: Path, dtype=torch.float16):
    """Replaces the folder as a whole, so that a reader never sees a mixture."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    world = recipe["world"]
    # By the words that prompts name them by (src/scene/caption.rs), which the tokenizer knows.
    styles = ["blob" if style == "noto-v1" else style for style in world["styles"]]
    write_json(temporary / "config.json", {
        **config, "recipe": recipe["name"], "nouns": world["nouns"], "styles": styles,
        "templates": pack.template_texts(), "sampling": SAMPLING,
    })
    weights = {n: t.detach().to(dtype).contiguous() for n, t in tensors.items()}
    (temporary / "model.safetensors").write_bytes(save(weights, {"format": "pt"}))
    shutil.copyfile(tokenizer, temporary / "tokenizer.json")
    write_json(temporary / "preprocessor_config.json", PREPROCESSOR)
    write_manifest(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
