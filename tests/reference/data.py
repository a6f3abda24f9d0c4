"""Packs written by `reca scene --pack`, and the tokenizer beside them."""
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from model import EOS, PAD

INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NULL_CAPTION = "nothing"
MAX_OBJECTS = 4


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


def to_pixels(images: np.ndarray) -> Tensor:        # u8 [B, 64, 64, 3] -> [B, 3, 64, 64] in [-1, 1]
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    return x / 127.5 - 1


def region(scene: dict, index: int) -> tuple[tuple[float, float, float], list[str]]:
    """Centre and size in pixels of an object, and the words that are true of it: noun, colour, side."""
    one = scene["objects"][index]
    words = [one["noun"]]
    if colour := one["colour"] or one["natural_colour"]:
        words.append(colour)
    if relation := scene["relation"]:
        words.append((INVERSE[relation] if index else relation).split()[0])
    return (one["cx"], one["cy"], one["size"]), words


class Pack:
    """One pool: `images` u8 [N, 64, 64, 3] and, per scene, tokenised captions and questions."""

    def __init__(self, folder: Path, size: int | None = None):
        self.images = np.memmap(folder / "images.bin", np.uint8, "r").reshape(-1, 64, 64, 3)[:size]
        self.text = Text(folder / "tokenizer.json")
        self.nouns, self.regions, self.dense, self.sparse, self.questions = [], [], [], [], []
        self.templates: list[str] = []              # the questions whose answer is a full caption
        known: dict[str, list[int]] = {}            # captions repeat; each is tokenised once

        def encode(text: str) -> list[int]:
            if text not in known:
                known[text] = self.text.encode(text)
            return known[text]

        with open(folder / "scenes.jsonl") as lines:
            for line, _ in zip(lines, range(len(self.images))):
                scene = json.loads(line)
                self.nouns.append(sorted({o["noun"] for o in scene["objects"]}))
                self.regions.append([region(scene, k) for k in range(len(scene["objects"]))])
                self.dense.append([encode(c) for c in scene["dense"]])
                self.sparse.append([encode(c) for c in scene["sparse"]])
                captions, others = [], []
                for q in scene["questions"]:
                    if q["kind"] == "caption" and q["question"] not in self.templates:
                        self.templates.append(q["question"])
                    pair = (encode(q["question"]), encode(q["answer"]) + [EOS])
                    (captions if q["kind"] == "caption" else others).append(pair)
                self.questions.append((captions, others))
        if len(self.questions) != len(self.images):
            raise ValueError(f"{folder}: {len(self.images)} images but {len(self.questions)} scenes")

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index) -> Tensor:
        return to_pixels(self.images[index])

    def question(self, index: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """A question and its answer: half of the time the whole caption."""
        captions, others = self.questions[index]
        choices = captions if captions and (not others or rng.random() < 0.5) else others
        return choices[rng.integers(len(choices))]
