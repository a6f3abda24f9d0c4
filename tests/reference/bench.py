"""Times one training step of the generation stage: python bench.py [--recipe mini] [--threads 2]

Batch 32, f32: context of 16 text tokens through the frozen understanding expert, denoise, backward, AdamW. Prints JSON;
the Rust benchmark does the same step.
"""
import argparse
import json
import time

import torch

from flow import flow_losses, sample_times
from model import NUM_IMAGE_TOKENS, Umm, load_recipe

BATCH, TEXT, VOCABULARY = 32, 16, 96


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = load_recipe(arguments.recipe)["model"]
    config["understanding"]["vocab_size"] = VOCABULARY
    model = Umm(config).requires_grad_(False)
    parameters = list(model.generation.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, 1e-3, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    text = torch.randint(3, VOCABULARY, (BATCH, TEXT))
    x0 = torch.randn(BATCH, NUM_IMAGE_TOKENS, config["autoencoder"]["latent_channels"])

    def step():
        with torch.no_grad():
            context = model.understanding.context(text)
        loss = flow_losses(model.generation, x0, torch.randn_like(x0), sample_times(BATCH, -0.8, 0.8), context).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(3):
        step()
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < arguments.seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    median = sorted(times)[len(times) // 2]
    print(json.dumps({
        "benchmark": "generation_step", "recipe": arguments.recipe, "backend": f"torch {torch.__version__} cpu",
        "threads": arguments.threads, "batch": BATCH, "parameters": sum(p.numel() for p in parameters), "steps": len(times),
        "median_step_seconds": round(median, 4), "samples_per_second": round(BATCH / median, 2),
    }))


if __name__ == "__main__":
    main()
