"""Supervised fine-tuning steps to measure, of all weights or of LoRA factors."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from diffusiongemma.diffusion import corrupt, noise_levels
from diffusiongemma.lora import add_lora
from scripts.benchmark.inputs import Inputs
from train.loss import LossConfig
from train.step import init_state, make_train_step

LEARNING_RATE = 1e-4
SEED = 0


def loss_config(inputs: Inputs) -> LossConfig:
    """Every row gets a soft embedding from a first pass, so that all steps do the same work."""
    return LossConfig(canvas_size=inputs.canvas.shape[1], self_conditioning=1.0)


def first_noise(inputs: Inputs) -> jax.Array:
    """The noisy canvas of a Trainer's first step, [B, C] int32."""
    key = jax.random.fold_in(jax.random.key(SEED), 0)
    _, level_key, noise_key = jax.random.split(key, 3)  # as train.loss.sft_loss does
    levels = noise_levels(level_key, inputs.canvas.shape[0])
    return corrupt(noise_key, inputs.canvas, levels, inputs.model.config.vocab_size)


class Trainer:
    """Takes one Adam step a call; the inputs' tokens are the prompt and their canvas the answer.

    Args:
      inputs: the model and the tokens.
      lora_rank: 0 trains a copy of all weights. With a higher rank, LoRA factors are trained; the
        weights are frozen and shared with the inputs, and activations are computed again for the
        gradients.
    """

    def __init__(self, inputs: Inputs, lora_rank: int = 0):
        model = inputs.model
        if lora_rank:
            add_lora(model, lora_rank, lora_rank, rngs=nnx.Rngs(SEED))
            model.remat = True
        else:
            model = jax.tree.map(jnp.copy, inputs.split).merge()
        optimizer = optax.adam(LEARNING_RATE)
        graphdef, self._state, self._frozen = init_state(model, optimizer)
        self._step = make_train_step(graphdef, optimizer, loss_config(inputs), SEED)
        rows, length = inputs.tokens.shape
        self._batch = {
            "tokens": jnp.concatenate([inputs.tokens, inputs.canvas], axis=1),
            "prompt_len": jnp.full((rows,), length, jnp.int32),
            "answer_len": jnp.full((rows,), inputs.canvas.shape[1], jnp.int32),
            "num_canvases": jnp.ones((rows,), jnp.int32),
        }

    def __call__(self) -> jax.Array:
        """Takes a step, and waits for its loss, a float32 scalar."""
        self._state, figures = self._step(self._state, self._frozen, self._batch)
        return jax.block_until_ready(figures["loss"])
