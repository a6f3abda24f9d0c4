"""AdamW, and Muon for the matrices of the transformer blocks (https://kellerjordan.github.io/posts/muon)."""
import torch
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
    def __init__(self, parameters: list[torch.nn.Parameter], rate, weight_decay: float):
        super().__init__(parameters, {"lr": rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            rate = group["lr"] * MUON_FACTOR
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, same in shapes.items():
                ahead = self.look_ahead(same)
                updates = orthogonalised(torch.stack(ahead)) * (-0.2 * max(shape) ** 0.5 * rate)
                torch._foreach_mul_(same, 1 - rate * group["weight_decay"])
                torch._foreach_add_(same, list(updates.unbind()))

    def look_ahead(self, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta, grads = [self.state[p]["momentum"] for p in parameters], [p.grad for p in parameters]
        torch._foreach_lerp_(momenta, grads, 1 - MOMENTUM)
        return torch._foreach_lerp(grads, momenta, MOMENTUM)


def optimizers(named: list[tuple[str, torch.nn.Parameter]], settings: dict) -> list[torch.optim.Optimizer]:
    """One per rule. adaLN stays with AdamW: it is a quarter of the weights, and no matrix that attention reads."""
    muon = [p for n, p in named
            if settings.get("optimizer") == "muon" and ".layers." in n and p.ndim == 2 and ".adaln." not in n]
    chosen = {id(p) for p in muon}
    adamw = [p for _, p in named if id(p) not in chosen]
    decay, graph = settings["weight_decay"], named[0][1].is_cuda
    rate = torch.zeros(()) if graph else 0.0        # on the device, where a captured step reads it
    made = [torch.optim.AdamW(adamw, rate, betas=BETAS, weight_decay=decay, fused=True, capturable=graph)]
    return made + [Muon(muon, rate, decay)] if muon else made


def set_rate(updating: list[torch.optim.Optimizer], rate: float):
    for optimizer in updating:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
