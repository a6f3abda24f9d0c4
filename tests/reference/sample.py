"""Pictures from a model directory, to judge by eye: python sample.py --model DIR --out SHEET.png [--images PACK] [PROMPT ...]

A row per prompt, a column per seed. With --images, four further rows: originals of the pack, what the autoencoder makes of
them, what the model draws from its own understanding embeddings of them, and (printed) what it says about them.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from data import Pack, Text, pad
from flow import sample
from model import EOS, Umm

PROMPTS = [
    "a red car", "a dog", "a blue house", "a yellow mushroom", "a yellow broccoli", "a blue pear",
    "a car left of a dog", "a banana above a house", "a red balloon right of a green bell", "a fish and an umbrella",
]


def load(folder: Path) -> tuple[Umm, Text, dict]:
    config = json.loads((folder / "config.json").read_text())
    model = Umm(config)
    model.load_state_dict({n: t.float() for n, t in load_file(folder / "model.safetensors").items()})
    return model.eval(), Text(folder / "tokenizer.json"), config


@torch.no_grad()
def draw(model: Umm, text: Text, config: dict, prompts: list[str], seed=0, visual=None, **overrides):
    """One picture a prompt, [B, 3, 64, 64]; visual [B, 16, D] goes before the prompt."""
    settings = {**config["sampling"], **overrides}
    context = model.understanding.context(pad([text.encode(p) for p in prompts]), visual)
    null = model.understanding.context(pad([text.encode(settings["null_caption"])] * len(prompts)))
    noise = torch.randn(len(prompts), 16, model.autoencoder.latent_mean.numel(), generator=torch.Generator().manual_seed(seed))
    latents = sample(model.generation, noise, context, null, settings["steps"], settings["guidance_scale"],
                     settings["guidance_interval"], settings["method"])
    return model.autoencoder.decode(latents)


@torch.no_grad()
def answer(model: Umm, text: Text, images, question: str, longest=14) -> list[str]:
    """Greedy decoding."""
    visual, prompt = model.embed(images), text.encode(question)
    rows = torch.tensor([prompt] * len(images))
    for _ in range(longest):
        prefix = torch.full((len(images),), len(prompt))
        rows = torch.cat([rows, model.understanding.logits(rows, visual, prefix)[:, -1:].argmax(-1)], 1)
    answers = []
    for row in rows[:, len(prompt):].tolist():
        answers.append(text.decode(row[: row.index(EOS)] if EOS in row else row))
    return answers


def sheet(rows: list[torch.Tensor], path: Path):
    picture = torch.cat([torch.cat(list(row), 2) for row in rows], 1).clamp(-1, 1)
    pixels = ((picture.permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    Image.fromarray(pixels).resize((pixels.shape[1] * 2, pixels.shape[0] * 2), Image.BICUBIC).save(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--first", type=int, default=0, help="first image of the pack to show")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("prompts", nargs="*", default=PROMPTS)
    arguments = parser.parse_args()
    model, text, config = load(arguments.model)
    overrides = {"steps": arguments.steps, "guidance_scale": arguments.guidance}
    overrides = {k: v for k, v in overrides.items() if v is not None}
    rows = [draw(model, text, config, [p] * arguments.seeds, **overrides) for p in arguments.prompts]
    if arguments.images:
        end = arguments.first + arguments.seeds
        pack = Pack(arguments.images, end)
        images = pack.pixels(slice(arguments.first, end))
        with torch.no_grad():
            decoded = model.autoencoder.decode(model.autoencoder.encode(images))
            visual = model.embed(images)
        template = config["templates"][0]
        rows += [images, decoded, draw(model, text, config, [template] * len(images), 1, visual, **overrides)]
        for i, said in enumerate(answer(model, text, images, template)):
            print(f"{text.decode(pack.dense[arguments.first + i, 0].tolist())}  ->  {said}")
    sheet(rows, arguments.out)


if __name__ == "__main__":
    main()
