"""Writes the encoders' goldens: python encoders.py [--out ../goldens/encoders]

Small CLIP and SigLIP checkpoints with random weights, in the layout of the official ones and by `transformers` itself:
two activations, two tokenizers of each kind, single and sharded files, f32, f16 and bf16, both towers and one. Beside
each lies golden.safetensors: pixel values, token ids, hidden states, pooled outputs, embeddings and logits; and
goldens of Pillow's resizing, of whole preprocessings, and of pictures that are not RGB.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    CLIPConfig, CLIPModel, CLIPVisionModelWithProjection, SiglipConfig, SiglipModel, SiglipVisionModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

WORDS = "a photo of red car yellow broccoli blue dog this is cat the quick brown fox jumps over lazy".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = [
    "a photo of a red car", "A PHOTO of  a yellow\tBroccoli!", "it's the dog's 2 umbrellas, isn't it?", "",
    "naïve café 東京 🦊", "the quick brown fox jumps over the lazy dog " * 12,
]
EMBEDDED = 2  # texts of TEXTS that go through the model
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def growing(split) -> list[tuple[str, str]]:
    """Merges that build each word from its beginning. Learned ones would differ from run to run."""
    merges = {}
    for word in WORDS:
        first, *rest = split(word)
        for part in rest:
            merges[first, part] = None
            first += part
    return list(merges)


def byte_level(merges: list[tuple[str, str]]) -> Tokenizer:
    """CLIP's: byte-level pairs with a mark at the end of words, start and end tokens at the end of the vocabulary."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

    def assemble(model):
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        return tokenizer

    tokens = BYTES + [b + "</w>" for b in BYTES] + ["".join(m) for m in merges] + [start, end]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = assemble(models.BPE(
        vocab, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=end))
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocab[end]), (start, vocab[start]), trim_offsets=False, add_prefix_space=False)
    tokenizer.add_special_tokens([start, end])
    return tokenizer


def unigram(pieces: list[str]) -> Tokenizer:
    """SigLIP's: a unigram model over text without punctuation, "</s>" (1) for the end and for padding."""
    pieces = dict.fromkeys(sorted({"▁", *LETTERS}) + pieces)
    scores = [(piece, -3.0 - 0.01 * i) for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + scores, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Lowercase(), normalizers.Replace(Regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"), ""),
        normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def gemma() -> Tokenizer:
    """SigLIP 2's: Gemma's pairs over "▁" for spaces, unknown characters as bytes, "<pad>" 0 and "<eos>" 1."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    merges = growing(lambda word: list(word + "▁"))
    tokens = special + [f"<0x{b:02X}>" for b in range(256)] + sorted({"▁", *LETTERS}) + ["".join(m) for m in merges]
    tokenizer = Tokenizer(models.BPE(
        {t: i for i, t in enumerate(dict.fromkeys(tokens))}, merges, fuse_unk=True, byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    return tokenizer


CLIP_SETTINGS = dict(tokenizer_class="CLIPTokenizer", bos_token="<|startoftext|>", eos_token="<|endoftext|>",
                     pad_token="<|endoftext|>", unk_token="<|endoftext|>")
SIGLIP_SETTINGS = dict(tokenizer_class="SiglipTokenizer", eos_token="</s>", pad_token="</s>", unk_token="<unk>")
TOWER = dict(num_hidden_layers=3, num_attention_heads=4, hidden_size=32, intermediate_size=64)
TEXT = dict(num_hidden_layers=2, num_attention_heads=3, hidden_size=24, intermediate_size=48)
IMAGE = dict(image_size=32, patch_size=8)


def clip(activation: str, tokenizer: Tokenizer, end: int) -> CLIPModel:
    act = dict(hidden_act=activation)
    vocabulary = tokenizer.get_vocab_size()
    text = dict(vocab_size=vocabulary, max_position_embeddings=77, bos_token_id=0, eos_token_id=end, **TEXT, **act)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=TOWER | IMAGE | act, projection_dim=16))


def siglip(tokenizer: Tokenizer, **text) -> SiglipModel:
    text = dict(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=64) | text
    return SiglipModel(SiglipConfig(text_config=text, vision_config=TOWER | IMAGE))


@torch.no_grad()
def randomise(model: torch.nn.Module):
    """Weights under which every detail matters: embeddings so small that epsilon does, activations so large that the
    tails of the activation do."""
    for name, p in model.named_parameters():
        if name.endswith("logit_scale"):
            p.fill_(2.0)
        elif name.endswith("logit_bias"):
            p.fill_(-1.5)
        elif "norm" in name or "layrnorm" in name:
            p.normal_(0, 0.1).add_(1 if name.endswith("weight") else 0)
        elif "embedding" in name and "patch" not in name:
            p.normal_(0, 0.01)
        elif "patch" in name:
            p.normal_(0, 0.01 / math.sqrt(p[0].numel()))
        elif p.dim() == 1:
            p.normal_(0, 0.1)
        else:
            p.normal_(0, (3 if "fc1" in name else 1) / math.sqrt(p[0].numel()))


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: (t.to(torch.int32) if t.dtype == torch.int64 else t).detach().contiguous().clone() for n, t in tensors.items()}


def vision_goldens(model) -> dict[str, Tensor]:
    """Of a whole model or a vision model, at the trained size and, with resized position embeddings, at another."""
    tower = getattr(model, "vision_model", model)
    out = {}
    for name, size in [("", (2, 3, 32, 32)), ("wide.", (1, 3, 24, 48))]:
        pixels = torch.randn(size)
        outputs = tower(pixels, output_hidden_states=True, interpolate_pos_encoding=bool(name))
        out |= {f"{name}pixel_values": pixels, f"{name}pooled": outputs.pooler_output}
        out |= {f"hidden.{i}": h for i, h in enumerate(outputs.hidden_states) if not name}
        head = getattr(model, "visual_projection", None)
        out[f"{name}image_embeds"] = outputs.pooler_output if head is None else head(outputs.pooler_output)
        if not name:
            out["patch_embeds"] = patch_embeds(tower, outputs.last_hidden_state, head)
    return out


def patch_embeds(tower, last: Tensor, projection) -> Tensor:
    """Each patch in the common space: CLIP's as its class token goes there, SigLIP's pooled alone. CLIP's last hidden
    state is from before the last norm, SigLIP's from behind it."""
    if projection is not None:
        return projection(tower.post_layernorm(last[:, 1:]))
    return torch.stack([tower.head(last[:, i:i + 1]) for i in range(last.shape[1])], 1)


def text_goldens(model, ids: Tensor) -> dict[str, Tensor]:
    outputs = model.text_model(ids, output_hidden_states=True)
    head = getattr(model, "text_projection", torch.nn.Identity())
    states = {f"text.hidden.{i}": h for i, h in enumerate(outputs.hidden_states)}
    return {"input_ids": ids, "text.pooled": outputs.pooler_output, "text_embeds": head(outputs.pooler_output)} | states


def encode(tokenizer: Tokenizer, length: int, pad: int, fixed: bool) -> list[list[int]]:
    """As the models need them: CLIP's cut to 77, SigLIP's padded to 64 as well."""
    tokenizer.enable_truncation(length)
    rows = [tokenizer.encode(text).ids for text in TEXTS]
    tokenizer.no_truncation()
    return [row + [pad] * (length - len(row)) for row in rows] if fixed else rows


@torch.no_grad()
def write(out: Path, model, tokenizer: Tokenizer, settings: dict, dtype: torch.dtype, shard: str, processor):
    randomise(model)
    model.to(dtype).save_pretrained(out, max_shard_size=shard)
    model = model.float().eval()
    is_clip = isinstance(model, CLIPModel)
    length = model.config.text_config.max_position_embeddings
    pad = tokenizer.token_to_id(settings["pad_token"])
    rows = encode(tokenizer, length, pad, fixed=not is_clip)
    embedded = rows[:EMBEDDED]
    longest = max(map(len, embedded))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in embedded])
    goldens = vision_goldens(model) | text_goldens(model, ids)
    logits = model(input_ids=ids, pixel_values=goldens["pixel_values"]).logits_per_image
    goldens |= {"logits": logits, "scores": logits.softmax(-1) if is_clip else logits.sigmoid()}
    for i, image in enumerate(pictures()):
        goldens[f"preprocessed.{i}"] = torch.from_numpy(processor(image)["pixel_values"][0]).float()
    save_file(contiguous(goldens), out / "golden.safetensors")
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    dump(out / "tokenizer_config.json", settings | {"model_max_length": length})
    dump(out / "preprocessor_config.json", json.loads(processor.to_json_string()))
    dump(out / "texts.json", {"texts": TEXTS, "ids": rows})
    (out / "generation_config.json").unlink(missing_ok=True)


@torch.no_grad()
def write_vision(out: Path, model):
    """A checkpoint of the vision tower alone."""
    randomise(model)
    model.half().save_pretrained(out)
    goldens = vision_goldens(model.float().eval())
    save_file(contiguous({n: goldens[n] for n in ["pixel_values", "pooled", "image_embeds"]}), out / "golden.safetensors")


def dump(path: Path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def pictures() -> list[Image.Image]:
    """Noise over a gradient, wide and tall: every tap of a filter shows."""
    chance = np.random.default_rng(7)
    made = []
    for width, height in [(61, 43), (30, 97)]:
        ramp = np.linspace(0, 160, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
        noise = chance.integers(0, 96, (height, width, 3)) * (chance.random((height, width, 1)) < 0.5)
        made.append(Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8)))
    return made


def pillow(out: Path):
    """Pillow's bytes, down and up, along one side only, and nearly to nothing."""
    goldens = {}
    for i, picture in enumerate(pictures()):
        picture.save(out / f"picture-{i}.png")
        for name, filter in [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)]:
            for size in [(32, 32), (70, 50), (picture.width, 20), (17, picture.height), (3, 2)]:
                resized = np.asarray(picture.resize(size, filter))
                goldens[f"{i}.{name}.{size[0]}x{size[1]}"] = torch.from_numpy(resized.copy())
    save_file(goldens, out / "pillow.safetensors")


def formats(out: Path):
    """Pictures that are not 8-bit RGB, and what they are as RGB: by Pillow's conversion, as `transformers` does it, but
    for transparency, which is laid on white, and for 16 bits a channel, which are rounded to 8."""
    out.mkdir(exist_ok=True)
    rgb = pictures()[0]
    alpha = Image.fromarray(np.add.outer(np.arange(rgb.height), 4 * np.arange(rgb.width)).astype(np.uint8))
    palette = rgb.quantize(16)
    deep = np.asarray(rgb.convert("L")).astype(np.uint16) * 257 + np.arange(rgb.width, dtype=np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 6
    saved = {
        "grey.png": (rgb.convert("L"), {}), "bits.png": (rgb.convert("1"), {}), "grey-16.png": (Image.fromarray(deep), {}),
        "palette.png": (palette, {}), "palette-clear.png": (palette, dict(transparency=palette.getpixel((5, 5)))),
        "rgba.png": (Image.merge("RGBA", [*rgb.split(), alpha]), {}),
        "grey-alpha.png": (Image.merge("LA", [rgb.convert("L"), alpha]), {}),
        "palette.gif": (palette, {}), "rgba.webp": (Image.merge("RGBA", [*rgb.split(), alpha]), dict(lossless=True, exact=True)),
        "grey.jpg": (rgb.convert("L"), dict(quality=95)), "cmyk.jpg": (rgb.convert("CMYK"), dict(quality=95)),
        "turned.jpg": (rgb, dict(quality=95, exif=turned)),
    }
    goldens = {}
    for name, (picture, options) in saved.items():
        picture.save(out / name, **options)
        opened = ImageOps.exif_transpose(Image.open(out / name))
        if name == "grey-16.png":
            golden = np.repeat(np.round(deep / 257).astype(np.uint8)[..., None], 3, -1)
        elif opened.mode in ("RGBA", "LA") or "transparency" in opened.info:
            clear = opened.convert("RGBA")
            golden = np.asarray(Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB"))
        else:
            golden = np.asarray(opened.convert("RGB"))
        goldens[name] = torch.from_numpy(golden.copy())
    save_file(goldens, out / "rgb.safetensors")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "goldens" / "encoders")
    out = parser.parse_args().out
    torch.manual_seed(0)
    bytes_ = byte_level(growing(lambda word: [*word[:-1], word[-1] + "</w>"]))
    pieces = unigram(["▁" + word for word in WORDS] + [word[:3] for word in WORDS if len(word) > 4])
    pairs = gemma()
    end = bytes_.token_to_id("<|endoftext|>")
    gemma_settings = dict(tokenizer_class="GemmaTokenizer", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    crop = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    square = dict(height=32, width=32)
    bicubic, bilinear = SiglipImageProcessorPil(size=square, resample=3), SiglipImageProcessorPil(size=square, resample=2)

    # OpenAI's files name 2 as the end token; the text is then pooled at the highest id.
    write(out / "clip", clip("quick_gelu", bytes_, 2), bytes_, CLIP_SETTINGS, torch.float32, "5GB", crop)
    write(out / "clip-gelu", clip("gelu", bytes_, end), bytes_, CLIP_SETTINGS, torch.float16, "40KB", crop)
    write(out / "siglip", siglip(pieces, **TEXT | dict(hidden_size=32, num_attention_heads=4)), pieces, siglip_settings,
          torch.bfloat16, "5GB", bicubic)
    write(out / "siglip2", siglip(pairs, **TEXT, projection_size=32), pairs, gemma_settings, torch.float16, "50KB", bilinear)
    write_vision(out / "clip-vision", CLIPVisionModelWithProjection(CLIPConfig(
        vision_config=TOWER | IMAGE | dict(projection_dim=16)).vision_config))
    write_vision(out / "siglip-vision", SiglipVisionModel(SiglipConfig(vision_config=TOWER | IMAGE).vision_config))
    pillow(out)
    formats(out / "formats")


if __name__ == "__main__":
    main()
