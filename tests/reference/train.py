"""Trains the model stage by stage: python train.py --recipe mini --data DIR --out runs/mini [--stage all|encoder|...]

DIR holds one pack per pool: DIR/mini-understanding, DIR/mini-drawing. Progress goes to OUT/log.jsonl; OUT/checkpoint.pt
is written every three minutes and continued from by default; OUT/model is the model directory as of the last checkpoint.
"""
import argparse
import os
import time
from pathlib import Path

import torch

from data import Pack
from export import export
from loop import Log, Loop
from model import Umm, load_recipe
from stages import ORDER, STAGES

CHECKPOINT_SECONDS = 180


class Packs:
    """The packs of a folder, each read once."""

    def __init__(self, recipe: str, data: Path):
        self.recipe, self.data, self.read = recipe, data, {}

    def __call__(self, kind: str, size: int | None = None) -> Pack:
        if kind not in self.read or size not in (None, len(self.read[kind])):
            self.read[kind] = Pack(self.data / f"{self.recipe}-{kind}", size)
        return self.read[kind]


class Trainer:
    def __init__(self, recipe: str, data: Path, out: Path):
        self.recipe, self.name, self.out = load_recipe(recipe), recipe, out
        self.packs = Packs(recipe, data)
        out.mkdir(parents=True, exist_ok=True)
        self.config = self.recipe["model"]
        self.config["understanding"]["vocab_size"] = self.packs("understanding").text.size
        torch.manual_seed(self.recipe["seed"])
        self.model = Umm(self.config)
        self.state = self.load()

    def load(self) -> dict:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return {"done": []}
        state = torch.load(path, weights_only=False)
        self.model.load_state_dict(state.pop("model"))
        return state

    def save(self, state: dict, ema: dict):
        temporary = self.out / "checkpoint.tmp"
        torch.save({**state, "model": self.model.state_dict()}, temporary)
        os.replace(temporary, self.out / "checkpoint.pt")
        tokenizer = self.packs.data / f"{self.name}-understanding/tokenizer.json"
        export({**self.model.state_dict(), **ema}, self.config, self.recipe, self.packs("understanding"), tokenizer, self.out / "model")

    def take_autoencoder(self, run: Path):
        """Waits until `run` has trained it."""
        while not (run / "checkpoint.pt").exists() or "autoencoder" not in (state := torch.load(run / "checkpoint.pt", weights_only=False))["done"]:
            time.sleep(1)
        self.model.load_state_dict({n: t for n, t in state["model"].items() if n.startswith("autoencoder.")}, strict=False)
        self.state["done"].append("autoencoder")

    def run(self, name: str):
        settings, done, started = self.recipe["stages"][name], self.state["done"], time.time()
        torch.manual_seed(self.recipe["seed"] + ORDER.index(name) + 1)
        log = Log(self.out / "log.jsonl", stage=name)
        loop = Loop(STAGES[name](self.model, settings, self.packs), settings, log)
        if self.state.get("stage") == name:
            loop.resume(self.state["loop"])
            torch.manual_seed(self.recipe["seed"] + 1000 * loop.step)
        log(step=loop.step, prepared_in=time.time() - started, parameters=sum(p.numel() for p in loop.parameters))
        saved = time.time()

        def between():
            nonlocal saved
            if time.time() - saved > CHECKPOINT_SECONDS:
                self.save({"done": done, "stage": name, "loop": loop.state()}, loop.ema)
                saved = time.time()

        loop.run(between)
        self.state = {"done": [*done, name]}
        self.save(self.state, {})
        log(step=loop.step, finished=True, seconds=loop.seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", default="all", choices=["all", *ORDER])
    parser.add_argument("--autoencoder", type=Path, metavar="RUN", help="take it from that run, which may still be training it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_default_device(arguments.device)
    torch.set_float32_matmul_precision("high")      # TF32 on GPUs that have it
    trainer = Trainer(arguments.recipe, arguments.data, arguments.out)
    stages = ORDER if arguments.stage == "all" else [arguments.stage]
    for name in [name for name in stages if name != "autoencoder" or not arguments.autoencoder]:
        if name == "generation" and arguments.autoencoder:
            trainer.take_autoencoder(arguments.autoencoder)
        if name not in trainer.state["done"]:
            trainer.run(name)


if __name__ == "__main__":
    main()
