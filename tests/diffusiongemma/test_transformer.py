"""The network against itself: sizes, caching, padding, modes. Parity is in test_parity.py."""

import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.attention import kv_shape
from diffusiongemma.transformer import Block
from tests.conftest import Compiled

GOLDEN = Path(__file__).parents[1] / "golden"
# One layer of each type. Deeper models are compared in test_parity.py.
CONFIG = ModelConfig.preset("tiny", layer_types=("sliding", "full"))


def randomize(model: DiffusionGemma, seed: int = 0) -> DiffusionGemma:
    """Moves norms, scales and scalars away from ones, so that a missing one shows."""
    rng = np.random.default_rng(seed)
    for path, param in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        if param.ndim == 1:
            nnx.update(
                model,
                nnx.from_flat_state(
                    [
                        (
                            path,
                            param.replace(
                                param[...]
                                * jnp.asarray(rng.uniform(0.6, 1.4, param.shape), param.dtype)
                            ),
                        )
                    ]
                ),
            )
    return model


@pytest.fixture(scope="module")
def plain() -> DiffusionGemma:
    return randomize(DiffusionGemma(CONFIG, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def model(plain) -> Compiled:
    return Compiled(plain)


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.random.default_rng(1).integers(3, 64, (2, 21)).astype(np.int32)


def test_the_26b_has_its_published_sizes():
    config = ModelConfig.preset("26b_a4b")
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    sizes = {
        "/".join(map(str, path)): int(np.prod(p.shape))
        for path, p in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
    tower = sum(n for name, n in sizes.items() if name.startswith("vision/"))
    assert tower == 572_794_416
    total = sum(sizes.values()) - tower
    experts = sum(n for name, n in sizes.items() if "moe/gate_up" in name or "moe/down" in name)
    embedding = sizes["embedder/embedding"]
    # Google's tree (tests/golden/google_tree_26b.json) holds one scalar a layer, this model two.
    google = json.loads((GOLDEN / "google_tree_26b.json").read_text())
    assert total == sum(int(np.prod(shape)) for shape, _ in google.values()) + 30
    assert experts == 30 * 128 * 3 * 2816 * 704
    assert embedding == 262_144 * 2816
    active = total - experts + experts * 8 // 128
    assert abs(active / 1e9 - 3.8) < 0.1
    assert [i for i, t in enumerate(config.layer_types) if t == "full"] == [5, 11, 17, 23, 29]


@pytest.mark.parametrize("layer_type", ["sliding", "full"])
def test_the_documented_parameters_are_a_layers_parameters(layer_type):
    """The table in Block's docstring: names, shapes and initial values."""
    config = ModelConfig.preset("tiny", width=256, mlp_dim=128, expert_dim=64, head_dim=32)
    kv_heads, head_dim = kv_shape(config, layer_type)
    sizes = {"D": config.width, "F": config.mlp_dim, "E": config.num_experts}
    sizes |= {"f": config.expert_dim, "H": config.num_heads, "K": kv_heads, "h": head_dim}

    def size(product: str) -> int:
        return math.prod(sizes.get(factor) or int(factor) for factor in product.split())

    table = re.findall(r"^ +([a-z_.]+) +\[(.+)\] +(.+)$", Block.__doc__, re.MULTILINE)
    found = nnx.to_flat_state(nnx.state(Block(config, layer_type, rngs=nnx.Rngs(0)), nnx.Param))
    found = {".".join(path): np.asarray(param[...]) for path, param in found}
    documented = {name for name, _, init in table if layer_type == "sliding" or "only" not in init}
    assert documented == set(found)
    for name, axes, init in table:
        if name not in found:
            continue
        assert found[name].shape == tuple(map(size, axes.split(", "))), name
        if init == "ones":
            assert np.all(found[name] == 1), name
        elif init == "h^-0.5":
            np.testing.assert_allclose(found[name], head_dim**-0.5)
        else:
            fan_in = size(re.fullmatch(r"normal\((.+)\)(, in sliding layers only)?", init)[1])
            np.testing.assert_allclose(found[name].std(), fan_in**-0.5, rtol=0.1, err_msg=name)


def test_caching_changes_nothing(model, tokens):
    whole, whole_cache = model.encode(tokens)
    cache = model.init_cache(2, 30)
    parts = []
    for part in np.split(tokens, [3, 4, 15], axis=1):
        logits, cache = model.encode(part, cache)
        parts.append(logits)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=2e-5)
    canvas = tokens[:, :12]
    np.testing.assert_allclose(
        model.denoise(canvas, cache), model.denoise(canvas, whole_cache), atol=2e-5
    )
    # The ring of a sliding layer holds the tokens that its window may still show, and no more.
    assert cache.layers[0].keys.shape[2] == model.config.window - 1
    assert cache.layers[1].keys.shape[2] == 30


def test_logits_of_some_places_are_those_of_all(plain, model, tokens):
    whole, _ = model.encode(tokens)
    places = np.array([[20, 3, 3], [0, 7, 19]])
    encode = jax.jit(lambda state: nnx.merge(graphdef, state).encode(tokens, logits=places)[0])
    graphdef, state = nnx.split(plain)
    some = encode(state)
    assert some.shape == (2, 3, 64)
    for row in range(2):
        np.testing.assert_allclose(some[row], whole[row, places[row]], atol=2e-5)


def test_padding_changes_nothing(model, tokens):
    lengths, width = (21, 5, 13, 1), 24
    rng = np.random.default_rng(2)
    batch = rng.integers(3, 64, (4, width)).astype(np.int32)
    mask = np.zeros((4, width), bool)
    mask[0, 3:24] = True  # right-aligned
    mask[1, :5] = True  # left-aligned
    mask[2, rng.permutation(width)[:13]] = True  # anywhere
    mask[3, 10] = True
    canvas = rng.integers(3, 64, (4, 12)).astype(np.int32)
    last, cache = model.encode(batch, model.init_cache(4, 40), mask, logits="last")
    logits = model.denoise(canvas, cache)
    more, cache = model.encode(canvas, cache, logits="all")
    again = model.denoise(canvas, cache)
    assert cache.length.tolist() == [n + 12 for n in lengths]
    for row in range(4):
        alone = batch[row : row + 1, mask[row]]
        row_last, row_cache = model.encode(alone, model.init_cache(1, 40), logits="last")
        np.testing.assert_allclose(last[row], row_last[0], atol=2e-5)
        one = canvas[row : row + 1]
        np.testing.assert_allclose(logits[row], model.denoise(one, row_cache)[0], atol=2e-5)
        row_more, row_cache = model.encode(one, row_cache)
        np.testing.assert_allclose(more[row], row_more[0], atol=2e-5)
        np.testing.assert_allclose(again[row], model.denoise(one, row_cache)[0], atol=2e-5)


def test_canvases_may_share_a_context(model, tokens):
    """Two canvases in succession for each cached row equal a cache that holds each row twice."""
    canvas = np.random.default_rng(2).integers(3, 64, (4, CONFIG.canvas_size)).astype(np.int32)
    mask = np.ones(tokens.shape, bool)
    mask[1, :9] = False
    _, cache = model.encode(tokens, model.init_cache(2, 32), mask)
    _, twice = model.encode(
        np.repeat(tokens, 2, axis=0), model.init_cache(4, 32), np.repeat(mask, 2, axis=0)
    )
    soft = jax.random.normal(jax.random.key(0), (*canvas.shape, CONFIG.width))
    np.testing.assert_allclose(
        model.denoise(canvas, cache, soft), model.denoise(canvas, twice, soft), atol=1e-5
    )
    with pytest.raises(ValueError, match="2 cached rows for 3 canvases"):
        model.denoise(canvas[:3], cache)


def test_a_row_without_tokens_keeps_its_cache(model, tokens):
    _, before = model.encode(tokens, model.init_cache(2, 40))
    mask = np.array([[True] * 12, [False] * 12])
    _, after = model.encode(tokens[:, :12], before, mask, logits="none")
    assert after.length.tolist() == [33, 21]
    for old, new in zip(before.layers, after.layers, strict=True):
        np.testing.assert_array_equal(old.keys[1], new.keys[1])
        assert not np.array_equal(old.keys[0], new.keys[0])


def test_a_shortened_cache_is_the_shorter_context(model, tokens):
    """Training relies on this: it cuts the keys of the whole sequence at a canvas' start."""
    _, cache = model.encode(tokens)
    canvas = tokens[:, 9:]
    cut = model.denoise(canvas, cache._replace(length=jnp.array([9, 14])))
    for row, length in enumerate((9, 14)):
        _, short = model.encode(tokens[row : row + 1, :length])
        expected = model.denoise(canvas[row : row + 1], short)
        np.testing.assert_allclose(cut[row], expected[0], atol=2e-5)


def test_no_soft_embedding_is_a_zero_one_and_not_a_mean_one(plain, model, tokens):
    _, cache = model.encode(tokens)
    canvas = tokens[:, :12]
    zeros = jnp.zeros((2, 12, 32))
    none = model.denoise(canvas, cache)
    np.testing.assert_allclose(none, model.denoise(canvas, cache, zeros), atol=1e-5)
    mean = plain.soft_embed(jnp.zeros((2, 12, 64)))
    assert np.abs(none - model.denoise(canvas, cache, mean)).max() > 1e-2


def test_each_mode_has_its_layer_scalar(model, tokens):
    canvas = tokens[:, :12]
    encoded, cache = model.encode(tokens)
    denoised = model.denoise(canvas, cache)
    for name, changes_encode in (("encode_scalar", True), ("denoise_scalar", False)):
        state = nnx.from_flat_state(
            [
                (path, param.replace(param[...] * 2) if path[-1] == name else param)
                for path, param in nnx.to_flat_state(model.state)
            ]
        )
        change = np.abs(model.encode(tokens, state=state)[0] - encoded).max()
        assert change > 1e-2 if changes_encode else change == 0
        change = np.abs(model.denoise(canvas, cache, state=state) - denoised).max()
        assert change == 0 if changes_encode else change > 1e-2


def test_bfloat16_stays_near_float32(tokens):
    """Both models have the same weights, so that only the arithmetic differs."""
    half = DiffusionGemma(CONFIG, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    graph, state = nnx.split(half)
    full = Compiled(nnx.merge(graph, jax.tree.map(lambda x: x.astype(jnp.float32), state)))
    half = Compiled(half)
    logits, cache = half.encode(tokens, half.init_cache(2, 21))
    expected, full_cache = full.encode(tokens, full.init_cache(2, 21))
    assert logits.dtype == jnp.float32 and cache.layers[0].keys.dtype == jnp.bfloat16
    # The median is compared, because a routing decision near a tie may fall the other way.
    assert np.median(np.abs(logits - expected)) < 0.03
    denoised = half.denoise(tokens[:, :12], cache)
    assert denoised.dtype == jnp.float32
    assert np.median(np.abs(denoised - full.denoise(tokens[:, :12], full_cache))) < 0.03


def test_a_prompt_longer_than_the_cache_is_refused(plain, model, tokens):
    cache = plain.init_cache(2, 20)
    with pytest.raises(ValueError, match="21 tokens do not fit into a cache of 20"):
        plain.encode(tokens, cache)
    mask = np.arange(21) < np.array([[19], [20]])
    filled = model.encode(tokens, cache, mask, logits="none")[1]
    with pytest.raises(ValueError, match="21 tokens do not fit"):
        plain.encode(tokens[:, :1], filled)
