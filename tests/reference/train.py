"""Trains the model stage by stage: python train.py --recipe mini --data DIR --out runs/mini [--stage all|encoder|...]

DIR holds one pack per pool: DIR/mini-understanding, DIR/mini-drawing. Progress goes to OUT/log.jsonl; OUT/checkpoint.pt
is written every three minutes and continued from by default; OUT/model is the model directory as of the last checkpoint.
"""
import argparse
import json
import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing

from data import Pack
from export import export
from model import Umm, load_recipe
from optim import optimizers
from stages import ORDER, STAGES

LOG_EVERY = 50
CHECKPOINT_SECONDS = 180


def learning_rate(settings: dict, step: int) -> float:
    """Linear warm-up, then half a cosine to zero; `cycles` times (SGDR, arXiv 1608.03983)."""
    length = settings["steps"] / settings.get("cycles", 1)
    step = step % length
    warm = min(1, (step + 1) / settings["warmup"])
    return settings["learning_rate"] * warm * (0.5 + 0.5 * math.cos(math.pi * step / length))


def ema_decay(update: int, limit: float) -> float:          # short memory at first
    return min(limit, (1 + update) / (10 + update))


def average_gradients(parameters: list[torch.nn.Parameter], processes: int):
    """The mean of all processes' gradients, in place: each has done its part of the batch."""
    if processes > 1:
        flat = torch.cat([p.grad.flatten() for p in parameters])
        dist.all_reduce(flat)
        for p, grad in zip(parameters, flat.div_(processes).split([p.numel() for p in parameters])):
            p.grad.copy_(grad.view_as(p))


class Trainer:
    """`rank` is this process among `processes` that share every batch; the first one logs and saves."""

    def __init__(self, recipe: str, data: Path, out: Path, rank: int = 0, processes: int = 1):
        self.name, self.data, self.out, self.rank, self.processes = recipe, data, out, rank, processes
        self.packs: dict[str, Pack] = {}
        out.mkdir(parents=True, exist_ok=True)
        self.config = load_recipe(recipe)["model"]
        self.config["understanding"]["vocab_size"] = self.pack("understanding").text.size
        torch.manual_seed(load_recipe(recipe)["seed"])
        self.model = Umm(self.config)

    def pack(self, kind: str, size: int | None = None) -> Pack:
        if kind not in self.packs or size not in (None, len(self.packs[kind])):
            self.packs[kind] = Pack(self.data / f"{self.name}-{kind}", size)
        return self.packs[kind]

    def log(self, **record):
        if self.rank:
            return
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in record.items()})
        print(line, flush=True)
        with open(self.out / "log.jsonl", "a") as file:
            file.write(line + "\n")

    def save(self, state: dict, ema: dict):
        if self.rank:
            return
        temporary = self.out / "checkpoint.tmp"
        torch.save({**state, "model": self.model.state_dict(), "torch_rng": torch.get_rng_state()}, temporary)
        os.replace(temporary, self.out / "checkpoint.pt")
        export({**self.model.state_dict(), **ema}, self.config, load_recipe(self.name), self.pack("understanding"),
               self.data / f"{self.name}-understanding/tokenizer.json", self.out / "model")

    def load(self) -> dict:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return {"done": []}
        state = torch.load(path, weights_only=False)
        self.model.load_state_dict(state.pop("model"))
        rng = state.pop("torch_rng")
        if self.rank == 0:
            torch.set_rng_state(rng)
        return state

    def run(self, name: str, state: dict):
        recipe = load_recipe(self.name)                     # read here, so that a later stage's numbers can still change
        settings = recipe["stages"][name]
        settings["batch"] //= self.processes
        started = time.time()
        cache = self.out / "cache" / name
        seed = recipe["seed"] + ORDER.index(name) + 1000 * self.rank
        if self.rank:                                       # the first process goes on with the model's seed
            torch.manual_seed(seed)
        stage = STAGES[name](self.model, settings, self.pack, seed, cache)
        parameters = stage.parameters()
        for p in self.model.parameters():
            p.requires_grad_(False)
        for p in parameters:
            p.requires_grad_(True)
        trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        updating = optimizers([*trained.items(), *stage.extra.items()], settings)
        ema = {n: p.detach().clone() for n, p in trained.items()} if "ema" in settings else {}
        step, seconds = 0, 0.0
        if state.get("stage") == name:
            step, seconds = state["step"], state["seconds"]
            for optimizer, saved_state in zip(updating, state["optimizers"]):
                optimizer.load_state_dict(saved_state)
            ema = state["ema"]
            if self.rank == 0:
                stage.rng.bit_generator.state = state["rng"]
            else:
                stage.rng = np.random.default_rng(seed + step)
                torch.manual_seed(seed + step)
            for key, value in state["extra"].items():
                stage.extra[key].data.copy_(value)
        self.log(stage=name, step=step, prepared_in=time.time() - started, parameters=sum(p.numel() for p in parameters))

        sums: dict[str, float] = {}
        started = saved = time.time()
        while step < settings["steps"]:
            rate = learning_rate(settings, step)
            for optimizer in updating:
                optimizer.zero_grad()
                for group in optimizer.param_groups:
                    group["lr"] = rate
            loss, metrics = stage.loss()
            loss.backward()
            average_gradients(parameters, self.processes)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in updating:
                optimizer.step()
            step += 1
            if ema and step % settings["ema_every"] == 0:
                decay = ema_decay(step // settings["ema_every"], settings["ema"])
                torch._foreach_lerp_(list(ema.values()), [trained[n].detach() for n in ema], 1 - decay)
            for key, value in {"loss": loss.item(), **metrics}.items():
                sums[key] = sums.get(key, 0.0) + value / LOG_EVERY
            if step % LOG_EVERY == 0:
                self.log(stage=name, step=step, **sums, learning_rate=rate, seconds=seconds + time.time() - started)
                sums = {}
            if time.time() - saved > CHECKPOINT_SECONDS:
                self.save({"done": state["done"], "stage": name, "step": step, "seconds": seconds + time.time() - started,
                           "optimizers": [o.state_dict() for o in updating], "ema": ema, "rng": stage.rng.bit_generator.state,
                           "extra": stage.extra}, ema)
                saved = time.time()

        with torch.no_grad():
            for n, value in ema.items():
                trained[n].copy_(value)
        stage.finish()
        state = {"done": state["done"] + [name]}
        self.save(state, {})
        shutil.rmtree(cache, ignore_errors=True)
        self.log(stage=name, step=step, finished=True, seconds=seconds + time.time() - started)
        return state


def work(rank: int, arguments: argparse.Namespace):
    torch.set_num_threads(max(1, arguments.threads // arguments.processes))
    if arguments.processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{arguments.out.resolve()}/rendezvous", rank=rank,
                                world_size=arguments.processes)
    trainer = Trainer(arguments.recipe, arguments.data, arguments.out, rank, arguments.processes)
    state = trainer.load()
    for name in ORDER if arguments.stage == "all" else [arguments.stage]:
        if name not in state["done"]:
            state = trainer.run(name, state)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", default="all", choices=["all", *ORDER])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--processes", type=int, default=1, help="share every batch among so many processes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "rendezvous").unlink(missing_ok=True)
    if arguments.processes == 1:
        work(0, arguments)
    else:
        torch.multiprocessing.spawn(work, (arguments,), arguments.processes)


if __name__ == "__main__":
    main()
