"""Writes tests/golden/images.npz: what transformers makes of pictures.

The results are committed, so that tests need neither torch nor transformers. To write them again,
use an environment of its own:

    pip install torch==2.13.0 torchvision==0.28.0 transformers==5.23.0 pillow==13.0.0
    python -m scripts.make_golden_images

With --check, nothing is written: the results of the installed transformers, which may be another
version, are compared with those in tests/golden.

The file holds

    sizes [M, 5] int32: height, width and budget of images, and the height and width that they get
    p<i>_patches [L, P] uint8: the patches of picture i (tests/data/images) by the image processor
        of Gemma 4 that uses Pillow, 255 times their values
    p<i>_torchvision [L, P] int8: by how much those of the other processor differ
    p<i>_positions [L, 2] int16: their (x, y)

    talk<i> [T] int16: the tokens of conversation i (tests/data/images/talk.py)
    video [T] int16: those of a conversation with a video

Patches have 2 pixels a side here, and not 16, so that the file is small. The tokens are those of
patches of 16 pixels, with 70 soft tokens at most.
"""

import sys
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_gemma4 import (
    Gemma4ImageProcessor,
    get_aspect_ratio_preserving_size,
)
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor
from transformers.models.gemma4.video_processing_gemma4 import Gemma4VideoProcessor
from transformers.video_utils import VideoMetadata

from data.images.patches import fitted_size
from tests.data.images.pictures import SIZES, picture
from tests.data.images.talk import SPECIAL, TALKS, TEMPLATE, TIMES, VIDEO, backend

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "images.npz"
BUDGETS = (70, 140, 280, 560, 1120)
PATCH, POOL = 2, 3
KEYS = ("pixel_values", "image_position_ids")


def sizes(count: int, seed: int) -> np.ndarray:
    """Sizes of random images, of which some are strips and some are made of whole squares."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        height, width = (
            rng.integers(1, 6000, 2),
            np.exp(rng.uniform(0, 10, 2)).astype(int),
            48 * rng.integers(1, 40, 2),
            rng.permutation([rng.integers(1, 60), rng.integers(1, 20_000)]),
        )[i % 4].tolist()
        budget = BUDGETS[i // 4 % len(BUDGETS)]
        size = get_aspect_ratio_preserving_size(height, width, 16, 9 * budget, 3)
        found.append((height, width, budget, *size))
    return np.array(found, np.int32)


def patches() -> dict[str, np.ndarray]:
    """The patches of all pictures, by both processors."""
    found = {}
    backends = {"patches": Gemma4ImageProcessorPil(), "torchvision": Gemma4ImageProcessor()}
    for i in range(len(SIZES)):
        for name, reader in backends.items():
            out = reader(
                [picture(i)],
                patch_size=PATCH,
                pooling_kernel_size=POOL,
                max_soft_tokens=BUDGETS[0],
                return_tensors="np",
            )
            count = int(out["num_soft_tokens_per_image"][0]) * POOL**2
            values, positions = (np.asarray(out[k][0])[:count] for k in KEYS)
            found[f"p{i}_{name}"] = np.rint(255 * values).astype(np.int16)
            found[f"p{i}_positions"] = positions.astype(np.int16)
        found[f"p{i}_torchvision"] -= found[f"p{i}_patches"]
        for name, dtype in (("patches", np.uint8), ("torchvision", np.int8)):
            found[f"p{i}_{name}"] = found[f"p{i}_{name}"].astype(dtype)
    return found


def processor() -> Gemma4Processor:
    """The processor of Gemma 4 with the tests' tokenizer and template."""
    names = {"image": "<|image|>", "boi": "<|image>", "eoi": "<image|>"}
    names |= {"audio": "<|audio|>", "boa": "<|audio>", "eoa": "<audio|>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend(),
        **{f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")},
        extra_special_tokens={f"{name}_token": token for name, token in names.items()},
    )
    parts = Gemma4AudioFeatureExtractor(), Gemma4ImageProcessor(), tokenizer, Gemma4VideoProcessor()
    return Gemma4Processor(*parts, chat_template=TEMPLATE)


def tokens() -> dict[str, np.ndarray]:
    """The tokens of all conversations."""
    whole, found = processor(), {}
    for i, talk in enumerate(TALKS):
        numbers = [
            int(part["image"])
            for message in talk
            for part in message["content"]
            if isinstance(part, dict) and part["type"] == "image"
        ]
        text = whole.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
        images = list(map(picture, numbers))
        out = whole(text=[text], images=[images], images_kwargs={"max_soft_tokens": BUDGETS[0]})
        found[f"talk{i}"] = np.array(out["input_ids"][0], np.int16)
    frames = np.stack([np.asarray(picture(0))] * len(TIMES))
    fps = 2.0
    about = VideoMetadata(8000, fps, frames_indices=[round(fps * time) for time in TIMES])
    text = whole.apply_chat_template(VIDEO, add_generation_prompt=True, tokenize=False)
    options = {"do_sample_frames": False, "video_metadata": [about]}
    out = whole(text=[text], videos=[frames], videos_kwargs=options)
    ids = np.array(out["input_ids"][0], np.int16)
    # Both are places of soft tokens, and this project has one such token.
    found["video"] = np.where(ids == SPECIAL["<|video|>"], SPECIAL["<|image|>"], ids)
    return found


def main() -> None:
    found = {"sizes": sizes(200, seed=0), **patches(), **tokens()}
    if "--check" in sys.argv:
        many = sizes(10_000, seed=1)
        print("sizes that differ:", int((many[:, 3:] != ours(many[:, :3])).any(axis=1).sum()))
        with np.load(GOLDEN) as file:
            apart = {
                k: np.abs(found[k].astype(int) - file[k].astype(int)).max() for k in file.files
            }
        print("largest difference", max(apart.values()), apart)
        return
    np.savez_compressed(GOLDEN, **found)
    print(GOLDEN.stat().st_size, "bytes")


def ours(asked: np.ndarray) -> np.ndarray:
    """The sizes of this project."""
    return np.array([fitted_size(*map(int, row)) for row in asked])


if __name__ == "__main__":
    main()
