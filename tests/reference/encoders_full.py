"""Whole models of the official sizes, both towers: python encoders_full.py BPE [--reca PROGRAM] [NAME ...]

Checkpoints with random weights, written by `transformers` from the official configurations, with tokenizers of the
official size: CLIP's own, from BPE (the file bpe_simple_vocab_16e6.txt.gz of OpenAI's CLIP, which open_clip_torch's
wheel holds), and for SigLIP a unigram model of 32,000 pieces made from it. `reca zero-shot` scores a picture by them,
and must find what `transformers` finds. One JSON line a model: size, seconds of the whole call, and its memory at most.
"""
import argparse
import gzip
import json
import os
import subprocess
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from encoders import CLIP_SETTINGS, SIGLIP_SETTINGS, byte_level, dump, pictures, unigram

LABELS = ["a red car", "a yellow broccoli", "two umbrellas", "it's a dog"]
TEMPLATE = "This is a photo of {}."
TOLERANCE = 1e-4  # of scores, which are shares of 1
SO400M = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16)
CLIP_B = dict(projection_dim=512, text_config=dict(bos_token_id=49406, eos_token_id=49407))
MODELS = {
    "clip-vit-base-patch32": lambda: CLIPModel(CLIPConfig(**CLIP_B)),
    "clip-vit-base-patch16": lambda: CLIPModel(CLIPConfig(**CLIP_B, vision_config=dict(patch_size=16))),
    "siglip-base-patch16-224": lambda: SiglipModel(SiglipConfig()),
    "siglip-so400m-patch14-384": lambda: SiglipModel(SiglipConfig(
        text_config=SO400M | dict(projection_size=1152), vision_config=SO400M | dict(image_size=384, patch_size=14))),
}


def official_merges(path: Path) -> list[tuple[str, str]]:
    """OpenAI's: the first line is a header, and only so many of the rest fill a vocabulary of 49,408."""
    lines = gzip.open(path, "rt", encoding="utf-8").read().split("\n")
    return [tuple(line.split()) for line in lines[1:49152 - 256 - 2 + 1]]


def pieces(merges: list[tuple[str, str]]) -> list[str]:
    """What the merges build, as SigLIP's tokenizer would have it: a mark before words, none at their ends."""
    words = ("".join(pair) for pair in merges)
    return ["▁" + word.removesuffix("</w>") for word in words if word.endswith("</w>") and word[:-4].isalpha()]


@torch.no_grad()
def write(name: str, folder: Path, merges: list[tuple[str, str]]) -> tuple[int, list[float]]:
    """The checkpoint; its parameters, and what `transformers` finds by it."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    is_clip = isinstance(model, CLIPModel)
    model.save_pretrained(folder)
    text, side = model.config.text_config, model.config.vision_config.image_size
    length = text.max_position_embeddings
    if is_clip:
        tokenizer, settings, pad = byte_level(merges), CLIP_SETTINGS, text.eos_token_id
        processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    else:
        special = 3 + 27  # and the letters
        tokenizer, settings, pad = unigram(pieces(merges)[:text.vocab_size - special]), SIGLIP_SETTINGS, 1
        processor = SiglipImageProcessorPil(size={"height": side, "width": side}, resample=3)
    if tokenizer.get_vocab_size() > text.vocab_size:
        raise SystemExit(f"{name}: {tokenizer.get_vocab_size()} words, but embeddings for {text.vocab_size}")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    dump(folder / "tokenizer_config.json", settings | {"model_max_length": length})
    dump(folder / "preprocessor_config.json", json.loads(processor.to_json_string()))
    picture = pictures()[0].resize((640, 480), Image.BICUBIC)
    picture.save(folder / "picture.png")
    rows = [tokenizer.encode(TEMPLATE.format(label)).ids for label in LABELS]
    width = length if not is_clip else max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    logits = model(input_ids=ids, pixel_values=torch.tensor(processor(picture)["pixel_values"][0])[None]).logits_per_image
    scores = logits.softmax(-1) if is_clip else logits.sigmoid()
    return sum(p.numel() for p in model.parameters()), scores[0].tolist()


def call(program: str, folder: Path) -> tuple[dict[str, float], float, float]:
    """Scores by label, seconds, and the most memory in MB."""
    command = [program, "zero-shot", folder / "picture.png", "--encoder", folder, "--labels", ",".join(LABELS),
               "--template", TEMPLATE, "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        lines = child.stdout.read().splitlines()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{folder}: reca ended with {child.returncode}")
    scores = {line["label"]: line["score"] for line in map(json.loads, lines)}
    return scores, time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bpe", type=Path)
    parser.add_argument("names", nargs="*", help=", ".join(MODELS))
    parser.add_argument("--reca", default="target/release/reca")
    arguments = parser.parse_args()
    merges = official_merges(arguments.bpe)
    for name in arguments.names or MODELS:
        # Written by a process of its own: the system counts a parent's memory as its child's.
        with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1) as writer:
            parameters, expected = writer.apply(write, (name, Path(folder), merges))
            scores, seconds, memory = call(arguments.reca, Path(folder))
            size = (Path(folder) / "model.safetensors").stat().st_size
        difference = max(abs(scores[label] - score) for label, score in zip(LABELS, expected))
        print(json.dumps({"encoder": name, "parameters": parameters, "file_mb": round(size / 1e6), "seconds": round(seconds, 2),
                          "peak_rss_mb": round(memory), "scores": expected, "difference": difference}), flush=True)
        if difference > TOLERANCE:
            raise SystemExit(f"{name}: scores differ by {difference}, at most {TOLERANCE}")


if __name__ == "__main__":
    main()
