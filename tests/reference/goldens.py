"""Writes the numbers that the Rust tests compare with: python goldens.py --data DIR [--out ../goldens]

DIR holds a pack of the nano recipe, DIR/nano-understanding. Out come OUT/nano (a model directory, f32, every parameter
random, also those that training starts at zero) and OUT/nano.safetensors: inputs and outputs of every part of it, losses,
gradients ("grad.LOSS.PARAMETER"), sampler trajectories and optimiser steps.
"""
import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from data import NULL_CAPTION, Pack, pad
from export import export
from flow import flow_losses, sample
from model import PAD, Umm, load_recipe, prefix_mask
from stages import answer_loss, reconstruction_loss, sigmoid_loss, word_scores

BATCH = 3
STEPS, GUIDANCE, INTERVAL = 4, 3.0, (0.2, 0.6)


@torch.no_grad()
def randomise(model: Umm):
    for name, p in model.named_parameters():
        if p.dim() == 1:
            noise = torch.randn_like(p) * 0.1
            p.copy_(1 + noise if "norm" in name and name.endswith("weight") else noise)
        elif "embedding" in name:
            p.copy_(torch.randn_like(p) * 0.5)
        else:
            p.copy_(torch.randn_like(p) / math.sqrt(p[0].numel()))
    model.autoencoder.latent_mean.normal_(0, 0.2)
    model.autoencoder.latent_std.uniform_(0.5, 1.5)


def bare(row: Tensor) -> list[int]:                 # without the padding
    return row[row != PAD].tolist()


class Goldens:
    def __init__(self, model: Umm, pack: Pack):
        self.model, self.pack, self.out = model, pack, {}

    def put(self, **tensors: Tensor):
        for name, t in tensors.items():
            t = t.detach()
            if t.dtype == torch.bool:
                t = t.to(torch.uint8)
            elif t.dtype == torch.int64:
                t = t.to(torch.int32)
            self.out[name.replace("__", ".")] = t.contiguous().clone()

    def loss(self, name: str, loss: Tensor, extra: dict[str, Tensor] = {}):
        """The loss and its gradient by every parameter that it depends on."""
        named = {**dict(self.model.named_parameters()), **extra}
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        self.put(**{f"{name}.loss": loss.reshape(1)})
        self.put(**{f"grad.{name}.{n}": g for n, g in zip(named, gradients) if g is not None})

    def questions(self) -> tuple[Tensor, Tensor]:
        """A caption request, a colour question and a further one: prompts and answers of different lengths."""
        rows, prefix = [], []
        for i in range(BATCH):
            k = 0 if i == 0 else int((self.pack.prompts[i] > 0).sum()) - 1
            rows.append(bare(self.pack.questions[i, k]))
            prefix.append(int(self.pack.prompts[i, k]))
        return pad(rows), torch.tensor(prefix)

    def understanding(self):
        m, image = self.model, self.pack.pixels(slice(0, BATCH))
        stem = m.vision_model.embeddings(image)
        features = m.vision_model(image)
        visual = m.connector(features)
        self.put(images=image, vision__embeddings=stem, vision__features=features, connector__output=visual)
        self.put(block__vision__output=m.vision_model.encoder.layers[0](stem))

        text, prefix = self.questions()
        logits = m.understanding.logits(text, visual, prefix)
        loss, _ = answer_loss(logits, text, prefix)
        self.put(caption__text=text, caption__prefix=prefix, caption__logits=logits)
        self.loss("caption", loss)
        captions = [bare(self.pack.dense[i, 0]) for i in range(BATCH)]
        rows = [c + text[i][text[i] != 0].tolist() for i, c in enumerate(captions)]
        text, prefix = pad(rows), prefix + torch.tensor([len(c) for c in captions])
        logits = m.understanding.logits(text, None, prefix)
        self.put(text_only__text=text, text_only__prefix=prefix, text_only__logits=logits)
        self.put(text_only__loss=answer_loss(logits, text, prefix)[0].reshape(1))

        x = torch.randn(BATCH, 10, features.shape[-1])
        valid = torch.arange(10) < torch.tensor([[10], [7], [4]])
        mask = prefix_mask(valid, torch.tensor([6, 3, 4]))
        output, (key, value) = m.understanding.layers[0](x, mask)
        self.put(block__understanding__input=x, block__understanding__mask=mask, block__understanding__output=output,
                 block__understanding__key=key, block__understanding__value=value)

        image_features = m.vision_model(image)
        word_bias = torch.randn(m.understanding.token_embedding.num_embeddings, requires_grad=True)
        words = (torch.rand(BATCH, len(word_bias)) < 0.1).float()
        scores = word_scores(image_features, m.understanding.token_embedding.weight, word_bias)
        self.put(sigmoid__words=words, sigmoid__word_bias=word_bias, sigmoid__scores=scores)
        self.loss("sigmoid", sigmoid_loss(scores, words), {"word_bias": word_bias})

    def generation(self):
        m, image = self.model, self.pack.pixels(slice(0, BATCH))
        text = pad([bare(self.pack.sparse[i, 0]) for i in range(BATCH)])
        null = pad([self.pack.text.encode(NULL_CAPTION)] * BATCH)
        visual = m.embed(image)
        contexts = {"text": m.understanding.context(text), "both": m.understanding.context(text, visual)}
        t = torch.tensor([0.05, 0.4, 0.95])
        x_t = torch.randn(BATCH, 16, m.autoencoder.latent_mean.numel())
        self.put(context__text=text, context__null=null, denoise__x_t=x_t, denoise__t=t,
                 denoise__time_features=m.generation.time_features(t))
        for name, context in contexts.items():
            self.put(**{f"context.{name}.valid": context.valid, f"context.{name}.pooled": context.pooled})
            for i, (key, value) in enumerate(context.layers):
                self.put(**{f"context.{name}.layers.{i}.key": key, f"context.{name}.layers.{i}.value": value})
            self.put(**{f"denoise.{name}": m.generation(x_t, t, context)})

        size = m.generation.position_embedding.shape[1]
        x, condition, context = torch.randn(BATCH, 16, size), torch.randn(BATCH, size), contexts["text"]
        mask = F.pad(context.valid, (0, 16), value=True)[:, None, None, :]
        self.put(block__generation__input=x, block__generation__condition=condition,
                 block__generation__output=m.generation.layers[0](x, context.layers[0], mask, condition))

        x0, noise, t = torch.randn_like(x_t), torch.randn_like(x_t), torch.tensor([0.2, 0.5, 0.97])
        self.put(flow__x0=x0, flow__noise=noise, flow__t=t)
        self.loss("flow", flow_losses(m.generation, x0, noise, t, contexts["both"]).mean())

        noise = torch.randn_like(x_t)
        self.put(sampler__noise=noise)
        context, null = m.understanding.context(text), m.understanding.context(null)
        for name, method, interval in [("euler", "euler", (0, 1)), ("heun", "heun", (0, 1)), ("interval", "euler", INTERVAL)]:
            trajectory = []
            sample(m.generation, noise, context, null, STEPS, GUIDANCE, interval, method, trajectory.append)
            self.put(**{f"sampler.{name}": torch.stack(trajectory)})

    def autoencoder(self):
        m, image = self.model.autoencoder, self.pack.pixels(slice(0, 2))
        tokens = m.encode(image)
        self.put(autoencoder__tokens=tokens, autoencoder__decoded=m.decode(tokens))
        x = torch.randn(1, m.encoder.conv_in.out_channels, 8, 8)
        self.put(block__residual__input=x, block__residual__output=m.encoder.res0(x))
        latent = m.encoder(image)
        noise = torch.randn_like(latent) * 0.1
        self.put(autoencoder__noise=noise)
        self.loss("autoencoder", reconstruction_loss(m.decoder(latent + noise), image, latent))

    def optimizers(self):
        """Three steps each; rates and the rest are in the file's metadata."""
        for name, shape in [("adamw", (4, 6)), ("muon", (4, 6)), ("muon_tall", (6, 4))]:
            start, gradients = torch.randn(shape), torch.randn(3, *shape)
            p = torch.nn.Parameter(start.clone())
            if name == "adamw":
                optimizer = torch.optim.AdamW([p], **ADAMW)
            else:
                optimizer = torch.optim.Muon([p], **MUON)
            results = []
            for g in gradients:
                p.grad = g.clone()
                optimizer.step()
                results.append(p.detach().clone())
            self.put(**{f"{name}.start": start, f"{name}.gradients": gradients, f"{name}.result": torch.stack(results)})
            if name != "adamw":
                exact = muon_f32(start, gradients)
                assert (exact - torch.stack(results)).abs().max() < 0.02
                self.put(**{f"{name}.result_f32": exact})


ADAMW = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
MUON = {"lr": 2e-2, "momentum": 0.95, "nesterov": True, "ns_steps": 5, "eps": 1e-7, "weight_decay": 0.1}


def muon_f32(p: Tensor, gradients: Tensor) -> Tensor:
    """torch.optim.Muon, whose Newton-Schulz iteration runs in bf16, with that iteration in f32."""
    momentum, results = torch.zeros_like(p), []
    for g in gradients:
        momentum = momentum + (1 - MUON["momentum"]) * (g - momentum)
        x = g + MUON["momentum"] * (momentum - g)
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / x.norm().clamp_min(MUON["eps"])
        for _ in range(MUON["ns_steps"]):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        x = x.T if tall else x
        p = p * (1 - MUON["lr"] * MUON["weight_decay"]) - MUON["lr"] * math.sqrt(max(1, p.shape[0] / p.shape[1])) * x
        results.append(p)
    return torch.stack(results)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "goldens")
    arguments = parser.parse_args()
    torch.manual_seed(7)
    recipe, folder = load_recipe("nano"), arguments.data / "nano-understanding"
    pack = Pack(folder)
    config = recipe["model"]
    config["understanding"]["vocab_size"] = pack.text.size
    model = Umm(config)
    randomise(model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    export(model.state_dict(), config, recipe, pack, folder / "tokenizer.json", arguments.out / "nano", torch.float32)
    goldens = Goldens(model, pack)
    goldens.understanding()
    goldens.generation()
    goldens.autoencoder()
    goldens.optimizers()
    metadata = {"adamw": json.dumps(ADAMW), "muon": json.dumps(MUON), "sampler": json.dumps(
        {"steps": STEPS, "guidance_scale": GUIDANCE, "interval": INTERVAL})}
    (arguments.out / "nano.safetensors").write_bytes(save(goldens.out, metadata))
    for name, t in goldens.out.items():
        if not name.startswith("grad."):
            print(name, tuple(t.shape), t.dtype, f"{t.float().std().item() if t.numel() > 1 else t.item():.4f}")


if __name__ == "__main__":
    main()
