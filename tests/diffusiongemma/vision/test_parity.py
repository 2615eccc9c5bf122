"""Images against transformers: the tower, soft tokens, texts with images, and canvases behind them.

scripts/make_golden_vision.py says what each number is. "seeing" standardizes and has a window of 8
tokens, which is less than its largest image has. "clipped" clips and shares key/value heads.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import Images, load_checkpoint
from sample import AutoregressiveConfig
from sample.autoregressive import generate_autoregressive
from sample.prefill import prefill
from sample.split_model import SplitModel
from tests.diffusiongemma.vision.golden import NAMES, error, folder, images_of, outputs

TOLERANCE = 1e-4
PAD = 0


@pytest.fixture(scope="module", params=["seeing"])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name) -> SplitModel:
    return SplitModel(load_checkpoint(folder(name)))


@pytest.fixture(scope="module")
def want(name) -> dict[str, np.ndarray]:
    return outputs(name)


both = pytest.mark.parametrize("name", NAMES, indirect=True)


@pytest.fixture(scope="module")
def ragged(want) -> tuple[np.ndarray, np.ndarray, Images]:
    """The three texts as one batch: not padded, padded left, padded right; and their images."""
    texts = [want[f"t{i}_tokens"][0] for i in range(3)]
    width = max(map(len, texts))
    mask = np.zeros((3, width), bool)
    mask[0], mask[1, width - len(texts[1]) :], mask[2, : len(texts[2])] = True, True, True
    tokens = np.full(mask.shape, PAD, np.int32)
    tokens[mask] = np.concatenate(texts)
    numbers = np.concatenate([want[f"t{i}_images"] for i in range(3)])
    return tokens, mask, images_of(want, numbers)


@jax.jit
def see(model, images):
    vision = model.merge().vision
    return vision.encode_patches(images), *vision(images)


@jax.jit
def encode(model, tokens, mask, images):
    model = model.merge()
    return model.encode(tokens, model.init_cache(len(tokens), 64), mask, images=images)


@jax.jit
def denoise(model, canvas, cache):
    return model.merge().denoise(canvas, cache)


@both
def test_the_tower_matches_transformers(model, want):
    """Images of different sizes in one batch, with an image of padding alone among them."""
    images = images_of(want)
    blank = Images(np.zeros_like(images.patches[:1]), np.full_like(images.positions[:1], -1))
    images = Images(
        *(np.concatenate([x[:2], b, x[2:]]) for x, b in zip(images, blank, strict=True))
    )
    states, soft, counts = see(model, images)
    np.testing.assert_array_equal(counts, [12, 2, 0, 4])
    states = np.delete(states, 2, axis=0) * (want["positions"][..., :1] >= 0)
    assert error(states, want["states"]) < TOLERANCE
    found = np.concatenate([own[:count] for own, count in zip(soft, counts, strict=True)])
    assert error(found, want["soft"]) < TOLERANCE
    assert jnp.isfinite(soft).all()


@both
def test_texts_with_images_match_transformers_in_a_ragged_batch(model, want, ragged):
    tokens, mask, images = ragged
    logits, cache = encode(model, tokens, mask, images)
    for i in range(3):
        assert error(logits[i][mask[i]], want[f"t{i}_logits"][0]) < TOLERANCE, i
    after = denoise(model, np.repeat(want["canvas"], 3, axis=0), cache)
    for i in range(3):
        assert error(after[i], want[f"t{i}_after"][0]) < TOLERANCE, i


def test_a_prompt_read_in_pieces_is_the_prompt(model, want, ragged):
    """With 7 columns, the largest image is longer than a piece, and pieces would part another."""
    tokens, mask, images = ragged
    cache = prefill(model, tokens, mask, 64, 7, images)
    after = denoise(model, np.repeat(want["canvas"], 3, axis=0), cache)
    for i in range(3):
        assert error(after[i], want[f"t{i}_after"][0]) < TOLERANCE, i


@both
def test_the_masks_of_transformers_would_show(want):
    """What the tests above would see of other masks: a causal image, one without a window, ..."""
    for kind in ("causal", "generate", "gemma4"):
        assert want[f"t0_{kind}"].min() > 10 * TOLERANCE, kind
    # The two references part only where an image is longer than the window.
    assert not want["t1_gemma4"].any() and want["t1_generate"].min() > 10 * TOLERANCE


def test_a_text_is_continued_token_by_token(model, want, ragged):
    tokens, mask, images = ragged
    new = 64 - tokens.shape[1]  # the programs are those of the test before
    config = AutoregressiveConfig(new, temperature=0, stop_ids=(), prefill_chunk=7)
    out = generate_autoregressive(model, tokens, mask, jax.random.key(0), config, images=images)
    first = [want[f"t{i}_logits"][0, -1].argmax() for i in range(3)]
    np.testing.assert_array_equal(out.tokens[:, 0], first)


def test_a_tower_changes_nothing_without_images(model, ragged):
    """The compiled program is the same, to the letter."""
    tokens, mask, _ = ragged
    model = model.merge()
    bare = nnx.clone(model)
    bare.vision = nnx.data(None)
    programs = [
        jax.jit(lambda m, *args: m.merge().encode(*args)).lower(SplitModel(m), tokens, None, mask)
        for m in (model, bare)
    ]
    assert programs[0].as_text() == programs[1].as_text()


def test_a_bfloat16_tower_is_near(name, want):
    model = SplitModel(load_checkpoint(folder(name), jnp.bfloat16))
    _, soft, counts = see(model, images_of(want))
    assert soft.dtype == jnp.bfloat16
    found = np.concatenate([own[:count] for own, count in zip(soft, counts, strict=True)])
    assert error(found.astype(np.float32), want["soft"]) < 0.1
