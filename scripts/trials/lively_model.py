"""A tiny model whose canvases settle, for trials and tests of the sampler."""

import numpy as np
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig


def make_lively_model() -> DiffusionGemma:
    """Norms and scalars away from one, and sharp logits, so that canvases settle.

    Half the self-conditioning: with all of it, random weights treble a rounding error at every
    step, and after six of them a row draws differently in a batch than alone.
    """
    # The sampler can tell no more than one layer of each type; six compile three times as long.
    config = ModelConfig.preset("tiny", layer_types=("sliding", "full"))
    model = DiffusionGemma(config, rngs=nnx.Rngs(1))
    rng = np.random.default_rng(1)
    for path, param in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        name = ".".join(map(str, path))
        if "scale" in name or "scalar" in name:
            factor = rng.uniform(0.7, 1.3, param.shape).astype(np.float32)
            factor *= 8.0 if "final_norm" in name else 0.5 if "self_conditioner" in name else 1.0
            param[...] = param[...] * factor
    return model
