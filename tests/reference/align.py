"""Aligns a trained model, and runs the controls: python align.py --model DIR --data DIR --out DIR [--rows reca-open ...] [--seeds 0 1 2]

The rows of `reca bench reca` but no-connector-stage, by the recipe's settings, for a GPU, where one takes seconds. DIR/OUT holds a folder a row and
seed, each with model/ and log.jsonl, as `reca align` leaves them; `reca bench reca --out OUT` evaluates what it finds there.
--data holds RECIPE-drawing (seed 2), and for every seed S RECIPE-open-S and RECIPE-strict-S, packs of these pools of seed 1000 + S.
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from export import write_manifest
from loop import Log, Loop
from model import Umm, load_recipe
from stages import AlignStage
from train import Packs

ROWS = {                # method, pool, the row that it goes on from
    "reca-open": ("reca", "open", None),
    "reca-strict": ("reca", "strict", None),
    "sft-sparse": ("sft-sparse", "open", None),
    "sft-dense": ("sft-dense", "open", None),
    "shuffled": ("shuffled", "open", None),
    "generation": ("generation", "open", None),
    "sft-sparse-reca": ("reca", "open", "sft-sparse"),
    "reca-sft-sparse": ("sft-sparse", "open", "reca-open"),
}
SETTINGS = {"weight_decay": 0.01, "warmup": 20, "null_caption": 0.1, "token_drop": 0.75}


def align(arguments: argparse.Namespace, row: str, seed: int, packs: Packs):
    method, pool, parent = ROWS[row]
    out = arguments.out / f"{row}-{seed}"
    if (out / "model/manifest.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    base = arguments.out / f"{parent}-{seed}/model" if parent else arguments.model
    config, weights = json.loads((base / "config.json").read_text()), load_file(base / "model.safetensors")
    recipe = load_recipe(config["recipe"])
    generation, asked = recipe["stages"]["generation"], {k: getattr(arguments, k) for k in TUNED}
    settings = {**SETTINGS, **recipe["alignment"], **{k: generation[k] for k in ("time_mean", "time_std", "two_objects")},
                **{k: v for k, v in asked.items() if v is not None}, "method": method}
    settings["pool"] = {"kind": f"{pool}-{seed}", "size": settings.pop("count")}
    torch.manual_seed(seed)
    model = Umm(config)
    model.load_state_dict({n: t.float() for n, t in weights.items()})
    Loop(AlignStage(model, settings, packs), settings, Log(out / "log.jsonl", row=row, seed=seed)).run()
    shutil.copytree(base, out / "model", ignore=lambda _, names: [n for n in names if n not in FILES], dirs_exist_ok=True)
    tuned = {n: t.detach().half().cpu() for n, t in model.state_dict().items() if n.startswith("generation.")}
    save_file({**weights, **tuned}, out / "model/model.safetensors", {"format": "pt"})
    write_manifest(out / "model")


FILES = ["config.json", "tokenizer.json", "preprocessor_config.json"]
TUNED = {"steps": int, "batch": int, "learning_rate": float, "lambda_t2i": float, "count": int, "token_drop": float}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    for name, kind in TUNED.items():
        parser.add_argument("--" + name.replace("_", "-"), type=kind, help="in the place of the recipe's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_default_device(arguments.device)
    torch.set_float32_matmul_precision("high")
    packs = Packs(json.loads((arguments.model / "config.json").read_text())["recipe"], arguments.data)
    for seed in arguments.seeds:
        for row in [row for row in ROWS if row in arguments.rows]:
            align(arguments, row, seed, packs)


if __name__ == "__main__":
    main()
