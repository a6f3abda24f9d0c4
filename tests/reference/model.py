"""The unified multimodal model, in PyTorch: the oracle that the Rust implementation is tested against.

image ─► vision_model ─► connector ─► understanding (text + 16 visual tokens) ─► context: K, V per layer
                                                                                      │
noise ─► generation expert ⇄ flow sampler (flow.py) ◄─────────────────────────────────┘
           └─► 16 latent tokens ─► autoencoder.decode ─► image

Notable:
- vision tower: a convolutional stem (three stride-2 convolutions), then SigLIP's blocks under SigLIP's names
- 64 visual features are merged 2x2 into 16 understanding embeddings
- understanding is a prefix-LM: visual tokens and prompt attend both ways, the answer causally
- generation has its own weights but attends to the understanding expert's keys and values, layer by layer
- generation works on 4x4 latents (16 tokens) and predicts the clean latents; the loss is the velocity's
- q and k are RMS-normalised per head; adaLN-zero in the generation expert; no dropout anywhere

Parameter names are the tensor names of model.safetensors.
B batch, T text tokens, S sequence, D hidden size, H heads, d = D/H, N image tokens (16), C latent channels.
"""
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RECIPES = Path(__file__).resolve().parents[2] / "src/train/recipes"
PAD, BOS, EOS = 0, 1, 2
FEATURE_GRID = 8                    # the stem divides a 64 px image by 8
MERGED_GRID = FEATURE_GRID // 2     # side of the merged grid, and of the latent grid
NUM_IMAGE_TOKENS = MERGED_GRID**2   # 16
RESIDUAL_SCALE = 0.1                # of the understanding expert's residual branches at the start


def load_recipe(name: str) -> dict:
    return json.loads((RECIPES / f"{name}.json").read_text())


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def split_heads(x: Tensor, heads: int) -> Tensor:   # [B, S, D] -> [B, H, S, d]
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:               # [B, H, S, d] -> [B, S, D]
    return x.transpose(1, 2).flatten(2)


# ---------------------------------------------------------------- vision

class StemLayer(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:         # [B, in, h, w] -> [B, out, h/2, w/2]
        return gelu(self.norm(self.conv(x)))


class VisionEmbeddings(nn.Module):
    def __init__(self, cfg: dict):
        super().__init__()
        sizes = [3, *cfg["stem_channels"], cfg["hidden_size"]]
        self.stem = nn.ModuleList(StemLayer(a, b) for a, b in zip(sizes, sizes[1:]))
        self.position_embedding = nn.Embedding(FEATURE_GRID**2, cfg["hidden_size"])

    def forward(self, x: Tensor) -> Tensor:         # [B, 3, 64, 64] -> [B, 64, D]
        for layer in self.stem:
            x = layer(x)
        return x.flatten(2).transpose(1, 2) + self.position_embedding.weight


class SiglipAttention(nn.Module):
    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class SiglipMLP(nn.Module):
    def __init__(self, size: int, inner: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size, inner), nn.Linear(inner, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class SiglipLayer(nn.Module):
    def __init__(self, cfg: dict):
        super().__init__()
        size, eps = cfg["hidden_size"], cfg["layer_norm_eps"]
        self.layer_norm1 = nn.LayerNorm(size, eps=eps)
        self.self_attn = SiglipAttention(size, cfg["num_attention_heads"])
        self.layer_norm2 = nn.LayerNorm(size, eps=eps)
        self.mlp = SiglipMLP(size, cfg["intermediate_size"])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class SiglipEncoder(nn.Module):
    def __init__(self, cfg: dict):
        super().__init__()
        self.layers = nn.ModuleList(SiglipLayer(cfg) for _ in range(cfg["num_hidden_layers"]))


class VisionModel(nn.Module):
    """Image [B, 3, 64, 64] in [-1, 1] -> features [B, 64, D], row-major over an 8x8 grid."""

    def __init__(self, cfg: dict):
        super().__init__()
        self.embeddings = VisionEmbeddings(cfg)
        self.encoder = SiglipEncoder(cfg)
        self.post_layernorm = nn.LayerNorm(cfg["hidden_size"], eps=cfg["layer_norm_eps"])

    def forward(self, image: Tensor) -> Tensor:
        x = self.embeddings(image)
        for layer in self.encoder.layers:
            x = layer(x)
        return self.post_layernorm(x)


class Connector(nn.Module):
    """Features [B, 64, D] -> understanding embeddings [B, 16, D].

    Starts as an average of 2x2 neighbours, so that merged tokens lie where the features lie.
    """

    def __init__(self, size: int, inner: int, eps: float):
        super().__init__()
        self.merge = nn.Linear(4 * size, size)
        self.norm = RMSNorm(size, eps)
        self.fc1, self.fc2 = nn.Linear(size, inner), nn.Linear(inner, size)
        self.position_embedding = nn.Parameter(torch.zeros(NUM_IMAGE_TOKENS, size))

    def forward(self, features: Tensor) -> Tensor:
        g, size = MERGED_GRID, features.shape[-1]
        x = features.reshape(-1, g, 2, g, 2, size).transpose(2, 3)      # [B, row, column, r, c, D]
        h = self.merge(x.reshape(-1, g * g, 4 * size))                  # channels: r0c0, r0c1, r1c0, r1c1
        return h + self.fc2(gelu(self.fc1(self.norm(h)))) + self.position_embedding


# ---------------------------------------------------------------- the two experts

class Attention(nn.Module):
    """The projections shared by both experts; a mix-in, so that names stay flat in the block."""

    def init_attention(self, cfg: dict):
        size, heads, eps = cfg["hidden_size"], cfg["num_attention_heads"], cfg["rms_norm_eps"]
        self.heads = heads
        self.norm1, self.norm2 = RMSNorm(size, eps), RMSNorm(size, eps)
        self.qkv, self.proj = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.q_norm, self.k_norm = RMSNorm(size // heads, eps), RMSNorm(size // heads, eps)
        self.fc1, self.fc2 = nn.Linear(size, cfg["intermediate_size"]), nn.Linear(cfg["intermediate_size"], size)

    def heads_of(self, h: Tensor):                  # [B, S, D] -> q, k, v of [B, H, S, d]
        q, k, v = (split_heads(x, self.heads) for x in self.qkv(h).chunk(3, -1))
        return self.q_norm(q), self.k_norm(k), v


class UnderstandingLayer(Attention):
    def __init__(self, cfg: dict):
        super().__init__()
        self.init_attention(cfg)

    def forward(self, x: Tensor, mask: Tensor):     # x [B, S, D], mask [B, 1, S, S], true = visible
        q, k, v = self.heads_of(self.norm1(x))
        x = x + self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return x + self.fc2(gelu(self.fc1(self.norm2(x)))), (k, v)


class GenerationLayer(Attention):
    def __init__(self, cfg: dict):
        super().__init__()
        self.init_attention(cfg)
        self.adaln = nn.Linear(cfg["hidden_size"], 6 * cfg["hidden_size"])

    def forward(self, x: Tensor, context_kv, mask: Tensor, condition: Tensor) -> Tensor:
        # x [B, N, D], context_kv: k, v of [B, H, S, d], mask [B, 1, 1, S + N], condition [B, D]
        scale1, shift1, gate1, scale2, shift2, gate2 = self.adaln(F.silu(condition))[:, None].chunk(6, -1)
        q, k, v = self.heads_of(self.norm1(x) * (1 + scale1) + shift1)
        k, v = torch.cat([context_kv[0], k], 2), torch.cat([context_kv[1], v], 2)
        x = x + gate1 * self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        h = self.norm2(x) * (1 + scale2) + shift2
        return x + gate2 * self.fc2(gelu(self.fc1(h)))


class Context:
    """What generation sees: (k, v) of [B, H, S, d] per layer, valid [B, S], pooled [B, D]."""

    def __init__(self, layers, valid: Tensor, pooled: Tensor):
        self.layers, self.valid, self.pooled = layers, valid, pooled


class Understanding(nn.Module):
    def __init__(self, cfg: dict):
        super().__init__()
        size = cfg["hidden_size"]
        self.token_embedding = nn.Embedding(cfg["vocab_size"], size)
        self.position_embedding = nn.Embedding(cfg["max_position_embeddings"], size)
        self.layers = nn.ModuleList(UnderstandingLayer(cfg) for _ in range(cfg["num_hidden_layers"]))
        self.norm = RMSNorm(size, cfg["rms_norm_eps"])
        self.lm_head = nn.Linear(size, cfg["vocab_size"], bias=False)

    def forward(self, text: Tensor, visual: Tensor | None, prefix: Tensor, kept: Tensor | None = None):
        """text [B, T] (padded with PAD), visual [B, 16, D] or None, prefix [B]: how many text tokens are prompt; kept [B, 16]: which
        visual tokens there are, all if None.

        Returns hidden states after the last norm [B, S, D], (k, v) per layer, valid [B, S]; S = [visual ; text].
        """
        batch, length = text.shape
        x = self.token_embedding(text) + self.position_embedding.weight[:length]
        valid = text != PAD
        if visual is not None:
            x = torch.cat([visual, x], 1)
            valid = F.pad(valid, (visual.shape[1], 0), value=True) if kept is None else torch.cat([kept, valid], 1)
            prefix = prefix + visual.shape[1]
        mask = prefix_mask(valid, prefix)
        keys_values = []
        for layer in self.layers:
            x, kv = layer(x, mask)
            keys_values.append(kv)
        return self.norm(x), keys_values, valid

    def logits(self, text: Tensor, visual: Tensor | None, prefix: Tensor) -> Tensor:
        hidden, _, _ = self(text, visual, prefix)
        return self.lm_head(hidden[:, -text.shape[1]:])                 # [B, T, V]

    def context(self, text: Tensor, visual: Tensor | None = None, kept: Tensor | None = None) -> Context:
        """The whole text is prompt."""
        prefix = (text != PAD).sum(1)
        hidden, keys_values, valid = self(text, visual, prefix, kept)
        weight = valid.to(hidden.dtype)
        pooled = (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
        return Context(keys_values, valid, pooled)


def prefix_mask(valid: Tensor, prefix: Tensor) -> Tensor:
    """valid [B, S], prefix [B] -> [B, 1, S, S]: key j is visible to query i iff valid_j and (j <= i or j < prefix); i sees i."""
    position = torch.arange(valid.shape[1])
    causal = position[None, :] <= position[:, None]                     # [query, key]
    visible = causal[None] | (position[None, :] < prefix[:, None])[:, None, :]
    return ((visible & valid[:, None, :]) | torch.eye(len(position), dtype=torch.bool))[:, None]


class Generation(nn.Module):
    """Noisy latents and a context -> an estimate of the clean latents."""

    def __init__(self, cfg: dict, latent_channels: int):
        super().__init__()
        size = cfg["hidden_size"]
        self.frequencies = cfg["time_frequencies"]
        self.latent_in = nn.Linear(latent_channels, size)
        self.position_embedding = nn.Parameter(torch.zeros(NUM_IMAGE_TOKENS, size))
        self.time_fc1, self.time_fc2 = nn.Linear(2 * self.frequencies, size), nn.Linear(size, size)
        self.pool_fc1, self.pool_fc2 = nn.Linear(size, size), nn.Linear(size, size)
        self.layers = nn.ModuleList(GenerationLayer(cfg) for _ in range(cfg["num_hidden_layers"]))
        self.norm = RMSNorm(size, cfg["rms_norm_eps"])
        self.latent_out = nn.Linear(size, latent_channels)

    def time_features(self, t: Tensor) -> Tensor:                       # [B] -> [B, 2 * frequencies]
        i = torch.arange(self.frequencies, dtype=t.dtype)
        angle = t[:, None] * 1000 * torch.exp(-math.log(1e4) * i / self.frequencies)
        return torch.cat([angle.cos(), angle.sin()], -1)

    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        # x_t [B, 16, C], t [B] in [0, 1], 1 = clean -> clean latents [B, 16, C]
        condition = self.time_fc2(F.silu(self.time_fc1(self.time_features(t))))
        condition = condition + self.pool_fc2(F.silu(self.pool_fc1(context.pooled)))
        x = self.latent_in(x_t) + self.position_embedding
        mask = F.pad(context.valid, (0, NUM_IMAGE_TOKENS), value=True)[:, None, None, :]
        for layer, keys_values in zip(self.layers, context.layers):
            x = layer(x, keys_values, mask, condition)
        return self.latent_out(self.norm(x))


# ---------------------------------------------------------------- autoencoder

class ResidualBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class LatentEncoder(nn.Module):
    def __init__(self, channels: list[int], latent: int):
        super().__init__()
        _, c1, c2, c3 = channels
        self.conv_in, self.res0 = nn.Conv2d(3 * 16, c1, 3, padding=1), ResidualBlock(c1)
        self.down1, self.res1 = nn.Conv2d(c1, c2, 3, stride=2, padding=1), ResidualBlock(c2)
        self.down2, self.res2 = nn.Conv2d(c2, c3, 3, stride=2, padding=1), ResidualBlock(c3)
        self.norm, self.conv_out = nn.GroupNorm(8, c3), nn.Conv2d(c3, latent, 1)

    def forward(self, image: Tensor) -> Tensor:     # [B, 3, 64, 64] -> [B, C, 4, 4]
        x = self.res0(self.conv_in(F.pixel_unshuffle(image, 4)))        # [B, c1, 16, 16]
        x = self.res1(self.down1(x))                                    # [B, c2, 8, 8]
        x = self.res2(self.down2(x))                                    # [B, c3, 4, 4]
        return self.conv_out(F.silu(self.norm(x)))


class LatentDecoder(nn.Module):
    def __init__(self, channels: list[int], latent: int):
        super().__init__()
        c0, c1, c2, c3 = channels
        self.conv_in, self.res0 = nn.Conv2d(latent, c3, 3, padding=1), ResidualBlock(c3)
        self.up1, self.res1 = nn.Conv2d(c3, 4 * c2, 1), ResidualBlock(c2)
        self.up2, self.res2 = nn.Conv2d(c2, 4 * c1, 1), ResidualBlock(c1)
        self.up3, self.res3 = nn.Conv2d(c1, 4 * c0, 1), ResidualBlock(c0)
        self.norm, self.conv_out = nn.GroupNorm(8, c0), nn.Conv2d(c0, 12, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:    # [B, C, 4, 4] -> [B, 3, 64, 64]
        x = self.res0(self.conv_in(latent))                             # [B, c3, 4, 4]
        x = self.res1(F.pixel_shuffle(self.up1(x), 2))                  # [B, c2, 8, 8]
        x = self.res2(F.pixel_shuffle(self.up2(x), 2))                  # [B, c1, 16, 16]
        x = self.res3(F.pixel_shuffle(self.up3(x), 2))                  # [B, c0, 32, 32]
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm(x))), 2)


class Autoencoder(nn.Module):
    def __init__(self, cfg: dict):
        super().__init__()
        channels, latent = cfg["channels"], cfg["latent_channels"]
        self.encoder, self.decoder = LatentEncoder(channels, latent), LatentDecoder(channels, latent)
        self.register_buffer("latent_mean", torch.zeros(latent))
        self.register_buffer("latent_std", torch.ones(latent))

    def encode(self, image: Tensor) -> Tensor:      # [B, 3, 64, 64] -> normalised tokens [B, 16, C], row-major
        return (self.encoder(image).flatten(2).transpose(1, 2) - self.latent_mean) / self.latent_std

    def decode(self, tokens: Tensor) -> Tensor:     # [B, 16, C] -> [B, 3, 64, 64], not clamped
        latent = (tokens * self.latent_std + self.latent_mean).transpose(1, 2)
        return self.decoder(latent.unflatten(-1, (MERGED_GRID, MERGED_GRID)))


# ---------------------------------------------------------------- the whole

class Umm(nn.Module):
    def __init__(self, cfg: dict):
        super().__init__()
        understanding, generation = cfg["understanding"], cfg["generation"]
        self.vision_model = VisionModel(cfg["vision"])
        self.connector = Connector(understanding["hidden_size"], cfg["connector"]["intermediate_size"], understanding["rms_norm_eps"])
        self.understanding = Understanding(understanding)
        self.generation = Generation(generation, cfg["autoencoder"]["latent_channels"])
        self.autoencoder = Autoencoder(cfg["autoencoder"])
        self.init_weights()

    def embed(self, image: Tensor) -> Tensor:       # the understanding embeddings [B, 16, D]
        return self.connector(self.vision_model(image))

    @torch.no_grad()
    def init_weights(self):
        """Linear and convolution layers keep PyTorch's defaults; what differs is here.

        The understanding expert's residual branches start small, and its keys as its queries, so that attention
        starts by matching like with like (mimetic initialisation, arXiv 2305.09828).
        """
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for table in (self.connector.position_embedding, self.generation.position_embedding):
            nn.init.normal_(table, std=0.02)
        c = self.connector
        c.merge.weight.copy_(torch.eye(c.merge.out_features).repeat(1, 4) / 4)
        for layer in self.understanding.layers:     # binding depends on it: docs/recipe.md, "The understanding expert"
            layer.proj.weight.mul_(RESIDUAL_SCALE)
            layer.fc2.weight.mul_(RESIDUAL_SCALE)
            layer.qkv.weight.unflatten(0, (3, -1))[1] = layer.qkv.weight.unflatten(0, (3, -1))[0]
            layer.qkv.bias.unflatten(0, (3, -1))[1] = layer.qkv.bias.unflatten(0, (3, -1))[0]
        zero = [c.merge.bias, c.fc2.weight, c.fc2.bias, self.generation.latent_out.weight, self.generation.latent_out.bias]
        for layer in self.generation.layers:
            zero += [layer.adaln.weight, layer.adaln.bias]
        for parameter in zero:
            parameter.zero_()
        self.understanding.lm_head.weight.copy_(self.understanding.token_embedding.weight)
