"""The five training stages. A stage says what it trains, what it needs cached, and what its loss is on one batch.

A loss draws its own batch and has one shape, whatever the lot, so that a step can be captured as a CUDA graph.
"""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from data import NULL_CAPTION, Pack, batch_of, join, pad, pick
from flow import flow_losses, sample_times
from model import FEATURE_GRID, PAD, Context, Umm

ORDER = ["autoencoder", "encoder", "understanding", "generation", "connector"]


def mean_where(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)


def answer_loss(logits: Tensor, text: Tensor, prefix: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the answer's tokens, each predicted from the position before it. logits [B, T, V], text [B, T].

    Returns the mean over all answer tokens, and the fraction of samples answered without a mistake.
    """
    position = torch.arange(1, text.shape[1])
    answer = (position >= prefix[:, None]) & (text[:, 1:] != PAD)       # [B, T - 1]
    losses = F.cross_entropy(logits[:, :-1].mT, text[:, 1:], reduction="none")
    exact = ((logits[:, :-1].argmax(-1) == text[:, 1:]) | ~answer).all(1)
    return mean_where(losses, answer), exact.float().mean()


def sigmoid_loss(scores: Tensor, words: Tensor, where: Tensor | None = None) -> Tensor:
    """SigLIP's loss with single words as texts: scores, words [..., V], words 1 where the caption names it; mean of rows `where` [...]."""
    losses = F.binary_cross_entropy_with_logits(scores, words, reduction="none").sum(-1)
    return losses.mean() if where is None else mean_where(losses, where)


def word_scores(features: Tensor, embedding: Tensor, bias: Tensor) -> Tensor:
    """features [B, 64, D] max-pooled over the grid, against every word's embedding [V, D] -> [B, V]."""
    return features.amax(1) @ embedding.T + bias


def multi_hot(tokens: Tensor, vocabulary: int) -> Tensor:       # [..., K] token ids, 0 for none -> [..., V]
    hot = torch.zeros(*tokens.shape[:-1], vocabulary).scatter_(-1, tokens, 1.0)
    hot[..., PAD] = 0
    return hot


def cells_of(boxes: Tensor) -> Tensor:
    """Centres and sizes of squares in pixels [..., 3] -> the cells [..., 64] of the feature grid whose middles lie in them."""
    x, y, size = boxes[..., None, None].unbind(-3)
    middle = (torch.arange(FEATURE_GRID) + 0.5) * 64 / FEATURE_GRID
    return (((middle[:, None] - y).abs() <= size / 2) & ((middle - x).abs() <= size / 2)).flatten(-2)


def reconstruction_loss(output: Tensor, image: Tensor, latent: Tensor) -> Tensor:
    """L1 + 2 MSE + 4 MSE of 4x4 averages (else colours come out dull) + L1 of gradients, and a pull of latents to zero."""
    d = output - image
    gradients = (d[:, :, 1:] - d[:, :, :-1]).abs().mean() + (d[:, :, :, 1:] - d[:, :, :, :-1]).abs().mean()
    return d.abs().mean() + 2 * (d**2).mean() + 4 * (F.avg_pool2d(d, 4) ** 2).mean() + gradients + 1e-3 * (latent**2).mean()


def psnr(output: Tensor, image: Tensor) -> Tensor:  # of images in [-1, 1]
    return -10 * (((output.detach() - image) ** 2).mean() / 4).log10()


class Stage:
    trains: tuple[str, ...]                         # prefixes of the trained parameters

    def __init__(self, model: Umm, settings: dict, packs: Callable[[str, int], Pack]):
        self.model, self.settings, self.packs = model, settings, packs
        self.pack = packs(settings["pool"]["kind"], settings["pool"]["size"])
        self.extra: dict[str, torch.nn.Parameter] = {}      # trained here, but not part of the model
        self.prepare()

    def prepare(self):
        pass

    def finish(self):
        pass

    def parameters(self) -> list[torch.nn.Parameter]:
        own = [p for n, p in self.model.named_parameters() if n.startswith(self.trains)]
        return own + list(self.extra.values())

    @torch.no_grad()
    def cached(self, function, pack: Pack | None = None, batch: int = 250) -> Tensor:
        """function(pixels) over a whole pool, as f16."""
        pack = pack or self.pack
        return torch.cat([function(pack.pixels(slice(i, i + batch))).half() for i in range(0, len(pack), batch)])

    def draw(self) -> Tensor:                       # scenes of a batch
        return self.pack.draw(self.settings["batch"], self.settings.get("two_objects"))


class EncoderStage(Stage):
    """Vision tower and word embeddings together.

    Features of an image score the words of its caption, and features of an object's box the words that are true of it:
    noun, colour, and which side of the other object it is on. Without the second part nothing ties words to places, and
    the understanding expert never learns directions.
    """
    trains = ("vision_model.", "understanding.token_embedding.")

    def prepare(self):
        self.vocabulary = self.model.understanding.token_embedding.num_embeddings
        self.extra = {"word_bias": torch.nn.Parameter(torch.zeros(self.vocabulary)),
                      "region_bias": torch.nn.Parameter(torch.zeros(self.vocabulary))}
        self.nouns = self.pack.words[..., 0].unique()
        self.nouns = self.nouns[self.nouns != PAD]

    def loss(self) -> tuple[Tensor, dict]:
        index = self.draw()
        features = self.model.vision_model(self.pack.pixels(index))
        embedding = self.model.understanding.token_embedding.weight
        objects = self.pack.words[index]                                # [B, 4, 3]
        true = multi_hot(objects, self.vocabulary)                      # [B, 4, V]
        scores, words = word_scores(features, embedding, self.extra["word_bias"]), true.amax(1)
        best = scores[:, self.nouns].argmax(1, keepdim=True)
        hit = words[:, self.nouns].gather(1, best).mean()
        cells = cells_of(self.pack.boxes[index]).float()                # [B, 4, 64]
        means = cells @ features / cells.sum(2, keepdim=True).clamp(min=1)
        of_regions = sigmoid_loss(means @ embedding.T + self.extra["region_bias"], true, objects[..., 0] != PAD)
        of_images = sigmoid_loss(scores, words)
        return of_images + of_regions, {"images": of_images, "regions": of_regions, "noun_hit": hit}

    def finish(self):
        understanding = self.model.understanding
        understanding.lm_head.weight.data.copy_(understanding.token_embedding.weight)


class AutoencoderStage(Stage):
    trains = ("autoencoder.",)

    def prepare(self):
        self.model.autoencoder.to(memory_format=torch.channels_last)

    def loss(self) -> tuple[Tensor, dict]:
        autoencoder = self.model.autoencoder
        image = self.pack.pixels(self.draw()).contiguous(memory_format=torch.channels_last)
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
        self.features = self.cached(self.model.vision_model)
        self.extra = {"tag_bias": torch.nn.Parameter(torch.full([self.pack.text.size], -4.0))}

    def tagged(self, index: Tensor, captions: Tensor, states: Tensor) -> Tensor:
        """The loss of nouns that a caption names once against the words that are true of each; states [B, T, D]."""
        noun, *others = self.pack.words[index].unbind(-1)               # [B, 4] each
        named = (captions[:, None] == noun[..., None]) & (noun != PAD)[..., None]      # [B, 4, L]
        position = named.long().argmax(2)
        said = states.gather(1, position[..., None].expand(-1, -1, states.shape[2]))
        scores = self.model.understanding.lm_head(said) + self.extra["tag_bias"]
        return sigmoid_loss(scores, multi_hot(torch.stack(others, -1), self.pack.text.size), named.sum(2) == 1)

    def loss(self) -> tuple[Tensor, dict]:
        understanding, share = self.model.understanding, self.settings["text_only"]
        index = self.draw()
        told, shown = index.tensor_split([round(share * len(index))])
        captions = pick(self.pack.dense, told)
        question, prompt = self.pack.question(told)
        text, prefix = join(captions, question), (captions != PAD).sum(1) + prompt
        states, _, _ = understanding(text, None, prefix)
        from_text, _ = answer_loss(understanding.lm_head(states), text, prefix)
        tagged = self.tagged(told, captions, states)
        text, prefix = self.pack.question(shown)
        visual = self.model.connector(self.features[shown].float())
        from_image, exact = answer_loss(understanding.logits(text, visual, prefix), text, prefix)
        loss = (1 - share) * from_image + share * (from_text + tagged)
        return loss, {"from_image": from_image, "from_text": from_text, "tags": tagged, "exact": exact}


class FlowStage(Stage):
    def prepare(self):
        self.latents = self.cached(self.model.autoencoder.encode)
        self.null = pad([self.pack.text.encode(NULL_CAPTION)])

    def or_null(self, text: Tensor) -> Tensor:
        """The text, or that of guidance's empty caption, by lot."""
        null = F.pad(self.null, (0, text.shape[1] - self.null.shape[1]), value=PAD)
        return torch.where(torch.rand(len(text), 1) < self.settings["null_caption"], null, text)

    def template(self, count: int) -> Tensor:
        return self.or_null(self.pack.templates[torch.randint(len(self.pack.templates), (count,))])

    def flow_losses(self, x0: Tensor, context: Context) -> Tensor:     # of each picture, [B]
        t = sample_times(len(x0), self.settings["time_mean"], self.settings["time_std"])
        return flow_losses(self.model.generation, x0, torch.randn_like(x0), t, context)


class GenerationStage(FlowStage):
    """Sparse captions through the frozen understanding expert; only the generation expert learns."""
    trains = ("generation.",)

    def loss(self) -> tuple[Tensor, dict]:
        index = self.draw()
        with torch.no_grad():
            context = self.model.understanding.context(self.or_null(pick(self.pack.sparse, index)))
        return self.flow_losses(self.latents[index].float(), context).mean(), {}


class ConnectorStage(FlowStage):
    """The connector learns to speak to the circuits that read words: by the flow loss through the frozen generator, on
    captioned drawings; and on what the understanding expert was taught on, by its answers and by the distance between
    the pooled contexts of an image and of its dense caption.
    """
    trains = ("connector.",)

    def prepare(self):
        super().prepare()
        self.features = self.cached(self.model.vision_model)
        pool = self.settings["understanding_pool"]
        self.told = self.packs(pool["kind"], pool["size"])
        self.told_features = self.cached(self.model.vision_model, self.told)

    def loss(self) -> tuple[Tensor, dict]:
        understanding, connector, batch = self.model.understanding, self.model.connector, self.settings["batch"]
        index = self.draw()
        context = understanding.context(self.template(batch), connector(self.features[index].float()))
        flow = self.flow_losses(self.latents[index].float(), context).mean()

        index = self.told.draw(batch // 2)
        visual = connector(self.told_features[index].float())
        seen = understanding.context(self.template(len(index)), visual).pooled
        apart = (seen - understanding.context(pick(self.told.dense, index)).pooled).square().mean()
        text, prefix = self.told.question(index)
        answers, exact = answer_loss(understanding.logits(text, visual, prefix), text, prefix)
        metrics = {"flow": flow, "answers": answers, "exact": exact, "apart": apart}
        return flow + self.settings["understanding_weight"] * answers + self.settings["pooled_weight"] * apart, metrics


class AlignStage(FlowStage):
    """RecA and its controls, as `src/reca/align.rs` has them: one batch of unlabelled pictures behind `method`'s context, one of the
    base's own captioned pool for `lambda_t2i`, through the generator at once.
    """
    trains = ("generation.",)

    def prepare(self):
        super().prepare()
        self.own = self.packs("drawing", self.settings["pool"]["size"])
        self.own_latents = self.cached(self.model.autoencoder.encode, self.own)
        if self.settings["method"] == "generation":
            with torch.no_grad():
                self.conditions = self.model.generation.latent_in(self.latents.float()) + self.model.generation.position_embedding
        elif not self.settings["method"].startswith("sft"):
            self.conditions = self.cached(self.model.embed)

    def kept(self, count: int) -> Tensor:
        """Which of the embeddings a step sees, [B, 16]: as many of each picture, and the same ones."""
        tokens = self.conditions.shape[1]
        dropped = (torch.rand(()) * self.settings["token_drop"] * tokens).round()
        return (torch.rand(tokens).argsort().argsort() >= dropped).expand(count, -1)

    def loss(self) -> tuple[Tensor, dict]:
        method, batch = self.settings["method"], self.settings["batch"]
        index, own = self.pack.draw(batch), self.own.draw(batch, self.settings["two_objects"])
        captioned = {"sft-sparse": self.pack.sparse, "sft-dense": self.pack.dense}.get(method)
        text = self.template(batch) if captioned is None else self.or_null(pick(captioned, index))
        text = batch_of([text, self.or_null(pick(self.own.sparse, own))])
        if captioned is None:
            shown = index.roll(-1) if method == "shuffled" else index
            visual = self.conditions[torch.cat([shown, shown])].float()
            kept = torch.cat([self.kept(batch), torch.zeros(batch, visual.shape[1], dtype=torch.bool)])
        else:
            visual, kept = None, None
        with torch.no_grad():
            context = self.model.understanding.context(text, visual, kept)
        clean = torch.cat([self.latents[index], self.own_latents[own]]).float()
        aligned, rehearsed = self.flow_losses(clean, context).unflatten(0, (2, batch)).mean(1)
        return aligned + self.settings["lambda_t2i"] * rehearsed, {"aligned": aligned, "rehearsed": rehearsed}


STAGES = {
    "encoder": EncoderStage,
    "autoencoder": AutoencoderStage,
    "understanding": UnderstandingStage,
    "generation": GenerationStage,
    "connector": ConnectorStage,
}
