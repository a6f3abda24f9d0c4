"""Rectified flow over latents: x_t = t x_0 + (1 - t) e, so that t = 0 is noise and t = 1 is clean."""
import torch
from torch import Tensor

from model import Context, Generation

LOSS_FLOOR = 0.1        # 1 - t is clamped here in the loss


def sample_times(batch: int, mean: float, std: float) -> Tensor:        # logit-normal, [B]
    return torch.sigmoid(torch.randn(batch) * std + mean)


def flow_losses(generation: Generation, x0: Tensor, noise: Tensor, t: Tensor, context: Context) -> Tensor:
    """Clean-latent prediction, velocity loss, of each picture [B]. x0, noise [B, 16, C], t [B]."""
    t_ = t[:, None, None]
    estimate = generation(t_ * x0 + (1 - t_) * noise, t, context)
    return (((estimate - x0) / (1 - t_).clamp_min(LOSS_FLOOR)) ** 2).mean((1, 2))


@torch.no_grad()
def velocity(generation, x, t: float, context, null_context, scale: float, interval) -> Tensor:
    """Classifier-free guidance on the clean estimate, where interval[0] <= t <= interval[1]."""
    times = torch.full((len(x),), t)
    estimate = generation(x, times, context)
    if scale != 1 and interval[0] <= t <= interval[1]:
        null = generation(x, times, null_context)
        estimate = null + scale * (estimate - null)
    return (estimate - x) / (1 - t)


@torch.no_grad()
def sample(generation, noise, context, null_context, steps=16, scale=3.0, interval=(0.0, 1.0), method="euler", on_step=None) -> Tensor:
    """Integrates from noise [B, 16, C] at t = 0 to latents at t = 1, in equal steps.

    "heun" takes the mean of the velocities at both ends of a step; its last step is Euler's, t = 1 having no velocity.
    """
    x = noise
    for i in range(steps):
        t, t_next = i / steps, (i + 1) / steps
        v = velocity(generation, x, t, context, null_context, scale, interval)
        if method == "heun" and i + 1 < steps:
            v_next = velocity(generation, x + (t_next - t) * v, t_next, context, null_context, scale, interval)
            v = (v + v_next) / 2
        x = x + (t_next - t) * v
        if on_step:
            on_step(x)
    return x
