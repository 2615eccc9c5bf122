"""Writes tests/golden/hf_seeing and hf_clipped: tiny models with a vision tower, and their outputs.

The results are committed, so that tests need neither torch nor transformers. To write them again,
use an environment of its own:

    pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2
    python -m scripts.make_golden_vision

With --check, nothing is written: the outputs of the installed transformers, which may be another
version, are compared with those in tests/golden.

Each folder is a checkpoint in the released layout (float32), with outputs.npz beside it:

    pixels [N, L, P] uint8: the patches of N images of different sizes, 255 times their values
    positions [N, L, 2]: their (x, y); -1 at padding
    states [N, L, W]: the tower's states of the patches, 0 at padding
    soft [S, D]: the soft tokens of all images, one after the other

and for each text i (0: two images between texts, 1: one image, 2: two images at the beginning):

    t<i>_tokens [1, T]
    t<i>_images: the numbers of its images
    t<i>_logits [1, T, V]: encode's
    t<i>_after [1, C, V]: logits of `canvas` [1, C] behind the text
    t<i>_causal, t<i>_generate, t<i>_gemma4 [3]: by how much the last token's logits, all logits
        and `after` change with the masks that transformers makes by default: DiffusionGemma's plain
        forward, its generate, and Gemma 4

The masks are given to transformers: full layers are causal, and in sliding layers a token of an
image also sees the later tokens of its image, within the window. One image has more tokens than the
window.

The models differ in all that a tower can have: hf_seeing standardizes, and hf_clipped clips.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import DiffusionGemmaConfig, DiffusionGemmaTextConfig, DynamicCache
from transformers.models.diffusion_gemma import DiffusionGemmaForBlockDiffusion
from transformers.models.gemma4.configuration_gemma4 import Gemma4VisionConfig
from transformers.models.gemma4.modeling_gemma4 import create_masks_for_vision_model

from scripts.make_golden import random_weight

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
BEGIN, IMAGE, END = 3, 5, 4
WINDOW = 8
SIZES = ((12, 9), (3, 6), (6, 6))  # columns and rows of patches of each image
TEXT = dict(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=12,
    num_hidden_layers=3,
    layer_types=["full_attention", "sliding_attention", "full_attention"],
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    global_head_dim=12,
    num_global_key_value_heads=1,
    sliding_window=WINDOW,
    num_experts=3,
    top_k_experts=2,
    moe_intermediate_size=4,
    max_position_embeddings=512,
)
VISION = dict(
    hidden_size=12,
    intermediate_size=10,
    num_hidden_layers=2,
    patch_size=2,
    position_embedding_size=14,
)
MODELS = {
    "seeing": VISION
    | dict(num_attention_heads=2, num_key_value_heads=2, head_dim=8, standardize=True),
    "clipped": VISION
    | dict(
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        use_clipped_linears=True,
        rope_parameters={"rope_type": "axial", "rope_theta": 30.0},
    ),
}
SEEDS = {"seeing": 1, "clipped": 2}


def build(vision: dict, seed: int) -> DiffusionGemmaForBlockDiffusion:
    """A float32 model with eager attention, in which every weight is random and matters."""
    config = DiffusionGemmaConfig(
        text_config=DiffusionGemmaTextConfig(use_bidirectional_attention="vision", **TEXT),
        vision_config=Gemma4VisionConfig(**vision),
        canvas_length=5,
        image_token_id=IMAGE,
        boi_token_id=BEGIN,
        eoi_token_id=END,
    )
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    config.vision_config._attn_implementation = "eager"
    model = DiffusionGemmaForBlockDiffusion(config).eval()
    rng = torch.Generator().manual_seed(seed)

    kept = ("layer_scalar", "std_bias", "std_scale", "_min", "_max")
    buffers = {n: b for n, b in model.named_buffers() if n.endswith(kept)}
    for name, tensor in sorted({**dict(model.named_parameters()), **buffers}.items()):
        if name.endswith(("_min", "_max")):  # what is clipped has values of about 1
            sign = -1 if name.endswith("_min") else 1
            tensor.data.copy_(sign * (0.7 + 0.3 * torch.rand((), generator=rng)))
        elif "position_embedding_table" in name:
            tensor.data.copy_(0.5 * torch.randn(tensor.shape, generator=rng))
        elif name.endswith("std_bias"):
            tensor.data.copy_(torch.randn(tensor.shape, generator=rng))
        else:
            random_weight(name, tensor, rng)
    return model


def make_images(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images: pixels [N, L, P] uint8 and positions [N, L, 2], padded to the largest."""
    rng = np.random.default_rng(seed)
    length = max(columns * rows for columns, rows in SIZES)
    pixels = np.zeros((len(SIZES), length, 3 * VISION["patch_size"] ** 2), np.uint8)
    positions = np.full((len(SIZES), length, 2), -1, np.int32)
    for i, (columns, rows) in enumerate(SIZES):
        count = columns * rows
        pixels[i, :count] = rng.integers(0, 256, pixels[i, :count].shape)
        y, x = np.divmod(np.arange(count), columns)
        positions[i, :count] = np.stack([x, y], axis=-1)
    return pixels, positions


def soft_count(image: int) -> int:
    columns, rows = SIZES[image]
    return columns * rows // 9


def texts(seed: int) -> list[tuple[np.ndarray, list[int]]]:
    """Tokens [1, T] and the numbers of the images in them."""
    rng = np.random.default_rng(seed)

    def words(count: int) -> list[int]:
        return list(rng.integers(6, TEXT["vocab_size"], count))

    def image(number: int) -> list[int]:
        return [BEGIN, *[IMAGE] * soft_count(number), END]

    found = [
        (words(3) + image(0) + words(5) + image(1) + words(4), [0, 1]),
        (words(11) + image(2) + words(2), [2]),
        (image(1) + image(2) + words(9), [1, 2]),
    ]
    return [(np.array([tokens], np.int64), numbers) for tokens, numbers in found]


def given_masks(tokens: np.ndarray) -> dict[str, torch.Tensor]:
    """Masks [1, 1, T, T] that are added to the scores."""
    is_image = tokens[0] == IMAGE
    number = np.cumsum(is_image & ~np.roll(is_image, 1))
    query, key = np.indices((len(is_image),) * 2)
    causal = key <= query
    both = is_image[query] & is_image[key] & (number[query] == number[key])
    sliding = (causal | both) & (np.abs(query - key) < WINDOW)
    return {
        name: torch.where(torch.from_numpy(seen), 0.0, torch.finfo(torch.float32).min)[None, None]
        for name, seen in (("full_attention", causal), ("sliding_attention", sliding))
    }


class Reader:
    """A model and its images, which reads texts with the masks that it is told."""

    def __init__(self, model: DiffusionGemmaForBlockDiffusion, pixels, positions):
        self.model, self.encoder = model, model.model.encoder
        self.patches = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
        self.positions = torch.from_numpy(positions.astype(np.int64))

    def masks(self, kind: str, tokens: np.ndarray) -> dict | None:
        if kind == "given":
            return given_masks(tokens)
        if kind == "causal":
            return None
        config = self.model.config.get_text_config()
        ids = torch.from_numpy(tokens)
        embedded = self.encoder.get_input_embeddings()(ids)
        positions, of_image = torch.arange(ids.shape[1])[None], (ids == IMAGE).long()
        cache = DynamicCache(config=config)
        if kind == "generate":
            return self.encoder.create_masks_for_generate(
                config, embedded, None, cache, positions, mm_token_type_ids=of_image
            )
        number = torch.cumsum((of_image == 1) & (torch.roll(of_image, 1) == 0), 1)
        blocks = torch.where(of_image == 1, number, -1)
        return create_masks_for_vision_model(config, embedded, None, cache, positions, blocks)

    def read(self, tokens, images, canvas, kind="given") -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of a text with images, and those of a canvas behind it."""
        cache = DynamicCache(config=self.model.config.get_text_config())
        ids = torch.from_numpy(tokens)
        out = self.encoder(
            input_ids=ids,
            attention_mask=self.masks(kind, tokens),
            position_ids=torch.arange(ids.shape[1])[None],
            past_key_values=cache,
            pixel_values=self.patches[images],
            image_position_ids=self.positions[images],
        )
        cap = self.model.config.text_config.final_logit_softcapping
        logits = cap * torch.tanh(self.model.lm_head(out.last_hidden_state) / cap)
        places = torch.arange(ids.shape[1], ids.shape[1] + canvas.shape[1])[None]
        after = self.model(
            past_key_values=cache,
            decoder_input_ids=torch.from_numpy(canvas),
            decoder_position_ids=places,
        ).logits
        return logits, after


@torch.no_grad()
def outputs(model: DiffusionGemmaForBlockDiffusion, seed: int) -> dict[str, np.ndarray]:
    """The outputs that the top of this file lists."""
    pixels, positions = make_images(seed)
    canvas = np.random.default_rng(seed + 1).integers(6, TEXT["vocab_size"], (1, 5))
    reader = Reader(model, pixels, positions)
    seen = []
    tower = reader.encoder.vision_tower
    with tower.encoder.register_forward_hook(lambda _, args, out: seen.append(out)):
        soft = reader.encoder.get_image_features(reader.patches, reader.positions).pooler_output
    states = seen[0].last_hidden_state.numpy() * (positions[..., :1] >= 0)
    found = {"pixels": pixels, "positions": positions, "states": states, "soft": soft.numpy()}
    found |= {"canvas": canvas.astype(np.int32)}
    for i, (tokens, images) in enumerate(texts(seed + 2)):
        logits, after = reader.read(tokens, images, canvas)
        found |= {f"t{i}_tokens": tokens.astype(np.int32), f"t{i}_images": np.array(images)}
        found |= {f"t{i}_logits": logits.numpy(), f"t{i}_after": after.numpy()}
        for kind in ("causal", "generate", "gemma4"):
            other, other_after = reader.read(tokens, images, canvas, kind)
            apart = (other - logits).abs()
            changes = apart[:, -1].max(), apart.max(), (other_after - after).abs().max()
            found[f"t{i}_{kind}"] = np.array([float(change) for change in changes], np.float32)
    return found


def main() -> None:
    torch.set_num_threads(1)  # sums in the same order, so that the files are the same every time
    for name, vision in MODELS.items():
        folder = GOLDEN / f"hf_{name}"
        model = build(vision, SEEDS[name])
        found = outputs(model, 10 * SEEDS[name])
        if "--check" in sys.argv:
            with np.load(folder / "outputs.npz") as file:
                apart = {k: float(np.abs(found[k] - file[k]).max()) for k in file.files}
            print(folder.name, "largest difference", max(apart.values()), apart)
            continue
        model.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        np.savez_compressed(folder / "outputs.npz", **found)
        print(folder.name, sum(f.stat().st_size for f in folder.iterdir()), "bytes")
        for key, value in found.items():
            if key.endswith(("causal", "generate", "gemma4")):
                print(key, value)
        print({k: float(np.abs(v).max()) for k, v in found.items() if v.dtype == np.float32})


if __name__ == "__main__":
    main()
