"""Packs written by `reca scene --pack`, and the tokenizer beside them. Everything lies on the device that trains, and batches
are drawn there, so that a training step is one piece of work without a look back.

N scenes, B of them in a batch; texts are rows of token ids, padded with PAD.
"""
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from model import EOS, PAD

NULL_CAPTION = "nothing"


class Text:
    """The word tokenizer; a text with a word it does not know is an error."""

    def __init__(self, path: Path):
        self.tokenizer = Tokenizer.from_file(str(path))
        self.size = self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        if not ids or PAD in ids:
            raise ValueError(f"unknown word in {text!r}")
        return ids

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.tokenizer.id_to_token(i) for i in ids if i > EOS)


def pad(rows: list[list[int]]) -> Tensor:           # -> [B, longest], filled with PAD
    length = max(map(len, rows))
    return torch.tensor([row + [PAD] * (length - len(row)) for row in rows])


def join(*texts: Tensor) -> Tensor:
    """Rows of texts [B, L1], [B, L2], ... one after the other without the padding between: [B, L1 + L2 + ...]."""
    tokens = torch.cat(texts, 1)
    last = (tokens == PAD).to(torch.int8).argsort(dim=1, stable=True)
    return tokens.gather(1, last)


def batch_of(texts: list[Tensor]) -> Tensor:        # texts [B1, L1], [B2, L2], ... -> [B1 + B2 + ..., longest]
    length = max(t.shape[1] for t in texts)
    return torch.cat([torch.nn.functional.pad(t, (0, length - t.shape[1]), value=PAD) for t in texts])


def to_pixels(images: Tensor) -> Tensor:            # u8 [B, 64, 64, 3] -> [B, 3, 64, 64] in [-1, 1]
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def trimmed(rows: Tensor) -> Tensor:                # without the columns that are padding everywhere
    return rows[..., : int((rows != PAD).flatten(0, -2).any(0).sum())]


def pick(table: Tensor, index: Tensor) -> Tensor:   # [N, K, L], [B] -> one row of each scene, by lot: [B, L]
    return table[index, torch.randint(table.shape[1], index.shape)].long()


class Pack:
    """One pool: pictures `images` u8 [N, 64, 64, 3]; captions `dense` [N, 2, L], `sparse` [N, 8, L]; `words` [N, 4, 3], of each
    object its noun, then colour and side where it has them; `boxes` [N, 4, 3], its centre and side in pixels.
    """

    def __init__(self, folder: Path, size: int | None = None):
        device = torch.get_default_device()
        tensors = {n: t[:size] if n != "templates" else t for n, t in load_file(folder / "pack.safetensors").items()}
        tensors = {n: t.to(device) for n, t in tensors.items()}
        if size is not None and len(tensors["images"]) < size:
            raise ValueError(f"{folder}: {len(tensors['images'])} scenes, {size} are asked for")
        self.text = Text(folder / "tokenizer.json")
        self.images, self.words, self.boxes = tensors["images"], tensors["words"].long(), tensors["boxes"].float()
        self.dense, self.sparse = trimmed(tensors["dense"]), trimmed(tensors["sparse"])
        self.templates = trimmed(tensors["templates"])[:, 0].long()    # requests for a caption [110, L]
        self.questions = trimmed(tensors["questions"])                 # [N, K, L], with their answers
        self.prompts = tensors["prompts"][:, 0].long()                 # [N, K], tokens before the answer; 0 where there is no question
        self.captions = tensors["prompts"][:, 1].long().sum(1)         # [N], so many of the first answers are captions
        first, second = self.words[:, 0, 0], self.words[:, 1, 0]
        two = (second != 0) & (second != first)                        # [N], whether it shows two things
        self.kinds = two.nonzero()[:, 0], (~two).nonzero()[:, 0]

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index) -> Tensor:
        return to_pixels(self.images[index])

    def draw(self, count: int, two_objects: float | None = None) -> Tensor:
        """Scenes of a batch [count]; `two_objects` says how many show two, for relations are learned last."""
        if two_objects is None:
            return torch.randint(len(self), (count,))
        two, others = (kind[torch.randint(len(kind), (count,))] for kind in self.kinds)
        return torch.where(torch.rand(count) < two_objects, two, others)

    def question(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Questions with their answers [B, L], half of them for the whole caption, and how many tokens are question [B]."""
        captions = self.captions[index]
        others = (self.prompts[index] > 0).sum(1) - captions
        lot = torch.rand(len(index))
        of_captions, of_others = (lot * captions).long(), captions + (lot * others).long()
        chosen = torch.where(torch.rand(len(index)) < 0.5, of_captions, of_others)
        return self.questions[index, chosen].long(), self.prompts[index, chosen]

    def template_texts(self) -> list[str]:
        return [self.text.decode(row.tolist()) for row in self.templates]
