"""The loop that every stage runs in: schedule, EMA, clipping, log. On a GPU a step is captured once and replayed (CUDA graph)."""
import json
import math
import time
from collections.abc import Callable

import torch

from optim import optimizers, set_rate
from stages import Stage

LOG_EVERY = 50
EAGER_STEPS = 3         # before a step is captured: libraries and optimizers allocate what they keep


def learning_rate(settings: dict, step: int) -> float:
    """Linear warm-up, then half a cosine to zero; `cycles` times (SGDR, arXiv 1608.03983)."""
    length = settings["steps"] / settings.get("cycles", 1)
    step = step % length
    warm = min(1, (step + 1) / settings["warmup"])
    return settings["learning_rate"] * warm * (0.5 + 0.5 * math.cos(math.pi * step / length))


def ema_decay(update: int, limit: float) -> float:          # short memory at first
    return min(limit, (1 + update) / (10 + update))


class Loop:
    """Trains `stage` from step 0, or from a state that `state()` gave. `log` takes one record every LOG_EVERY steps."""

    def __init__(self, stage: Stage, settings: dict, log: Callable[..., None]):
        self.stage, self.settings, self.log = stage, settings, log
        self.step, self.seconds = 0, 0.0
        self.parameters = stage.parameters()
        for p in stage.model.parameters():
            p.requires_grad_(False)
        for p in self.parameters:
            p.requires_grad_(True)
        self.trained = {n: p for n, p in stage.model.named_parameters() if p.requires_grad}
        self.updating = optimizers([*self.trained.items(), *stage.extra.items()], settings)
        self.ema = {n: p.detach().clone() for n, p in self.trained.items()} if "ema" in settings else {}
        self.sums: dict[str, torch.Tensor] = {}

    def state(self) -> dict:
        return {"step": self.step, "seconds": self.seconds, "ema": self.ema, "extra": self.stage.extra,
                "optimizers": [o.state_dict() for o in self.updating]}

    def resume(self, state: dict):
        self.step, self.seconds, self.ema = state["step"], state["seconds"], state["ema"]
        for optimizer, saved in zip(self.updating, state["optimizers"]):
            optimizer.load_state_dict(saved)
        for key, value in state["extra"].items():
            self.stage.extra[key].data.copy_(value)

    def update(self):
        """One step but for the learning rate and the EMA: no look back at the host."""
        for optimizer in self.updating:
            optimizer.zero_grad(set_to_none=True)
        loss, metrics = self.stage.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        for optimizer in self.updating:
            optimizer.step()
        for key, value in {"loss": loss, **metrics}.items():
            if key not in self.sums:
                self.sums[key] = torch.zeros(())
            self.sums[key] += value.detach()

    def run(self, between: Callable[[], None] = lambda: None):
        """To the end; `between` is called after each line of the log."""
        settings, step_once = self.settings, self.update
        started, before = time.time(), self.seconds
        stream = torch.cuda.Stream() if self.parameters[0].is_cuda else None
        eager = self.step + EAGER_STEPS
        while self.step < settings["steps"]:
            set_rate(self.updating, learning_rate(settings, self.step))
            if stream and self.step < eager:
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    self.update()
                torch.cuda.current_stream().wait_stream(stream)
            else:
                if stream and step_once == self.update:
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph):
                        self.update()
                    step_once = graph.replay
                step_once()
            self.step += 1
            if self.ema and self.step % settings["ema_every"] == 0:
                decay = ema_decay(self.step // settings["ema_every"], settings["ema"])
                torch._foreach_lerp_(list(self.ema.values()), [self.trained[n].detach() for n in self.ema], 1 - decay)
            if self.step % LOG_EVERY == 0:
                self.seconds = before + time.time() - started
                means = {key: (value / LOG_EVERY).item() for key, value in self.sums.items()}
                torch._foreach_zero_(list(self.sums.values()))
                self.log(step=self.step, **means, seconds=self.seconds)
                if not math.isfinite(means["loss"]):
                    raise FloatingPointError(f"the loss is {means['loss']} at step {self.step}; lower the learning rate")
                between()
        with torch.no_grad():
            for name, value in self.ema.items():
                self.trained[name].copy_(value)
        self.stage.finish()
        self.seconds = before + time.time() - started


class Log:
    """Prints records and appends them to a file, one JSON object a line."""

    def __init__(self, path, **always):
        self.path, self.always = path, always

    def __call__(self, **record):
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in {**self.always, **record}.items()})
        print(line, flush=True)
        with open(self.path, "a") as file:
            file.write(line + "\n")
