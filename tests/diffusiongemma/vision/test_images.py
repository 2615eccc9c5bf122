"""Which soft token goes where, and what is refused; an image of more than 1,024 tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, Images, ModelConfig
from diffusiongemma.vision.images import (
    SoftTokens,
    check_images,
    soft_index,
    with_soft_tokens,
)
from tests.diffusiongemma.formats.folders import TOWER

IMAGE = TOWER.image_id
SIZES = ((2, 4), (4, 2), (2, 2))  # columns and rows; 2, 2 and 1 soft tokens


def make_images(sizes=SIZES, room=8) -> Images:
    patches = np.zeros((len(sizes), room, TOWER.patch_values), np.float32)
    positions = np.full((len(sizes), room, 2), -1, np.int32)
    for i, (columns, rows) in enumerate(sizes):
        y, x = np.divmod(np.arange(columns * rows), columns)
        positions[i, : x.size] = np.stack([x, y], axis=-1)
    return Images(patches, positions)


def test_images_have_the_image_tokens_row_by_row():
    is_image = np.array([[0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]], bool)
    index = soft_index(jnp.array(is_image), jnp.array([2, 0, 2, 1]), room=3)
    wanted = [[-1, 0, 1, -1, 6, 7], [-1, -1, -1, -1, 9, -1], [-1] * 6]
    np.testing.assert_array_equal(index, wanted)
    soft = SoftTokens(jnp.arange(24.0).reshape(12, 2), index)
    found = with_soft_tokens(jnp.full((3, 6, 2), -5, jnp.bfloat16), soft)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found[0, 4], [12, 13])
    np.testing.assert_array_equal(found[0, 3], [-5, -5])
    # An image token without a soft token is seen to be one.
    index = soft_index(jnp.array(is_image), jnp.array([2, 0, 2, 0]), room=3)
    found = with_soft_tokens(jnp.zeros((3, 6, 2)), soft._replace(index=index))
    assert jnp.isnan(found[1, 4]).all() and jnp.isfinite(found[0]).all()


def test_what_does_not_fit_is_refused():
    images, tokens = make_images(), np.array([[1, IMAGE, IMAGE, 2], [IMAGE, IMAGE, 3, IMAGE]])
    check_images(TOWER, images, tokens, None)
    mask = np.ones(tokens.shape, bool)
    mask[1, 3] = False

    def refusal(images=images, mask=None, config=TOWER) -> str:
        with pytest.raises(ValueError) as caught:
            check_images(config, images, tokens, mask)
        return str(caught.value)

    assert refusal(config=None) == "the model has no vision tower, so it takes no images"
    said = f"the text has 4 image tokens ({IMAGE}), and the 3 images have 5 soft tokens"
    assert said in refusal(mask=mask)
    few = Images(images.patches[..., :2], images.positions)
    assert "expected patches [N, L, 3] and positions [N, L, 2], got [3, 8, 2]" in refusal(few)
    assert "image 2 has 6 patches in 3 columns and 2 rows" in refusal(
        make_images((SIZES[0], (3, 2), SIZES[2]))
    )
    assert "image 1 is 8 x 2 patches, and the model knows 7 positions a side" in refusal(
        make_images(((8, 2), (4, 2), (2, 2)), room=16)
    )
    missing = images.positions.copy()
    missing[2, 1] = -1
    assert "image 3 has 3 patches" in refusal(Images(images.patches, missing))


def test_an_image_of_more_than_1024_tokens_is_read_alike_in_one_and_in_pieces():
    """At the real window: the image is longer than the ring, and its tokens see parts of it."""
    config = ModelConfig.preset(
        "tiny", layer_types=("sliding",), window=1024, vision=TOWER, num_heads=1, num_kv_heads=1
    )
    model = DiffusionGemma(config, rngs=nnx.Rngs(0))
    rng, before, size, length = np.random.default_rng(0), 40, 1120, 1300
    tokens = rng.integers(3, 30, (1, length)).astype(np.int32)
    tokens[0, before : before + size] = IMAGE
    index = np.where(tokens == IMAGE, np.arange(length) - before, -1)
    soft = SoftTokens(jnp.asarray(rng.normal(size=(size, config.width)), jnp.float32), index)
    graph, state = nnx.split(model)

    @jax.jit
    def encode(state, tokens, soft, cache):
        return nnx.merge(graph, state).encode(tokens, cache, images=soft)

    def piece(start: int, end: int, cache) -> tuple:
        own = soft._replace(index=index[:, start:end])
        return encode(state, tokens[:, start:end], own, cache)

    whole, kept = piece(0, length, None)
    parts, cache = [], model.init_cache(1, length)
    for start, end in ((0, 1200), (1200, length)):
        logits, cache = piece(start, end, cache)
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-4)
    # The ring holds the last 1,023 tokens: token p lies in slot p mod 1023.
    last = np.arange(length - 1023, length)
    ring, one = cache.layers[0].keys, kept.layers[0].keys
    np.testing.assert_allclose(ring[:, :, last % 1023], one[:, :, last], atol=1e-4)
