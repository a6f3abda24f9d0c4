"""AdamW, and Muon for the matrices of the transformer blocks (https://kellerjordan.github.io/posts/muon)."""
import torch
import torch.distributed as dist
from torch import Tensor

BETAS = (0.9, 0.95)
MOMENTUM = 0.95         # Muon's, with Nesterov's look-ahead
MUON_FACTOR = 10        # Muon's learning rate over AdamW's, its updates scaled to AdamW's size (arXiv 2502.16982, 2.2)
NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315), 5)      # coefficients, iterations


def orthogonalised(matrices: Tensor) -> Tensor:
    """[K, m, n] -> about U V^T of each one's singular value decomposition, by Newton-Schulz."""
    (a, b, c), iterations = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Each process orthogonalises its part of the matrices; all must be given the same gradients."""

    def __init__(self, parameters: list[torch.nn.Parameter], weight_decay: float):
        super().__init__(parameters, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, same in shapes.items():
                ahead = torch.stack([self.look_ahead(p) for p in same])
                updates = torch.zeros_like(ahead)
                updates[rank::processes] = orthogonalised(ahead[rank::processes])
                if processes > 1:
                    dist.all_reduce(updates)
                rate = group["lr"] * MUON_FACTOR
                for p, update in zip(same, updates):
                    p.mul_(1 - rate * group["weight_decay"]).add_(update, alpha=-0.2 * max(shape) ** 0.5 * rate)

    def look_ahead(self, p: torch.nn.Parameter) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
        return p.grad.lerp(state["momentum"], MOMENTUM)


def optimizers(named: list[tuple[str, torch.nn.Parameter]], settings: dict) -> list[torch.optim.Optimizer]:
    """One per rule. adaLN stays with AdamW: it is a quarter of the weights, and no matrix that attention reads."""
    muon = [p for n, p in named
            if settings.get("optimizer") == "muon" and ".layers." in n and p.ndim == 2 and ".adaln." not in n]
    chosen = {id(p) for p in muon}
    adamw = [p for _, p in named if id(p) not in chosen]
    decay = settings["weight_decay"]
    made = [torch.optim.AdamW(adamw, 0.0, betas=BETAS, weight_decay=decay, fused=True)]
    return made + [Muon(muon, decay)] if muon else made
