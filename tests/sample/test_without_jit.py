"""Without jit the loops are Python loops: the same tokens, and numbers that can be printed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.head import Prediction
from sample import (
    AutoregressiveConfig,
    Given,
    SamplerConfig,
    SplitModel,
    entropy_bound_rule,
    generate,
    generate_autoregressive,
)

KEY = jax.random.key(0)
TOKENS = np.array([[5, 9, 7], [8, 3, 0]], np.int32)
MASK = TOKENS > 0


@pytest.fixture(scope="module")
def model() -> SplitModel:
    # Every operation of every shape is compiled on its own: one small layer, one shape.
    config = ModelConfig.preset("tiny", layer_types=("full",), canvas_size=3, stop_ids=())
    model = DiffusionGemma(config, rngs=nnx.Rngs(0))
    model.final_norm.scale[...] *= 8
    return SplitModel(model)


def test_the_sampler(model, capsys):
    config = SamplerConfig(max_steps=3, early_stop=False, max_new_tokens=6, trajectory=True)

    def printing(proposal, data):
        print(f"step {proposal.n}, t {proposal.t:.3f}, entropy {proposal.entropy.mean():.3f}")
        return entropy_bound_rule(proposal, data)

    compiled = generate(model, TOKENS, MASK, KEY, config)
    watched = []
    with jax.disable_jit():
        options = {"rule": printing, "watch": lambda seen: watched.append(int(seen.n))}
        found = generate(model, TOKENS, MASK, KEY, config, **options)
    np.testing.assert_array_equal(found.tokens, compiled.tokens)
    np.testing.assert_array_equal(found.best, compiled.best)
    np.testing.assert_array_equal(found.accepted, compiled.accepted)
    np.testing.assert_allclose(found.entropy, compiled.entropy, atol=1e-4)
    lines = [
        f"step {n + 1}, t {1 - n / 3:.3f}, entropy {found.entropy[:, k, n].mean():.3f}"
        for k in range(2)
        for n in range(3)
    ]
    assert capsys.readouterr().out.splitlines() == lines
    assert watched == [1, 2, 3] * 2


def test_the_sampler_with_given_tokens(model):
    config = SamplerConfig(max_steps=3, early_stop=False, max_new_tokens=6, trajectory=True)
    given = Given(
        np.array([[7, -1, 9, 4], [-1, 5, 6, -1]]), np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool)
    )
    compiled = generate(model, TOKENS, MASK, KEY, config, given=given)
    with jax.disable_jit():
        found = generate(model, TOKENS, MASK, KEY, config, given=given)
    for name in ("tokens", "best", "accepted"):
        np.testing.assert_array_equal(getattr(found, name), getattr(compiled, name))
    np.testing.assert_array_equal(found.tokens[:, :4][given.keep], [7, 4, 5])


class Counting(nnx.Module):
    """Continues 3 with 4, 5, 6; and says of a canvas that it is right, but the less surely the
    larger its tokens are."""

    def __init__(self):
        self.config = ModelConfig.preset("tiny", canvas_size=3, stop_ids=())
        self.dtype = jnp.float32

    def init_cache(self, batch_size, max_length):
        return jnp.zeros(batch_size)

    def encode(self, tokens, cache, mask, *, logits):
        return jax.nn.one_hot(tokens[:, -1] + 1, 64), cache

    def predict(self, canvas, cache, soft, temperature, noise):
        return Prediction(canvas, canvas, canvas / 1.0, soft)


def test_several_starts():
    config = SamplerConfig(max_steps=3, starts=2, max_new_tokens=6)
    compiled = generate(Counting(), TOKENS[:1], None, KEY, config)
    with jax.disable_jit():
        found = generate(Counting(), TOKENS[:1], None, KEY, config)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.steps.tolist() == [[6, 6]]
    assert found.starts.tokens[0].sum(axis=2).min(axis=1).sum() == found.tokens.sum()


def test_left_to_right():
    config = AutoregressiveConfig(max_new_tokens=3, temperature=0)
    with jax.disable_jit():
        found = generate_autoregressive(Counting(), TOKENS[:, :2], None, KEY, config)
    assert found.tokens.tolist() == [[10, 11, 12], [4, 5, 6]]
