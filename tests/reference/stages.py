"""The five training stages. A stage says what it trains, what it needs cached, and what its loss is on one batch."""
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from data import MAX_OBJECTS, NULL_CAPTION, Pack, pad
from flow import flow_loss, sample_times
from model import FEATURE_GRID, Context, Umm

ORDER = ["autoencoder", "encoder", "understanding", "generation", "connector"]


def answer_loss(logits: Tensor, text: Tensor, prefix: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the answer's tokens, each predicted from the position before it. logits [B, T, V], text [B, T].

    Returns the mean over all answer tokens, and the fraction of samples answered without a mistake.
    """
    position = torch.arange(1, text.shape[1])
    answer = (position >= prefix[:, None]) & (text[:, 1:] != 0)         # [B, T - 1]
    loss = F.cross_entropy(logits[:, :-1][answer], text[:, 1:][answer])
    exact = ((logits[:, :-1].argmax(-1) == text[:, 1:]) | ~answer).all(1)
    return loss, exact.float().mean()


def sigmoid_loss(scores: Tensor, words: Tensor) -> Tensor:
    """SigLIP's loss with single words as texts: scores, words [B, V], words 1 where the caption names it."""
    return F.binary_cross_entropy_with_logits(scores, words, reduction="none").sum(1).mean()


def word_scores(features: Tensor, embedding: Tensor, bias: Tensor) -> Tensor:
    """features [B, 64, D] max-pooled over the grid, against every word's embedding [V, D] -> [B, V]."""
    return features.amax(1) @ embedding.T + bias


def cells_of(box: tuple[float, float, float]) -> Tensor:
    """Centre and size of a square in pixels -> the cells [64] of the feature grid whose middles lie in it."""
    x, y, size = box
    middle = (torch.arange(FEATURE_GRID) + 0.5) * 64 / FEATURE_GRID
    return (((middle[:, None] - y).abs() <= size / 2) & ((middle - x).abs() <= size / 2)).flatten()


def reconstruction_loss(output: Tensor, image: Tensor, latent: Tensor) -> Tensor:
    """L1 + 2 MSE + 4 MSE of 4x4 averages (else colours come out dull) + L1 of gradients, and a pull of latents to zero."""
    d = output - image
    gradients = (d[:, :, 1:] - d[:, :, :-1]).abs().mean() + (d[:, :, :, 1:] - d[:, :, :, :-1]).abs().mean()
    return d.abs().mean() + 2 * (d**2).mean() + 4 * (F.avg_pool2d(d, 4) ** 2).mean() + gradients + 1e-3 * (latent**2).mean()


def psnr(output: Tensor, image: Tensor) -> float:   # of images in [-1, 1]
    return -10 * math.log10(((output - image) ** 2).mean().item() / 4)


class Stage:
    trains: tuple[str, ...]                         # prefixes of the trained parameters

    def __init__(self, model: Umm, settings: dict, packs: Callable[[str, int], Pack], seed: int, cache: Path):
        self.model, self.settings, self.packs, self.cache = model, settings, packs, cache
        self.pack = pack = packs(settings["pool"]["kind"], settings["pool"]["size"])
        self.rng = np.random.default_rng(seed)
        self.extra: dict[str, torch.nn.Parameter] = {}      # trained here, but not part of the model
        two = np.array([len(nouns) == 2 for nouns in pack.nouns])
        self.kinds = np.flatnonzero(two), np.flatnonzero(~two)
        self.prepare()

    def prepare(self):
        pass

    def finish(self):
        pass

    def parameters(self) -> list[torch.nn.Parameter]:
        own = [p for n, p in self.model.named_parameters() if n.startswith(self.trains)]
        return own + list(self.extra.values())

    @torch.no_grad()
    def cached(self, name: str, function, pack: Pack | None = None, batch: int = 250) -> Tensor:
        """function(pixels) over a whole pool, as f16; kept on disk while the stage lasts. Each process does its part."""
        pack = pack or self.pack
        rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        paths = [self.cache / f"{name}-{k + 1}-of-{processes}.pt" for k in range(processes)]
        if not paths[rank].exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            start, end = (len(pack) * k // processes for k in (rank, rank + 1))
            slices = (slice(i, min(i + batch, end)) for i in range(start, end, batch))
            temporary = paths[rank].with_suffix(".tmp")
            torch.save(torch.cat([function(pack.pixels(s)).half() for s in slices]), temporary)
            os.replace(temporary, paths[rank])
        if processes > 1:
            dist.barrier()
        return torch.cat([torch.load(path) for path in paths])

    def draw(self, count: int) -> np.ndarray:
        """Scenes of a batch; `two_objects` says how many show two, for relations are learned last."""
        if "two_objects" not in self.settings:
            return self.rng.integers(0, len(self.pack), count)
        two = self.rng.random(count) < self.settings["two_objects"]
        return np.where(two, *(self.rng.choice(kind, count) for kind in self.kinds))

    def questions(self, index, after: list[list[int]] | None = None, pack: Pack | None = None) -> tuple[Tensor, Tensor]:
        """Text [B, T] = (caption given) question answer, and how many tokens of it are prompt [B]."""
        rows, prefix = [], []
        for k, i in enumerate(index):
            question, answer = (pack or self.pack).question(i, self.rng)
            prompt = (after[k] if after else []) + question
            rows.append(prompt + answer)
            prefix.append(len(prompt))
        return pad(rows), torch.tensor(prefix)


class EncoderStage(Stage):
    """Vision tower and word embeddings together.

    Features of an image score the words of its caption, and features of an object's box the words that are true of it:
    noun, colour, and which side of the other object it is on. Without the second part nothing ties words to places, and
    the understanding expert never learns directions.
    """
    trains = ("vision_model.", "understanding.token_embedding.")

    def prepare(self):
        vocabulary = self.model.understanding.token_embedding.num_embeddings
        self.extra = {"word_bias": torch.nn.Parameter(torch.zeros(vocabulary)),
                      "region_bias": torch.nn.Parameter(torch.zeros(vocabulary))}
        token = lambda word: self.pack.text.encode(word)[0]
        self.nouns = sorted({token(n) for names in self.pack.nouns for n in names})
        self.cells = torch.zeros(len(self.pack), MAX_OBJECTS, FEATURE_GRID**2, dtype=torch.bool)
        self.words = torch.zeros(len(self.pack), MAX_OBJECTS, vocabulary, dtype=torch.bool)
        for i, regions in enumerate(self.pack.regions):
            for k, (box, words) in enumerate(regions):
                self.cells[i, k] = cells_of(box)
                self.words[i, k, [token(w) for w in words]] = True

    def loss(self) -> tuple[Tensor, dict]:
        index = self.draw(self.settings["batch"])
        features = self.model.vision_model(self.pack.pixels(index))
        embedding = self.model.understanding.token_embedding.weight
        scores = word_scores(features, embedding, self.extra["word_bias"])
        words = self.words[index].any(1).float()
        best = scores[:, self.nouns].argmax(1, keepdim=True)
        hit = words[:, self.nouns].gather(1, best).mean().item()
        cells, objects = self.cells[index].float(), self.words[index].any(2)
        means = (cells @ features / cells.sum(2, keepdim=True).clamp(min=1))[objects]
        of_regions = sigmoid_loss(means @ embedding.T + self.extra["region_bias"], self.words[index][objects].float())
        of_images = sigmoid_loss(scores, words)
        return of_images + of_regions, {"images": of_images.item(), "regions": of_regions.item(), "noun_hit": hit}

    def finish(self):
        understanding = self.model.understanding
        understanding.lm_head.weight.data.copy_(understanding.token_embedding.weight)


class AutoencoderStage(Stage):
    trains = ("autoencoder.",)

    def prepare(self):
        self.model.autoencoder.to(memory_format=torch.channels_last)

    def loss(self) -> tuple[Tensor, dict]:
        autoencoder = self.model.autoencoder
        image = self.pack.pixels(self.draw(self.settings["batch"])).to(memory_format=torch.channels_last)
        latent = autoencoder.encoder(image)
        noise = torch.randn_like(latent) * self.settings["latent_noise"] * latent.detach().std()
        output = autoencoder.decoder(latent + noise)
        return reconstruction_loss(output, image, latent), {"psnr": psnr(output, image)}

    @torch.no_grad()
    def finish(self):
        autoencoder = self.model.autoencoder
        latent = autoencoder.encoder(self.pack.pixels(slice(0, 1024)))
        autoencoder.latent_mean.copy_(latent.mean((0, 2, 3)))
        autoencoder.latent_std.copy_(latent.std((0, 2, 3)))


class UnderstandingStage(Stage):
    """Questions about images, and, for a part of the batch, about their captions: both contexts become one language.

    Nouns in a caption are also scored against the words that are true of them, as boxes are in the encoder stage: so a
    noun's keys and values say its colour and side, as those of the visual tokens in its place do.
    """
    trains = ("connector.", "understanding.")

    def prepare(self):
        self.features = self.cached("features", self.model.vision_model)
        self.extra = {"tag_bias": torch.nn.Parameter(torch.full([self.pack.text.size], -4.0))}
        self.token = {w: self.pack.text.encode(w)[0] for regions in self.pack.regions for _, words in regions for w in words}

    def tags(self, index, captions: list[list[int]]) -> tuple[list[int], list[int], Tensor]:
        """Rows and positions of the nouns that a caption names once, and the words that are true of each [K, V]."""
        found = [(row, caption.index(noun), [self.token[w] for w in others])
                 for row, (i, caption) in enumerate(zip(index, captions))
                 for _, (name, *others) in self.pack.regions[i]
                 if caption.count(noun := self.token[name]) == 1]
        rows, positions, words = zip(*found) if found else ([], [], [])
        true = torch.zeros(len(found), self.pack.text.size)
        for k, ids in enumerate(words):
            true[k, ids] = 1
        return list(rows), list(positions), true

    def loss(self) -> tuple[Tensor, dict]:
        understanding, share = self.model.understanding, self.settings["text_only"]
        index = self.draw(self.settings["batch"])
        cut = round(share * len(index))
        captions = [self.pack.dense[i][self.rng.integers(len(self.pack.dense[i]))] for i in index[:cut]]
        text, prefix = self.questions(index[:cut], captions)
        states, _, _ = understanding(text, None, prefix)
        from_text, _ = answer_loss(understanding.lm_head(states), text, prefix)
        rows, positions, words = self.tags(index[:cut], captions)
        scores = understanding.lm_head(states[rows, positions]) + self.extra["tag_bias"]
        tagged = sigmoid_loss(scores, words) if rows else torch.zeros(())
        text, prefix = self.questions(index[cut:])
        visual = self.model.connector(self.features[index[cut:]].float())
        from_image, exact = answer_loss(understanding.logits(text, visual, prefix), text, prefix)
        loss = (1 - share) * from_image + share * (from_text + tagged)
        return loss, {"from_image": from_image.item(), "from_text": from_text.item(), "tags": tagged.item(), "exact": exact.item()}


class FlowStage(Stage):
    def prepare(self):
        self.latents = self.cached("latents", self.model.autoencoder.encode)
        self.null = self.pack.text.encode(NULL_CAPTION)

    def or_null(self, text: list[int]) -> list[int]:
        return self.null if self.rng.random() < self.settings["null_caption"] else text

    def flow_loss(self, index, context: Context) -> Tensor:
        x0 = self.latents[index].float()
        t = sample_times(len(index), self.settings["time_mean"], self.settings["time_std"])
        return flow_loss(self.model.generation, x0, torch.randn_like(x0), t, context)


class GenerationStage(FlowStage):
    """Sparse captions through the frozen understanding expert; only the generation expert learns."""
    trains = ("generation.",)

    def loss(self) -> tuple[Tensor, dict]:
        index = self.draw(self.settings["batch"])
        captions = [self.pack.sparse[i][self.rng.integers(len(self.pack.sparse[i]))] for i in index]
        with torch.no_grad():
            context = self.model.understanding.context(pad([self.or_null(c) for c in captions]))
        return self.flow_loss(index, context), {}


class ConnectorStage(FlowStage):
    """The connector learns to speak to the circuits that read words: by the flow loss through the frozen generator, on
    captioned drawings; and on what the understanding expert was taught on, by its answers and by the distance between
    the pooled contexts of an image and of its dense caption.
    """
    trains = ("connector.",)

    def prepare(self):
        super().prepare()
        self.features = self.cached("features", self.model.vision_model)
        pool = self.settings["understanding_pool"]
        self.told = self.packs(pool["kind"], pool["size"])
        self.told_features = self.cached("told", self.model.vision_model, self.told)
        self.templates = [self.pack.text.encode(t) for t in self.pack.templates]

    def template(self, count: int) -> Tensor:
        return pad([self.or_null(self.templates[self.rng.integers(len(self.templates))]) for _ in range(count)])

    def loss(self) -> tuple[Tensor, dict]:
        understanding, connector, batch = self.model.understanding, self.model.connector, self.settings["batch"]
        index = self.draw(batch)
        context = understanding.context(self.template(batch), connector(self.features[index].float()))
        flow = self.flow_loss(index, context)

        index = self.rng.integers(0, len(self.told), batch // 2)
        visual = connector(self.told_features[index].float())
        captions = pad([self.told.dense[i][self.rng.integers(len(self.told.dense[i]))] for i in index])
        seen = understanding.context(self.template(len(index)), visual).pooled
        apart = (seen - understanding.context(captions).pooled).square().mean()
        text, prefix = self.questions(index, pack=self.told)
        answers, exact = answer_loss(understanding.logits(text, visual, prefix), text, prefix)
        metrics = {"flow": flow.item(), "answers": answers.item(), "exact": exact.item(), "apart": apart.item()}
        return flow + self.settings["understanding_weight"] * answers + self.settings["pooled_weight"] * apart, metrics


STAGES = {
    "encoder": EncoderStage,
    "autoencoder": AutoencoderStage,
    "understanding": UnderstandingStage,
    "generation": GenerationStage,
    "connector": ConnectorStage,
}
