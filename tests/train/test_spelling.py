"""The spelling loss: which soft tokens count, what they are to be, and what it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, Images, ModelConfig
from diffusiongemma.parameters import VISION
from diffusiongemma.vision.config import VisionConfig
from tests.train.test_images import FIELDS, IMAGES
from train.config import ConfigError, RunConfig
from train.loss import SHARES, LossConfig, accuracies, sft_loss
from train.spelling import ERROR_WEIGHT, spelling_loss

# Two rows: an answer of three tokens after a prompt of two, and one of five after a prompt of one.
BATCH = {
    "tokens": jnp.array([[9, 9, 4, 5, 6, 0, 0, 0], [9, 1, 2, 3, 4, 5, 0, 0]]),
    "prompt_len": jnp.array([2, 1]),
    "answer_len": jnp.array([3, 5]),
}
COUNTED = [[4, 5, 6, None], [1, 2, None, None]]  # what the four soft tokens of a row are to be


class Scripted:
    """A model whose soft tokens are logits; the second image has two soft tokens.

    Token v is embedded as `scale` at place v and 0 elsewhere.
    """

    def __init__(self, soft: np.ndarray, scale: float = 3.0):
        self.soft = jnp.asarray(soft)
        self.embedder = self
        self.scale = scale

    def encode(self, tokens):
        return self.scale * jax.nn.one_hot(tokens, self.soft.shape[-1])

    def vision(self, images):
        return self.soft, jnp.array([4, 2])

    def final_norm(self, x):
        return x

    to_logits = final_norm


def _counted() -> np.ndarray:
    """Rows, places and tokens of the soft tokens that count, [3, n]."""
    found = [
        (row, place, token)
        for row, tokens in enumerate(COUNTED)
        for place, token in enumerate(tokens)
        if token is not None
    ]
    return np.transpose(found)


def test_each_soft_token_is_to_be_the_token_at_its_place():
    soft = np.random.default_rng(0).normal(size=(2, 4, 10)).astype(np.float32)
    soft[0, 1, 5] = soft[1, 0, 1] = 9  # two of five are right
    for row, place in ((0, 0), (0, 2), (1, 1)):
        soft[row, place, COUNTED[row][place]] = -9
    loss, figures = spelling_loss(Scripted(soft), None, BATCH)
    chances = np.asarray(jax.nn.log_softmax(soft))
    rows, places, tokens = _counted()
    wanted = -chances[rows, places, tokens]
    np.testing.assert_allclose(figures["spelling_loss"], np.mean(wanted), rtol=1e-6)
    error = np.sum((soft[rows, places] - 3 * np.eye(10)[tokens]) ** 2) / (9 * 5)
    np.testing.assert_allclose(figures["embedding_error"], error, rtol=1e-6)
    np.testing.assert_allclose(loss, np.mean(wanted) + ERROR_WEIGHT * error, rtol=1e-6)
    figures = {name: x for name, x in figures.items() if name in SHARES}
    shares = {"answer_tokens": 5 / 8, "answer_right": 2 / 8, "fill_tokens": 0, "fill_right": 0}
    assert jax.tree.map(float, figures) == shares
    assert accuracies(jax.tree.map(float, figures)) == {"answer_accuracy": 2 / 5}
    # What does not count may be anything.
    soft[0, 3], soft[1, 2:] = 7, -7
    assert spelling_loss(Scripted(soft), None, BATCH)[0] == loss


def test_the_embeddings_are_targets_that_do_not_move():
    soft = np.random.default_rng(0).normal(size=(2, 4, 10)).astype(np.float32)
    loss = jax.jit(lambda scale: spelling_loss(Scripted(soft, scale), None, BATCH)[0])
    assert loss(2.0) != loss(3.0)
    assert jax.grad(loss)(3.0) == 0


def test_it_trains_the_tower_and_leaves_out_the_layers():
    tower = VisionConfig(**{k: v for k, v in IMAGES["tower"].items() if k != "clipped"})
    fields = {"vocab_size": 32, "stop_ids": (1,), "layer_types": ("full",)}
    shape = ModelConfig.preset("tiny", vision=tower, **fields)
    model = DiffusionGemma(shape, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    places = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(1, 1, 16, 2)
    batch = BATCH | {
        "patches": rng.random((2, 1, 16, 768), np.float32),
        "positions": np.tile(places, (2, 1, 1, 1)).astype(np.int32),
    }

    graphdef, params = nnx.split(model)

    def loss_of(params):
        config = LossConfig(4, spelling=True)
        return sft_loss(nnx.merge(graphdef, params), batch, jax.random.key(0), config)[0]

    loss, grads = jax.jit(jax.value_and_grad(loss_of))(params)
    images = Images(batch["patches"][:, 0], batch["positions"][:, 0])
    np.testing.assert_allclose(loss, spelling_loss(model, images, batch)[0], rtol=1e-5)
    moved = {path[0] for path, g in nnx.to_flat_state(grads) if np.any(g.get_value())}
    assert moved == {VISION, "embedder", "final_norm"}


@pytest.mark.parametrize("images", [{}, {**IMAGES, "per_row": 2}, {"per_row": 1, "freeze": True}])
def test_it_needs_one_image_a_row_and_a_tower_to_train(images):
    with pytest.raises(ConfigError, match=r"spelling .* give images.per_row=1 and no images.fr"):
        RunConfig.from_dict(
            FIELDS | {"images": images, "loss": FIELDS["loss"] | {"spelling": True}}
        )
