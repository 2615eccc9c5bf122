"""What the tests of the losses share: a batch, and a double that knows the right tokens."""

import jax.numpy as jnp
import numpy as np

from diffusiongemma import ModelConfig
from diffusiongemma.attention import KVCache

CONFIG = ModelConfig.preset("tiny", layer_types=("sliding", "full"))
P, C, K = 10, 6, 3
LENGTHS = np.array([10, 4, 7, 5], np.int32)


def make_batch(canvases=(1, 3, 2, 3)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = np.zeros((4, P + K * C), np.int32)
    for row, (prompt, used) in enumerate(zip(LENGTHS, canvases, strict=True)):
        tokens[row, : prompt + used * C] = rng.integers(3, 64, prompt + used * C)
    canvases = np.array(canvases, np.int32)
    lengths = {"prompt_len": LENGTHS, "answer_len": canvases * C, "num_canvases": canvases}
    return {"tokens": tokens, **lengths}


class Scripted:
    """Stands for a DiffusionGemma that knows the right tokens `clean` [T].

    The logits of encode are sure of the right token, but are all 0 if the predicted token is one of
    `unsure` [T] bool. The logits of denoise are the length of the context at the right token and 0
    elsewhere, so that the loss tells which canvas was chosen.
    """

    config = CONFIG

    def __init__(self, clean, unsure=None):
        self.clean = clean
        self.unsure = np.zeros(len(clean), bool) if unsure is None else unsure

    def _right(self, tokens):
        return jnp.arange(CONFIG.vocab_size) == tokens[..., None]

    def encode(self, tokens, *, logits=None):
        sure = 50.0 * self._right(jnp.roll(tokens, -1, axis=1))
        made = jnp.where(jnp.roll(self.unsure, -1)[:, None], 0.0, sure)
        if logits is not None:
            made = jnp.take_along_axis(made, logits[..., None], axis=1)
        kept = KVCache((jnp.zeros((*tokens.shape, 1)),), jnp.array([len(self.clean)]))
        return made, kept

    def denoise(self, canvas, cache, soft=None):
        where = cache.length[:, None] + jnp.arange(canvas.shape[1])
        return self._right(self.clean[where]) * cache.length[:, None, None].astype(jnp.float32)
