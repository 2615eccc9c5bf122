"""The latest checkpoint of a training run of this project, as a model."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from flax import nnx

from diffusiongemma.config import ModelConfig
from diffusiongemma.lora import add_lora
from diffusiongemma.transformer import DiffusionGemma

FOLDER = "checkpoints"


def is_run(folder: Path) -> bool:
    """Whether the folder is a training run's workdir, and no checkpoint in the released layout."""
    return (folder / FOLDER).is_dir() and not any(folder.glob("*.safetensors"))


def load_run(folder: Path, dtype, load_init: Callable[..., DiffusionGemma]) -> DiffusionGemma:
    """The model after the last step that the run has saved, LoRA factors in place if it has any.

    Args:
      folder: the run's workdir.
      dtype: of the weights; None keeps the run's. LoRA factors stay float32.
      load_init: loads the checkpoint that a LoRA run started from.

    Raises:
      ValueError: the run has no checkpoint yet.
    """
    with ocp.CheckpointManager((folder / FOLDER).absolute()) as manager:
        step = manager.latest_step()
        if step is None:
            raise ValueError(f"{folder}: the run has not saved a checkpoint yet")
        stored = manager.restore(step, args=ocp.args.Composite(model=ocp.args.JsonRestore()))
        description = stored["model"]
        fields = {
            k: tuple(v) if isinstance(v, list) else v for k, v in description["config"].items()
        }
        config, own_dtype = ModelConfig(**fields), jnp.dtype(description["dtype"])
        lora = description["lora"]

        if lora["rank"]:
            model = load_init(description["init"], dtype=dtype or own_dtype)
            model.config = config
            add_lora(model, lora["rank"], lora["alpha"], rngs=nnx.Rngs(0), pattern=lora["pattern"])
            graphdef, params, frozen = nnx.split(model, nnx.LoRAParam, ...)
        else:
            model = nnx.eval_shape(
                lambda: DiffusionGemma(config, rngs=nnx.Rngs(0), dtype=own_dtype)
            )
            graphdef, params, frozen = nnx.split(model, nnx.Param, ...)
        params = manager.restore(
            step, args=ocp.args.Composite(params=ocp.args.StandardRestore(params))
        )["params"]
    if dtype is not None and not lora["rank"]:
        params = jax.tree.map(lambda x: x.astype(dtype), params)
    return nnx.merge(graphdef, params, frozen)
